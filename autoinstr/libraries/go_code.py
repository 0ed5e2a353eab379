"""What the instructions of a Go function tell: where it may be probed, and where its arguments are when it returns.

In: its bytes, its address, the architecture. Out: addresses. Probes can't be anywhere:
- its first instructions may run twice: where the stack is too small they call for a larger one and begin again. That is
  seen by the processor's flags at the branch that decides it;
- a probe on its return, as the kernel makes it, changes the return address, which crashes Go when it moves a stack: the
  return instructions themselves are probed, or what is passed once before them.

Where there is a choice, it is an instruction that the kernel emulates under a probe.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from autoinstr.elf import AARCH64, X86_64
from autoinstr.libraries import instructions


@dataclass(frozen=True, slots=True)
class _Words:
    """How an architecture writes what is looked for."""

    stack_check: str  # the limit of the goroutine's stack is read: by the register that has the goroutine
    branch: str  # to where a larger stack is made
    call: str
    stack: str  # a place on the stack
    registers: tuple[str, ...]  # of arguments and of results, in their order
    emulated: re.Pattern[str]  # what the kernel does by itself under a probe, which costs a tenth of a single step
    returns: bool  # of these, too
    harmless: frozenset[str]  # what changes nothing but what it names first
    counted: str  # a number is loaded, an address, and the number is added to what is there


FAR = 8  # instructions that a return and what it returns may be apart
_ON_STACK = re.compile(r"\[rsp \+ (0x[0-9a-f]+|[0-9])\]")
_BEHIND_POINTER = re.compile(r"\[r(?!sp)\w+ \+ (0x[0-9a-f]+)\]")
_X86_64_REGISTERS = ("rax", "rbx", "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11")
_AARCH64_REGISTERS = tuple(f"x{n}" for n in range(16))
_MOVES = ("mov", "movzx", "lea", "cmp", "test", "nop", "movups", "movdqu", "movaps", "add", "sub", "and", "or", "xor")
_CHANGE_NOTHING = ("cmp", "test", "nop", "str", "strb")  # of registers
_WORDS = {
    X86_64: _Words(
        *("[r14 + 0x10]", "jbe", "call", "[rsp + {:#x}]", _X86_64_REGISTERS),
        re.compile(r"(j\w+|call) 0x[0-9a-f]+|nop|push r\w+"),
        False,
        frozenset(_MOVES),
        r"mov (\w+), {step}\n(?:.+ nop.*\n)?.+ lea (\w+), \[rip \+ (?P<far>.+)\]\n"
        r"(?P<at>.+) lock xadd qword ptr \[\2\]",
    ),
    AARCH64: _Words(
        *("[x28, #0x10]", "b.ls", "bl", "[sp, #{:#x}]", _AARCH64_REGISTERS),
        re.compile(r"(bl?|b\.\w+|cbn?z|tbn?z|nop)( .*)?"),
        True,
        frozenset(("mov", "movz", "movk", "cmp", "add", "sub", "adrp", "str", "ldr", "ldrb", "ldrh", "nop", "strb")),
        r"mov (\w+), #{step}\n.+ adrp (\w+), #(?P<at>.+)\n.+ add \2, \2, #(?P<far>.+)\n"
        r".+ ldaddal \1, \w+, \[\2\]",
    ),
}


class GoCode:
    """A function's instructions, read once."""

    def __init__(self, code: bytes, address: int, machine: int) -> None:
        self._words = _WORDS[machine]
        self._lines = instructions.read(code, address, machine)

    def entry(self) -> int | None:
        """The branch that ends the check of the stack: arguments are where they were at the first instruction.

        None: it has no such check, or none of Go's calling convention with registers.
        """
        checked = False
        for at, name, text in self._lines:
            if name == self._words.call:
                return None
            if name == self._words.branch and checked:
                return at
            checked |= self._words.stack_check in text
        return None

    def after_calls(self, target: int, results: Collection[int]) -> list[int]:
        """Where to look at results of calls of another function: each place is passed after one call, once.

        `results`: which of the registers that they come back in have to be as the call has left them. The instruction
        behind the call will do; a cheaper one a bit further on is better.
        """
        registers = [self._words.registers[n] for n in results]
        last = len(self._lines) - 1
        return [self._cheapest(index + 1, registers) for index in self._calls(target) if index < last]

    def _calls(self, target: int) -> list[int]:
        """Indices of the calls of a function."""
        wanted = f"{target:#x}"
        return [
            index
            for index, (_, name, text) in enumerate(self._lines)
            if name == self._words.call and text.removeprefix("#") == wanted
        ]

    def calls(self, target: int) -> list[int]:
        """Where it calls this function."""
        return [self._lines[index][0] for index in self._calls(target)]

    def displacements(self) -> set[int]:
        """How far behind a register's address its instructions read or write, the stack's aside. Of x86-64."""
        return {int(at, 16) for _, _, text in self._lines for at in _BEHIND_POINTER.findall(text)}

    def _cheapest(self, index: int, registers: Collection[str]) -> int:
        """An instruction from there on, before anything else may be gone on with, that the kernel emulates."""
        kept = {part for register in registers for part in _parts(register)}
        for at, name, text in self._lines[index:]:
            if at != self._lines[index][0] and f"{at:#x}" in self._targets:
                break  # others come here, too
            if self._words.emulated.fullmatch(f"{name} {text}".strip()):
                return at
            changed = "" if name in _CHANGE_NOTHING else text.partition(",")[0].strip()
            if name not in self._words.harmless or changed in kept or (name == "ldr" and "!" in text):
                break
        return self._lines[index][0]

    @cached_property
    def _targets(self) -> frozenset[str]:
        """Where its branches lead to."""
        return frozenset(
            text.rpartition(" ")[2].removeprefix("#") for _, name, text in self._lines if name != self._words.call
        )

    def returns(self) -> list[int]:
        """All return instructions."""
        return [at for at, name, _ in self._lines if name == "ret"]

    @property
    def returns_are_cheap(self) -> bool:
        return self._words.returns

    def returns_without(self, places: Collection[int]) -> list[int]:
        """Those that no way leads to from these places; of x86-64."""
        reached = self._reached(self._index_of[at] for at in places)
        return [at for index, (at, name, _) in enumerate(self._lines) if name == "ret" and index not in reached]

    @cached_property
    def _index_of(self) -> dict[int, int]:
        return {at: index for index, (at, _, _) in enumerate(self._lines)}

    @cached_property
    def _next(self) -> list[list[int]]:
        """Indices of the instructions that may follow each; of x86-64. Behind one that goes on by a table, all."""
        following = []
        for index, (_, name, text) in enumerate(self._lines):
            some = [] if name in ("jmp", "ret") or index + 1 == len(self._lines) else [index + 1]
            if name.startswith("j") and not text.startswith("0x"):
                some = list(range(len(self._lines)))
            elif name.startswith("j") and (to := self._index_of.get(int(text, 16))) is not None:
                some.append(to)
            following.append(some)
        return following

    def _reached(self, begin: Iterable[int], without: int = -1) -> set[int]:
        """Indices of what may come to pass from there on, also if one of them never does."""
        reached, ahead = set[int](), list(begin)
        while ahead:
            index = ahead.pop()
            if index not in reached and index != without:
                reached.add(index)
                ahead += self._next[index]
        return reached

    def before_success(self) -> tuple[int, int] | None:
        """An instruction that the kernel emulates, passed once by each call that returns its first result and no error,
        and by no other one; and how far from the stack pointer the result lies by then. Of x86-64; None: there is none.
        """
        good, places = set[int](), set[str]()
        for index, (_, name, _) in enumerate(self._lines):
            if name == "ret" and (place := self._returned(index)):
                good.add(index)
                places.add(place)
        found = _ON_STACK.fullmatch(places.pop()) if len(places) == 1 else None
        if found is None:
            return None
        best: tuple[int, int] | None = None
        for index, (at, name, text) in enumerate(self._lines):
            if not self._words.emulated.fullmatch(f"{name} {text}".strip()):
                continue
            behind = self._reached(self._next[index])
            ends = {one for one in behind if self._lines[one][1] == "ret"}
            if index in behind or ends != good or good & self._reached([0], without=index):
                continue
            if any(place == found[0] for one in behind for _, place in self._stores(*self._lines[one][1:])):
                continue
            if best is None or len(behind) < best[0]:
                best = len(behind), at
        return (best[1], int(found[1], 0)) if best else None

    def _returned(self, index: int) -> str:
        """What a return takes its first result from, if what follows that, the error, is none."""
        zero = False
        for _, name, text in reversed(self._lines[max(0, index - FAR) : index]):
            zero |= (name, text) == ("xor", "ebx, ebx")
            if name == "mov" and text.startswith("rax, qword ptr [rsp + "):
                return text.removeprefix("rax, qword ptr ") if zero else ""
            if name not in ("add", "pop", "mov", "xor") or text.startswith(("rax,", "eax,")):
                break
        return ""

    def counted_in(self, step: int) -> int | None:
        """Address of the number to which it adds this one, whoever else does so at the same time; None: it does not."""
        lines = "".join(f"{at:#x} {name} {text}\n" for at, name, text in self._lines)
        found = re.search(self._words.counted.format(step=f"{step:#x}"), lines)
        return int(found["at"], 16) + int(found["far"], 16) if found else None

    def has_frame(self) -> bool:
        """Does rbp point to where its caller's was saved, from the beginning on? Of x86-64."""
        frame = 0
        for _, name, text in self._lines:
            if name == self._words.call:
                break
            frame += _taken(name, text)
            if frame and (name, text) in (("mov", "rbp, rsp"), ("lea", f"rbp, [rsp + {frame - 8:#x}]")):
                return (frame == 8) == (name == "mov")
        return False

    def keeps(self, *wanted: int, barriers: Collection[int] = ()) -> bool:
        """Does it store these of its arguments where its caller has left room for them, and nothing else there?

        They are found there at its return, then; and where Go moves the stack, it moves them. `barriers`: functions
        that leave all registers as they are.
        """
        passes = {f"{target:#x}" for target in barriers}
        homes = {8 * n + 8: self._words.registers[n] for n in wanted}
        frame, stored, called = 0, set[str](), False
        for _, name, text in self._lines:
            frame += _taken(name, text)
            called |= name == self._words.call and text.removeprefix("#") not in passes
            for register, place in self._stores(name, text):
                for home, argument in homes.items():
                    if frame and place == self._words.stack.format(frame + home):
                        if called or register != argument:
                            return False
                        stored.add(register)
            if called and len(stored) < len(homes):
                return False
        return len(stored) == len(homes)

    def home_at(self, address: int) -> int | None:
        """How far from the stack pointer the first argument lies at this instruction, in the room that its caller has
        left; None: it is not kept there. Of x86-64.
        """
        if not self.keeps(0):
            return None
        taken = [_taken(name, text) for at, name, text in self._lines if at < address]
        return sum(taken) + 8

    def _stores(self, name: str, text: str) -> Iterator[tuple[str, str]]:
        """(register, place on the stack) of what the instruction writes there."""
        parts = text.split(", ", 2)
        if name == "mov" and "[" in parts[0]:
            yield parts[1], parts[0].removeprefix("qword ptr ")
        elif name == "str" and len(parts) > 1:
            yield parts[0], text.partition(", ")[2]
        elif name == "stp" and len(parts) > 2:
            yield parts[0], parts[2]
            if parts[2].startswith("[sp, #") and parts[2].endswith("]"):
                yield parts[1], self._words.stack.format(int(parts[2][6:-1], 16) + 8)


def _parts(register: str) -> set[str]:
    """Names by which a register, or a part of it, is written to."""
    if register[0] == "x":
        return {register, "w" + register[1:]}
    if register[1:].isdigit():
        return {register, register + "d", register + "w", register + "b"}
    short = register[1:]
    return {register, "e" + short, short, short[0] + "l", short + "l"}


def _taken(name: str, text: str) -> int:
    """Bytes of the stack that an instruction at the beginning takes for the function's frame."""
    if (name, text) == ("push", "rbp"):
        return 8
    if (name, text) == ("add", "rsp, -0x80"):  # shorter than the other
        return 0x80
    for beginning in ("rsp, ", "x20, sp, #"):  # arm64: large frames by another register
        if name == "sub" and text.startswith(beginning):
            return int(text.removeprefix(beginning), 16)
    if name == "str" and text.startswith("x30, [sp, #-") and text.endswith("]!"):
        return int(text[12:-2], 16)
    return 0
