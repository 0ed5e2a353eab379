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
from clients import CLIENTS, Client
from servers import SERVERS, access_log
from truth import CLIENT, Expected, compare, path_of

SERVED_BY = ("gunicorn-threads", "gunicorn-gevent-tls")
COUNT = 53  # a prime number of requests for each
STATUSES = (200, 200, 200, 201, 204, 304, 404, 500)
BODIES = (0, 1, 1000, 70_000)


@dataclass
class Run:
    truth: dict[str, list[Expected]] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)
    logged: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def told_by(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if path_of(span).rpartition("/")[2].rpartition("-")[0] == name]


def plan(client: Client, ports: dict[str, int]) -> tuple[str, list[Expected]]:
    """Lines for a client, and what should be told of them: over all transports in turn."""
    dice, lines, truth = random.Random(client.name), [], []
    for number in range(COUNT):
        transport = ("http", "https")[client.https and number % 2]
        port = ports[transport]
        method = dice.choice(("GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
        status, down, chunked = dice.choice(STATUSES), dice.choice(BODIES), dice.random() < 0.3
        up = dice.choice(BODIES) if method in ("POST", "PUT") else 0
        delay = 30 if number % 10 == 0 else 0
        path = f"/s/{status}/d/{delay}/b/{down}/c/{int(chunked)}/{client.name}-{number}"
        kind = "chunked" if chunked and up and client.chunked else "length"
        lines.append(f"{method} {transport}://127.0.0.1:{port}{path} {up} {kind}\n")
        empty = method == "HEAD" or status in (204, 304)
        truth.append(
            Expected(
                path,
                CLIENT,
                method,
                status,
                request_size=up,
                response_size=0 if empty else down,
                server_port=port,
                server_address="127.0.0.1",
                peer_port=port,
                delay=delay / 1000,
            )
        )
    return "".join(lines), truth


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run, folder = Run(), tmp_path_factory.mktemp("clients")
    listening = [servers.launch(server, folder / server.name) for server in SERVERS if server.name in SERVED_BY]
    running: list[clients.Running] = []
    try:
        ports = {one.server.transport: servers.wait_up(one).port for one in listening}
        for client in CLIENTS:
            if not clients.missing(client):
                lines, run.truth[client.name] = plan(client, ports)
                running.append(clients.Running(client, folder / client.name, lines))
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


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_told_exactly(run: Run, client: Client) -> None:
    if lacking := clients.missing(client):
        pytest.skip(f"{client.name} needs {', '.join(lacking)}")
    complaints = compare(run.truth[client.name], run.told_by(client.name))
    assert not complaints, "\n".join(complaints)


def test_truth_is_what_the_server_logged(run: Run) -> None:
    assert run.logged == Counter((t.method, t.path, t.status) for truth in run.truth.values() for t in truth)


def test_nothing_invented(run: Run) -> None:
    invented = [span for span in run.spans if not any(span in run.told_by(name) for name in run.truth)]
    assert not invented, "\n".join(f"{path_of(span)} {span['attributes']}" for span in invented)
