"""Batches as the stages before would make them, from rows that are easy to write down; and strategies for them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import numpy as np
from hypothesis import strategies as st

from autoinstr.model import Group, Kind, Requests, Service, Traced

START = 1_700_000_000_000_000_000

PEER = IPv4Address("10.0.0.9")


@dataclass(frozen=True)
class Row:
    """One request, and what is to become of it."""

    group: int = 0
    start: int = START
    duration: int = 1_300_000
    request_size: int = 0
    response_size: int = 12
    text: str = "/users/7"
    query: str = ""
    peer: IPv4Address | IPv6Address | None = PEER
    port: int = 50514
    trace: bytes = b"T" * 16
    span: bytes = b"S" * 8
    parent: bytes = b""  # of a traceparent, with the trace above
    flags: int = 1
    sampled: bool = True


def raw_address(address: IPv4Address | IPv6Address | None) -> bytes:
    if address is None:
        return bytes(16)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def octets(values: list[bytes], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), width).copy()


def joined(values: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    raw = [value.encode() for value in values]
    size = np.array([len(one) for one in raw], np.int64)
    return np.frombuffer(b"".join(raw), np.uint8), np.cumsum(size) - size, size


def make_requests(rows: list[Row]) -> Requests:
    text, query = joined([row.text for row in rows]), joined([row.query for row in rows])
    start = np.array([row.start for row in rows], np.int64)
    return Requests(
        group=np.array([row.group for row in rows], np.int32),
        start=start,
        end=start + np.array([row.duration for row in rows], np.int64),
        request_size=np.array([row.request_size for row in rows], np.int64),
        response_size=np.array([row.response_size for row in rows], np.int64),
        pid=np.full(len(rows), 4711, np.uint32),
        tid=np.full(len(rows), 4711, np.uint32),
        text=text[0],
        text_at=text[1],
        text_size=text[2],
        query=query[0],
        query_at=query[1],
        query_size=query[2],
        peer=octets([raw_address(row.peer) for row in rows], 16),
        peer_port=np.array([row.port for row in rows], np.uint16),
        has_parent=np.array([bool(row.parent) for row in rows], np.bool_),
        parent_trace=octets([row.trace if row.parent else bytes(16) for row in rows], 16),
        parent_span=octets([row.parent or bytes(8) for row in rows], 8),
        parent_flags=np.array([row.flags if row.parent else 0 for row in rows], np.uint8),
    )


def make_traced(rows: list[Row]) -> Traced:
    return Traced(
        make_requests(rows),
        trace_id=octets([row.trace for row in rows], 16),
        span_id=octets([row.span for row in rows], 8),
        parent_id=octets([row.parent or bytes(8) for row in rows], 8),
        sampled=np.array([row.sampled for row in rows], np.bool_),
    )


SERVICES = [
    Service("shop", {"service.name": "shop", "process.pid": 4711, "host.name": "höst"}),
    Service("cart", {"service.name": "cart", "process.command_args": ["a", "b"], "on": True, "share": 0.5, "off": -3}),
]


def make_group(service: int = 0, kind: Kind = Kind.SERVER, status: int = 200, text_key: str = "url.path") -> Group:
    attributes = {"http.request.method": "GET", "http.response.status_code": status, "server.port": 8080}
    attributes |= {"url.scheme": "https", "server.address": "fe80::1" if service else "shop"}
    return Group(
        service=service,
        kind=kind,
        name="GET /users/*" if kind is Kind.SERVER else "GET",
        metric=f"http.{kind.name.lower()}",
        metric_attributes=attributes,
        span_attributes=attributes | {"network.protocol.version": "1.1"},
        text_key=text_key,
        failed=status >= 500,
    )


GROUPS = [
    make_group(),
    make_group(status=500),
    make_group(service=1, kind=Kind.CLIENT),
    make_group(kind=Kind.CLIENT),
    make_group(service=1),
    make_group(text_key=""),
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(["/x" * 70, "/y" * 9000, "/z"])
addresses = st.none() | st.ip_addresses().filter(lambda address: any(raw_address(address)))
sizes = st.integers(0, 300) | st.integers(0, 2**63 - 1)


def ids(width: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=width, max_size=width).filter(any)


rows = st.builds(
    Row,
    group=st.integers(0, len(GROUPS) - 1),
    start=st.integers(0, 2**62),
    duration=st.integers(0, 2**61),
    request_size=sizes,
    response_size=sizes,
    text=texts,
    query=st.just("") | texts,
    peer=addresses,
    port=st.integers(0, 65535),
    trace=ids(16),
    span=ids(8),
    parent=st.just(b"") | ids(8),
    flags=st.integers(0, 255),
    sampled=st.booleans(),
)
batches = st.lists(rows, max_size=20, unique_by=lambda row: row.span)
