"""What sampling, RED metrics and span bytes cost per request, without a kernel in the way. No root needed.

Usage: python tests/bench/span_cost.py [requests a batch]
Each request has a path of its own; requests of 4 services and 200 groups, each third with a traceparent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from autoinstr.correlate import Correlator, make_sampler
from autoinstr.health import Health
from autoinstr.model import Group, Kind, Requests, Service
from autoinstr.red import Red
from autoinstr.spans import RequestLogEncoder, SpanEncoder, encode_metrics, span_records

NOW = 1_700_000_000_000_000_000
ROUNDS = 30


def make_services(count: int) -> list[Service]:
    return [
        Service(f"shop-{i}", {"service.name": f"shop-{i}", "service.instance.id": f"host:{i}", "process.pid": i})
        for i in range(count)
    ]


def make_groups(count: int, services: int) -> list[Group]:
    groups = []
    for i in range(count):
        common = {
            "http.request.method": "GET",
            "http.response.status_code": 200 if i % 7 else 500,
            "http.route": f"/users/*/orders{i}",
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": 8080,
        }
        groups.append(
            Group(
                service=i % services,
                kind=Kind.SERVER if i % 3 else Kind.CLIENT,
                name=f"GET /users/*/orders{i}",
                metric="http.server" if i % 3 else "http.client",
                metric_attributes=common,
                span_attributes=common | {"network.protocol.version": "1.1"},
                text_key="url.path",
                failed=i % 7 == 0,
            )
        )
    return groups


def make_requests(count: int, groups: int, peers: int) -> Requests:
    random = np.random.default_rng(1)
    paths = [f"/users/{i}/orders/{i * 7919:x}".encode() for i in random.integers(0, 1 << 30, count).tolist()]
    size = np.array([len(path) for path in paths], np.int64)
    start = NOW + np.arange(count, dtype=np.int64) * 1000
    nothing = np.zeros(count, np.int64)
    peer = np.tile(np.frombuffer(b"\0" * 10 + b"\xff\xff\x0a\0\0\0", np.uint8), (count, 1))
    peer[:, 14:] = random.integers(0, peers, count).astype(">u2").view(np.uint8).reshape(-1, 2)
    return Requests(
        group=random.integers(0, groups, count).astype(np.int32),
        start=start,
        end=start + random.lognormal(14, 1, count).astype(np.int64),
        request_size=random.choice([0, 100, 1500], count).astype(np.int64),
        response_size=random.integers(0, 20_000, count),
        pid=np.full(count, 4711, np.uint32),
        tid=np.full(count, 4711, np.uint32),
        text=np.frombuffer(b"".join(paths), np.uint8),
        text_at=np.cumsum(size) - size,
        text_size=size,
        query=np.zeros(0, np.uint8),
        query_at=nothing,
        query_size=nothing,
        peer=peer,
        peer_port=random.integers(1024, 65536, count).astype(np.uint16),
        has_parent=np.arange(count) % 3 == 0,
        parent_trace=random.integers(1, 256, (count, 16)).astype(np.uint8),
        parent_span=random.integers(1, 256, (count, 8)).astype(np.uint8),
        parent_flags=np.ones(count, np.uint8),
    )


def best(work: Callable[[], object], count: int) -> float:
    """Microseconds a request, of the best of some rounds."""
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took) / count * 1e6


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rows: list[tuple[str, float]] = []
    services, groups = make_services(4), make_groups(200, 4)
    requests = make_requests(count, len(groups), peers=50)
    for name, argument in (("parentbased_always_on", ""), ("keep_errors_slow", "slow=500ms,ratio=0.01")):
        correlator = Correlator(make_sampler(name, argument), Health())
        rows.append((f"correlate, {name}", best(lambda c=correlator: c.correlate(requests, groups), count)))
    traced = Correlator(make_sampler(), Health()).correlate(requests, groups)
    for exponential in (False, True):
        red = Red(Health(), start=NOW, exponential=exponential)
        kind = "and exponential " if exponential else ""
        rows.append((f"red, explicit {kind}buckets", best(lambda r=red: r.add(traced, groups), count)))
    encoder = SpanEncoder("1")
    rows.append(("spans, everything", best(lambda: encoder.encode(traced, groups, services), count)))
    plain = replace(requests, has_parent=np.zeros(count, np.bool_), group=np.full(count, 1, np.int32))
    roots = Correlator(make_sampler(), Health()).correlate(plain, groups)
    rows.append(("spans, one service, no parents", best(lambda: encoder.encode(roots, groups, services), count)))
    few = replace(traced, sampled=np.arange(count) % 100 == 0)
    rows.append(("spans, 1 % sampled, per request", best(lambda: encoder.encode(few, groups, services), count)))
    logs = RequestLogEncoder("1")
    rows.append(("request logs, everything", best(lambda: logs.encode(traced, groups, services), count)))
    failed = RequestLogEncoder("1", 0.5)
    rows.append(
        ("request logs, failed and slow, per request", best(lambda: failed.encode(traced, groups, services), count))
    )
    rows.append(("span records", best(lambda: list(span_records(few, groups, services)), count // 100)))
    for name, cost in rows:
        print(f"{name:<44}{cost:8.3f} us")
    size = sum(len(part.data) for part in encoder.encode(traced, groups, services)) / count
    snapshot = red.reader(exponential=True).collect(NOW)
    began = time.process_time()
    encode_metrics(snapshot, services)
    print(f"{size:.0f} bytes a span; {len(snapshot.series)} series encoded in {time.process_time() - began:.4f} s")


if __name__ == "__main__":
    main()
