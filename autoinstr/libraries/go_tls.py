"""Go's crypto/tls, in programs built by Go 1.17 and newer (amd64) or 1.18 and newer (arm64), stripped ones too.

Before that, Go passed arguments on the stack. What was read is known from where Read keeps its arguments; its
instructions tell whether it does, and where it does not, the library can't be probed. Who calls Read by an interface,
as net/http does, has its buffers on the heap; only where it is called as itself may they be on a stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoinstr.elf import AARCH64
from autoinstr.libraries.base import TARGET_GO, Function, Library, Place
from autoinstr.libraries.go_calls import is_called
from autoinstr.libraries.go_program import GoProgram, go_program

if TYPE_CHECKING:
    from autoinstr.libraries.go_code import GoCode

READ = "crypto/tls.(*Conn).Read"
WRITE = "crypto/tls.(*Conn).Write"
COPIES = "runtime.memmove"  # called by Read
WRITES = "crypto/tls.(*Conn).writeRecordLocked"  # called by Write


def go_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """Where they begin, and where they end or have done what they are for."""
    if (program := go_program(descriptor)) is None:
        return []
    program.look_for((*(function.symbol for function in functions), COPIES, WRITES))
    places = []
    for function in functions:
        if (where := program.function(function.symbol)) is None or (code := program.code(where)) is None:
            continue
        entry = code.entry()
        if entry is None or (program.machine == AARCH64 and where.before_118):
            raise ValueError("crypto/tls of a Go older than 1.17")
        cheap = {} if code.returns_are_cheap else _cheap_places(program, function.symbol, code)
        if function.symbol == READ and not cheap and not code.keeps(0, 1):
            raise ValueError("crypto/tls of a Go that keeps the arguments of Read elsewhere")
        ends = cheap or dict.fromkeys(code.returns(), function.on_return)
        places += [Place(program.offset(where, at), name) for at, name in ends.items()]
        if function.symbol != READ or (
            not cheap and is_called(descriptor, program.segments, where.begin, program.machine)
        ):
            places.append(Place(program.offset(where, entry), function.program))
    return places


def _cheap_places(program: GoProgram, symbol: str, code: GoCode) -> dict[int, str]:
    """Instructions that need no single step, and programs, in the place of all returns; none where there is no such."""
    callee = program.function({READ: COPIES, WRITE: WRITES}.get(symbol, ""))
    if callee is None or not code.has_frame():
        return {}
    if symbol == READ:
        calls = code.calls(callee.begin)
        return {calls[0]: "go_read_copy"} if len(calls) == 1 and code.keeps(0) else {}
    behind = code.after_calls(callee.begin, (0, 1))
    # else it returns before it has written anything, which is rare
    return dict.fromkeys(behind, "go_written") | {at: "go_return" for at in code.returns_without(behind) if behind}


GO_TLS = Library(
    name="crypto/tls",
    flag=TARGET_GO,
    functions=(
        Function("crypto/tls.(*Conn).clientHandshake", "go_handshake", "go_return"),
        Function("crypto/tls.(*Conn).serverHandshake", "go_handshake", "go_return"),
        Function(WRITE, "go_write", "go_return"),
        Function(READ, "go_read", "go_read_return"),
    ),
    places=go_places,
    hits=3,
    rare=("go_handshake", "go_return"),
)
