"""Header blocks of many connections at once, each decoded only if it, after all that went before it, is new.

In: parts of blocks, in the order of each direction of a connection. Out: for each that ends a block what the block
says: of a request its row in the `RequestTable`, of a response bits (`read_response`).

What a block means depends on the table, and that on all earlier blocks that changed it. So each direction has a
`state`: a hash of those. (state, block) is looked up for all parts of a batch together; where all of a direction's are
known, and none changes the table, nothing is left to do. Other directions are walked through, part by part.
"""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import (
    HTTP2_FIELDS,
    HTTP2_FIRST,
    HTTP2_FRAGMENT,
    HTTP2_LAST,
    HTTP2_REQUEST,
    HTTP2_UPGRADED,
)
from autoinstr.health import Health, Loss
from autoinstr.parse import texts as tx
from autoinstr.parse.hpack_tables import UNKNOWN, Change, Field, HeaderTable, HPACKError
from autoinstr.parse.http2_requests import NOTHING, RequestTable, read_response
from autoinstr.parse.table import Table

# Connections of which tables and open streams are kept, those used last: 4 KB each as they usually are. One that was
# dropped goes on as if it were older than the agent.
MAX_CONNECTIONS = 4096
# Bytes of a header block that comes in parts: twice what most servers accept. A longer one counts as not seen.
MAX_BLOCK = 32 << 10
# Blocks remembered, each in a state of the table: 600 bytes each. When it is full all are forgotten, and learned anew.
MAX_KNOWN = 8192
# Blocks that were met once: only those that come again are worth remembering.
MET = 1 << 15

_WHOLE = HTTP2_FIRST | HTTP2_LAST
_64 = (1 << 64) - 1
# States to begin with, [whole table?][request?], and how states go on: who doesn't know these can't make two alike.
_secrets = np.frombuffer(os.urandom(48), np.uint64).tolist()
_FIRST_STATES = ((_secrets[0], _secrets[1]), (_secrets[2], _secrets[3]))
_CHAIN, _TURN = _secrets[4] | 1, _secrets[5]


def _chain(before: int, then: int) -> int:
    """A hash of two, in this order."""
    value: int = ((before + _TURN) * _CHAIN ^ then) & _64
    value = (value ^ value >> 32) * _CHAIN & _64
    return value ^ value >> 29


class Direction:
    """One direction of a connection, requests or responses."""

    __slots__ = ("block", "hash", "next", "request", "state", "table")

    def __init__(self, *, request: bool, whole: bool) -> None:
        self.request = request
        self.next = 0  # number of the part that follows
        self.block: bytearray | None = None  # the parts of an unfinished block
        self.hash = 0  # of those
        self.begin(whole=whole)

    def begin(self, *, whole: bool) -> None:
        """From here on; not `whole`: what the table holds is not known."""
        self.state = _FIRST_STATES[whole][self.request]
        self.table = HeaderTable(whole=whole)
        self.block = None


@dataclass(slots=True, eq=False)
class Connection:
    """What is known of one connection."""

    responses: Direction
    requests: Direction
    streams: dict[int, Any] = field(default_factory=dict)  # of http2_streams.py


class Connections:
    """Those used last, by id."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[int, Connection] = OrderedDict()

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_id.values())

    def get(self, number: int, *, old: bool) -> Connection:
        found = self._by_id.get(number)
        if found is None:
            found = Connection(Direction(request=False, whole=not old), Direction(request=True, whole=not old))
            self._by_id[number] = found
        else:
            self._by_id.move_to_end(number)
        return found

    def surplus(self) -> list[Connection]:
        """Take out those beyond MAX_CONNECTIONS."""
        return [self._by_id.popitem(last=False)[1] for _ in range(len(self._by_id) - MAX_CONNECTIONS)]


@dataclass(slots=True)
class Parts:
    """n parts as columns. `lane`: 2 * index of the connection, 1 more for requests."""

    connections: list[Connection]
    connection: NDArray[np.int64]  # index into these
    lane: NDArray[np.int64]
    number: NDArray[np.uint32]
    flags: NDArray[np.uint16]
    stream: NDArray[np.uint32]
    size: NDArray[np.int64]
    data: NDArray[np.uint8]  # in which fragment i begins at byte at[i]; eight bytes follow the last
    at: NDArray[np.int64]

    def fragment(self, row: int) -> bytes:
        at = int(self.at[row])
        return self.data[at : at + int(self.size[row])].tobytes()


class Known:
    """What was learned of blocks: (state, block) -> what it says, and what it does to the table."""

    def __init__(self) -> None:
        self._table = Table()
        self.said = np.zeros(MAX_KNOWN, np.int64)
        self.changing = np.zeros(MAX_KNOWN, np.bool_)
        self.changes: list[list[Change]] = []

    def __len__(self) -> int:
        return len(self.changes)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        return self._table.find(keys)

    def get(self, key: int) -> int:
        return self._table.get(key)

    def add(self, key: int, said: int, changes: list[Change]) -> None:
        number = len(self.changes)
        self._table.add(key, number)
        self.said[number], self.changing[number] = said, bool(changes)
        self.changes.append(changes)


class Blocks:
    """Reads blocks, and remembers those that come again."""

    def __init__(self, requests: RequestTable, health: Health) -> None:
        self._requests = requests
        self._health = health
        self._known = Known()
        self._shared: list[int] = []  # rows of requests that known blocks refer to
        self._met = array("Q", bytes(8 * MET))

    @property
    def is_full(self) -> bool:
        return len(self._known) >= MAX_KNOWN

    def forget(self) -> list[int]:
        """Forget all blocks; the rows of requests that were shared, which nobody may refer to any more."""
        shared, self._shared = self._shared, []
        self._known = Known()
        return shared

    def read(self, parts: Parts) -> NDArray[np.int64]:
        """What each part says; 0 where it ends no block."""
        said = np.zeros(len(parts.lane), np.int64)
        rows = tx.marked(parts.flags & HTTP2_FIELDS)
        if not len(rows):
            return said
        words = tx.sliding(parts.data, len(parts.data) - 7)
        hashes = tx.hashes(words, parts.at[rows], parts.size[rows])
        order = np.argsort(parts.lane[rows], kind="stable")
        rows, hashes = rows[order], hashes[order]
        lane = parts.lane[rows]
        first = np.append(0, tx.marked(lane[1:] != lane[:-1]) + 1)
        count = np.append(first[1:], len(rows)) - first
        lanes = [_direction(parts, number) for number in lane[first].tolist()]
        state = np.array([one.state for one in lanes], np.uint64)
        # Where a block has begun and not ended no part is expected: such directions are walked through.
        expected = np.array([one.next if one.block is None else -1 for one in lanes], np.int64)
        keys = np.repeat(state, count) ^ hashes
        found = self._known.find(keys)
        flags, number = parts.flags[rows], parts.number[rows].astype(np.int64)
        simple = (found >= 0) & (flags & (_WHOLE | HTTP2_UPGRADED) == _WHOLE)
        simple &= number - (np.arange(len(rows)) - np.repeat(first, count)) == np.repeat(expected, count)
        simple &= ~self._known.changing.take(found, mode="clip")
        said[rows] = np.where(simple, self._known.said.take(found, mode="clip"), 0)
        for one, start, many, easy in zip(
            lanes, first.tolist(), count.tolist(), np.logical_and.reduceat(simple, first).tolist(), strict=True
        ):
            if easy:
                one.next += many
            else:
                some = slice(start, start + many)
                self._walk(
                    one,
                    parts,
                    said,
                    rows=rows[some].tolist(),
                    hashes=hashes[some].tolist(),
                    simple=simple[some].tolist(),
                )
        return said

    def _walk(
        self,
        one: Direction,
        parts: Parts,
        said: NDArray[np.int64],
        *,
        rows: list[int],
        hashes: list[int],
        simple: list[bool],
    ) -> None:
        """Read the parts of one direction, one by one."""
        state = one.state
        chosen = np.array(rows)
        numbers, flags = parts.number[chosen].tolist(), parts.flags[chosen].tolist()
        for row, value, easy, number, flag in zip(rows, hashes, simple, numbers, flags, strict=True):
            if easy and number == one.next and one.state == state and one.block is None:
                one.next += 1
                continue
            if number != one.next:
                one.begin(whole=False)
            one.next = number + 1
            said[row] = self._part(one, parts, row, value, flag)

    def _part(self, one: Direction, parts: Parts, row: int, value: int, flags: int) -> int:
        if flags & HTTP2_UPGRADED and one.request:
            return self._requests.add(_upgraded(parts.fragment(row)), own=True)
        if flags & HTTP2_FIRST:
            if one.block is not None:  # an unfinished one: what it would have done to the table is not known
                one.begin(whole=False)
            if flags & HTTP2_LAST:
                return self._block(one, parts.fragment(row), value, parts.stream[row] > 0)
            one.block, one.hash = bytearray(parts.fragment(row)), value
            return 0
        if one.block is None or len(one.block) + HTTP2_FRAGMENT > MAX_BLOCK:
            one.begin(whole=False)
            return 0
        one.block += parts.fragment(row)
        one.hash = _chain(one.hash, value)
        if not flags & HTTP2_LAST:
            return 0
        block, one.block = bytes(one.block), None
        return self._block(one, block, one.hash, parts.stream[row] > 0)

    def _block(self, one: Direction, block: bytes, value: int, of_stream: bool) -> int:
        key = one.state ^ value
        found = self._known.get(key)
        if found >= 0:
            if changes := self._known.changes[found]:
                one.table.change(changes)
                one.state = _chain(one.state, value)
            return int(self._known.said[found])
        try:
            fields, changes = one.table.decode(block)
        except HPACKError:
            self._health.lose(Loss.PARSE_ERROR)
            one.begin(whole=False)
            return 0
        if changes:
            one.state = _chain(one.state, value)
        again = self._met[key % MET] == key and not self.is_full
        self._met[key % MET] = key
        said = self._say(one, fields, of_stream=of_stream, again=again)
        if again and (of_stream or not one.request):
            self._known.add(key, said, changes)
        return said

    def _say(self, one: Direction, fields: Sequence[Field], *, of_stream: bool, again: bool) -> int:
        if not one.request:
            return read_response(fields)
        if not of_stream:
            return NOTHING
        row = self._requests.add(fields, own=not again)
        if again and row != NOTHING:
            self._shared.append(row)
        return row


def _direction(parts: Parts, lane: int) -> Direction:
    connection = parts.connections[lane >> 1]
    return connection.requests if lane & 1 else connection.responses


def _upgraded(head: bytes) -> list[Field]:
    """The beginning of an HTTP/1 request that asked for HTTP/2, as the fields it would be there (RFC 7540, 3.2)."""
    line, *rest = head.split(b"\r\n")
    method, _, target = line.partition(b" ")
    if not rest:  # the line is not whole
        return [(b":method", method), UNKNOWN]
    fields = [(b":method", method), (b":path", target.partition(b" ")[0])]
    named = (one.partition(b":") for one in rest[:-1])  # the last may not be whole
    return fields + [(name.lower(), value.strip()) for name, colon, value in named if colon]


assert HTTP2_REQUEST == 1  # a lane is 2 * connection + this flag
