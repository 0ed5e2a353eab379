"""Real clients that make the same requests, so that the truth is the same for all.

A client is one small file and one line in `CLIENTS`, which is also its row in the score. Its argument is a file of
lines `METHOD URL BYTES KIND`: BYTES is the size of the body to send, KIND `chunked` or `length`. It prints a line when
it is up, and begins when it reads one. After each request it prints `URL NANOSECONDS`: how long it took, by its own
clock. A request that fails does not keep it from the next one, but it ends with status 1 then.

Lines for clients of gRPC are `METHOD URL BYTES KIND TRACEPARENT`: METHOD is one of the service's (`grpc_echo.py`), the
URL's path the message, and BYTES more of it; a client-streaming method sends it three times. TRACEPARENT `-` is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from certificates import trusting
from servers import GRPC_GO, GRPC_JS, RPC, SECURE, lacking

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Client:
    """Filled in: `{here}`, `{folder}`, `{built}` (where it is built, once), `{python}`, `{requests}` (the file)."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    build: Sequence[str] = ()
    build_in: str = "{folder}"
    by_exe: str = ""  # watched by its executable: its own children make the requests
    chunked: bool = True  # can send a body without saying its length
    in_turn: bool = True  # makes one request after the other
    transports: Sequence[str] = ("http", "https")  # those of `servers.TRANSPORTS` that are to be seen of it

    @property
    def secure(self) -> bool:
        return any(transport in SECURE for transport in self.transports)


CLIENTS = (
    Client("curl", ("sh", "{here}/curl.sh", "{requests}"), needs=("curl",), by_exe="*/curl"),
    Client("wget", ("sh", "{here}/wget.sh", "{requests}"), needs=("wget",), by_exe="*/wget", chunked=False),
    Client("requests", ("{python}", "{here}/with_requests.py", "{requests}")),
    Client("aiohttp", ("{python}", "{here}/with_aiohttp.py", "{requests}")),
    Client("httpx", ("{python}", "{here}/with_httpx.py", "{requests}")),
    Client("httpx-tasks", ("{python}", "{here}/with_httpx_tasks.py", "{requests}"), in_turn=False),
    Client("fetch", ("node", "{here}/fetch.js", "{requests}"), needs=("node",)),
    Client("node-agent", ("node", "{here}/agent.js", "{requests}"), needs=("node",)),
    Client(
        "go",
        ("{built}/go-client", "{requests}"),
        needs=("go",),
        build=("go", "build", "-o", "{built}/go-client", "{here}/go_client.go"),
    ),
    Client("java", ("java", "{here}/Client.java", "{requests}"), needs=("java", "javac"), transports=("http",)),
)
HTTP2 = ("h2c", "h2")
HTTP2_CLIENTS = (
    Client(
        "curl",
        ("sh", "{here}/curl.sh", "{requests}", "--http2-prior-knowledge"),
        needs=("curl",),
        by_exe="*/curl",
        chunked=False,
        transports=HTTP2,
    ),
    Client(
        "h2load",
        ("{python}", "{here}/with_h2load.py", "{requests}"),
        needs=("h2load",),
        by_exe="*/h2load",
        chunked=False,
        transports=HTTP2,
    ),
    Client("httpx", ("{python}", "{here}/with_httpx.py", "{requests}", "http2"), transports=HTTP2),
    Client("node", ("node", "{here}/http2.js", "{requests}"), needs=("node",), transports=HTTP2),
    Client(
        "go",
        ("{built}/go-client", "{requests}", "http2"),
        needs=("go",),
        build=("go", "build", "-o", "{built}/go-client", "{here}/go_client.go"),
        transports=HTTP2,
    ),
)
GRPC_CLIENTS = (
    Client(
        "grpc-go",
        ("{built}/grpc-go", "call", "{requests}"),
        transports=RPC,
        **GRPC_GO | {"build": ("go", "build", "-o", "{built}/grpc-go", ".")},
    ),
    # its TLS library has no symbols
    Client("grpcio", ("{python}", "{here}/with_grpc.py", "sync", "{requests}"), transports=("grpc",)),
    Client("grpcio-aio", ("{python}", "{here}/with_grpc.py", "aio", "{requests}"), transports=("grpc",)),
    Client("grpc-js", ("node", "{here}/grpc_call.js", "{requests}"), needs=("node", GRPC_JS), transports=RPC),
)


def missing(client: Client) -> list[str]:
    return lacking(client.needs)


class Running:
    """A client that waits for its beginning."""

    def __init__(self, client: Client, folder: Path, requests: str) -> None:
        self.client = client
        folder.mkdir(parents=True)
        (folder / "requests").write_text(requests)
        built = folder.parent / f"{client.name}-built"
        words = {"here": HERE, "folder": folder, "built": built, "python": sys.executable}
        words["requests"] = folder / "requests"
        if client.build and not built.exists():
            built.mkdir()
            build_in = fill(client.build_in, words)
            subprocess.run([fill(part, words) for part in client.build], check=True, cwd=build_in, timeout=240)
        self.process = subprocess.Popen(
            [fill(part, words) for part in client.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "errors").open("w"),
            text=True,
            env={**os.environ, **(trusting() if client.secure else {})},
        )
        self._errors = folder / "errors"

    def wait_up(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline(), f"{self.client.name} did not start: {self._errors.read_text()}"

    def run(self) -> None:
        """Let it make its requests, and wait for its end."""
        self.finish()
        assert self.process.returncode == 0, f"{self.client.name} failed: {self._errors.read_text()}"

    def finish(self) -> list[tuple[str, int]]:
        """The same; URLs with what each took. Requests may fail."""
        output, _ = self.process.communicate("go\n", timeout=60)
        return [(url, int(took)) for url, took in (line.split() for line in output.splitlines())]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def fill(text: str, words: dict[str, object]) -> str:
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", str(value))
    return text
