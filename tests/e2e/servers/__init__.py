"""Real servers that answer the same little protocol, so that the truth is the same for all.

A path says what the answer has to be: `/s/<status>/d/<delay in ms>/b/<bytes>/c/<1: chunked>/<id>`. Bodies of
requests are read to their end. A server is one small file here and one line in `SERVERS`; nginx has its prefixes.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
STOP_WITHIN = 3.0
START_WITHIN = 60.0  # Java compiles its source first, on a busy machine


@dataclass(frozen=True)
class Server:
    """`{here}`, `{folder}` (its own, empty), `{python}`, `{bin}` and `{port}` are filled in."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()  # programs without which it is skipped
    build: Sequence[str] = ()
    files: Sequence[str] = ()  # copied to its folder, with the same words filled in
    unix: bool = False  # listens at {folder}/socket
    chunked_up: bool = True
    chunked_down: bool = True
    log: Callable[[Path], Counter[tuple[str, str, int]]] | None = None  # (method, path, status) of its access log


@dataclass
class Running:
    server: Server
    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def access_log(folder: Path) -> Counter[tuple[str, str, int]]:
    """Lines of the form `METHOD TARGET STATUS`."""
    lines = (line.split() for line in (folder / "access.log").read_text().splitlines())
    return Counter((method, path.split("?")[0], int(status)) for method, path, status in lines)


GUNICORN = (
    *("{bin}/gunicorn", "--chdir", "{here}", "--access-logfile", "{folder}/access.log"),
    *("--access-logformat", "%(m)s %(U)s %(s)s", "--log-level", "warning", "--no-control-socket"),
)

SERVERS = (
    Server("http-server", ("{python}", "{here}/threading_http.py", "{port}")),
    Server("gunicorn-sync", (*GUNICORN, "-b", "127.0.0.1:{port}", "-w", "2", "wsgi:app"), log=access_log),
    Server(
        "gunicorn-threads",
        (*GUNICORN, "-b", "127.0.0.1:{port}", "-w", "2", "--threads", "4", "wsgi:app"),
        log=access_log,
    ),
    Server("gunicorn-unix", (*GUNICORN, "-b", "unix:{folder}/socket", "wsgi:app"), unix=True, log=access_log),
    Server(
        "uvicorn",
        ("{bin}/uvicorn", "--app-dir", "{here}", "--port", "{port}", "--log-level", "warning", "asgi:app"),
    ),
    Server("aiohttp", ("{python}", "{here}/aiohttp_app.py", "{port}")),
    Server("node", ("node", "{here}/plain_http.js", "{port}"), needs=("node",)),
    Server(
        "go",
        ("{folder}/go-server", "{port}"),
        needs=("go",),
        build=("go", "build", "-o", "{folder}/go-server", "{here}/go_server.go"),
    ),
    Server("java", ("java", "{here}/Server.java", "{port}"), needs=("java", "javac")),
)
# Stands before two of the others: their addresses are `{node}` (port) and `{gunicorn-unix}` (folder).
NGINX = Server(
    "nginx",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx.conf"),
    needs=("nginx",),
    files=("nginx.conf",),
    log=access_log,
)


def missing(server: Server) -> list[str]:
    return [program for program in server.needs if not shutil.which(program)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(
    server: Server, folder: Path, port: int = 0, environment: dict[str, str] | None = None, **words: object
) -> Running:
    """Start it, with more in its environment and more words to fill in; `wait_up` says when it answers."""
    port = port or free_port()
    python = Path(sys.executable)
    known = {**words, "here": HERE, "folder": folder, "python": python, "bin": python.parent, "port": port}

    def fill(text: str) -> str:
        for word, value in known.items():
            text = text.replace(f"{{{word}}}", str(value))
        return text

    folder.mkdir(parents=True, exist_ok=True)
    for name in server.files:
        (folder / name).write_text(fill((HERE / name).read_text()))
    if server.build:
        subprocess.run([fill(part) for part in server.build], check=True, cwd=folder, timeout=240)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [fill(part) for part in server.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
    return Running(server, process, folder, port)


def connect(running: Running, timeout: float = 20.0) -> socket.socket:
    if running.server.unix:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(str(running.folder / "socket"))
        return sock
    sock = socket.create_connection(("127.0.0.1", running.port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def wait_up(running: Running) -> Running:
    """Until it accepts connections."""
    end = time.monotonic() + START_WITHIN
    while True:
        try:
            connect(running).close()
        except OSError:
            output = (running.folder / "output").read_text()
            assert running.process.poll() is None, f"{running.server.name} ended: {output}"
            assert time.monotonic() < end, f"{running.server.name} is not up: {output}"
            time.sleep(0.05)
        else:
            return running
