"""Log records, decoded by opentelemetry-proto, say what the requests were, and belong to their spans."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from unit.spans.batches import GROUPS, SERVICES, START, Row, batches, make_traced
from unit.spans.test_spans import attributes, truth

from autoinstr.model import Kind
from autoinstr.spans import EncodedSpans, RequestLogEncoder
from autoinstr.spans.request_logs import milliseconds


def decoded(encoded: list[EncodedSpans]) -> list[tuple[LogRecord, dict[str, Any]]]:
    found = []
    for part in encoded:
        request = ExportLogsServiceRequest.FromString(part.data)
        records = 0
        for resource in request.resource_logs:
            (scope,) = resource.scope_logs
            assert (scope.scope.name, scope.scope.version) == ("autoinstr", "1.2")
            records += len(scope.log_records)
            found += [(one, attributes(resource.resource.attributes)) for one in scope.log_records]
        assert records == part.spans
    return found


def line(row: Row) -> str:
    group = GROUPS[row.group]
    what = f"GET {row.text}" if row.text and group.text_key else group.name
    micro = row.duration // 1000
    return f"{what} {group.span_attributes['http.response.status_code']} {micro // 1000}.{micro % 1000:03} ms"


def as_record(record: LogRecord, resource: dict[str, Any]) -> dict[str, Any]:
    assert (record.severity_number, record.severity_text) in ((9, "INFO"), (17, "ERROR"))
    return {
        "time": record.time_unix_nano,
        "traceId": record.trace_id.hex(),
        "spanId": record.span_id.hex(),
        "sampled": record.flags,
        "failed": record.severity_text == "ERROR",
        "line": record.body.string_value,
        "attributes": attributes(record.attributes),
        "resource": resource,
    }


def expected(row: Row) -> dict[str, Any]:
    span, group = truth(row), GROUPS[row.group]
    kind = "server" if group.kind is Kind.SERVER else "client"
    return {
        "time": span["endTimeUnixNano"],
        "traceId": span["traceId"],
        "spanId": span["spanId"],
        "sampled": int(row.sampled),
        "failed": group.failed,
        "line": line(row),
        "attributes": span["attributes"] | {"span.kind": kind, "request.duration": row.duration / 1e9},
        "resource": span["resource"],
    }


def by_id(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: str(record["spanId"]))


@given(batches, st.integers(1, 7), st.sampled_from([1, 500, 3000, 10**6]), st.sampled_from([0, 0.5, 10**8, math.inf]))
def test_records_say_what_the_requests_were(batch: list[Row], most: int, size: int, slow: float) -> None:
    encoder = RequestLogEncoder("1.2", slow, max_spans=most, max_bytes=size)
    found = by_id([as_record(*one) for one in decoded(encoder.encode(make_traced(batch), GROUPS, SERVICES))])
    wanted = [row for row in batch if row.duration >= slow * 1e9 or GROUPS[row.group].failed]
    assert found == by_id([expected(row) for row in wanted])


@pytest.mark.parametrize(("slow", "told"), [(0, [0, 1, 2]), (0.5, [1, 2]), (math.inf, [1])])
def test_which_are_told(slow: float, told: list[int]) -> None:
    rows = [
        Row(span=b"0" * 8, duration=1000, sampled=False),
        Row(span=b"1" * 8, duration=1000, group=1),
        Row(span=b"2" * 8, duration=500_000_000),
    ]
    found = decoded(RequestLogEncoder("1.2", slow).encode(make_traced(rows), GROUPS, SERVICES))
    assert sorted(int(record.span_id[:1]) for record, _ in found) == told


def test_a_line() -> None:
    rows = [Row(text="/users/ü", duration=12_345_999), Row(span=b"1" * 8, text="", duration=7_000, group=1)]
    found = decoded(RequestLogEncoder("1.2").encode(make_traced(rows), GROUPS, SERVICES))
    assert {record.body.string_value for record, _ in found} == {
        "GET /users/ü 200 12.345 ms",
        "GET /users/* 500 0.007 ms",
    }
    assert {record.time_unix_nano for record, _ in found} == {START + 12_345_999, START + 7_000}


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20))
def test_durations(values: list[int]) -> None:
    texts = milliseconds(np.array(values, np.int64))
    assert texts == [f"{one // 10**6}.{one // 1000 % 1000:03} ms".encode() for one in values]
