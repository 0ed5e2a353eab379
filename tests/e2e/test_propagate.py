"""Trace contexts cross to other hosts, and nothing else changes: two network namespaces, an agent on each side."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clients
import hosts
import pytest
from agent import PROGRAM, Agent
from clients import GRPC_CLIENTS, HTTP2_CLIENTS, Client
from ports import free_ports
from puppet import Puppet
from truth import CLIENT, SERVER, kind_of, path_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))

import torture
from link import Link

SHORT = 3_001  # requests of the torture test in its short form
COUNT = 7
OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECOND = [client for client in (*HTTP2_CLIENTS, *GRPC_CLIENTS) if client.name != "h2load"]  # that one has but one path
ways = pytest.mark.parametrize("way", ["tcp", "headers"])


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    with Link() as made:
        yield made


@functools.cache
def refusal(way: str) -> str:
    return torture.refusal(way)


def allowed(way: str) -> dict[str, Any]:
    """How to start an agent that does it."""
    if program := torture.program_for(way):
        return {"program": program}
    pytest.skip(f"{way} is refused here, which test_refused asks for: {refusal(way)}")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    return torture.build(tmp_path_factory.mktemp("odd"))


def by_path(spans: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {path_of(span): span for span in spans}


@ways
def test_crosses(way: str, link: Link, agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> None:
    how = allowed(way)
    server, client = puppets(), puppets()
    there = agent("--pid", server.pid, "--propagate", way, **how)
    here = agent("--pid", client.pid, "--propagate", way, **how)
    port = server.call(hosts.serve, str(link.file), link.there).result(10)
    for anew in (False, True):
        client.call(functools.partial(hosts.call, anew=anew), link.there, port, COUNT).result(20)
    for one in (here, there):
        assert one.wait_for(lambda spans: len(spans) == 2 * COUNT)
    calls, served = by_path(here.stop()), by_path(there.stop())
    assert len(calls) == 2 * COUNT
    for path, call in calls.items():
        assert (served[path]["traceId"], served[path]["parentSpanId"]) == (call["traceId"], call["spanId"]), path
    fields = server.call(hosts.seen).result(5)
    if way == "tcp":
        assert fields == [None] * 2 * COUNT
    else:
        assert {field.split("-")[2] for field in fields if field} == {call["spanId"] for call in calls.values()}


@ways
def test_own_context_stays(way: str, link: Link, agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> None:
    how = allowed(way)
    server, client = puppets(), puppets()
    there = agent("--pid", server.pid, "--propagate", way, **how)
    agent("--pid", client.pid, "--propagate", way, **how)
    port = server.call(hosts.serve, str(link.file), link.there).result(10)
    call = functools.partial(hosts.call, anew=False, fields={"TraceParent": OWN})
    client.call(call, link.there, port, COUNT).result(20)
    assert there.wait_for(lambda spans: len(spans) == COUNT)
    assert server.call(hosts.seen).result(5) == [OWN] * COUNT
    assert {span["parentSpanId"] for span in there.stop()} == {OWN.split("-")[2]}


@pytest.mark.parametrize("client", SECOND, ids=lambda client: client.name)
def test_http2_crosses(
    client: Client, link: Link, agent: Callable[..., Agent], puppets: Callable[[], Puppet], tmp_path: Path
) -> None:
    """Each request of a real client brings its span's ids, and is served under them."""
    if lacks := clients.missing(client):
        pytest.skip(f"needs {', '.join(lacks)}")
    how, server = allowed("headers"), puppets()
    port = server.call(hosts.serve_http2, str(link.file), link.there).result(10)
    rpc = client in GRPC_CLIENTS
    line = "Unary http://{}:{}/s/0/n/{} 9 length -\n" if rpc else "GET http://{}:{}/n/{} 0 length\n"
    requests = "".join(line.format(link.there, port, number) for number in range(COUNT))
    running = clients.Running(client, tmp_path / client.name, requests.replace("http:", "grpc:") if rpc else requests)
    which = ("--exe", client.by_exe) if client.by_exe else ("--pid", running.process.pid)
    there = agent("--pid", server.pid, "--propagate", "headers", **how)
    here = agent(*which, "--propagate", "headers", **how)
    running.wait_up()
    before = len(server.call(hosts.seen).result(5))
    running.run()
    assert there.wait_for(lambda spans: len(spans) == COUNT)
    assert here.wait_for(lambda spans: len(spans) == COUNT)
    calls = {span["spanId"]: span for span in here.stop()}
    fields = server.call(hosts.seen).result(5)[before:]
    brought = [field.split("-")[2] for field in fields if field]
    late = COUNT - len(brought)  # grpc-go writes a call without waiting for whoever makes it
    assert late <= (COUNT // 2 if client.name == "grpc-go" else 0), fields
    assert set(brought) <= calls.keys()
    assert len(set(brought)) == len(brought)
    for span in there.stop():
        parent = calls.get(span["parentSpanId"])
        if parent:
            assert span["traceId"] == parent["traceId"]
            assert rpc or path_of(span) == path_of(parent)
            brought.remove(span["parentSpanId"])
    assert not brought


def test_http2_goes_on(agent: Callable[..., Agent], puppets: Callable[[], Puppet], tmp_path: Path) -> None:
    """What a server that was asked in this way asks in turn, itself in the end, is in the same trace: on and on."""
    if not shutil.which("go"):
        pytest.skip("needs go")
    how, client, ports = allowed("headers"), puppets(), free_ports(2)
    program = tmp_path / "parents"
    build = ["go", "build", "-o", str(program), "."]
    subprocess.run(build, cwd=Path(__file__).with_name("go_parents"), check=True, timeout=240)
    with subprocess.Popen([program, *map(str, ports)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            there = agent("--pid", process.pid, "--propagate", "headers", **how)
            here = agent("--pid", client.pid, "--propagate", "headers", **how)
            urls = [f"http://127.0.0.1:{ports[0]}/ask/http2/same/{number}" for number in range(COUNT)]
            client.call(hosts.call_http2, urls).result(30)
            assert here.wait_for(lambda spans: len(spans) == COUNT)
            assert there.wait_for(lambda spans: len(spans) == 3 * COUNT)
        finally:
            process.kill()
    calls = {path_of(span).rpartition("/")[2]: span for span in here.stop()}
    spans = there.stop()
    assert len(spans) == 3 * COUNT
    found = {(kind_of(span), path_of(span)): span for span in spans}
    for number, call in calls.items():
        asked, asks, answers = (
            found[kind, f"/{path}/{number}"]
            for kind, path in ((SERVER, "ask/http2/same"), (CLIENT, "asked"), (SERVER, "asked"))
        )
        assert {span["traceId"] for span in (call, asked, asks, answers)} == {call["traceId"]}
        assert asked["parentSpanId"] == call["spanId"]
        assert asks["parentSpanId"] == asked["spanId"]
        assert answers["parentSpanId"] == asks["spanId"]


def test_zero_copy(link: Link, agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> None:
    """What sends without copying is told of each call once, as without an agent, and left alone. On a socket whose
    messages may be changed the kernel would tell of pieces; there it does not begin to."""
    how = allowed("headers")
    server, client = puppets(), puppets()
    agent("--pid", client.pid, "--propagate", "headers", **how)
    port = server.call(hosts.serve, str(link.file), link.there).result(10)
    told = [
        client.call(functools.partial(hosts.zero_copy, before=one), link.there, port).result(30)
        for one in (True, False)
    ]
    assert told == [(True, 2), (False, 0)]
    before, after = server.call(hosts.seen).result(5)
    assert not before
    assert after


@pytest.mark.parametrize("way", ["tcp", "headers", "go"])
def test_refused(way: str) -> None:
    """Where a way would do harm, or can't be, `run` does not start, and it and `check` say why."""
    reason = refusal(way)
    checked = subprocess.run([PROGRAM, "check"], capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in checked.stdout.splitlines() if f"--propagate {way}" in line]
    assert lines
    assert lines[0].startswith("miss" if reason else "ok"), checked.stdout
    if not reason:
        return
    command = [PROGRAM, "run", "--pid", str(os.getpid()), "--export", "none", "--propagate", way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert reason in done.stderr


@ways
def test_torture(way: str, odd: Path) -> None:
    allowed(way)
    found = torture.torment(odd, way, SHORT)
    assert found["requests"] >= SHORT
    assert torture.complaints(found, way) == []


def test_torture_http2() -> None:
    allowed("headers")
    found = torture.torment(torture.FRAMES, "headers", SHORT)
    assert found["requests"] >= SHORT
    assert torture.complaints(found, "headers") == []


@ways
def test_agent_killed(way: str, odd: Path) -> None:
    """Connections go on as if nothing had been."""
    allowed(way)
    torture.torment(odd, way, 10 * SHORT, kill=True)
    if way == "headers":
        torture.torment(torture.FRAMES, way, SHORT, kill=True)


def test_options_that_are_dropped(link: Link, agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> None:
    """Whoever drops segments for their options delays three requests, and no more."""
    allowed("tcp")
    server, client = puppets(), puppets()
    agent("--pid", client.pid, "--propagate", "tcp")
    port = server.call(functools.partial(hosts.serve, drops=True), str(link.file), link.there).result(10)
    took = client.call(functools.partial(hosts.call, anew=True), link.there, port, 12).result(60)
    slow = [seconds > 0.15 for seconds in took]
    assert slow[:3] == [True] * 3, took
    assert sum(slow[3:]) <= 1, took  # the machine may be slow once
