"""Calls of gRPC on connections older than the agent, of a Go server: each has the name of its method."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import servers
from agent import Agent
from servers import GRPC_SERVERS
from truth import SERVER

METHODS = ("Unary", "Download")
COUNT = 53

pytestmark = pytest.mark.skipif(not shutil.which("go"), reason="needs go")


def test_methods_on_an_older_connection(agent: Callable[..., Agent], tmp_path: Path) -> None:
    server = next(server for server in GRPC_SERVERS if server.name == "grpc-go")
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
