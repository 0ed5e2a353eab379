"""Which goroutine does what in Go's HTTP and gRPC, so that a call has the request as its parent that it is made for.

Handlers of HTTP/2 and gRPC run in goroutines of their own, and calls are written by others than those that make them:
one hit each tells who is who. Where the fields lie that are read then is known by version (`go_layouts.py`).
"""

from __future__ import annotations

import logging

from autoinstr.libraries.base import Function, Library, Place
from autoinstr.libraries.go_layouts import go_layout, layout
from autoinstr.libraries.go_program import GoProgram, go_program

log = logging.getLogger(__name__)

GO = "golang.org/toolchain"
GRPC = "google.golang.org/grpc"
# What a program needs to know, by module
NEEDED = {
    "go_run_handler": (GO, ("server", "state", "stream", "id")),
    "go_round_trip": (GO, ("client",)),
    "go_look_up": (GO, ("goid", "parent")),
    "go_handle_stream": (GRPC, ("rpc_server", "rpc_id", "rpc_method")),
}
FUNCTIONS = (
    Function("net/http.(*http2serverConn).runHandler", "go_run_handler"),
    Function("net/http/internal/http2.(*serverConn).runHandler", "go_run_handler"),
    Function("net/http.(*persistConn).roundTrip", "go_round_trip"),
    Function("net/http.(*http2ClientConn).roundTrip", "go_look_up"),
    Function("net/http/internal/http2.(*ClientConn).roundTrip", "go_look_up"),
    Function("google.golang.org/grpc.(*Server).handleStream", "go_handle_stream"),
)


def goroutine_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """Their entries."""
    if (program := go_program(descriptor)) is None:
        return []
    program.look_for(function.symbol for function in functions)
    places, known, unknown = [], layouts(program), set[str]()
    for function in functions:
        where = program.function(function.symbol)
        code = program.code(where) if where else None
        if where is None or code is None or (entry := code.entry()) is None:
            continue
        module, names = NEEDED[function.program]
        if all(name in known for name in names):
            places.append(Place(program.offset(where, entry), function.program))
        else:
            unknown.add(module)
    for module in unknown:
        version = ".".join(map(str, program.version)) if module == GO else program.modules.get(module, "")
        log.warning(
            "%s %s is not one that autoinstr knows: what its requests ask others has no parent",
            "Go" if module == GO else module,
            version or "of a version that is not told",
        )
    return places


def layouts(program: GoProgram) -> dict[str, int]:
    """Where fields lie in this program, as far as that is known: of Go by its minor version, of modules by theirs."""
    return go_layout(program.version) | layout(GRPC, program.modules.get(GRPC, ""))


def layout_of(descriptor: int) -> dict[str, int]:
    """The same; of other programs nothing."""
    program = go_program(descriptor)
    return layouts(program) if program else {}


GOROUTINES = Library(
    name="goroutines", flag=0, group="goroutines", functions=FUNCTIONS, places=goroutine_places, layout=layout_of
)
