"""Go's server as other toolchains build it, and linked in other ways: rows of the score, of the same program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from servers import SERVERS, Server


@dataclass(frozen=True)
class Build:
    row: str
    toolchain: str  # empty: the one that is here
    cgo: bool
    flags: tuple[str, ...] = ()


BUILDS = (
    Build("go-oldest", "1.17.13", cgo=False, flags=("-ldflags=-s -w",)),
    Build("go-newest", "1.27.3", cgo=False),
    Build("go-cgo", "", cgo=True, flags=("-ldflags=-linkmode=external",)),
    Build("go-stripped", "", cgo=False, flags=("-buildmode=pie", "-ldflags=-s -w")),
)


def of_builds() -> Iterator[Server]:
    """Each in plaintext and over TLS."""
    for build in BUILDS:
        toolchain = (f"GOTOOLCHAIN=go{build.toolchain}",) if build.toolchain else ()
        environment = ("env", *toolchain, "GOENV=off", f"CGO_ENABLED={build.cgo:d}")
        for server in SERVERS:
            if server.name in ("go", "go-tls"):
                command = (*environment, "go", "build", *build.flags, *server.build[2:])
                name = f"{build.row}{server.name.removeprefix('go')}"
                yield replace(
                    server,
                    name=name,
                    row=build.row,
                    build=command,
                    needs=(*server.needs, *("gcc",) * build.cgo),
                )
