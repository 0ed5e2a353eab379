"""Whole traces of programs that propagate nothing: each parent is held against the truth, which is in the paths."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from agent import Agent
from truth import path_of

RELAY = Path(__file__).parent / "servers" / "relay.py"
WAYS = ("thread", "new-thread", "process", "passed-on")
REQUESTS, AT_A_TIME = 24, 8
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Span = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a run has told: the spans of each path by kind, and the metrics."""

    spans: dict[tuple[str, str], list[Span]]

    def one(self, kind: str, path: str) -> Span:
        (span,) = self.spans.get((kind, path), [None])
        assert span is not None, f"missing: {kind} {path}"
        return span


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def told(module_agent: Callable[..., Agent]) -> Iterator[Told]:
    front, back = free_ports(2)
    servers = [
        subprocess.Popen([sys.executable, str(RELAY), *map(str, ports)], stdout=subprocess.PIPE, text=True)
        for ports in ((back, 0), (front, back))
    ]
    try:
        for server in servers:
            assert server.stdout and server.stdout.readline()
        agent = module_agent("--port", f"{front},{back}")

        def ask(path: str) -> None:
            connection = HTTPConnection("127.0.0.1", front)
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"} if path.startswith("/passed-on") else {}
            connection.request("GET", path, headers=headers)
            assert connection.getresponse().read() == b"yes"
            connection.close()

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(ask, [f"/{way}/{number}" for number in range(REQUESTS) for way in WAYS]))
        found: dict[tuple[str, str], list[Span]] = {}
        for span in agent.stop():
            found.setdefault((span["kind"], path_of(span)), []).append(span)
        yield Told(found)
    finally:
        for server in servers:
            server.kill()
            server.wait()


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_a_child_of_the_request_that_it_is_made_for(told: Told, way: str) -> None:
    for number in range(REQUESTS):
        served = told.one("server", f"/{way}/{number}")
        call = told.one("client", f"/asked/{way}/{number}")
        assert (call["traceId"], call["parentSpanId"]) == (served["traceId"], served["spanId"])


@pytest.mark.parametrize("way", WAYS)
def test_who_is_asked_is_a_child_of_who_asks(told: Told, way: str) -> None:
    for number in range(REQUESTS):
        call = told.one("client", f"/asked/{way}/{number}")
        asked = told.one("server", f"/asked/{way}/{number}")
        assert (asked["traceId"], asked["parentSpanId"]) == (call["traceId"], call["spanId"])


def test_a_trace_that_came_from_elsewhere_goes_on(told: Told) -> None:
    for number in range(REQUESTS):
        served = told.one("server", f"/passed-on/{number}")
        assert (served["traceId"], served["parentSpanId"]) == (TRACE, PARENT)
        assert told.one("server", f"/asked/passed-on/{number}")["traceId"] == TRACE


def test_each_request_of_its_own_has_a_trace_of_its_own(told: Told) -> None:
    roots = [told.one("server", f"/{way}/{number}") for way in WAYS[:-1] for number in range(REQUESTS)]
    assert {root["parentSpanId"] for root in roots} == {""}
    assert len({root["traceId"] for root in roots}) == len(roots)


def test_who_serves_nobody_calls_for_nobody(told: Told) -> None:
    calls = [
        span for (kind, path), spans in told.spans.items() if kind == "client" and "/alone/" in path for span in spans
    ]
    assert len(calls) > 10
    assert {call["parentSpanId"] for call in calls} == {""}
    for call in calls:
        asked = told.one("server", path_of(call))
        assert (asked["traceId"], asked["parentSpanId"]) == (call["traceId"], call["spanId"])
