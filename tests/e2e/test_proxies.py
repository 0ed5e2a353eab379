"""Real proxies, servers and clients at once: each call is told, and is no child of another request than its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import load
import pytest
import servers
from agent import Agent
from certificates import client_context
from servers import MULTIPLEXED, PLAIN_SERVERS, PROXIES, Running
from truth import CLIENT, SERVER, Expected, compare, kind_of, path_of

COUNT = 120
AT_A_TIME = 12
# Its event loops put off what they have read: a call has a parent where they have read of one request only.
NOT_IN_ORDER = "haproxy"

Span = dict[str, Any]


@dataclass
class Run:
    skipped: dict[str, str]
    truth: dict[str, list[Expected]]  # of the servers' side
    spans: list[Span]

    def told_of(self, name: str) -> list[Span]:
        return [span for span in self.spans if path_of(span).rpartition("/")[2].rpartition("-")[0] == name]


async def ask_at_once(running: Running, work: list[load.Plan]) -> list[Expected]:
    """Over one connection of HTTP/2, a part of them at a time."""
    secure = running.server.secure
    # of an answer that comes before the window for a body is open, this client takes no notice: it waits for the window
    work = [replace(plan, body=plan.body[:60_000]) for plan in work]
    turn = asyncio.Semaphore(AT_A_TIME)
    async with httpx.AsyncClient(
        http1=False, http2=True, verify=client_context("h2") if secure else True, timeout=30, trust_env=False
    ) as client:

        async def ask(plan: load.Plan) -> Expected:
            url = f"{'https' if secure else 'http'}://127.0.0.1:{running.port}{plan.path}"
            try:
                async with turn:
                    answer = await client.request(plan.method, url, content=plan.body)
            except httpx.LocalProtocolError:
                # this client can't take an answer that comes before all of its request is sent
                return Expected(plan.path, method=plan.method, status=None, request_size=None, response_size=None)
            sizes = {"request_size": len(plan.body), "response_size": len(answer.content)}
            return Expected(plan.path, method=plan.method, status=answer.status_code, **sizes)

        return await asyncio.gather(*map(ask, work))


def drive(running: Running) -> list[Expected]:
    work = load.plans(running.server.name, COUNT, chunked_up=False)
    if running.server.transport in MULTIPLEXED:
        return asyncio.run(ask_at_once(running, work))

    def ask(part: list[load.Plan]) -> list[Expected]:
        return load.run(lambda: servers.connect(running), part, at_once=AT_A_TIME)

    return ask(work[:1]) + ask(work[1:])  # what comes behind the first has a proxy that has made a call


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("proxies")
    lacking = {server.name: servers.missing(server) for server in PROXIES}
    run = Run({name: f"{name} needs {', '.join(names)}" for name, names in lacking.items() if names}, {}, [])
    node = servers.by_name("node", PLAIN_SERVERS)
    running: list[Running] = []
    try:
        if not servers.missing(node):
            running.append(servers.launch(node, folder / "node"))
            for server in PROXIES:
                if server.name not in run.skipped:
                    # of several workers it would not be known which has made a call already
                    running.append(servers.launch(server, folder / server.name, node=running[0].port, workers=1))
        for one in running:
            servers.wait_up(one)
        proxies = running[1:]
        agent = module_agent("--port", ",".join(str(one.port) for one in proxies))
        run.truth = {one.server.name: drive(one) for one in proxies}
        for one in proxies:
            one.stop()
        run.spans = agent.stop(check=False)
        yield run
    finally:
        for one in running:
            one.stop()


@pytest.fixture(params=[server.name for server in PROXIES])
def name(request: pytest.FixtureRequest, run: Run) -> str:
    if request.param in run.skipped:
        pytest.skip(run.skipped[request.param])
    return str(request.param)


def test_both_sides_are_told(run: Run, name: str) -> None:
    # of chunks out of a file it is only known about how many bytes they hold
    about = name == "lighttpd"
    served = [replace(told, response_size=None if about else told.response_size) for told in run.truth[name]]
    own = [span for span in run.told_of(name) if kind_of(span) == SERVER]
    assert not compare(served, own)
    asked = {path_of(span) for span in run.told_of(name) if kind_of(span) == CLIENT}
    assert asked == {told.path for told in served}


def test_no_call_is_a_child_of_another_request(run: Run, name: str) -> None:
    told = run.told_of(name)
    served = {path_of(span): span["spanId"] for span in told if kind_of(span) == SERVER}
    calls = [(path_of(span), span["parentSpanId"]) for span in told if kind_of(span) == CLIENT]
    wrong = [path for path, parent in calls if parent not in ("", served[path])]
    assert not wrong
    in_order, multiplexed = NOT_IN_ORDER not in name, name.endswith(MULTIPLEXED)
    if in_order and not multiplexed:
        # also those whose body came after their head; what was read before the process called is not followed
        assert {path for path, parent in calls if not parent} <= {path for path, _ in calls if path.endswith("-0")}
        assert len(calls) == COUNT
    elif in_order or not multiplexed:
        assert any(parent for _, parent in calls)
