"""HTTP/2 connections older than the agent, of programs with nghttp2: what their header tables hold is known."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import servers
from agent import Agent
from load import Plan
from multiplexed import Multiplexed
from servers import FRONTS, HTTP2_SERVERS, PLAIN_SERVERS, Running
from truth import CLIENT, SERVER, path_of

StartAgent = Callable[..., Agent]
SERVERS = ("node-h2c", "node-h2", "nghttpd-h2c", "apache-h2c", "nghttpx-h2c")
STATUSES = (200, 201, 302, 404, 503)  # of which HPACK has numbers for some only
COUNT = 13  # requests of each path
CALLS = 120
EVERY = 0.02
NODE = """
let n = 0;
const session = require("http2").connect(process.argv[1]);
(function next() {
  if (++n > Number(process.argv[2])) return session.close();
  const stream = session.request({ ":path": "/s/201/b/1/older-" + n });
  stream.on("data", () => {}).on("end", () => setTimeout(next, 20));
})();
"""
# what it calls, and how: curl by HTTP/2 alone breaks its connection when it uses it again (7.88)
CLIENTS = {
    "curl": ("node-h2", ("curl", "-ksS", "-o", "/dev/null", "--rate", "50/s", "{origin}/s/201/b/1/older-[1-{calls}]")),
    "node": ("node-h2c", ("node", "-e", NODE, "{origin}", "{calls}")),
}


@contextmanager
def running(name: str, folder: Path) -> Iterator[Running]:
    server = servers.by_name(name, (*HTTP2_SERVERS, *FRONTS))
    behind = servers.by_name("node", PLAIN_SERVERS)
    if lacking := (*servers.missing(server), *(servers.missing(behind) if server in FRONTS else ())):
        pytest.skip(f"needs {', '.join(lacking)}")
    with ExitStack() as stack:
        words = {}
        if server in FRONTS:
            other = servers.launch(behind, folder / "behind")
            stack.callback(other.stop)
            words["node"] = servers.wait_up(other).port
        one = servers.launch(server, folder / "server", **words)
        stack.callback(one.stop)
        yield servers.wait_up(one)


@pytest.mark.parametrize("name", SERVERS)
def test_server(agent: StartAgent, tmp_path: Path, name: str) -> None:
    """Its client gives each path a number, and later sends nothing else; the server does so with its statuses."""
    with running(name, tmp_path / "server") as server:
        always = server.server.always
        plans = [Plan(f"/s/{status}/b/3/older") for status in STATUSES]
        wires = [Multiplexed(servers.connect(server), secure=server.server.secure) for _ in range(3)]

        def ask() -> None:
            for wire in wires:
                for plan in plans:
                    status = wire.wait(wire.start(plan)).status
                    assert status == always or plan.path.startswith(f"/s/{status}/")

        ask()
        started = agent("--pid", server.process.pid)
        for _ in range(COUNT):
            ask()
        for wire in wires:
            wire.close()
        told = [span for span in started.stop() if span["kind"] == SERVER]
    # paths come again and again: each as often as it was asked, with its status
    assert len(told) == COUNT * len(wires) * len(plans)
    for status, plan in zip(STATUSES, plans, strict=True):
        those = [span for span in told if path_of(span) == plan.path]
        assert len(those) == COUNT * len(wires)
        assert {span["attributes"]["http.response.status_code"] for span in those} == {always or status}


@pytest.mark.parametrize("name", CLIENTS)
def test_client(agent: StartAgent, tmp_path: Path, name: str) -> None:
    """Its server gives the status a number, and it gives one to the authority."""
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    called, command = CLIENTS[name]
    with running(called, tmp_path / "server") as server:
        origin = f"http{'s' * server.server.secure}://127.0.0.1:{server.port}"
        client = subprocess.Popen([part.replace("{origin}", origin).replace("{calls}", str(CALLS)) for part in command])
        try:
            time.sleep(10 * EVERY)  # some have gone
            client.send_signal(signal.SIGSTOP)  # it goes on when it is watched
            started = agent("--pid", client.pid)
            client.send_signal(signal.SIGCONT)
            assert client.wait(60) == 0
        finally:
            client.kill()
        told = [span for span in started.stop() if span["kind"] == CLIENT]
    print(
        [
            (
                path_of(span),
                span["attributes"].get("http.response.status_code"),
                span["attributes"].get("server.address"),
            )
            for span in told
        ][:20]
    )
    numbers = [int(path_of(span).rpartition("-")[2]) for span in told]
    assert numbers == list(range(numbers[0], CALLS + 1))
    assert len(numbers) > CALLS / 4
    for span in told[1:]:  # the first brings to light what the tables hold
        found = span["attributes"]
        assert found["http.response.status_code"] == 201
        assert (found["server.address"], found["server.port"]) == ("127.0.0.1", server.port)
