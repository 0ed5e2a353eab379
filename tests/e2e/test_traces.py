"""Whole traces of programs that propagate nothing: each parent is held against the truth, which is in the paths."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent import Agent
from ports import free_ports
from truth import path_of

from autoinstr.correlate.instrumented import MIN_CALLS

RELAY = Path(__file__).parent / "servers" / "relay.py"
CERTAIN = ("thread", "process", "passed-on")
WAYS = (*CERTAIN, "new-thread")
REQUESTS, AT_A_TIME = 24, 8
ALONE = 5  # one after another, before those
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Span = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a run has told: the spans of each path by kind, and requests without a parent by reason."""

    spans: dict[tuple[str, str], list[Span]]
    orphans: dict[str, int]

    def one(self, kind: str, path: str) -> Span:
        (span,) = self.spans.get((kind, path), [None])
        assert span is not None, f"missing: {kind} {path}"
        return span


def place(span: Span) -> tuple[str, str]:
    """Its trace, and its parent."""
    return span["traceId"], span["parentSpanId"]


def below(span: Span) -> tuple[str, str]:
    """The place of its children."""
    return span["traceId"], span["spanId"]


@pytest.fixture(scope="module")
def told(module_agent: Callable[..., Agent]) -> Iterator[Told]:
    front, back = free_ports(2)
    # one after the other: from its start on, who relays asks who is behind it
    servers = [listening([sys.executable, str(RELAY), *map(str, ports)]) for ports in ((back, 0), (front, back))]
    try:
        (page,) = free_ports(1)
        flags = ("--port", f"{front},{back}", "--prometheus-port", page)
        agent = module_agent(*flags, exports=("console", "prometheus"))

        def ask(path: str) -> None:
            connection = HTTPConnection("127.0.0.1", front)
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"} if path.startswith("/passed-on") else {}
            connection.request("GET", path, headers=headers)
            assert connection.getresponse().read() == b"yes"
            connection.close()

        for number in range(ALONE):
            ask(f"/new-thread/alone-{number}")
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(ask, [f"/{way}/{number}" for number in range(REQUESTS) for way in WAYS]))
        for way in WAYS:  # several are under way at a time, so any may be the last
            assert agent.wait_for_path(f"/{way}/{REQUESTS - 1}")
        time.sleep(1)
        figures = urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics").read().decode()
        orphans = re.findall(r'^autoinstr_without_parent_total\{reason="(.*?)"\} (\d+)', figures, re.MULTILINE)
        found: dict[tuple[str, str], list[Span]] = {}
        for span in agent.stop():
            found.setdefault((span["kind"], path_of(span)), []).append(span)
        yield Told(found, {reason: int(count) for reason, count in orphans})
    finally:
        end(*servers)


@pytest.mark.parametrize("way", CERTAIN)
def test_a_call_is_a_child_of_the_request_that_it_is_made_for(told: Told, way: str) -> None:
    for number in range(REQUESTS):
        served = told.one("server", f"/{way}/{number}")
        call = told.one("client", f"/asked/{way}/{number}")
        assert place(call) == below(served)


def test_a_new_thread_counts_for_its_creator_where_nobody_else_is_served(told: Told) -> None:
    """It may be one of a pool. The first one of a process never counts: who else is served is not known then."""
    alone = [f"alone-{number}" for number in range(ALONE)]
    joined = 0
    for path in [f"/new-thread/{number}" for number in [*range(REQUESTS), *alone]]:
        served, call = told.one("server", path), told.one("client", f"/asked{path}")
        if call["parentSpanId"]:
            joined += 1
            assert place(call) == below(served)
    assert joined >= ALONE - 1


@pytest.mark.parametrize("way", WAYS)
def test_who_is_asked_is_a_child_of_who_asks(told: Told, way: str) -> None:
    for number in range(REQUESTS):
        call = told.one("client", f"/asked/{way}/{number}")
        asked = told.one("server", f"/asked/{way}/{number}")
        assert place(asked) == below(call)


def test_a_trace_that_came_from_elsewhere_goes_on(told: Told) -> None:
    for number in range(REQUESTS):
        served = told.one("server", f"/passed-on/{number}")
        assert (served["traceId"], served["parentSpanId"]) == (TRACE, PARENT)
        assert told.one("server", f"/asked/passed-on/{number}")["traceId"] == TRACE


def test_each_request_of_its_own_has_a_trace_of_its_own(told: Told) -> None:
    roots = [
        told.one("server", f"/{way}/{number}")
        for way in ("thread", "process", "new-thread")
        for number in range(REQUESTS)
    ]
    assert {root["parentSpanId"] for root in roots} == {""}
    assert len({root["traceId"] for root in roots}) == len(roots)


def test_what_has_no_parent_has_a_reason(told: Told) -> None:
    """Those from elsewhere, whose number is known; calls that new threads make, of which some are not certain."""
    asked = ALONE + REQUESTS * len(WAYS) - REQUESTS  # one way brings trace context
    unsure = sum(told.orphans[reason] for reason in ("several", "answered"))
    none = [span for spans in told.spans.values() for span in spans if not span["parentSpanId"]]
    assert asked <= told.orphans["elsewhere"] <= asked + 2  # who was about to ask when the agent came
    assert told.orphans["nobody"] > 10
    assert unsure <= REQUESTS + 1
    assert told.orphans["unplaced"] == told.orphans["caller_unsure"] == 0
    assert sum(told.orphans.values()) <= len(none), "counted twice"
    assert len([span for span in none if "/alone/" not in path_of(span)]) <= sum(told.orphans.values())


def test_who_serves_nobody_calls_for_nobody(told: Told) -> None:
    calls = [
        span for (kind, path), spans in told.spans.items() if kind == "client" and "/alone/" in path for span in spans
    ]
    assert len(calls) > 10
    assert {call["parentSpanId"] for call in calls} == {""}
    for call in calls:
        asked = told.one("server", path_of(call))
        assert place(asked) == below(call)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize("name", ["", "tokio-rt-worker"])
def test_a_thread_that_goes_on_with_other_tasks(agent: Callable[..., Agent], tmp_path: Path, name: str) -> None:
    """What it has read last is not what it works for. Known by its name, it works for the only request there is.

    Until it has called when all was answered: so it may at any time.
    """
    after = ["/late", *(f"/behind-{number}" for number in range(ALONE))]
    front, back = free_ports(2)
    servers = [
        listening([sys.executable, str(RELAY), str(back), "0"]),
        listening([str(built("tasks", tmp_path)), str(front), str(back), *name.split()]),
    ]
    try:
        started = agent("--pid", servers[1].pid)

        def ask(paths: list[str]) -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{front}", timeout=30) as client:
                for path in paths:
                    assert client.get(path).text == "done"

        ask([f"/alone-{number}" for number in range(ALONE)])
        ask(after)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(ask, [[f"/{way}-{number}" for number in range(REQUESTS)] for way in range(AT_A_TIME)]))
        spans = started.stop()
    finally:
        end(*servers)
    served = {path_of(span): span for span in spans if span["kind"] == "server"}
    calls = [span for span in spans if span["kind"] == "client"]
    assert len(served) == ALONE + len(after) + REQUESTS * AT_A_TIME
    assert len(calls) == 3 * len(served)
    made_for = {call["spanId"]: served[path_of(call).split("/asked")[1].rpartition("/")[0]] for call in calls}
    wrong = [call for call in calls if call["parentSpanId"] and place(call) != below(made_for[call["spanId"]])]
    assert not wrong, [(path_of(call), path_of(made_for[call["spanId"]])) for call in wrong]
    alone = [path_of(call) for call in calls if path_of(call).startswith("/asked/alone") and not call["parentSpanId"]]
    assert not name or not alone, alone
    behind = [call for call in calls if path_of(call).startswith("/asked/behind")]
    assert len(behind) == 3 * ALONE
    assert not name or {call["parentSpanId"] for call in behind} == {""}


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_a_task_that_calls_for_nobody(agent: Callable[..., Agent], tmp_path: Path) -> None:
    """It did so before the first request came: so that one is not what it works for, though there is no other."""
    front, back = free_ports(2)
    servers = [
        listening([sys.executable, str(RELAY), str(back), "0"]),
        listening([str(built("tasks", tmp_path)), str(front), str(back), "tokio-rt-worker", "alone"]),
    ]
    try:
        started = agent("--pid", servers[1].pid)
        assert started.wait_for(bool)
        for number in range(ALONE):
            assert httpx.get(f"http://127.0.0.1:{front}/{number}").text == "done"
        spans = started.stop()
    finally:
        end(*servers)
    alone = [span for span in spans if path_of(span).startswith("/asked/alone/")]
    first = min(int(span["startTimeUnixNano"]) for span in spans if span["kind"] == "server")
    assert [span for span in alone if int(span["startTimeUnixNano"]) > first]
    assert {span["parentSpanId"] for span in alone} == {""}


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_an_event_loop_calls_for_nobody_behind_what_it_has_read(agent: Callable[..., Agent], tmp_path: Path) -> None:
    """By its timer, and for another thread: neither is made for the request that waits meanwhile."""
    front, back = free_ports(2)
    plain = [f"/plain-{number}" for number in range(20)]
    paths = ["/timer-0", *plain[:10], "/timer-1", *plain[10:], *(f"/woken-{number}" for number in range(3))]
    servers = [listening([sys.executable, str(RELAY), str(back), "0"])]
    try:
        servers.append(listening([str(built("loop", tmp_path)), str(front), str(back)]))
        started = agent("--port", front)
        with httpx.Client(base_url=f"http://127.0.0.1:{front}", timeout=30) as client:
            for path in paths:
                assert client.get(path).text == "done"
        spans = started.stop()
    finally:
        end(*servers)
    served, called = by_path(spans, "server"), by_path(spans, "client")
    assert served.keys() == set(paths)
    # what it does while its timer is not due (on a busy machine it may be), and nobody has left it anything
    right = [path for path in plain if place(called[f"/asked{path}"]) == below(served[path])]
    assert right
    assert {path for path in plain if called[f"/asked{path}"]["parentSpanId"]} == set(right)
    alone = [call for path, call in called.items() if path.startswith("/alone")]
    assert len(alone) >= 5
    assert {call["parentSpanId"] for call in alone} == {""}


def built(name: str, folder: Path) -> Path:
    """A server in C."""
    source = RELAY.with_name(f"{name}.c")
    flags = ("-O1", "-pthread", "-Wall", "-Werror")
    subprocess.run(["gcc", *flags, "-o", folder / name, source], check=True, timeout=60)
    return folder / name


def listening(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    return process


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def by_path(spans: list[Span], kind: str) -> dict[str, Span]:
    found = {path_of(span): span for span in spans if span["kind"] == kind}
    assert len(found) == sum(span["kind"] == kind for span in spans), "told twice"
    return found


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_trace_context_in_headers_that_the_kernel_side_cannot_read(agent: Callable[..., Agent]) -> None:
    """It is known in user space before the calls that are made for it have ended."""
    front, back = free_ports(2)
    servers = [
        listening([sys.executable, str(RELAY), str(back), "0"]),
        listening(["node", str(RELAY.parent / "relay_http2.js"), str(front), str(back)]),
    ]
    try:
        watching = agent("--port", f"{front},{back}")
        with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{front}") as client:
            for number in range(REQUESTS):
                trace = {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"} if number % 2 else {}
                assert client.get(f"/{number}", headers=trace).text == "yes"
        spans = watching.stop()
    finally:
        end(*servers)
    served, called = by_path(spans, "server"), by_path(spans, "client")
    for number in range(REQUESTS):
        span, call, asked = served[f"/{number}"], called[f"/asked/{number}"], served[f"/asked/{number}"]
        if number % 2:
            assert (span["traceId"], span["parentSpanId"]) == (f"{number + 1:032x}", f"{number + 1:016x}")
        assert place(call) == below(span)
        assert place(asked) == below(call)


def test_a_program_with_an_sdk_has_no_second_set_of_spans(agent: Callable[..., Agent]) -> None:
    """Its metrics are told, and its trace ids are those of whom it calls."""
    (back,) = free_ports(1)
    server = listening([sys.executable, str(RELAY), str(back), "0"])
    program = subprocess.Popen(
        [sys.executable, str(RELAY.parents[1] / "clients" / "with_sdk.py"), str(back), str(2 * MIN_CALLS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin and program.stdout
    try:
        program.stdout.readline()
        (port,) = free_ports(1)
        watching = agent(
            "--port", back, "--pid", program.pid, "--prometheus-port", port, exports=("console", "prometheus")
        )
        program.stdin.write("go\n")
        program.stdin.flush()
        truth = [program.stdout.readline().split() for _ in range(2 * MIN_CALLS)]
        assert watching.wait_for_path(f"/sdk/{2 * MIN_CALLS - 1}")
        figures = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        spans = watching.stop()
    finally:
        end(program, server)
    served = by_path(spans, "server")
    assert [[served[f"/sdk/{n}"]["traceId"], served[f"/sdk/{n}"]["parentSpanId"]] for n in range(len(truth))] == truth
    assert sum(span["kind"] == "client" for span in spans) <= MIN_CALLS, "no more than until it was known"
    counts = [line for line in figures.splitlines() if line.startswith("http_client_request_duration_seconds_count")]
    assert [float(line.rpartition(" ")[2]) for line in counts] == [2 * MIN_CALLS]
