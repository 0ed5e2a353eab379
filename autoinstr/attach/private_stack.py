"""Keeps the stack of programs on the stack of the task.

From Linux 6.13 on a program on tracepoints or functions may get a stack that it shares with all of its runs on a CPU.
That is only right as long as it can't be run by two tasks at a time, which the kernel takes care of where it attaches
a program, and not where programs call it (by tail call), nor for functions in user space. With tasks that are
preempted in the middle (from Linux 7 on in tracepoints, before that in functions) the one then goes on with the
other's stack, and the kernel crashes. Programs that can call others (check_max_stack_depth: `has_tail_call`) get no
such stack.

In: a program. Out: the same one, with a call before its first instruction that is never made, and that the verifier
takes away again once it has counted.
"""

from __future__ import annotations

import platform
import re
from dataclasses import replace

from autoinstr.attach.image import Map, Program
from autoinstr.bpf_call import instructions

SINCE = (6, 13)
PROG_ARRAY = 3  # BPF_MAP_TYPE_PROG_ARRAY
# Has no programs. One for each load, for an array takes programs of one kind.
NO_PROGRAMS = Map("no_programs", PROG_ARRAY, 4, 4, 1, 0)

_TAIL_CALL = instructions((0x85, 0, 0, 12))
_NEVER = instructions(
    (0xB7, 0, 0, 0),  # r0 = 0
    (0x15, 0, 4, 0),  # if r0 == 0 goto the program
    (0x18, 0x12, 0, 0),  # r2 = the map, in two
    (0, 0, 0, 0),
    (0xB7, 3, 0, 0),  # r3 = 0
)
_ARRAY = 2  # which of these refers to the map


def gives_private_stacks(release: str = "") -> bool:
    """Does the kernel have them? `release`: as uname(2) says it; of this host."""
    found = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return found is not None and (int(found[1]), int(found[2])) >= SINCE


def without_private_stack(program: Program) -> Program:
    """The program, itself if it calls others anyway. The new one refers to a map called NO_PROGRAMS.name."""
    code = program.instructions
    if any(code[at : at + 8] == _TAIL_CALL for at in range(0, len(code), 8)):
        return program
    first = _NEVER + _TAIL_CALL
    moved = ((at + len(first) // 8, name) for at, name in program.relocations)
    return replace(program, instructions=first + code, relocations=((_ARRAY, NO_PROGRAMS.name), *moved))
