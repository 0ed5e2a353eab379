"""Routes of Go's routers: what is told is what the router itself calls them, in every request."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent import Agent
from ports import free_ports
from routers import ask, build, running_routers, wishes

StartAgent = Callable[..., Agent]
LINKED = {"static": (), "stripped-pie": ("-buildmode=pie", "-ldflags=-s -w"), "unoptimised": ("-gcflags=all=-N -l",)}
COUNT = 211  # requests of each router
OTHER_GO = {"oldest": ("1.17.13", "0"), "newest": ("1.27.3", "1")}
MUX = Path(__file__).with_name("go_mux")

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@pytest.fixture(scope="module", params=LINKED)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("routes") / "routes"
    if reason := build(path, LINKED[request.param]):
        pytest.skip(f"needs modules of Go: {reason}")
    return path


@pytest.fixture
def running(program: Path) -> Iterator[tuple[int, dict[str, int]]]:
    """Pid, and the port of each router."""
    with running_routers(program) as (pid, ports):
        yield pid, ports


def test_every_request_has_the_route_that_its_router_has(
    agent: StartAgent, running: tuple[int, dict[str, int]]
) -> None:
    pid, ports = running
    older = {router: http.client.HTTPConnection("127.0.0.1", port) for router, port in ports.items()}
    for router, connection in older.items():
        ask(connection, *wishes(router, 0)[0])
    started = agent("--pid", pid)
    truth: dict[tuple[int, str, str], str] = {}
    for router, port in ports.items():
        connections = [older[router], *(http.client.HTTPConnection("127.0.0.1", port) for _ in range(3))]
        for number in range(1, COUNT):
            asked = wishes(router, number)
            method, path = asked[number % len(asked)]
            route = ask(connections[number % len(connections)], method, path)
            truth[port, method, path.partition("?")[0]] = route
    spans = started.stop()
    told = {key_of(span): span["attributes"].get("http.route") for span in spans}
    wrong = {key: (route, told.get(key)) for key, route in truth.items() if told.get(key) != route}
    assert not wrong
    assert {span["name"] for span in spans} == {f"{key[1]} {route}" for key, route in truth.items()}


def key_of(span: dict[str, Any]) -> tuple[int, str, str]:
    found = span["attributes"]
    return found["server.port"], found["http.request.method"], found["url.path"]


def test_routes_over_the_http2_of_x_net(agent: StartAgent, running: tuple[int, dict[str, int]]) -> None:
    """Each handler has a goroutine of its own, which is joined with its stream where it begins."""
    pid, ports = running
    started = agent("--pid", pid)
    truth = []
    with httpx.Client(http1=False, http2=True, base_url=f"http://localhost:{ports['gin']}") as client:
        for number in range(COUNT):
            asked = wishes("gin", number)
            method, path = asked[number % len(asked)]
            truth.append(client.request(method, path).text)
    assert [span["attributes"].get("http.route") for span in started.stop()] == truth


def test_routes_can_be_switched_off(agent: StartAgent, running: tuple[int, dict[str, int]]) -> None:
    pid, ports = running
    started = agent("--pid", pid, "--probes", "tls")
    ask(http.client.HTTPConnection("127.0.0.1", ports["net/http"]), "GET", "/users/17")
    assert [span["attributes"]["http.route"] for span in started.stop()] == ["/users/*"]


@pytest.mark.parametrize(("version", "cgo"), OTHER_GO.values(), ids=OTHER_GO)
def test_oldest_and_newest_go(agent: StartAgent, tmp_path: Path, version: str, cgo: str) -> None:
    """Stripped, position-independent, with cgo and without."""
    if cgo == "1" and not shutil.which("gcc"):
        pytest.skip("needs gcc")
    shutil.copy(MUX / "main.go", tmp_path)
    (tmp_path / "go.mod").write_text("module mux\n\ngo 1.17\n")
    environment = {
        **os.environ,
        "GOTOOLCHAIN": f"go{version}",
        "GOENV": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": cgo,
    }
    command = ["go", "build", "-buildmode=pie", "-ldflags=-s -w", "-o", "mux", "."]
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    built = subprocess.run(command, check=False, timeout=240, **options)
    if built.returncode:
        pytest.skip(f"needs Go {version}: {built.stderr.strip()}")
    (port,) = free_ports(1)
    process = subprocess.Popen([tmp_path / "mux", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        started = agent("--pid", process.pid)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        truth = []
        for number in range(COUNT):
            connection.request(
                "GET", ("/users/", "/files/a/", "/exact", "/none/")[number % 4] + str(number) * (number % 4 != 2)
            )
            truth.append(connection.getresponse().read().decode())
        told = [span["attributes"]["http.route"] for span in started.stop()]
    finally:
        process.kill()
        process.wait()
    assert told == truth
