"""Calls of gRPC on connections older than the agent, of a Go server and client: each has the name of its method."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import servers
from agent import Agent
from servers import GRPC_SERVERS
from truth import CLIENT, SERVER

METHODS = ("Unary", "Download")
COUNT = 53
CALLS = 211  # one after the other, of a client

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


def test_methods_on_an_older_connection(agent: Callable[..., Agent], tmp_path: Path) -> None:
    server = servers.by_name("grpc-go", GRPC_SERVERS)
    running = servers.wait_up(servers.launch(server, tmp_path / "server"))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:

            def call(method: str) -> None:
                asked = channel.unary_unary(f"/autoinstr.test.Echo/{method}")
                try:
                    asked(b"", timeout=20)
                except grpc.RpcError as error:
                    assert error.code() is not grpc.StatusCode.UNAVAILABLE

            for method in METHODS:
                call(method)  # so that both ends have numbers for these header fields
            started = agent("--pid", running.process.pid)
            for _ in range(COUNT):
                for method in METHODS:
                    call(method)
            spans = started.stop()
    finally:
        running.stop()
    told = Counter(span["name"] for span in spans if span["kind"] == SERVER)
    assert told == {f"autoinstr.test.Echo/{method}": COUNT for method in METHODS}


def test_methods_of_a_client(agent: Callable[..., Agent], tmp_path: Path) -> None:
    server = servers.by_name("grpc-go", GRPC_SERVERS)
    running = servers.wait_up(servers.launch(server, tmp_path / "server"))
    asked = [
        f"{METHODS[number % 2]} grpc://127.0.0.1:{running.port}/s/0/d/5/b/1/{number} 1 length 0"
        for number in range(CALLS)
    ]
    (tmp_path / "calls").write_text("\n".join(asked))
    command = [str(tmp_path / "server" / "grpc-go"), "call", str(tmp_path / "calls")]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert client.stdin and client.stdout
        client.stdin.write(b"\n")
        client.stdin.flush()
        for _ in range(10):
            client.stdout.readline()  # calls that are done
        client.send_signal(signal.SIGSTOP)  # it goes on when it is watched
        started = agent("--pid", client.pid)
        client.send_signal(signal.SIGCONT)
        client.communicate(timeout=60)
        assert client.returncode == 0
        spans = [span for span in started.stop() if span["kind"] == CLIENT]
    finally:
        client.kill()
        running.stop()
    names = [f"autoinstr.test.Echo/{method}" for method in METHODS]
    told = [span["name"] for span in spans]
    if told[:1] == ["grpc"]:
        del told[0]  # it was stopped after this call was made, and before that was written
    assert len(told) > CALLS / 4
    first = names.index(told[0])
    assert told == [names[(first + number) % 2] for number in range(len(told))]
