"""A program with the routers of `go_routes`, and requests for their routes: the truth is what the router says."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ports import free_ports

SOURCES = Path(__file__).with_name("go_routes")
ROUTERS = ("net/http", "chi", "gin", "gorilla", "echo", "echo-before")  # the last with something before the router


def build(path: Path, flags: Sequence[str] = ()) -> str:
    """Build the program; why that can't be, else empty."""
    command = ["go", "build", "-tags=nomsgpack", *flags, "-o", str(path), "."]
    built = subprocess.run(command, cwd=SOURCES, check=False, capture_output=True, text=True, timeout=240)
    return built.stderr.strip() if built.returncode else ""


@contextmanager
def running_routers(program: Path) -> Iterator[tuple[int, dict[str, int]]]:
    """Pid, and the port of each router."""
    ports = dict(zip(ROUTERS, free_ports(len(ROUTERS)), strict=True))
    process = subprocess.Popen([program, *map(str, ports.values())], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield process.pid, ports
    finally:
        process.kill()
        process.wait()


def wishes(router: str, number: int) -> list[tuple[str, str]]:
    """(method, path) of a request for each of its routes; the number makes paths unique."""
    n = str(number)
    return {
        "net/http": [
            *(("GET", f"/users/{n}"), ("POST", f"/users/{n}"), ("GET", f"/files/a/b/{n}"), ("GET", f"/prefix/{n}")),
            *(("GET", f"/long/{n}/end"), ("GET", f"/large/{n}"), ("GET", f"/host/{n}")),
        ],
        "chi": [
            *(("GET", f"/users/{n}"), ("GET", f"/files/a/{n}"), ("GET", f"/tenants/t/items/{n}")),
            *(("GET", f"/tenants/{n}/deep/x"), ("GET", f"/mounted/?{n}")),
        ],
        "gin": [
            *(("GET", f"/users/{n}"), ("POST", f"/users/{n}"), ("GET", f"/files/a/{n}")),
            ("GET", f"/tenants/t/items/{n}"),
        ],
        "gorilla": [("GET", f"/users/{n}"), ("GET", f"/tenants/t/items/{n}")],
        "echo": [
            *(("GET", f"/users/{n}"), ("POST", f"/users/{n}"), ("GET", f"/files/a/{n}")),
            ("GET", f"/tenants/t/items/{n}"),
        ],
    }[router.removesuffix("-before")]


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> str:
    """The route as the router itself has it."""
    connection.request(method, path, headers={"Host": "localhost"})
    response = connection.getresponse()
    body = response.read().decode()
    assert response.status == 200, (method, path, body)
    template = response.headers.get("Route") or body
    return template[template.index("/") :]
