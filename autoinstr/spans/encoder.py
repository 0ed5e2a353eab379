"""Spans as OTLP bytes, made by array work: 13 microseconds a span as protobuf objects are not affordable at full rate.

In: a traced batch. Out: `ExportTraceServiceRequest`s, grouped by resource, none larger than the limits.
A span's bytes are put together from pieces:

    head     ids, times, sizes, port ...: fixed width for all rows of one layout, made as rows of one array
    text     the request's own text (url.path), after its length in the head
    query    the same for url.query, in batches that have queries
    url      url.full, in batches that have calls
    address  of the other end; encoded once for each address
    shared   name, kind, attributes and status of the group; encoded once for each group

A layout is which of the optional parts a row has, and under which keys; a batch has a handful. Rows leave in no
particular order. Must say exactly what `records.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Group, Kind, Requests, Service, Traced
from autoinstr.semconv import URL_FULL, URL_QUERY
from autoinstr.spans import wire
from autoinstr.spans.attributes import NO_ADDRESS, PATH_START, Keys, address_text, keys_of, url_before_path
from autoinstr.spans.rows import Bytes, Integers, Rows, tag
from autoinstr.turns import step

SCOPE_NAME = "autoinstr"
# Far below the 4 MB that gRPC servers take by default; a batch makes one request, whose bytes are copied on their way.
MAX_BYTES = 1_250_000
MAX_SPANS = 8192
# Encoded addresses that are kept, a few MB at worst; the table starts anew when it is full.
MAX_ADDRESSES = 8192

_STATUS_ERROR = wire.message(15, wire.tag(3, wire.VARINT) + wire.varint(2))
# Span.flags: W3C's flags in the low byte; then whether we know if the parent is remote, and whether it is.
_SAMPLED, _KNOWN, _REMOTE = 0x01, 0x100, 0x200
# Optional parts of a row: bits of its layout.
_PARENT, _PORT, _TEXT, _QUERY = 1, 2, 4, 8
_PARTS = 16
_QUERY_MARK = (b"", b"?")  # where there is none, and where there is one


@dataclass(frozen=True, slots=True)
class EncodedSpans:
    """One `ExportTraceServiceRequest`."""

    data: bytes
    spans: int


class Addresses(dict[bytes, bytes]):
    """16 bytes -> the address as an attribute; empty for no address."""

    def __init__(self, key: str, attribute: int) -> None:
        super().__init__()
        self._key = key
        self._attribute = attribute

    def __missing__(self, raw: bytes) -> bytes:
        if len(self) >= MAX_ADDRESSES:
            self.clear()
        known = raw != NO_ADDRESS
        self[raw] = wire.attribute(self._attribute, self._key, address_text(raw)) if known else b""
        return self[raw]


class SharedParts:
    """What groups share, encoded once by `encode`; arrays are by group."""

    def __init__(self, encode: Callable[[Group], bytes]) -> None:
        self._encode = encode
        self.data: list[bytes] = []
        self.size: Integers = np.zeros(0, np.int64)
        self.service: Integers = np.zeros(0, np.int64)
        self.keys: Integers = np.zeros(0, np.int64)  # index into `all_keys`
        self.all_keys: list[tuple[Keys, Kind]] = []
        self.has_text: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.failed: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.url: list[bytes] = []  # before the path
        self.url_size: Integers = np.zeros(0, np.int64)

    def learn(self, groups: list[Group]) -> None:
        """`groups` is always the same list."""
        new = groups[len(self.data) :]
        if not new:
            return
        data = list(map(self._encode, new))
        self.data += data
        self.size = np.append(self.size, np.fromiter(map(len, data), np.int64))
        self.service = np.append(self.service, np.array([group.service for group in new], np.int64))
        self.keys = np.append(
            self.keys, np.array([self._number(keys_of(group), group.kind) for group in new], np.int64)
        )
        self.has_text = np.append(self.has_text, np.array([bool(group.text_key) for group in new]))
        self.failed = np.append(self.failed, np.array([group.failed for group in new]))
        self.url += [wire.text(url_before_path(group)) for group in new]
        self.url_size = np.append(self.url_size, np.fromiter(map(len, self.url[-len(new) :]), np.int64))

    def _number(self, keys: Keys, kind: Kind) -> int:
        if (keys, kind) not in self.all_keys:
            self.all_keys.append((keys, kind))
        return self.all_keys.index((keys, kind))


@dataclass(slots=True)
class Batch:
    """The sampled rows of a batch, in the order of their layouts; columns of equal length."""

    requests: Requests
    traced: Traced
    row: NDArray[np.intp]  # in the columns of `requests` and `traced`
    group: NDArray[np.int32]
    layout: Integers
    service: Integers
    text_size: Integers
    query_size: Integers

    def ordered(self, order: NDArray[np.intp]) -> Batch:
        return Batch(
            self.requests,
            self.traced,
            self.row[order],
            self.group[order],
            self.layout[order],
            self.service[order],
            self.text_size[order],
            self.query_size[order],
        )


class Part(NamedTuple):
    """Neighbouring rows of one service."""

    service: int
    start: int
    end: int


@dataclass(slots=True)
class Pieces:
    """The bytes of spans: `columns` pieces a row, one after the other; row i begins at byte `at[i]` of all."""

    flat: list[bytes]
    columns: int
    at: Integers  # (rows + 1,)

    def size(self, start: int, end: int) -> int:
        return int(self.at[end] - self.at[start])

    def fitting(self, start: int, room: int) -> int:
        """The end of the rows from `start` on that are no more than `room` bytes together."""
        return int(np.searchsorted(self.at, self.at[start] + room, side="right")) - 1


class RequestEncoder:
    """Encodes batches, one item a row; keeps what groups, services and addresses share. `version` is that of the scope.

    Requests of spans and of log records are alike down to the item; what an item says is said by those who derive.
    """

    attribute: int  # number of the item's field that attributes are in

    def chosen(self, traced: Traced) -> NDArray[np.bool_]:
        """Which rows of a batch are told."""
        raise NotImplementedError

    def shared(self, group: Group) -> bytes:
        """What all items of a group say."""
        raise NotImplementedError

    def begin(self, rows: Rows, batch: Batch, part: slice, layout: int, kind: Kind) -> None:
        """Ids and times."""
        raise NotImplementedError

    def end(self, batch: Batch) -> list[list[bytes]]:
        """Columns of pieces that come last."""
        return []

    def __init__(self, version: str, *, max_bytes: int = MAX_BYTES, max_spans: int = MAX_SPANS) -> None:
        self._scope = wire.message(1, wire.message(1, SCOPE_NAME.encode()) + wire.message(2, version.encode()))
        self._max_bytes = max_bytes
        self._max_spans = max_spans
        self._groups: list[Group] = []
        self.begin_anew()
        self._resources: list[bytes] = []
        self._services: list[Service] = []  # that `_resources` were made of
        self._addresses: dict[str, Addresses] = {}

    def begin_anew(self) -> None:
        """Forget all groups."""
        self._shared = SharedParts(self.shared)

    def encode(self, traced: Traced, groups: list[Group], services: list[Service]) -> list[EncodedSpans]:
        """The chosen rows. As to the lists see `model.Follower`; a service may be exchanged."""
        if groups is not self._groups:
            self._groups = groups
            self.begin_anew()
        self._shared.learn(groups)
        self._know(services)
        row = np.flatnonzero(self.chosen(traced))
        if not len(row):
            return []
        batch = self._sorted(traced, row)
        pieces, size = self._pieces(batch)
        flat = [b""] * (len(row) * len(pieces))
        for i, column in enumerate(pieces):
            flat[i :: len(pieces)] = column
        parts = self._by_service(batch)
        return list(self._requests(Pieces(flat, len(pieces), np.append(0, np.cumsum(size))), parts))

    def _know(self, services: list[Service]) -> None:
        """Resources as bytes, made anew only for those that are new."""
        if services == self._services:  # nearly always, and then they are the very same objects: quick
            return
        known = {id(service): data for service, data in zip(self._services, self._resources, strict=True)}
        self._resources = [known.get(id(one)) or wire.message(1, wire.resource(one.attributes)) for one in services]
        self._services = list(services)

    @step
    def _sorted(self, traced: Traced, row: NDArray[np.intp]) -> Batch:
        """Rows of one layout next to each other, and among them rows of one service."""
        requests, shared = traced.requests, self._shared
        group = requests.group[row]
        text_size = requests.text_size[row] * shared.has_text[group]
        query_size = requests.query_size[row]
        has_parent = np.ascontiguousarray(traced.parent_id).view(np.uint64)[row, 0] != 0
        layout = shared.keys[group] * _PARTS
        layout += _PARENT * has_parent + _PORT * (requests.peer_port[row] != 0)
        layout += _TEXT * (text_size != 0) + _QUERY * (query_size != 0)
        service = shared.service[group]
        order = _order(layout * (service.max() + 1) + service)
        batch = Batch(requests, traced, row, group, layout, service, text_size, query_size)
        return batch if order is None else batch.ordered(order)

    @step
    def _by_service(self, batch: Batch) -> list[Part]:
        """Runs of rows of one service, those of each service next to each other."""
        edge = (batch.layout[1:] != batch.layout[:-1]) | (batch.service[1:] != batch.service[:-1])
        starts = [0, *(np.flatnonzero(edge) + 1).tolist()]
        ends = [*starts[1:], len(batch.row)]
        return sorted(map(Part, batch.service[starts].tolist(), starts, ends))

    @step
    def _pieces(self, batch: Batch) -> tuple[list[list[bytes]], Integers]:
        """Columns of pieces which, put together row by row, are the spans; and the size of each row."""
        requests = batch.requests
        address = self._address_pieces(batch)
        rest = self._shared.size[batch.group] + batch.text_size + sizes(address)
        text = slices(requests.text, requests.text_at[batch.row], batch.text_size)
        shared = list(map(self._shared.data.__getitem__, batch.group.tolist()))
        after = [text, address, shared]
        query: list[bytes] = []
        if batch.query_size.any():
            asked = np.flatnonzero(batch.query_size)
            head = _heads(URL_QUERY, batch.query_size[asked], self.attribute)
            head = _spread(head, asked.tolist(), len(batch.row))
            query = slices(requests.query, requests.query_at[batch.row], batch.query_size)
            rest += sizes(head) + batch.query_size
            after = [text, head, query, address, shared]
        if self._shared.url_size[batch.group].any():
            url = self._urls(batch, text, query)
            rest += sizes(url)
            after.append(url)
        for last in self.end(batch):
            rest += sizes(last)
            after.append(last)
        heads: list[bytes] = []
        size = rest.copy()
        for start, end in _runs(batch.layout):
            rows = self._head(batch, slice(start, end)).before(tag(2, wire.LENGTH), rest[start:end])
            size[start:end] += len(rows)
            heads += rows.pieces()
        return [heads, *after], size

    @step
    def _head(self, batch: Batch, part: slice) -> Rows:
        """The fixed part of the items of one layout, without the tag and the length at its beginning."""
        requests, row = batch.requests, batch.row[part]
        layout = int(batch.layout[part.start])
        keys, kind = self._shared.all_keys[layout // _PARTS]
        rows = Rows(len(row), self.attribute)
        self.begin(rows, batch, part, layout, kind)
        rows.integer(keys.request_size, requests.request_size[row])
        rows.integer(keys.response_size, requests.response_size[row])
        if layout & _PORT:
            rows.integer(keys.port, requests.peer_port[row].astype(np.int64))
        if layout & _TEXT:
            rows.text(keys.text, batch.text_size[part])
        return rows

    @step
    def _address_pieces(self, batch: Batch) -> list[bytes]:
        pieces: list[bytes] = []
        peer = np.take(batch.requests.peer, batch.row, axis=0).view("V16").ravel().tolist()
        for start, end in _runs(batch.layout // _PARTS):
            keys, _ = self._shared.all_keys[int(batch.layout[start]) // _PARTS]
            known = self._addresses.setdefault(keys.address, Addresses(keys.address, self.attribute))
            pieces += map(known.__getitem__, peer[start:end])
        return pieces

    @step
    def _urls(self, batch: Batch, text: list[bytes], query: list[bytes]) -> list[bytes]:
        """url.full; empty in rows without one."""
        requests, before = batch.requests, self._shared.url_size[batch.group]
        first = np.append(requests.text, np.uint8(0))[requests.text_at[batch.row]]
        has = np.flatnonzero((before != 0) & (batch.text_size != 0) & (first == ord(PATH_START)))
        rows, size = has.tolist(), before[has] + batch.text_size[has]
        parts = [map(self._shared.url.__getitem__, batch.group[has].tolist()), map(text.__getitem__, rows)]
        if query:
            asked = batch.query_size[has] != 0
            size += (1 + batch.query_size[has]) * asked
            parts += [map(_QUERY_MARK.__getitem__, asked.tolist()), map(query.__getitem__, rows)]
        heads = _heads(URL_FULL, size, self.attribute)
        return _spread(list(map(b"".join, zip(heads, *parts, strict=True))), rows, len(batch.row))

    def _requests(self, pieces: Pieces, parts: list[Part]) -> Iterator[EncodedSpans]:
        """Cut into requests and resources, and put together."""
        fitting: list[Part] = []
        spans = size = 0
        for part in parts:
            start = part.start
            while start < part.end:
                is_first = not fitting or fitting[-1].service != part.service
                room = self._max_bytes - size - is_first * len(self._resources[part.service])
                end = min(part.end, pieces.fitting(start, room), start + self._max_spans - spans)
                if end <= start and fitting:
                    yield self._request(pieces, fitting)
                    fitting, spans, size = [], 0, 0
                    continue
                end = max(end, start + 1)  # what is too large alone goes alone
                fitting.append(Part(part.service, start, end))
                spans, size = spans + end - start, self._max_bytes - room + pieces.size(start, end)
                start = end
        yield self._request(pieces, fitting)

    @step
    def _request(self, pieces: Pieces, parts: list[Part]) -> EncodedSpans:
        out: list[bytes] = []
        for service, of_service in groupby(parts, attrgetter("service")):
            mine = list(of_service)
            out.append(self._opening(service, sum(pieces.size(part.start, part.end) for part in mine)))
            for part in mine:
                out += pieces.flat[part.start * pieces.columns : part.end * pieces.columns]
        return EncodedSpans(b"".join(out), sum(part.end - part.start for part in parts))

    def _opening(self, service: int, spans: int) -> bytes:
        """A ResourceSpans with one ScopeSpans, up to the spans, which are so many bytes."""
        scope = wire.tag(2, wire.LENGTH) + wire.varint(len(self._scope) + spans) + self._scope
        resource = self._resources[service]
        return wire.tag(1, wire.LENGTH) + wire.varint(len(resource) + len(scope) + spans) + resource + scope


class SpanEncoder(RequestEncoder):
    """The sampled rows as spans."""

    attribute = wire.ATTRIBUTE

    def chosen(self, traced: Traced) -> NDArray[np.bool_]:
        return traced.sampled

    def shared(self, group: Group) -> bytes:
        """Name, kind, attributes and status."""
        return (
            wire.message(5, wire.text(group.name))
            + wire.tag(6, wire.VARINT)
            + wire.varint(group.kind)
            + wire.attributes(self.attribute, group.span_attributes)
            + (_STATUS_ERROR if group.failed else b"")
        )

    def begin(self, rows: Rows, batch: Batch, part: slice, layout: int, kind: Kind) -> None:
        requests, traced, row = batch.requests, batch.traced, batch.row[part]
        rows.field(1, np.take(traced.trace_id, row, axis=0))
        rows.field(2, np.take(traced.span_id, row, axis=0))
        if layout & _PARENT:
            rows.field(4, np.take(traced.parent_id, row, axis=0))
            flags = requests.parent_flags[row] | np.uint32(_SAMPLED | _KNOWN | (_REMOTE if kind is Kind.SERVER else 0))
            rows.fixed32(16, flags)
        rows.time(7, requests.start[row])
        rows.time(8, requests.end[row])


def encode_spans(traced: Traced, groups: list[Group], services: list[Service], version: str = "") -> list[EncodedSpans]:
    """One batch alone. Who encodes many keeps a `SpanEncoder`."""
    return SpanEncoder(version).encode(traced, groups, services)


def _heads(key: str, size: Integers, attribute: int) -> list[bytes]:
    """What comes before an attribute's texts of these sizes."""
    if not len(size):
        return []
    rows = Rows(len(size), attribute)
    rows.text(key, size)
    return rows.pieces()


def _spread(pieces: list[bytes], rows: list[int], count: int) -> list[bytes]:
    """A column of `count` rows, with the pieces in theirs, which increase."""
    column = [b""] * count
    if rows and rows[-1] - rows[0] == len(rows) - 1:
        column[rows[0] : rows[-1] + 1] = pieces
    else:
        for row, piece in zip(rows, pieces, strict=True):
            column[row] = piece
    return column


@step
def sizes(pieces: list[bytes]) -> Integers:
    return np.fromiter(map(len, pieces), np.int64, len(pieces))


@step
def slices(data: Bytes, at: Integers, size: Integers) -> list[bytes]:
    raw = data.tobytes()
    return [raw[start:end] for start, end in zip(at.tolist(), (at + size).tolist(), strict=True)]


def _runs(values: Integers) -> list[tuple[int, int]]:
    """Start and end of each run of equal values."""
    edges = (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(values)], strict=True))


def _order(key: Integers) -> NDArray[np.intp] | None:
    """The order in which keys increase; None: they are all the same."""
    most = key.max()
    if key.min() == most:
        return None
    return np.argsort(key.astype(np.uint16) if most < 1 << 16 else key, kind="stable")  # 16 bits sort faster
