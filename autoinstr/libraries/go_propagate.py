"""Where net/http's client is about to end the head of a request of HTTP/1, for `--propagate go`.

There all fields are written, to the connection's `bufio.Writer`, and the next call is the one for the empty line: an
instruction that the kernel emulates. What a writer and a connection are is told by the methods that their interfaces
have, which are as far from that instruction as in the program's file. bufio.Writer has been the same since before Go
1.17 (`scripts/go_layouts.go` asks); a version that is not known is not probed, and said once.
"""

from __future__ import annotations

from collections.abc import Iterable

from autoinstr.elf import AARCH64
from autoinstr.libraries.base import Function, Library, Place
from autoinstr.libraries.go_layouts import go_layout
from autoinstr.libraries.go_program import GoProgram, go_program
from autoinstr.libraries.unknown import not_known
from autoinstr.probes import PROPAGATE_GO

WRITES_HEAD = "net/http.(*Request).write"
ENDS_HEAD = "io.WriteString"  # called by it once
PROGRAM = "propagate_go"
# What the kernel side is told of functions, by the names of struct go_fields: the first methods of interfaces ...
CLOSES = {"tcp_close": "net.(*TCPConn).Close", "tls_close": "crypto/tls.(*Conn).Close"}  # ... of connections
WRITES = {"buffered_write": "bufio.(*Writer).Write", "client_write": "net/http.persistConnWriter.Write"}
NAMES = (WRITES_HEAD, ENDS_HEAD, *CLOSES.values(), *WRITES.values())
# Of bufio.Writer, as bpf/probes/go_propagate.h has it
WRITER = {"buffer": 16, "buffered": 40, "buffered_for": 48}
HIGHEST = 1 << 32  # addresses that the kernel side is told are below


def head_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """The call in it."""
    program = go_program(descriptor)
    if program is None or (at := _end_of_head(program, functions)) is None:
        return []
    known = go_layout(program.version)
    if "client" not in known or any(known.get(name) != offset for name, offset in WRITER.items()):
        say_unknown("Go", ".".join(map(str, program.version)))
        return []
    where = program.function(WRITES_HEAD)
    assert where
    return [Place(program.offset(where, at), PROGRAM)]


def say_unknown(module: str, version: str) -> None:
    """Say it once."""
    version = version or "of a version that is not told"
    not_known(
        "%s %s is not one that autoinstr knows: its requests to other hosts carry no trace context", module, version
    )


def only_call(program: GoProgram, caller: str, callee: str) -> int | None:
    """Address of the call of one function in another; None: there is no such, or several, or arguments are passed on
    the stack.
    """
    where, called = program.function(caller), program.function(callee)
    if where is None or called is None or (program.machine == AARCH64 and where.before_118):
        return None
    code = program.code(where)
    calls = code.calls(called.begin) if code else []
    return calls[0] if len(calls) == 1 and calls[0] < HIGHEST else None


def addresses(program: GoProgram, methods: dict[str, str]) -> dict[str, int]:
    """Of those that are there."""
    found = {name: program.function(symbol) for name, symbol in methods.items()}
    return {name: where.begin for name, where in found.items() if where and where.begin < HIGHEST}


def _end_of_head(program: GoProgram, functions: Iterable[Function]) -> int | None:
    program.look_for(function.symbol for function in functions)
    return only_call(program, WRITES_HEAD, ENDS_HEAD)


def layout_of(descriptor: int) -> dict[str, int]:
    """The call, and the methods; of other programs nothing."""
    program = go_program(descriptor)
    if program is None or (at := _end_of_head(program, FUNCTIONS)) is None:
        return {}
    known = {name: offset for name, offset in go_layout(program.version).items() if name == "client"}
    return known | {"head": at} | addresses(program, CLOSES | WRITES)


FUNCTIONS = tuple(Function(name, PROGRAM if name == WRITES_HEAD else "") for name in NAMES)
GO_PROPAGATE = Library(
    name="net/http's client",
    flag=0,
    group=PROPAGATE_GO,
    functions=FUNCTIONS,
    places=head_places,
    layout=layout_of,
    hits=1,
    per="call over HTTP/1",
)
