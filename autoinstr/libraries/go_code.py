"""What the instructions of a Go function tell: where it may be probed, and where its arguments are when it returns.

In: its bytes, its address, the architecture. Out: addresses. Probes can't be anywhere:
- its first instructions may run twice: where the stack is too small they call for a larger one and begin again;
- a probe on its return, as the kernel makes it, changes the return address, which crashes Go when it moves a stack: the
  return instructions themselves are probed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import capstone

from autoinstr.elf import AARCH64, X86_64


@dataclass(frozen=True, slots=True)
class _Words:
    """How an architecture writes what is looked for."""

    stack_check: str  # the limit of the goroutine's stack is read: by the register that has the goroutine
    branch: str  # to where a larger stack is made
    call: str
    stack: str  # a place on the stack
    registers: tuple[str, str]  # of the first two arguments


_WORDS = {
    X86_64: _Words("[r14 + 0x10]", "jbe", "call", "[rsp + {:#x}]", ("rax", "rbx")),
    AARCH64: _Words("[x28, #0x10]", "b.ls", "bl", "[sp, #{:#x}]", ("x0", "x1")),
}


class GoCode:
    """A function's instructions, read once."""

    def __init__(self, code: bytes, address: int, machine: int) -> None:
        self._words = _WORDS[machine]
        if machine == X86_64:
            reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        else:
            reader = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
            reader.skipdata = True  # constants stand behind the code
        self._lines: list[tuple[int, str, str]] = [
            (at, name, text) for at, _, name, text in reader.disasm_lite(code, address)
        ]

    def entry(self) -> int | None:
        """The instruction behind the check of the stack: arguments are where they were at the first one.

        None: it has no such check, or none of Go's calling convention with registers.
        """
        checked = False
        for at, name, text in self._lines:
            if checked:
                return at
            if name == self._words.call:
                return None
            checked = name == self._words.branch and any(
                self._words.stack_check in text for place, _, text in self._lines if place < at
            )
        return None

    def returns(self) -> list[int]:
        """All return instructions."""
        return [at for at, name, _ in self._lines if name == "ret"]

    def keeps_arguments(self) -> bool:
        """Does it store its first two arguments where its caller has left room for them, and nothing else there?

        They are found there at its return, then; and where Go moves the stack, it moves them.
        """
        frame, stored, called = 0, set[str](), False
        for _, name, text in self._lines:
            frame += _taken(name, text)
            called |= name == self._words.call
            for register, place in self._stores(name, text):
                for wanted, home in zip(self._words.registers, (frame + 8, frame + 16), strict=True):
                    if frame and place == self._words.stack.format(home):
                        if called or register != wanted:
                            return False
                        stored.add(register)
            if called and len(stored) < len(self._words.registers):
                return False
        return len(stored) == len(self._words.registers)

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


def _taken(name: str, text: str) -> int:
    """Bytes of the stack that an instruction at the beginning takes for the function's frame."""
    if (name, text) == ("push", "rbp"):
        return 8
    for beginning in ("rsp, ", "x20, sp, #"):  # arm64: large frames by another register
        if name == "sub" and text.startswith(beginning):
            return int(text.removeprefix(beginning), 16)
    if name == "str" and text.startswith("x30, [sp, #-") and text.endswith("]!"):
        return int(text[12:-2], 16)
    return 0
