"""The agent beside an application: started as a user would, and what it tells of itself.

In: a port to watch and where to export to. Out: what it counted, lost, and cost.
"""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import meter
from agent import Agent
from ports import free_port

# It is given so long to tell what it saw, after the load has ended.
TOLD_WITHIN = 10.0
# After `ready` it loads what programs that come later may need: some seconds of the verifier's work, once.
SETTLED_WITHIN = 30.0
AT_REST = 0.05  # of a core


class Watching:
    """A running agent."""

    def __init__(self, agent: Agent, page: int) -> None:
        self.ready_after = agent.ready_after
        self.pids = meter.family(agent.pid)
        self.started_with = 0.0  # seconds of CPU, until it is at rest
        self._url = f"http://127.0.0.1:{page}/metrics"

    def settle(self) -> None:
        """Until it is at rest."""
        end, busy = time.monotonic() + SETTLED_WITHIN, True
        while busy and time.monotonic() < end:
            before = sum(meter.cpu_seconds(self.pids))
            time.sleep(0.5)
            self.started_with = sum(meter.cpu_seconds(self.pids))
            busy = (self.started_with - before) / 0.5 > AT_REST

    def page(self) -> str:
        """Its Prometheus page."""
        with urllib.request.urlopen(self._url, timeout=10) as response:
            return str(response.read().decode())

    def told(self) -> int:
        """Requests in its metrics."""
        series = r"^(?:http_server_request|rpc_server_call)_duration_seconds_count\{.*?\} (\S+)"
        counts = re.findall(series, self.page(), re.MULTILINE)
        return int(sum(map(float, counts)))

    def wait_told(self, requests: int) -> int:
        """Requests in its metrics, when these many are or time is over."""
        end = time.monotonic() + TOLD_WITHIN
        while (told := self.told()) < requests and time.monotonic() < end:
            time.sleep(0.2)
        return told

    def lost(self) -> dict[str, int]:
        found = re.findall(r'^autoinstr_lost_total\{loss="(.*?)"\} (\d+)', self.page(), re.MULTILINE)
        return {name: int(count) for name, count in found if int(count)}


@contextmanager
def watching(
    port: int | str,
    endpoint: str,
    sampler: dict[str, str],
    cache: Path | None = None,
    flags: tuple[str, ...] = (),
) -> Iterator[Watching]:
    """An agent that watches who listens at the port, or at several, with commas; and who else `flags` select."""
    page = free_port()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        **sampler,
    }
    kept = os.environ.get("AUTOINSTR_CACHE_DIR")
    if cache or kept:
        environment["AUTOINSTR_CACHE_DIR"] = str(cache or kept)
    agent = Agent(
        "--port", port, *flags, "--prometheus-port", page, environment=environment, exports=("otlp", "prometheus")
    )
    try:
        found = Watching(agent.wait_ready(), page)
        found.settle()
        yield found
        agent.stop()
    finally:
        agent.kill()
