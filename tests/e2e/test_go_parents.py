"""Calls of Go programs have the request as their parent that they are made for, whichever goroutine writes them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
from agent import Agent
from hops import HOPS
from ports import free_ports
from truth import CLIENT, SERVER

StartAgent = Callable[..., Agent]
SOURCES = Path(__file__).with_name("go_parents")
COUNT = 127  # requests of each shape
AT_ONCE = 4
CLIENTS = ("http1", "http2")
GOROUTINES = ("same", "own")

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parents") / "parents"
    command = ["go", "build", "-ldflags=-s -w", "-o", str(path), "."]
    subprocess.run(command, cwd=SOURCES, check=True, timeout=240)
    return path


@pytest.fixture
def asking(program: Path) -> Iterator[tuple[int, int]]:
    """Pid and port."""
    ports = free_ports(2)
    process = subprocess.Popen([program, *map(str, ports)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    yield process.pid, ports[0]
    process.kill()
    process.wait()


@pytest.mark.parametrize("server", CLIENTS)
def test_calls_have_the_request_as_their_parent(agent: StartAgent, asking: tuple[int, int], server: str) -> None:
    pid, port = asking
    started = agent("--pid", pid)
    paths = [
        f"/ask/{client}/{goroutine}/{client}-{goroutine}-{number}"
        for number in range(COUNT)
        for client in CLIENTS
        for goroutine in GOROUTINES
    ]

    def ask(some: list[str]) -> None:
        second = server == "http2"
        with httpx.Client(http1=not second, http2=second, base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for path in some:
                assert client.get(path).text == "done"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, [paths[n::AT_ONCE] for n in range(AT_ONCE)]))
    spans = started.stop()
    served = {span["attributes"]["url.path"].rpartition("/")[2]: span for span in spans if is_served(span, "/ask/")}
    calls = {span["attributes"]["url.path"].rpartition("/")[2]: span for span in spans if is_call(span)}
    answered = {span["attributes"]["url.path"].rpartition("/")[2]: span for span in spans if is_served(span, "/asked/")}
    names = {path.rpartition("/")[2] for path in paths}
    assert served.keys() == calls.keys() == answered.keys() == names
    parents = {name: ids(calls[name]) for name in names}
    wrong = {name for name in names if parents[name] != (served[name]["traceId"], served[name]["spanId"])}
    invented = {name for name in wrong if parents[name][1]}
    assert not invented, sorted(invented)
    # whose goroutine a goroutine was begun by is only believed where it is certain that it was begun for this request
    own = {name for name in wrong if "-own-" in name}
    assert not wrong - own, sorted(wrong - own)
    assert len(own) < COUNT * len(CLIENTS) / 4, sorted(own)
    wrong = {name for name in names if ids(answered[name]) != (calls[name]["traceId"], calls[name]["spanId"])}
    assert not wrong, sorted(wrong)


def test_calls_of_grpc(agent: StartAgent, tmp_path: Path) -> None:
    """Who makes a call over grpc-go is not who writes it. The connection is older than the agent."""
    hops = {hop.name: hop.server for hop in HOPS}
    asked = servers.wait_up(
        servers.launch(hops["grpc-go"], tmp_path / "asked", name="asked", log=tmp_path / "asked.log", next="-")
    )
    log = tmp_path / "asking.log"
    asking = servers.wait_up(
        servers.launch(hops["go"], tmp_path / "asking", name="asking", log=log, next=f"grpc://127.0.0.1:{asked.port}")
    )

    def ask(some: list[str]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{asking.port}") as client:
            for path in some:
                assert client.get(path).text == "ok"

    try:
        ask(["/plain/before"])
        started = agent("--pid", asking.process.pid, "--pid", asked.process.pid)
        paths = [f"/plain/grpc-{number}" for number in range(COUNT * 4)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(ask, [paths[n::AT_ONCE] for n in range(AT_ONCE)]))
        spans = started.stop()
    finally:
        asking.stop()
        asked.stop()
    made = dict(reversed(line.split()) for line in log.read_text().splitlines())
    served = {span["attributes"]["url.path"]: span for span in spans if "url.path" in span["attributes"]}
    calls = {f"/{span['name']}": span for span in spans if is_call(span)}
    answered = {f"/{span['name']}": span for span in spans if not is_call(span) and "rpc.method" in span["attributes"]}
    names = {call for call, path in made.items() if path in paths}
    assert len(names) == len(paths)
    assert calls.keys() == answered.keys() == names
    assert not {name for name in names if ids(calls[name]) != place(served[made[name]])}
    assert {name: ids(answered[name]) for name in names} == {name: place(calls[name]) for name in names}


def place(span: dict[str, Any]) -> tuple[str, str]:
    return span["traceId"], span["spanId"]


def ids(span: dict[str, Any]) -> tuple[str, str]:
    """Of the trace, and of its parent."""
    return span["traceId"], span["parentSpanId"]


def is_served(span: dict[str, Any], prefix: str) -> bool:
    return span["kind"] == SERVER and span["attributes"]["url.path"].startswith(prefix)


def is_call(span: dict[str, Any]) -> bool:
    return span["kind"] == CLIENT
