"""Go's crypto/tls, in programs built by Go 1.17 and newer (amd64) or 1.18 and newer (arm64), stripped ones too.

Before that, Go passed arguments on the stack. What was read is known from where Read keeps its arguments; its
instructions tell whether it does, and where it does not, the library can't be probed. Who calls Read by an interface,
as net/http does, has its buffers on the heap; only where it is called as itself may they be on a stack.
"""

from __future__ import annotations

from autoinstr.elf import AARCH64
from autoinstr.libraries.base import TARGET_GO, Function, Library, Place
from autoinstr.libraries.go_calls import is_called
from autoinstr.libraries.go_program import go_program

READ = "crypto/tls.(*Conn).Read"


def go_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """Places behind the check of the stack, and on return instructions."""
    if (program := go_program(descriptor)) is None:
        return []
    program.look_for(function.symbol for function in functions)
    places = []
    for function in functions:
        if (where := program.function(function.symbol)) is None or (code := program.code(where)) is None:
            continue
        entry = code.entry()
        if entry is None or (program.machine == AARCH64 and where.before_118):
            raise ValueError("crypto/tls of a Go older than 1.17")
        if function.symbol == READ and not code.keeps(0, 1):
            raise ValueError("crypto/tls of a Go that keeps the arguments of Read elsewhere")
        places += [Place(program.offset(where, at), function.on_return) for at in code.returns()]
        if function.symbol != READ or is_called(descriptor, program.segments, where.begin, program.machine):
            places.append(Place(program.offset(where, entry), function.program))
    return places


GO_TLS = Library(
    name="crypto/tls",
    flag=TARGET_GO,
    functions=(
        Function("crypto/tls.(*Conn).clientHandshake", "go_handshake", "go_return"),
        Function("crypto/tls.(*Conn).serverHandshake", "go_handshake", "go_return"),
        Function(READ, "go_read", "go_read_return"),
        Function("crypto/tls.(*Conn).Write", "go_write", "go_return"),
    ),
    places=go_places,
    hits=3,
    rare=("go_handshake",),
)
