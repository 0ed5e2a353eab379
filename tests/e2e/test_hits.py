"""Hits of probes are told by process, those of each library's functions."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import load
import pytest
import servers
from agent import Agent
from servers import Running

COUNT = 50
SETTLED = 20.0

# Contexts of Python's tasks, functions of OpenSSL and of Go's crypto/tls.
WITH_FUNCTIONS = ("uvicorn", "http-server-tls", "go-tls")


@pytest.mark.parametrize("name", WITH_FUNCTIONS)
def test_of_each_process(name: str, agent: Callable[..., Agent], launched: Callable[[str], Running]) -> None:
    running = launched(name)
    watching = agent("--port", running.port, "--ui", "127.0.0.1:0", exports=("ui",))
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            load.run(partial(servers.connect, running), load.plans("hits", COUNT))

    def hits() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{watching.page}api/probes", timeout=10) as answer:
            told: list[dict[str, Any]] = json.load(answer)["targets"]
            return told

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        end = time.monotonic() + SETTLED
        while not ((told := hits()) and all(one["functions"] and one["calls"] for one in told)):
            assert time.monotonic() < end, told
    finally:
        over.set()
        busy.join()
