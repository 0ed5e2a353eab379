"""The applications whose price is told: one small file each here, and one line in `APPS`.

Each answers `GET /item/<number>` with a small body of known length. `{scripts}` is the folder of Python's programs
(of the virtual environment that the application runs in), `{apps}` this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import in_process
from in_process import InProcess
from servers import Server


@dataclass(frozen=True)
class App:
    """`server` as it runs alone, and the in-process agent that users could have instead of autoinstr."""

    name: str
    title: str
    server: Server
    instead: Callable[[], InProcess] | None = None


GUNICORN = ("{scripts}/gunicorn", "--chdir", "{apps}", "--log-level", "warning", "--no-control-socket", "-w", "2")
UVICORN = ("{scripts}/uvicorn", "--app-dir", "{apps}", "--log-level", "warning", "--no-access-log")

APPS = (
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
