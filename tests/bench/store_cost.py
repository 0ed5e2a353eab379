"""What the page's store costs per request, and how soon it answers with a million spans of 500 series. No root needed.

Usage: python tests/bench/store_cost.py [spans]
A quarter of an hour of requests of 20 services, each with a path of its own, ten batches a second. Fails if an answer
takes longer than it may.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from meter import pss_bytes
from span_cost import make_groups, make_requests, make_services

from autoinstr.correlate import Correlator, make_sampler
from autoinstr.health import Health
from autoinstr.model import Traced
from autoinstr.spans import span_records
from autoinstr.store import Store
from autoinstr.store.disk import Disk
from autoinstr.web import Api

SPANS = 1_000_000
GROUPS, SERVICES = 500, 20
BATCH = 2000
QUARTER = 15 * 60 * 10**9
MAY_TAKE = 0.1  # seconds
ROUNDS = 5


def batches(count: int) -> list[Traced]:
    """A few, used in turns with other times."""
    groups = make_groups(GROUPS, SERVICES)
    correlator = Correlator(make_sampler(), Health())
    made = [correlator.correlate(make_requests(BATCH, GROUPS, peers=1), groups) for _ in range(min(8, count))]
    for traced in made:
        traced.requests.peer_port[:] = 8080  # that of the one end that clients call: a series a group
    return made


def fill(store: Store, spans: int) -> float:
    """CPU microseconds a request."""
    groups, services = make_groups(GROUPS, SERVICES), make_services(SERVICES)
    some = batches(spans // BATCH)
    now = time.time_ns()
    took = 0.0
    for number in range(spans // BATCH):
        traced = some[number % len(some)]
        requests = traced.requests
        end = now - QUARTER + (QUARTER * number * BATCH + QUARTER * np.arange(BATCH)) // spans
        fresh = replace(traced, requests=replace(requests, end=end, start=end - (requests.end - requests.start)))
        began = time.process_time()
        store.add(fresh, groups, services)
        took += time.process_time() - began
    return took / spans * 1e6


def time_of(work: Callable[[], object]) -> float:
    """Seconds of CPU: what it takes where nobody else runs."""
    took = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return float(np.median(took))


def keep_on_disk(spans: int) -> None:
    """As `--ui-store` does, but everything at once."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(1 << 30)
        disk = Disk(Path(folder), store, Health())
        fill(store, spans)
        began = time.process_time()
        disk.close()
        took = time.process_time() - began
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f"{took / spans * 1e6:.3f} us a request to keep on disk too, {size / 1e6:.0f} MB;", end=" ")
        began = time.process_time()
        disk = Disk(Path(folder), Store(1 << 30), Health())
        print(f"{time.process_time() - began:.1f} s to read all of it at the start")
        os.close(disk.lock)


def main() -> int:
    spans = int(sys.argv[1]) if len(sys.argv) > 1 else SPANS
    before = pss_bytes([os.getpid()])
    store = Store(1 << 30)
    print(f"{fill(store, spans):.3f} us a request to keep")
    size, kept = store.size()
    after = pss_bytes([os.getpid()])
    print(f"{kept:,} spans, {size / 1e6:.0f} MB by its own count, {size / kept:.0f} bytes a span with all counts;")
    print(f"{(after - before) / 1e6:.0f} MB of memory (Pss)")
    api = Api(store, lambda: {"targets": []}, span_records, started=time.time() - 20 * 60)
    trace = api.ask("spans", {"limit": "1"})["spans"][0]["traceId"]
    questions = {
        "services": ("services", {}),
        "service": ("service", {"name": "shop-1"}),
        "map": ("map", {}),
        "spans, newest": ("spans", {}),
        "spans, slowest of a service": ("spans", {"service": "shop-1", "sort": "slowest"}),
        "spans, slower than any": ("spans", {"min": "1e9"}),
        "spans, by text": ("spans", {"text": "/users/77"}),
        "spans, by text that is nowhere": ("spans", {"text": "nowhere"}),
        "spans, of one service, by text of all": ("spans", {"service": "shop-1", "text": "/users", "max": "0.001"}),
        "trace": ("trace", {"id": trace}),
        "agent": ("agent", {}),
    }
    late = False
    for name, (question, asked) in questions.items():
        took = time_of(lambda q=question, a=asked: api.ask(q, a))
        late |= took > MAY_TAKE
        print(f"{name:<40}{took * 1000:8.1f} ms")
    keep_on_disk(spans)
    return late


if __name__ == "__main__":
    sys.exit(main())
