"""Batches of spans as the stages before would make them, and an exporter on a backend that is really there."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from autoinstr.export.base import Context
from autoinstr.health import Health
from autoinstr.model import Group, Kind, Requests, Service, Snapshot, Traced

SERVICE = Service(
    "shop-api", {"service.name": "shop-api", "service.namespace": "shop", "service.instance.id": "host:4711"}
)
SERVER = Group(
    service=0,
    kind=Kind.SERVER,
    name="GET /users/*",
    metric="http.server",
    metric_attributes={"http.request.method": "GET", "http.response.status_code": 200},
    span_attributes={"http.response.status_code": 200, "server.address": "127.0.0.1", "server.port": 8080},
    text_key="url.path",
    failed=False,
)
CLIENT = Group(
    service=0,
    kind=Kind.CLIENT,
    name="GET",
    metric="http.client",
    metric_attributes={"http.request.method": "GET", "error.type": "ECONNRESET"},
    span_attributes={"error.type": "ECONNRESET", "server.address": "db.internal", "server.port": 80},
    text_key="url.path",
    failed=True,
)
START = 1_700_000_000_123_000_000


def make_traced(count: int, group: int = 0, text: str = "/users/7", sampled: bool = True) -> Traced:
    raw = text.encode()
    zeros = np.zeros(count, np.int64)
    start = START + np.arange(count, dtype=np.int64) * 1000
    requests = Requests(
        group=np.full(count, group, np.int32),
        start=start,
        end=start + 1_300_000,
        request_size=zeros,
        response_size=zeros,
        pid=np.full(count, 4711, np.uint32),
        tid=np.full(count, 4711, np.uint32),
        text=np.frombuffer(raw * count, np.uint8),
        text_at=np.arange(count, dtype=np.int64) * len(raw),
        text_size=np.full(count, len(raw), np.int64),
        query=np.zeros(0, np.uint8),
        query_at=zeros,
        query_size=zeros,
        peer=np.tile(np.frombuffer(b"\0" * 10 + b"\xff\xff\x7f\0\0\x01", np.uint8), (count, 1)),
        peer_port=np.full(count, 50514, np.uint16),
        has_parent=np.zeros(count, np.bool_),
        parent_trace=np.zeros((count, 16), np.uint8),
        parent_span=np.zeros((count, 8), np.uint8),
        parent_flags=np.zeros(count, np.uint8),
    )
    ids = np.frombuffer(os.urandom(16 * count), np.uint8).reshape(count, 16)
    return Traced(requests, ids, ids[:, :8], np.zeros((count, 8), np.uint8), np.full(count, sampled))


@dataclass
class EncodedSpans:
    data: bytes
    spans: int


def encode_spans(traced: Traced, groups: list[Group], services: list[Service]) -> list[EncodedSpans]:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for row in np.flatnonzero(traced.sampled):
        scope.spans.add(
            name=groups[traced.requests.group[row]].name,
            trace_id=traced.trace_id[row].tobytes(),
            span_id=traced.span_id[row].tobytes(),
        )
    return [EncodedSpans(request.SerializeToString(), len(scope.spans))] if scope.spans else []


def span_records(traced: Traced, groups: list[Group], services: list[Service]) -> Iterator[dict[str, Any]]:
    for row in np.flatnonzero(traced.sampled):
        group = groups[traced.requests.group[row]]
        yield {
            "traceId": traced.trace_id[row].tobytes().hex(),
            "name": group.name,
            "attributes": group.span_attributes,
            "resource": services[group.service].attributes,
        }


def make_context(**changes: Any) -> Context:
    def none_collected() -> tuple[Snapshot, list[Service]]:
        raise AssertionError("nothing to collect")

    values: dict[str, Any] = {
        "health": Health(),
        "environ": {},
        "version": "1.2.3",
        "encode_spans": encode_spans,
        "encode_metrics": lambda snapshot, services: b"",
        "span_records": span_records,
        "collect": none_collected,
        "inside": lambda: {"targets": []},
        "stop": lambda: None,
        "output": io.StringIO(),
    }
    return Context(**(values | changes))


def soon(seconds: float = 5.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds
