"""Real clients of many languages under one agent: every call is told as it was planned, and as the server logged it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import clients
import pytest
import servers
from agent import Agent
from clients import CLIENTS, GRPC_CLIENTS, HTTP2_CLIENTS, Client
from multiplexed import rpc_trace
from servers import GRPC_SERVERS, HTTP2_SERVERS, MULTIPLEXED, RPC, SERVERS, access_log
from truth import CLIENT, ECHO, Expected, compare, path_of

SERVED_BY = {
    "http": "gunicorn-threads",
    "https": "gunicorn-gevent-tls",
    "h2c": "hypercorn-h2c",
    "h2": "hypercorn-h2",
    "grpc": "grpcio",
    "grpcs": "grpc-go-tls",
}
SCHEMES = {"h2c": "http", "h2": "https"}
COUNT = 53  # a prime number of requests for each
STATUSES = (200, 200, 200, 201, 204, 304, 404, 500)
CODES = (0, 0, 0, 5, 14, 16)
BODIES = (0, 1, 1000, 70_000)
METHODS = ("Unary", "Unary", "Upload", "Download", "Chat")
ALL = (*CLIENTS, *HTTP2_CLIENTS, *GRPC_CLIENTS)


def named(client: Client) -> str:
    """Some speak several versions of HTTP."""
    return client.name if client in CLIENTS else f"{client.name}-{client.transports[0]}"


@dataclass
class Plan:
    """Lines for a client, what should be told of them, and what the servers should log."""

    lines: list[str] = field(default_factory=list)
    truth: list[Expected] = field(default_factory=list)
    logged: Counter[tuple[str, str, int]] = field(default_factory=Counter)


@dataclass
class Run:
    plans: dict[str, Plan] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)
    logged: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def told_by(self, name: str) -> list[dict[str, Any]]:
        """By their paths, which have its name, or by the traces of its RPCs."""
        own = {truth.path for truth in self.plans[name].truth if truth.rpc}
        paths = ((span, path_of(span)) for span in self.spans)
        return [s for s, path in paths if path in own or path.rpartition("/")[2].rpartition("-")[0] == name]


def plan(client: Client, ports: dict[str, int]) -> Plan:
    """Over all transports in turn."""
    name = named(client)
    dice, made = random.Random(name), Plan()
    for number in range(COUNT):
        transport = client.transports[number % len(client.transports)]
        port, rpc = ports[transport], transport in RPC
        base = f"{SCHEMES.get(transport, transport)}://127.0.0.1:{port}"
        method = dice.choice(METHODS if rpc else ("GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
        status, down, chunked = dice.choice(CODES if rpc else STATUSES), dice.choice(BODIES), dice.random() < 0.3
        up = dice.choice(BODIES) if rpc or method in ("POST", "PUT") else 0
        delay = 30 if number % 10 == 0 else 0
        path = f"/s/{status}/d/{delay}/b/{down}/c/{int(chunked)}/{name}-{number}"
        kind = "chunked" if chunked and up and client.chunked else "length"
        trace = rpc_trace(path)
        made.lines.append(f"{method} {base}{path} {up} {kind}{f' 00-{trace}-01' if rpc else ''}\n")
        made.logged[method, path, status] += 1
        empty = method == "HEAD" or status in (204, 304)
        made.truth.append(
            Expected(
                f"/{ECHO}/{method}/{trace.partition('-')[0]}" if rpc else path,
                CLIENT,
                method,
                status,
                request_size=None if rpc else up,
                response_size=None if rpc else 0 if empty else down,
                server_port=port,
                server_address="127.0.0.1",
                peer_port=port,
                delay=delay / 1000,
                rpc=rpc,
                version=None if rpc else "2" if transport in MULTIPLEXED else "1.1",
            )
        )
    return made


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run, folder = Run(), tmp_path_factory.mktemp("clients")
    known = (*SERVERS, *HTTP2_SERVERS, *GRPC_SERVERS)
    serving = [server for server in known if server.name in SERVED_BY.values() and not servers.missing(server)]
    listening = [servers.launch(server, folder / server.name) for server in serving]
    running: list[clients.Running] = []
    try:
        ports = {one.server.transport: servers.wait_up(one).port for one in listening}
        for client in ALL:
            if not clients.missing(client):
                made = run.plans[named(client)] = plan(client, ports)
                running.append(clients.Running(client, folder / named(client), "".join(made.lines)))
        for one in running:
            one.wait_up()
        pids = [part for one in running if not one.client.by_exe for part in ("--pid", one.process.pid)]
        globs = [part for one in running if one.client.by_exe for part in ("--exe", one.client.by_exe)]
        agent = module_agent(*pids, *globs)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(clients.Running.run, running))
        run.spans = agent.stop(check=False)
    finally:
        for one in running:
            one.kill()
        for server in listening:
            server.stop()
    run.logged = sum((access_log(one.folder) for one in listening), Counter())
    yield run


@pytest.mark.parametrize("client", ALL, ids=named)
def test_told_exactly(run: Run, client: Client) -> None:
    if lacking := clients.missing(client):
        pytest.skip(f"{client.name} needs {', '.join(lacking)}")
    complaints = compare(run.plans[named(client)].truth, run.told_by(named(client)))
    assert not complaints, "\n".join(complaints)


def test_truth_is_what_the_server_logged(run: Run) -> None:
    assert run.logged == sum((plan.logged for plan in run.plans.values()), Counter())


def test_nothing_invented(run: Run) -> None:
    invented = [span for span in run.spans if not any(span in run.told_by(name) for name in run.plans)]
    assert not invented, "\n".join(f"{path_of(span)} {span['attributes']}" for span in invented)
