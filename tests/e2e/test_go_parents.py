"""Calls of Go programs have the request as their parent that they are made for, whichever goroutine writes them."""

from __future__ import annotations

import shutil
import subprocess
import time
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
FIRST = 24  # connections of grpc-go
AT_ONCE = 4
CLIENTS = ("http1", "http2")
GOROUTINES = ("same", "own", "later")

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parents") / "parents"
    command = ["go", "build", "-ldflags=-s -w", "-o", str(path), "."]
    subprocess.run(command, cwd=SOURCES, check=True, timeout=240)
    return path


@pytest.fixture(params=["", "busy"])
def asking(program: Path, request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Pid and port. A busy one begins many other goroutines."""
    ports = free_ports(2)
    words = [program, *map(str, ports), *request.param.split()]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
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
    time.sleep(0.5)  # what is asked later is asked then
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
    assert not {name for name in wrong if "-same-" in name}, sorted(wrong)
    assert len(own) < COUNT * len(CLIENTS) / 20, sorted(own)
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
    orphans = {name for name in names if not answered[name]["parentSpanId"]}
    assert {name: ids(answered[name]) for name in names - orphans} == {
        name: place(calls[name]) for name in names - orphans
    }
    # the answer may be out before a caller goes on that was stopped just behind its call
    assert len(orphans) < len(names) / 100, [(ids(answered[name]), place(calls[name])) for name in orphans]


def test_first_calls_of_grpc(agent: StartAgent, tmp_path: Path) -> None:
    """Nothing is known of a connection at its first calls, which may be written before who makes it has its number."""
    hops = {hop.name: hop.server for hop in HOPS}
    asked = servers.wait_up(
        servers.launch(hops["grpc-go"], tmp_path / "asked", name="asked", log=tmp_path / "asked.log", next="-")
    )
    next_hop = f"grpc://127.0.0.1:{asked.port}"
    asking = [
        servers.launch(hops["go"], tmp_path / "asking", name=f"asking{n}", log=tmp_path / f"{n}.log", next=next_hop)
        for n in range(FIRST)
    ]
    try:
        with httpx.Client() as client, ThreadPoolExecutor(AT_ONCE) as pool:
            for one in asking[::2]:
                assert client.get(f"http://127.0.0.1:{servers.wait_up(one).port}/before").text == "ok"
            started = agent(*(word for one in (asked, *asking) for word in ("--pid", one.process.pid)))
            for one in asking:
                firsts = [f"http://127.0.0.1:{servers.wait_up(one).port}/first"] * AT_ONCE
                assert {response.text for response in pool.map(client.get, firsts)} == {"ok"}
        spans = started.stop()
    finally:
        for one in (asked, *asking):
            one.stop()
    served = [span for span in spans if span["attributes"].get("url.path") == "/first"]
    calls = [span for span in spans if is_call(span)]
    answered = [span for span in spans if not is_call(span) and "rpc.method" in span["attributes"]]
    assert len(served) == len(calls) == len(answered) == FIRST * AT_ONCE
    assert sorted(map(ids, calls)) == sorted(map(place, served))
    assert sorted(map(ids, answered)) == sorted(map(place, calls))


def place(span: dict[str, Any]) -> tuple[str, str]:
    return span["traceId"], span["spanId"]


def ids(span: dict[str, Any]) -> tuple[str, str]:
    """Of the trace, and of its parent."""
    return span["traceId"], span["parentSpanId"]


def is_served(span: dict[str, Any], prefix: str) -> bool:
    return span["kind"] == SERVER and span["attributes"]["url.path"].startswith(prefix)


def is_call(span: dict[str, Any]) -> bool:
    return span["kind"] == CLIENT
