"""Real services that serve a request by making others, and log which for which: the truth about parents.

Arguments: name, port, log, next (a URL; `-`: it makes none); for TLS also certificate and key. The log has a line
`SERVED MADE` for each request that is made, both as paths, which are unique: the made one is `/<name>-<number>`, of
gRPC `/chain.Hop/<name>-<number>`, and SERVED is `-` if it is made for none. What is served is answered when its
requests are, with 200. The beginning of the path says in which way they are made, see `WAYS`. With HOP_BACKGROUND in
its environment it makes a request each 10 ms for none. A hop is one small file and one line in `HOPS`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from servers import GRPC_GO, GRPC_JS, NGINX_TLS, Server, by_name

from autoinstr import elf

HERE = Path(__file__).resolve().parent
WAYS = {
    "plain": "one request, while its own is served",
    "pause": "the same, after a sleep",
    "immediate": "the same, after setImmediate",
    "fan": "three at a time",
    "twice": "two, one after the other",
    "late": "one that begins after the response was sent",
    "after": "the same, while who has served it can't serve the next one yet",
    "handed": "by a thread of a pool, or after work of such a thread",
    "name": "over a connection of its own, to a name instead of an address",
    "fetch": "by Node's fetch instead of its http",
    "client": "by java.net.http's client instead of HttpURLConnection",
}
PYTHON = ("plain", "pause", "fan", "twice", "late", "handed", "name")
ARGUMENTS = ("{name}", "{port}", "{log}", "{next}")


@dataclass(frozen=True)
class Hop:
    """The least share of its requests that must get their parent: `joins` by HTTP/1, if they are made in a way of
    `joined`; `streams` by HTTP/2, of plain ones."""

    server: Server
    ways: Sequence[str] = ("plain",)
    calls: Sequence[str] = ("http",)  # transports
    joins: float = 1.0
    streams: float = 0.0
    joined: Sequence[str] = ("plain",)

    @property
    def name(self) -> str:
        return self.server.name


def hop(
    name: str, *command: str, needs: Sequence[str] = (), build: Sequence[str] = (), build_in: str = "{folder}"
) -> Server:
    return Server(name, (*command, *ARGUMENTS), needs=needs, build=build, build_in=build_in, here=HERE)


def go(name: str, serves: str) -> Server:
    build = ("go", "build", "-o", "{folder}/hop", "./hop")
    return hop(name, "{folder}/hop", serves, needs=("go",), build=build, build_in=str(GRPC_GO["build_in"]))


def has_names_of_libuv() -> bool:
    """Those by which it is known for whom Node's thread pool works: distributions strip them."""
    node = shutil.which("node")
    if not node:
        return False
    with Path(node).open("rb") as file:
        return bool(elf.functions(file.fileno(), ["uv__work_submit"]))


NGINX = Server(
    "nginx",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx.conf"),
    needs=("nginx",),
    files=("nginx.conf",),
    words={"tls": ""},
    here=HERE,
)
HOPS = (
    Hop(go("go", "http"), ("plain", "pause", "fan", "late", "handed", "name"), ("http", "https", "grpc"), joins=0.95),
    Hop(go("grpc-go", "grpc"), calls=("http", "https", "grpc"), joins=0.0),
    Hop(NGINX),
    Hop(hop("threads", "{python}", "{here}/threads.py"), PYTHON, ("http", "https")),
    Hop(hop("aiohttp", "{python}", "{here}/with_aiohttp.py"), PYTHON, ("http", "https"), joins=0.95),
    Hop(hop("uvicorn", "{python}", "{here}/with_uvicorn.py", "asyncio"), PYTHON, ("http", "https"), joins=0.95),
    Hop(hop("uvloop", "{python}", "{here}/with_uvicorn.py", "uvloop"), PYTHON, ("http", "https"), joins=0.95),
    Hop(hop("gevent", "{python}", "{here}/with_gevent.py"), PYTHON, ("http", "https"), joins=0.95),
    Hop(
        hop("node", "node", "{here}/hop.js", needs=("node", GRPC_JS)),
        ("plain", "pause", "immediate", "fan", "twice", "late", "handed", "name", "fetch"),
        ("http", "https", "h2", "h2c", "grpc"),
        joins=0.9,
        streams=0.9,
        joined=("plain", "twice", "fetch", *(("handed", "name") if has_names_of_libuv() else ())),
    ),
    Hop(
        # else the compiler for what runs long takes as much of this short time as the program
        hop("java", "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "{here}/Hop.java", needs=("java", "javac")),
        ("plain", "pause", "fan", "late", "handed", "name", "client"),
    ),
    Hop(
        hop(
            "rust",
            "{folder}/hop",
            needs=("rustc",),
            build=("rustc", "--edition=2021", "-O", "-o", "{folder}/hop", "{here}/hop.rs"),
        )
    ),
    Hop(hop("sockets", "{python}", "{here}/with_sockets.py"), calls=("http", "https")),
    Hop(
        hop("streams", "{python}", "{here}/with_streams.py"),
        ("plain", "pause", "fan", "twice", "late"),
        joins=0.95,
    ),
    Hop(hop("streams-after", "{python}", "{here}/with_streams.py"), ("plain", "after"), joins=0.0),
    Hop(hop("grpcio", "{python}", "{here}/with_grpcio.py"), calls=("grpc",)),
)
SECURE = ("https", "h2")


def named(name: str, transport: str = "http") -> Hop:
    """The hop of that name, served over that transport."""
    found = by_name(name, HOPS)
    server = replace(found.server, transport=transport)
    if transport in SECURE and name == "nginx":
        server = replace(server, words={"tls": NGINX_TLS})
    elif transport in SECURE:
        server = replace(server, command=(*server.command, "{certificate}", "{key}"))
    return replace(found, server=server)


# Little but what the language itself brings, so that two cores can bear hundreds of requests a second.
CHAIN = (
    named("go"),
    named("nginx", "https"),
    named("sockets"),
    named("streams", "https"),
    named("java"),
    named("rust"),
    named("node"),
    named("go", "h2"),
    named("grpc-go", "grpc"),
)
# What people use, at a lower rate.
FRAMEWORKS = (
    named("nginx"),
    named("threads"),
    named("aiohttp", "https"),
    named("uvloop"),
    named("gevent"),
    named("node"),
    named("go", "h2"),
    named("grpcio", "grpc"),
    named("grpc-go", "grpc"),
)
SHORT = ("threads", "aiohttp", "node")  # also by themselves
