"""Where clients of HTTP/2 in Go hand a header block to their framer, for `--propagate go`: those of net/http, of
golang.org/x/net and of grpc-go.

The call of `(*Framer).WriteHeaders` is an instruction that the kernel emulates. What it is given lies on the stack by
then, for it is too large for the registers of x86-64 (those of arm64 are enough: nothing is done there); and so does
the object that writes header blocks, where its method keeps it. Where fields lie is known by version
(`go_layouts.py`), what never was anywhere else stands in bpf/probes/go_propagate_http2.h, and is held against the
version, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoinstr.elf import X86_64
from autoinstr.libraries.base import Function, Library, Place
from autoinstr.libraries.go_layouts import go_layout, layout
from autoinstr.libraries.go_program import GoProgram, go_program
from autoinstr.libraries.go_propagate import CLOSES, WRITER, addresses, only_call, say_unknown
from autoinstr.probes import PROPAGATE_GO

NET_HTTP, NET_HTTP_127 = "net/http.(*http2{})", "net/http/internal/http2.(*{})"
X, RPC = "golang.org/x/net/http2.(*{})", "google.golang.org/grpc/internal/transport.(*{})"
GO, X_NET, GRPC = "Go", "golang.org/x/net", "google.golang.org/grpc"

# What is the same in all versions, by the names of `scripts/go_layouts.go`: of HeadersFrameParam, hpack's Encoder and
# HeaderField, and grpc-go's framer
BLOCK = {
    **{"block": 8, "whole": 33, "padding": 34},
    **{"entries": 0, "evicted": 24, "limit": 52, "output": 88},
    **{"name": 0, "sensitive": 32},
}
FRAMER = {"rpc_writer": 0, "rpc_frames": 8}


@dataclass(frozen=True, slots=True)
class Client:
    """One of them. Fields are called like it in the tables of versions and in struct go_fields."""

    name: str
    program: str
    writes: str  # its method, and the one that this calls once
    called: str
    needs: dict[str, tuple[str, ...]]  # by module


_OF_OBJECT = ("framer", "writer", "encoder", "conn")
_RPC = ("rpc_framer", "rpc_encoder", "rpc_conn", "rpc_buffer", "rpc_buffered")
CLIENTS = (
    *(
        Client(
            *("h2", "propagate_go_http2"),
            f"{of.format('ClientConn')}.writeHeaders",
            f"{of.format('Framer')}.WriteHeaders",
            {GO: tuple(f"h2_{name}" for name in _OF_OBJECT)},
        )
        for of in (NET_HTTP, NET_HTTP_127)
    ),
    Client(
        *("x", "propagate_go_http2_x"),
        f"{X.format('ClientConn')}.writeHeaders",
        f"{X.format('Framer')}.WriteHeaders",
        {GO: (), X_NET: tuple(f"x_{name}" for name in _OF_OBJECT)},
    ),
    Client(
        *("rpc", "propagate_go_rpc"),
        f"{RPC.format('loopyWriter')}.writeHeader",
        f"{X.format('Framer')}.WriteHeaders",
        {GO: (), X_NET: (), GRPC: _RPC},
    ),
)
NAMES = tuple(dict.fromkeys(name for one in CLIENTS for name in (one.writes, one.called)))


def block_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """The calls of those clients that are there, and of known versions."""
    program = go_program(descriptor)
    if program is None or program.machine != X86_64:
        return []
    program.look_for(function.symbol for function in functions)
    places = []
    for client in CLIENTS:
        if (found := _call(program, client)) is None:
            continue
        if module := _unknown(program, client):
            version = ".".join(map(str, program.version)) if module == GO else program.modules.get(module, "")
            say_unknown(module, version)
            continue
        where = program.function(client.writes)
        assert where
        places.append(Place(program.offset(where, found[0]), client.program))
    return places


def _call(program: GoProgram, client: Client) -> tuple[int, int] | None:
    """Address of the call, and where the object lies by then; None: it is not there, or not as it should be."""
    if (at := only_call(program, client.writes, client.called)) is None:
        return None
    code = program.code_of(client.writes)
    home = code.home_at(at) if code else None
    return (at, home) if home is not None else None


def _known(program: GoProgram, module: str) -> dict[str, int]:
    return go_layout(program.version) if module == GO else layout(module, program.modules.get(module, ""))


def _unknown(program: GoProgram, client: Client) -> str:
    """A module of which it is not known where its fields lie; empty: there is none."""
    constants = {GO: WRITER | (BLOCK if client.name == "h2" else {}), GRPC: FRAMER}
    constants[X_NET] = {f"x_{name}": at for name, at in BLOCK.items()}
    for module, names in client.needs.items():
        known = _known(program, module)
        if any(name not in known for name in names) or not constants[module].items() <= known.items():
            return module
    return ""


def layout_of(descriptor: int) -> dict[str, int]:
    """What the kernel side has to know of each; of other programs nothing."""
    program = go_program(descriptor)
    if program is None or program.machine != X86_64:
        return {}
    found = addresses(program, CLOSES)
    for client in CLIENTS:
        if (call := _call(program, client)) and not _unknown(program, client):
            for module, names in client.needs.items():
                known = _known(program, module)
                found |= {name: known[name] for name in (*names, "rpc_by_handle") if name in known}
            if client.name == "h2":
                found |= _moved(program, client, found)
            found |= {f"{client.name}_call": call[0], f"{client.name}_self": call[1]}
    return found


def _moved(program: GoProgram, client: Client, known: dict[str, int]) -> dict[str, int]:
    """Of Go the last version of each minor one is known; others of it have had fields before these. Next to each other
    lie the writer, the framer, and an error, all of which the method uses.
    """
    code = program.code_of(client.writes)
    used = code.displacements() if code else set()
    framers = [at for at in used if {at - 8, at + 8} <= used and at > known["h2_conn"]]
    by = min(framers, default=known["h2_framer"]) - known["h2_framer"]
    return {name: known[name] + by for name in ("h2_writer", "h2_framer", "h2_encoder")}


GO_PROPAGATE_HTTP2 = Library(
    name="Go's clients of HTTP/2",
    flag=0,
    group=PROPAGATE_GO,
    functions=(
        *(Function(client.writes, client.program) for client in CLIENTS),
        *(Function(name, "") for name in (*dict.fromkeys(client.called for client in CLIENTS), *CLOSES.values())),
    ),
    places=block_places,
    layout=layout_of,
    hits=1,
    per="call over HTTP/2",
)
