"""Real servers of HTTP/2 and gRPC under one agent: every request is told as client and server log say.

Each is asked over two connections: one after the other on the first, 16 at a time on the second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import load
import pytest
import servers
from agent import Agent
from multiplexed import Multiplexed, Stream, code_of, rpc_method, status_of, truth_of, wish
from servers import FRONTS, GRPC_SERVERS, HTTP2_SERVERS, RPC, Running
from truth import CLIENT, Expected, compare, path_of

COUNT = 97  # a prime number of requests for each
AT_ONCE = 16
ALL = (*FRONTS, *HTTP2_SERVERS, *GRPC_SERVERS)
SEEN = [server for server in ALL if not server.unseen]


@dataclass
class Run:
    """What each server was asked (as it should be told), and what the agent told of all."""

    truth: dict[str, list[Expected]] = field(default_factory=dict)
    work: dict[str, list[load.Plan]] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)

    def told_of(self, name: str) -> list[dict[str, Any]]:
        """By what it was asked: paths have its name, and RPCs traces of their own."""
        keys = {truth.path for truth in self.truth[name] if truth.rpc}
        return [span for span in self.spans if (p := path_of(span)) in keys or f"/{name}-" in p]


def drive(running: Running, work: list[load.Plan], behind: int) -> list[Expected]:
    """Load on one server, and what should be told of it."""
    server = running.server
    rpc, half = server.transport in RPC, COUNT // 2
    truth: list[Expected] = []

    def connect() -> Multiplexed:
        return Multiplexed(servers.connect(running), rpc=rpc, secure=server.secure)

    def note(wire: Multiplexed, plan: load.Plan, stream: Stream) -> None:
        response = wire.wait(stream)
        due = server.always or (code_of(plan) if rpc else status_of(plan))
        assert response.status == due, f"{plan.path}: {response.status}"
        if server.always:
            plan = replace(plan, delay=0)
        truth.append(replace(truth_of(plan, response, rpc=rpc), server_port=running.port, peer_port=wire.port))

    wire = connect()
    for plan in work[:half]:
        note(wire, plan, wire.start(plan))
    wire.close()
    wire = connect()
    for at in range(half, len(work), AT_ONCE):
        for plan, stream in [(plan, wire.start(plan)) for plan in work[at : at + AT_ONCE]]:
            note(wire, plan, stream)
    wire.close()
    if server not in FRONTS:
        return truth
    handed = [replace(t, kind=CLIENT, server_port=None, peer_port=behind, version=None) for t in truth]
    return [*truth, *(h for h in handed if not answered_itself(running, h.path))]


def answered_itself(running: Running, path: str) -> bool:
    return "nginx" in running.server.name and path.startswith("/s/200/d/0/b/3/c/0/")


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run, folder = Run(), tmp_path_factory.mktemp("http2")
    node = servers.by_name("node", servers.SERVERS)
    behind = servers.launch(node, folder / "behind")
    try:
        servers.wait_up(behind)
        for server in (server for server in ALL if not servers.missing(server)):
            run.running[server.name] = servers.launch(server, folder / server.name, node=behind.port)
            run.work[server.name] = servers.understood(server.always, load.plans(server.name, COUNT))
        for running in run.running.values():
            servers.wait_up(running)
        agent = module_agent("--port", ",".join(str(running.port) for running in run.running.values()))
        with ThreadPoolExecutor(2) as pool:
            truths = pool.map(lambda name: drive(run.running[name], run.work[name], behind.port), run.running)
            run.truth = dict(zip(run.running, truths, strict=True))
        run.spans = agent.stop(check=False)
        yield run
    finally:
        for running in (*run.running.values(), behind):
            running.stop()


@pytest.mark.parametrize("name", [server.name for server in SEEN])
def test_told_exactly(run: Run, name: str) -> None:
    if name not in run.truth:
        pytest.skip(f"{name} needs {', '.join(servers.missing(servers.by_name(name, ALL)))}")
    complaints = compare(run.truth[name], run.told_of(name))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("name", [server.name for server in ALL if server.log])
def test_truth_is_what_the_server_logged(run: Run, name: str) -> None:
    if name not in run.truth:
        pytest.skip(f"{name} could not be started")
    running, work = run.running[name], run.work[name]
    if running.server.transport in RPC:
        due = Counter((rpc_method(plan), wish(plan), code_of(plan)) for plan in work)
    else:
        due = Counter((plan.method, plan.path, status_of(plan)) for plan in work)
    assert running.server.log
    assert running.server.log(running.folder) == due


def test_nothing_invented(run: Run) -> None:
    known = {span["spanId"] for name in run.truth for span in run.told_of(name)}
    invented = [span for span in run.spans if span["spanId"] not in known]
    assert not invented, "\n".join(f"{path_of(span)} {span['attributes']}" for span in invented)
