"""Which goroutine does what in Go's HTTP and gRPC, so that a call has the request as its parent that it is made for.

Handlers of HTTP/2 and gRPC run in goroutines of their own, and calls are written by others than those that make them:
one hit each tells who is who. Where the fields lie that are read then is known by version (`go_layouts.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoinstr.libraries.base import Function, Library, Place
from autoinstr.libraries.go_layouts import go_layout, layout
from autoinstr.libraries.go_program import GoProgram, go_program
from autoinstr.libraries.unknown import not_known

if TYPE_CHECKING:
    from autoinstr.libraries.go_code import GoCode

NEW_GOROUTINE = "runtime.newproc1"
LOT = 16  # ids that a processor gets at a time, to give them to goroutines
RETURNS_STREAM, MADE = "go_new_stream", "go_new_stream_made"
NEW_STREAM = "google.golang.org/grpc/internal/transport.(*http2Client).NewStream"
GO = "golang.org/toolchain"
GRPC = "google.golang.org/grpc"
X_NET = "golang.org/x/net"
# What a program needs to know, by module
NEEDED = {
    "go_run_handler": (GO, ("server", "state", "stream", "id")),
    "go_round_trip": (GO, ("client",)),
    "go_look_up": (GO, ("goid", "parent")),
    "go_run_handler_x": (X_NET, ("x_server", "x_state", "x_stream", "x_id")),
    "go_handle_stream": (GRPC, ("rpc_server", "rpc_id", "rpc_method")),
    "go_new_stream": (GRPC, ("rpc_client", "rpc_of", "rpc_id", "rpc_method")),
}
FUNCTIONS = (
    Function("net/http.(*http2serverConn).runHandler", "go_run_handler"),
    Function("net/http/internal/http2.(*serverConn).runHandler", "go_run_handler"),
    Function("golang.org/x/net/http2.(*serverConn).runHandler", "go_run_handler_x"),
    Function("net/http.(*persistConn).roundTrip", "go_round_trip"),
    Function("net/http.(*http2ClientConn).roundTrip", "go_look_up"),
    Function("net/http/internal/http2.(*ClientConn).roundTrip", "go_look_up"),
    Function("golang.org/x/net/http2.(*ClientConn).roundTrip", "go_look_up"),
    Function("golang.org/x/net/http2.(*ClientConn).RoundTrip", "go_look_up"),
    Function("google.golang.org/grpc.(*Server).handleStream", "go_handle_stream"),
    Function(NEW_STREAM, "", RETURNS_STREAM),
)


def goroutine_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """Their entries, or returns."""
    if (program := go_program(descriptor)) is None:
        return []
    program.look_for(function.symbol for function in functions)
    places, known, unknown = [], layouts(program), set[str]()
    for function in functions:
        where = program.function(function.symbol)
        code = program.code(where) if where else None
        if where is None or code is None or (entry := code.entry()) is None:
            continue
        one = function.program or function.on_return
        module, names = NEEDED[one]
        if all(name in known for name in names):
            if one == RETURNS_STREAM and (made := _stream_made(code)):
                places.append(Place(program.offset(where, made[0]), MADE))
                continue
            at = [entry] if function.program else code.returns()
            places += [Place(program.offset(where, place), one) for place in at]
        elif not _layout(program, module):
            unknown.add(module)  # else it has no such fields: before Go 1.21, who has begun a goroutine
    for module in unknown:
        version = ".".join(map(str, program.version)) if module == GO else program.modules.get(module, "")
        not_known(
            "%s %s is not one that autoinstr knows: what its requests ask others has no parent",
            "Go" if module == GO else module,
            version or "of a version that is not told",
        )
    return places


def layouts(program: GoProgram) -> dict[str, int]:
    """Where fields lie in this program, as far as that is known: of Go by its minor version, of modules by theirs."""
    return {name: at for module in (GO, GRPC, X_NET) for name, at in _layout(program, module).items()}


def _layout(program: GoProgram, module: str) -> dict[str, int]:
    return go_layout(program.version) if module == GO else layout(module, program.modules.get(module, ""))


def layout_of(descriptor: int) -> dict[str, int]:
    """The same; of other programs nothing."""
    program = go_program(descriptor)
    if program is None:
        return {}
    found = layouts(program)
    if made := _stream_made(code) if (code := program.code_of(NEW_STREAM)) else None:
        found["rpc_made"] = made[1]
    ids = program.code_of(NEW_GOROUTINE) if "parent" in found else None
    if last := ids.counted_in(LOT) if ids else None:
        found["last_id"] = last - min(segment.address for segment in program.segments if segment.is_code)
    return found


def _stream_made(code: GoCode) -> tuple[int, int] | None:
    """Of NewStream, an instruction that each new stream comes by, in the place of all returns, and where the stream is
    then; None: returns are as cheap, or there is no such.
    """
    return None if code.returns_are_cheap else code.before_success()


GOROUTINES = Library(
    name="goroutines",
    flag=0,
    group="goroutines",
    functions=FUNCTIONS,
    places=goroutine_places,
    layout=layout_of,
    hits=1,
    per="request of HTTP/2 or gRPC, and call",
)
