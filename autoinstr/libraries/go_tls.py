"""Go's crypto/tls, in programs built by Go 1.17 and newer (amd64) or 1.18 and newer (arm64), stripped ones too.

Before that, Go passed arguments on the stack. What was read is known from where Read keeps its arguments; its
instructions tell whether it does, and where it does not, the library can't be probed. Who calls Read by an interface,
as net/http does, has its buffers on the heap; only where it is called as itself may they be on a stack.
"""

from __future__ import annotations

import os
import struct

from autoinstr.elf import AARCH64, in_file, read_binary, segments_of
from autoinstr.libraries.base import TARGET_GO, Function, Library, Place
from autoinstr.libraries.go_calls import is_called
from autoinstr.libraries.go_table import go_functions

MAX_CODE = 64 << 10  # bytes of one function
READ = "crypto/tls.(*Conn).Read"


def go_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """Places behind the check of the stack, and on return instructions."""
    if read_binary(descriptor).language != "go":
        return []
    from autoinstr.libraries.go_code import GoCode  # noqa: PLC0415 - megabytes, seldom needed

    head = os.pread(descriptor, 64, 0)
    (machine,) = struct.unpack_from("<H", head, 18)
    segments = segments_of(descriptor, head)
    try:
        found = go_functions(descriptor, segments, [function.symbol for function in functions])
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError("a Go program with a damaged table of functions") from error
    places = []
    for function in functions:
        if (where := found.get(function.symbol)) is None:
            continue
        offset = in_file(segments, where.begin)
        if offset is None:
            continue
        code = GoCode(os.pread(descriptor, min(where.end - where.begin, MAX_CODE), offset), where.begin, machine)
        entry = code.entry()
        if entry is None or (machine == AARCH64 and where.before_118):
            raise ValueError("crypto/tls of a Go older than 1.17")
        if function.symbol == READ and not code.keeps_arguments():
            raise ValueError("crypto/tls of a Go that keeps the arguments of Read elsewhere")
        places += [Place(at - where.begin + offset, function.on_return) for at in code.returns()]
        if function.symbol != READ or is_called(descriptor, segments, where.begin, machine):
            places.append(Place(entry - where.begin + offset, function.program))
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
)
