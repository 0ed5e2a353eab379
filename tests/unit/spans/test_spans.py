"""Span bytes, decoded by opentelemetry-proto, say what the records say, and both say what the requests were."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from unit.spans.batches import GROUPS, SERVICES, Row, batches, make_group, make_traced

from autoinstr.model import Kind, Service
from autoinstr.spans import EncodedSpans, SpanEncoder, encode_spans, span_records, wire
from autoinstr.spans import encoder as encoder_module

STATUS = {0: "unset", 1: "ok", 2: "error"}


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    found = {pair.key: plain(pair.value) for pair in pairs}
    assert len(found) == len(pairs), "an attribute twice"
    return found


def decoded(encoded: list[EncodedSpans]) -> list[tuple[Span, dict[str, Any]]]:
    """Each span with its resource."""
    found = []
    for part in encoded:
        request = ExportTraceServiceRequest.FromString(part.data)
        spans = 0
        for resource in request.resource_spans:
            (scope,) = resource.scope_spans
            assert (scope.scope.name, scope.scope.version) == ("autoinstr", "1.2")
            assert scope.spans, "a resource without spans"
            spans += len(scope.spans)
            found += [(span, attributes(resource.resource.attributes)) for span in scope.spans]
        assert spans == part.spans
    return found


def as_record(span: Span, resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "name": span.name,
        "kind": {2: "server", 3: "client"}[span.kind],
        "startTimeUnixNano": span.start_time_unix_nano,
        "endTimeUnixNano": span.end_time_unix_nano,
        "status": {"code": STATUS[span.status.code]},
        "attributes": attributes(span.attributes),
        "resource": resource,
    }


def truth(row: Row) -> dict[str, Any]:
    group = GROUPS[row.group]
    own: dict[str, Any] = {
        "http.request.body.size": row.request_size,
        "http.response.body.size": row.response_size,
    }
    address, port = ("client", "client") if group.kind is Kind.SERVER else ("network.peer", "network.peer")
    if row.peer is not None:
        mapped = row.peer.ipv4_mapped if isinstance(row.peer, IPv6Address) else None
        own[f"{address}.address"] = str(mapped or row.peer)
    if row.port:
        own[f"{port}.port"] = row.port
    if row.text and group.text_key:
        own["url.path"] = row.text
    if row.query:
        own["url.query"] = row.query
    if group.kind is Kind.CLIENT and row.text.startswith("/"):
        query = f"?{row.query}" if row.query else ""
        own["url.full"] = f"https://{'[fe80::1]' if group.service else 'shop'}:8080{row.text}{query}"
    return {
        "traceId": row.trace.hex(),
        "spanId": row.span.hex(),
        "parentSpanId": row.parent.hex(),
        "name": group.name,
        "kind": "server" if group.kind is Kind.SERVER else "client",
        "startTimeUnixNano": row.start,
        "endTimeUnixNano": row.start + row.duration,
        "status": {"code": "error" if group.failed else "unset"},
        "attributes": group.span_attributes | own,
        "resource": SERVICES[group.service].attributes,
    }


def by_id(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: str(record["spanId"]))


@given(batches, st.integers(1, 7), st.sampled_from([1, 500, 3000, 10**6]))
def test_bytes_and_records_say_what_the_requests_were(batch: list[Row], most: int, size: int) -> None:
    traced = make_traced(batch)
    expected = by_id([truth(row) for row in batch if row.sampled])
    encoded = SpanEncoder("1.2", max_spans=most, max_bytes=size).encode(traced, GROUPS, SERVICES)
    assert by_id([as_record(*one) for one in decoded(encoded)]) == expected
    assert by_id(list(span_records(traced, GROUPS, SERVICES))) == expected
    for part in encoded:
        assert 0 < part.spans <= most
        assert len(part.data) <= size + 40 or part.spans == 1  # tags and lengths of two resources come on top


@given(batches)
def test_within_a_request_a_resource_comes_once(batch: list[Row]) -> None:
    for part in SpanEncoder("1.2").encode(make_traced(batch), GROUPS, SERVICES):
        resources = ExportTraceServiceRequest.FromString(part.data).resource_spans
        assert max(Counter(one.resource.SerializeToString() for one in resources).values()) == 1


@settings(max_examples=40)
@given(st.lists(batches, max_size=3))
def test_an_encoder_learns_from_batch_to_batch(several: list[list[Row]]) -> None:
    encoder, groups, services = SpanEncoder(""), GROUPS[:0], SERVICES[:0]
    for batch in several:
        known = max((row.group + 1 for row in batch), default=0)
        groups += GROUPS[len(groups) : known]
        services += SERVICES[len(services) : max([group.service + 1 for group in groups], default=0)]
        traced = make_traced(batch)
        assert encoder.encode(traced, groups, services) == encode_spans(traced, groups, services)


def test_a_service_of_which_more_comes_to_be_known() -> None:
    encoder, traced, services = SpanEncoder("1.2"), make_traced([Row(0)]), list(SERVICES)
    encoder.encode(traced, GROUPS, services)
    services[GROUPS[0].service] = Service("s", {"service.name": "s", "k8s.pod.name": "p"})
    ((_, resource),) = decoded(encoder.encode(traced, GROUPS, services))
    assert resource == {"service.name": "s", "k8s.pod.name": "p"}


@pytest.mark.parametrize(
    ("group", "parent", "flags", "expected"),
    [
        (0, b"", 1, 0),
        (0, b"P" * 8, 1, 0x301),  # sampled, and the parent is known to be remote
        (0, b"P" * 8, 2, 0x303),  # sampled after all, by us; the random flag is kept
        (2, b"P" * 8, 1, 0x101),  # a client's parent is of the same process
    ],
)
def test_flags(group: int, parent: bytes, flags: int, expected: int) -> None:
    ((span, _),) = decoded(
        [*encode_spans(make_traced([Row(group, parent=parent, flags=flags)]), GROUPS, SERVICES, "1.2")]
    )
    assert span.flags == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("255.255.255.255", "255.255.255.255"),
        ("::1", "::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("::ffff:9.8.7.6", "9.8.7.6"),
    ],
)
def test_addresses_are_canonical(address: str, expected: str) -> None:
    peer = IPv6Address(address) if ":" in address else IPv4Address(address)
    ((span, _),) = decoded(encode_spans(make_traced([Row(peer=peer)]), GROUPS, SERVICES, "1.2"))
    assert attributes(span.attributes)["client.address"] == expected


def test_many_addresses_are_right_though_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "MAX_ADDRESSES", 3)
    peers = [IPv4Address(i) for i in range(1, 50)]
    batch = [Row(peer=peer, span=bytes([i + 1] * 8)) for i, peer in enumerate(peers)]
    found = decoded(SpanEncoder("1.2").encode(make_traced(batch), GROUPS, SERVICES))
    assert [attributes(span.attributes)["client.address"] for span, _ in found] == [str(peer) for peer in peers]


def test_requests_stay_below_the_limits() -> None:
    batch = [Row(text="/" + "a" * (i % 999), span=i.to_bytes(8, "big")) for i in range(1, 20_001)]
    encoded = SpanEncoder("1.2").encode(make_traced(batch), GROUPS, SERVICES)
    assert sum(part.spans for part in encoded) == 20_000
    assert all(len(part.data) <= encoder_module.MAX_BYTES + 100 and part.spans <= 8192 for part in encoded)
    assert len(encoded) <= sum(len(part.data) for part in encoded) // encoder_module.MAX_BYTES + 3


def test_resources_count_towards_the_limit() -> None:
    services = [Service(str(i), {"service.name": str(i), "note": "x" * 5000}) for i in range(20)]
    groups = [make_group(service=i) for i in range(20)]
    batch = [Row(group=i % 20, span=bytes([i + 1] * 8)) for i in range(100)]
    encoded = SpanEncoder("1.2", max_bytes=20_000).encode(make_traced(batch), groups, services)
    found = decoded(encoded)
    assert sorted(span.span_id for span, _ in found) == sorted(row.span for row in batch)
    assert all(resource["service.name"] == str((span.span_id[0] - 1) % 20) for span, resource in found)
    assert max(len(part.data) for part in encoded) < 20_000 + 40 * 20


def test_text_that_is_not_unicode_does_not_stop_the_rest() -> None:
    services = [Service("odd", {"service.name": "odd\udcff"})]
    ((_, resource),) = decoded(encode_spans(make_traced([Row()]), [make_group()], services, "1.2"))
    assert resource == {"service.name": "odd?"}


def test_nothing_sampled_is_nothing_sent() -> None:
    assert encode_spans(make_traced([Row(sampled=False)]), GROUPS, SERVICES) == []
    assert encode_spans(make_traced([]), GROUPS, SERVICES) == []


def test_values_of_attributes() -> None:
    """Each kind of value, read back."""
    for value in ("text", "", True, False, 0, -1, 2**40, 0.25, ["a", ""]):
        ours = KeyValue.FromString(wire.message(1, b"key") + wire.message(2, wire.any_value(value)))
        assert (ours.key, plain(ours.value)) == ("key", value)
