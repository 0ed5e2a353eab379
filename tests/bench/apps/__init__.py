"""The applications whose price is told: one small file each here, and one line in `APPS`.

Each answers `GET /item/<number>` with a small body of known length. `{scripts}` is the folder of Python's programs
(of the virtual environment that the application runs in), `{apps}` this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import in_process
from in_process import InProcess
from servers import GRPC_GO, NGINX_H2, NGINX_TLS, Server, by_name


@dataclass(frozen=True)
class App:
    """`server` as it runs alone, and the in-process agent that users could have instead of autoinstr."""

    name: str
    title: str
    server: Server
    instead: Callable[[], InProcess] | None = None
    watched: tuple[str, ...] = ()  # who else is, by flags of the agent


GUNICORN = ("{scripts}/gunicorn", "--chdir", "{apps}", "--log-level", "warning", "--no-control-socket", "-w", "2")
UVICORN = ("{scripts}/uvicorn", "--app-dir", "{apps}", "--log-level", "warning", "--no-access-log")

PLAIN = (
    App(
        "nginx",
        "nginx, one worker",
        Server(
            "nginx",
            ("nginx", "-p", "{folder}", "-c", "{folder}/nginx_load.conf"),
            needs=("nginx",),
            files=("nginx_load.conf",),
        ),
    ),
    App(
        "node", "Node http", Server("node", ("node", "{apps}/node_app.js", "{port}"), needs=("node",)), in_process.node
    ),
    App(
        "go",
        "Go net/http",
        Server(
            "go",
            ("{folder}/go-app", "{port}"),
            needs=("go",),
            build=("go", "build", "-o", "{folder}/go-app", "{apps}/go_app.go"),
        ),
    ),
    App(
        "flask",
        "gunicorn + Flask, two workers",
        Server("flask", (*GUNICORN, "-b", "127.0.0.1:{port}", "flask_app:app")),
        in_process.python,
    ),
    App(
        "fastapi",
        "uvicorn + FastAPI",
        Server("fastapi", (*UVICORN, "--port", "{port}", "fastapi_app:app")),
        in_process.python,
    ),
)


def over_tls(name: str, *options: str, **words: str) -> App:
    """The application of that name behind TLS, by options or words of its configuration."""
    app = by_name(name, PLAIN)
    server = replace(
        app.server, name=f"{name}-tls", command=(*app.server.command, *options), words=words, transport="https"
    )
    return App(f"{name}-tls", f"{app.title}, TLS", server)


def over_http2(name: str, transport: str, tls: str) -> Server:
    server = by_name(name, PLAIN).server
    needs = (*server.needs, "h2load")
    return replace(server, name=f"{name}-{transport}", words={"tls": tls}, transport=transport, needs=needs)


APPS = (
    *PLAIN,
    over_tls("nginx", tls=NGINX_TLS),
    over_tls("node", "{certificate}", "{key}"),
    over_tls("go", "{certificate}", "{key}"),
    # with threads it keeps connections: else every request were a handshake
    over_tls("flask", "--threads", "4", "--certfile", "{certificate}", "--keyfile", "{key}"),
    App(
        "grpc-go",
        "grpc-go, unary",
        Server("grpc-go", ("{folder}/grpc-go", "serve", "{port}", ""), transport="grpc", **GRPC_GO),
    ),
    App(
        "grpc-go-both",
        "grpc-go, unary, its caller as well",
        Server("grpc-go-both", ("{folder}/grpc-go", "serve", "{port}", ""), transport="grpc", **GRPC_GO),
        watched=("--exe", "grpc-go"),
    ),
    App("nginx-h2c", "nginx, one worker, HTTP/2", over_http2("nginx", "h2c", "http2")),
    App("nginx-h2", "nginx, one worker, HTTP/2 and TLS", over_http2("nginx", "h2", NGINX_H2)),
)
