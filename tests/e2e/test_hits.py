"""Hits of probes are told by process, those of each library's functions."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import load
import pytest
import servers
from agent import Agent

COUNT = 50
SETTLED = 20.0

# Contexts of Python's tasks, functions of OpenSSL and of Go's crypto/tls.
WITH_FUNCTIONS = ("uvicorn", "http-server-tls", "go-tls")


@pytest.mark.parametrize("name", WITH_FUNCTIONS)
def test_of_each_process(name: str, agent: Callable[..., Agent], tmp_path: Path) -> None:
    server = next(one for one in servers.SERVERS if one.name == name)
    if lacking := servers.missing(server):
        pytest.skip(f"needs {', '.join(lacking)}")
    running = servers.launch(server, tmp_path)
    try:
        servers.wait_up(running)
        watching = agent("--port", running.port, "--ui", "127.0.0.1:0", exports=("ui",))
        found = re.search(r"^page: (\S+)$", watching.stderr, re.MULTILINE)
        assert found, watching.stderr

        def hits() -> list[dict[str, Any]]:
            with urllib.request.urlopen(f"{found[1]}api/probes", timeout=10) as answer:
                told: list[dict[str, Any]] = json.load(answer)["targets"]
                return told

        over = threading.Event()

        def keep_busy() -> None:
            while not over.is_set():
                load.run(partial(servers.connect, running), load.plans("hits", COUNT))

        busy = threading.Thread(target=keep_busy)
        busy.start()
        try:
            end = time.monotonic() + SETTLED
            while not ((told := hits()) and all(one["functions"] and one["calls"] for one in told)):
                assert time.monotonic() < end, told
        finally:
            over.set()
            busy.join()
    finally:
        running.stop()
