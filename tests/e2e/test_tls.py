"""HTTPS: plaintext from TLS libraries, joined with the sockets that carry it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import servers
from agent import Agent
from load import Connection, Plan
from servers import SERVERS, Running, Server
from truth import Expected, compare, path_of

StartAgent = Callable[..., Agent]
AT_ONCE = 64  # connections
ROUNDS = 5  # requests on each
ALONE = ("gunicorn-sync-tls",)  # serves one connection at a time
BLOCKING = ("http-server-tls",)  # its threads wait within the library
SHARED = [server for server in SERVERS if server.transport == "https" and server.name not in ALONE]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Server], Running]]:
    with ExitStack() as stack:

        def run(server: Server, **words: object) -> Running:
            if lacking := servers.missing(server):
                pytest.skip(f"{server.name} needs {', '.join(lacking)}")
            running = servers.launch(server, tmp_path / server.name, **words)
            stack.callback(running.stop)
            return servers.wait_up(running)

        yield run


def shuffled(running: Running, connections: list[Connection], name: str) -> list[Expected]:
    """Requests on all connections at once, over and over: all are sent before any answer is read."""
    truth = []
    for round_ in range(ROUNDS):
        sent = []
        for number, connection in enumerate(connections):
            size = number + round_
            plan = Plan(f"/s/200/d/0/b/{size}/c/0/{name}-{round_}-{number}", "POST", b"u" * number)
            connection.request(plan.method, plan.path, plan.body)
            sent.append((connection, plan))
        for connection, plan in sent:
            size = len(connection.getresponse().read())
            truth.append(
                Expected(
                    plan.path,
                    method=plan.method,
                    request_size=len(plan.body),
                    response_size=size,
                    server_port=running.port,
                    peer_port=connection.port_here(),
                )
            )
    return truth


def told_of(spans: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in spans if f"/{name}-" in path_of(span)]


def open_all(running: Running) -> list[Connection]:
    connections = [Connection(lambda: servers.connect(running), "127.0.0.1") for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(Connection.connect, connections))
    return connections


@pytest.mark.parametrize("server", SHARED, ids=lambda server: server.name)
def test_each_request_is_told_on_its_own_connection(
    agent: StartAgent, start: Callable[[Server], Running], server: Server
) -> None:
    running = start(server)
    older = open_all(running)
    shuffled(running, older, "before")
    started = agent("--port", running.port)
    newer = open_all(running)
    late = shuffled(running, older, "older")
    if server.name in BLOCKING:
        # each thread was within a call of the library already: nothing is seen of what that call returns
        late[:AT_ONCE] = [replace(truth, optional=True) for truth in late[:AT_ONCE]]
    truth = [*shuffled(running, newer, "newer"), *late]
    for connection in (*older, *newer):
        connection.close()
    spans = started.stop()
    complaints = compare(truth, spans)
    assert not complaints, "\n".join(complaints[:20])
    assert {span["attributes"]["url.scheme"] for span in spans} == {"https"}
