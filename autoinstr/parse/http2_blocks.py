"""Header blocks of many connections at once, each decoded only if it, after all that went before it, is new.

In: parts of blocks, in the order of each direction of a connection. Out: for each that ends a block what the block
says: of a request its row in the `RequestTable`, of a response bits (`read_response`).

What a block means depends on the table, and that on all earlier blocks that changed it. So each direction has a
`state`: a hash of those. (state, block) is looked up for all parts of a batch together; where all of a direction's are
known, nothing is left to do. Blocks of other directions are put together and read, all at once.

What the table of a connection older than the agent holds may be told, too (`told_tables.py`): it is put in place before
the part that it is told for.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from hpack.hpack import encode_integer
from numpy.typing import NDArray

from autoinstr.capture.abi import (
    HTTP2_FIELDS,
    HTTP2_FIRST,
    HTTP2_LAST,
    HTTP2_REQUEST,
    HTTP2_TABLE,
    HTTP2_UPGRADED,
)
from autoinstr.health import Health, Loss
from autoinstr.parse import hpack_fields, hpack_tables
from autoinstr.parse import texts as tx
from autoinstr.parse.hpack_tables import HeaderTable, HeaderTables, Read
from autoinstr.parse.http2_requests import NOTHING, RequestTable, read_responses
from autoinstr.parse.table import Table
from autoinstr.parse.told_tables import ToldTables

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
# States to begin with, [whole table?][request?], and how states go on: who doesn't know these can't make two alike.
_secrets = np.frombuffer(os.urandom(40), np.uint64).tolist()
_FIRST_STATES = ((_secrets[0], _secrets[1]), (_secrets[2], _secrets[3]))
_TURN = np.uint64(_secrets[4] | 1)
_SECRET = os.urandom(16)


class Direction:
    """One direction of a connection, requests or responses."""

    __slots__ = ("begun", "next", "request", "state", "table")

    def __init__(self, *, request: bool, whole: bool) -> None:
        """Not `whole`: what the table holds is not known."""
        self.request = request
        self.next = 0  # number of the part that follows
        # an unfinished block, as one part, however many it came in: its bytes, a hash, and the number of the last
        self.begun: tuple[bytes, int, int] | None = None
        self.state = _FIRST_STATES[whole][request]
        self.table = HeaderTable()


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
    """What was learned of blocks that do not change the table: (state, block) -> what it says."""

    def __init__(self) -> None:
        self._table = Table()
        self._said = np.zeros(MAX_KNOWN, np.int64)

    def __len__(self) -> int:
        return len(self._table)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The number of each, -1 for what is not known."""
        return self._table.find(keys)

    def said(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        return self._said.take(numbers, mode="clip")

    def add(self, key: int, said: int) -> None:
        number = len(self._table)
        self._table.add(key, number)
        self._said[number] = said


@dataclass(slots=True)
class _Blocks:
    """n blocks of some directions, put together from their parts."""

    data: NDArray[np.uint8]  # in which block i is at[i] to at[i] + size[i]; SLACK bytes follow the last
    at: NDArray[np.int64]
    size: NDArray[np.int64]  # 0 where it is not whole
    whole: NDArray[np.bool_]
    hash: NDArray[np.uint64]
    row: NDArray[np.intp]  # the part that it ends with
    first: NDArray[np.intp]  # by direction: its first block
    lost: NDArray[np.bool_]  # what was before it is not known


class Blocks:
    """Reads blocks, and remembers those that come again."""

    def __init__(self, requests: RequestTable, health: Health) -> None:
        self._requests = requests
        self._health = health
        self._tables = HeaderTables(requests.meaning)
        self._known = Known()
        self._shared: list[int] = []  # rows of requests that known blocks refer to
        self._met = np.zeros(MET, np.uint64)
        self._told = ToldTables()

    @property
    def is_full(self) -> bool:
        return len(self._known) >= MAX_KNOWN

    def forget(self) -> list[int]:
        """Forget all blocks; the rows of requests that were shared, which nobody may refer to any more."""
        shared, self._shared = self._shared, []
        self._known = Known()
        return shared

    def drop(self, connection: Connection) -> None:
        """Nothing more is asked of this one."""
        for one in (connection.requests, connection.responses):
            self._tables.release(one.table)

    def read(self, parts: Parts) -> NDArray[np.int64]:
        """What each part says; 0 where it ends no block."""
        said = np.zeros(len(parts.lane), np.int64)
        rows = tx.marked(parts.flags & HTTP2_FIELDS)
        if (tables := tx.marked(parts.flags & HTTP2_TABLE)).size:
            rows = self._read_with_tables(parts, rows, tables, said)
        if len(rows):
            self._read_rows(parts, rows, said)
        return said

    def _read_with_tables(
        self, parts: Parts, rows: NDArray[np.intp], tables: NDArray[np.intp], said: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Read what was sent before a table was as it is told, and put that in place; the rows that are left."""
        for row in tables.tolist():
            connection, lane, number = int(parts.connection[row]), int(parts.lane[row]), int(parts.number[row])
            told = self._told.add((id(parts.connections[connection]), lane & 1, number), parts.fragment(row))
            if told is None:
                continue
            before = (parts.lane[rows] == lane) & (parts.number[rows] < number)
            if before.any():
                self._read_rows(parts, rows[before], said)
                rows = rows[~before]
            self._replace(_direction(parts, lane), number, told)
        return rows

    def _replace(self, direction: Direction, number: int, block: bytes) -> None:
        """The table is as this block makes it out of an empty one. What came after it was read already: too late."""
        if direction.next != number or direction.begun:
            return
        self._tables.release(direction.table)
        direction.table = HeaderTable()
        direction.state = int.from_bytes(blake2b(block, digest_size=8, key=_SECRET).digest(), "little")
        data = np.frombuffer(block + bytes(hpack_fields.SLACK), np.uint8)
        fields = hpack_fields.read(data, np.zeros(1, np.int64), np.array([len(block)]))
        blocks = hpack_tables.Blocks([direction.table], np.zeros(1, np.intp), np.zeros(1, np.bool_))
        self._tables.read(data, blocks, fields)

    def _read_rows(self, parts: Parts, rows: NDArray[np.intp], said: NDArray[np.int64]) -> None:
        """The same, of some parts."""
        words = tx.sliding(parts.data, len(parts.data) - 7)
        hashes = tx.hashes(words, parts.at[rows], parts.size[rows])
        order = np.argsort(parts.lane[rows].astype(np.uint16), kind="stable")  # of so few bits by counting them
        rows, hashes = rows[order], hashes[order]
        lane = parts.lane[rows]
        first = np.append(0, tx.marked(lane[1:] != lane[:-1]) + 1)
        count = np.append(first[1:], len(rows)) - first
        lanes = [_direction(parts, number) for number in lane[first].tolist()]
        state = np.array([one.state for one in lanes], np.uint64)
        # Where a block has begun and not ended no part is expected: such directions are not easy.
        expected = np.array([-1 if one.begun else one.next for one in lanes], np.int64)
        found = self._known.find(np.repeat(state, count) ^ hashes)
        flags, number = parts.flags[rows], parts.number[rows].astype(np.int64)
        simple = (found >= 0) & (flags & (_WHOLE | HTTP2_UPGRADED) == _WHOLE)
        simple &= number - (np.arange(len(rows)) - np.repeat(first, count)) == np.repeat(expected, count)
        said[rows] = np.where(simple, self._known.said(found), 0)
        easy = np.logical_and.reduceat(simple, first)
        for index in tx.marked(easy).tolist():
            lanes[index].next += int(count[index])
        if not easy.all():
            hard = ~np.repeat(easy, count)
            self._read(
                [one for one, is_easy in zip(lanes, easy.tolist(), strict=True) if not is_easy],
                parts,
                said,
                rows=rows[hard],
                hashes=hashes[hard],
                count=count[~easy],
            )

    def _read(
        self,
        lanes: list[Direction],
        parts: Parts,
        said: NDArray[np.int64],
        *,
        rows: NDArray[np.intp],
        hashes: NDArray[np.uint64],
        count: NDArray[np.intp],
    ) -> None:
        """Read the parts of some directions, `count` of each, block by block."""
        blocks = _blocks(lanes, parts, rows, hashes, count)
        fields = hpack_fields.read(blocks.data, blocks.at, blocks.size)
        read = self._tables.read(
            blocks.data, hpack_tables.Blocks([one.table for one in lanes], blocks.first, blocks.lost), fields
        )
        self._health.lose(Loss.PARSE_ERROR, int(np.count_nonzero(read.wrong)))
        state = _states(lanes, blocks, read, fields.wrong)

        whole = blocks.whole & ~fields.wrong
        of_stream = whole & (parts.stream[blocks.row] > 0)
        many = np.diff(np.append(blocks.first, len(blocks.at)))
        is_request = np.repeat(np.array([one.request for one in lanes]), many)
        requests, responses = tx.marked(is_request & of_stream), tx.marked(~is_request & whole)
        told = np.zeros(len(blocks.at), np.int64)
        if len(requests):
            told[requests] = self._requests.add(read, requests, self._tables.texts)
        if len(responses):
            told[responses] = read_responses(read, len(blocks.at))[responses]
        said[blocks.row[whole]] = told[whole]

        may_come_again = whole & (of_stream | ~is_request) & ~read.adds & ~read.wrong
        may_come_again[list(fields.resizes)] = False
        if may_come_again.any():
            self._remember((state ^ blocks.hash)[may_come_again], told[may_come_again], is_request[may_come_again])

    def _remember(self, keys: NDArray[np.uint64], said: NDArray[np.int64], is_request: NDArray[np.bool_]) -> None:
        """Of blocks, those that have come before, as far as there is room."""
        keys, first, times = np.unique(keys, return_index=True, return_counts=True)
        slot = (keys & np.uint64(MET - 1)).view(np.intp)
        again = tx.marked(((times > 1) | (self._met[slot] == keys)) & (self._known.find(keys) < 0))
        self._met[slot] = keys
        for row in again[: MAX_KNOWN - len(self._known)].tolist():
            told = int(said[first[row]])
            self._known.add(int(keys[row]), told)
            if is_request[first[row]] and told != NOTHING:
                self._requests.own[told] = False
                self._shared.append(told)


def _direction(parts: Parts, lane: int) -> Direction:
    connection = parts.connections[lane >> 1]
    return connection.requests if lane & 1 else connection.responses


def _blocks(
    lanes: list[Direction], parts: Parts, rows: NDArray[np.intp], hashes: NDArray[np.uint64], count: NDArray[np.intp]
) -> _Blocks:
    """Put together blocks from their parts; what is not finished is left to its direction."""
    at, size, number = parts.at[rows], parts.size[rows], parts.number[rows].astype(np.int64)
    flags = parts.flags[rows] & _WHOLE
    lane = np.repeat(np.arange(len(lanes)), count)
    more: list[bytes] = []  # of data
    room = len(parts.data)
    for row in tx.marked(parts.flags[rows] & HTTP2_UPGRADED).tolist():
        if lanes[lane[row]].request:
            more.append(_upgraded(parts.fragment(int(rows[row]))))
            at[row], size[row], flags[row], hashes[row] = room, len(more[-1]), _WHOLE, ~hashes[row]
            room += len(more[-1])
    begun = [(index, *direction.begun) for index, direction in enumerate(lanes) if direction.begun]
    if begun:
        where = np.searchsorted(lane, [index for index, *_ in begun])
        sizes = np.array([len(fragment) for _, fragment, *_ in begun])
        at = np.insert(at, where, room + np.cumsum(sizes) - sizes)
        size, rows = np.insert(size, where, sizes), np.insert(rows, where, -1)
        hashes = np.insert(hashes, where, np.array([value for _, _, value, _ in begun], np.uint64))
        number, flags = np.insert(number, where, [number for *_, number in begun]), np.insert(flags, where, 0)
        goes_on = np.unique(lane[where])
        lane = np.insert(lane, where, lane[where])
        flags[np.searchsorted(lane, goes_on)] = HTTP2_FIRST
        more += [fragment for _, fragment, *_ in begun]
    first_part = np.searchsorted(lane, np.arange(len(lanes)))
    last_part = np.append(first_part[1:], len(lane)) - 1

    expected = np.append(0, number[:-1] + 1)
    expected[first_part] = [one.begun[2] if one.begun else one.next for one in lanes]
    gap = number != expected
    begins, ends = flags & HTTP2_FIRST != 0, flags & HTTP2_LAST != 0
    start = begins | gap | np.append(True, ends[:-1])
    start[first_part] = True
    first = tx.marked(start)
    last = np.append(first[1:], len(start)) - 1
    total = np.add.reduceat(size, first)
    bounded = total <= MAX_BLOCK
    whole = begins[first] & ends[last] & bounded
    unfinished = begins[first] & ~ends[last] & bounded
    lost = gap[first] | ~begins[first] | ~bounded
    lost[1:] |= unfinished[:-1] & (lane[first[1:]] == lane[first[:-1]])

    data = np.concatenate([parts.data, np.frombuffer(b"".join(more), np.uint8)]) if more else parts.data
    joined = np.zeros(int(size.sum()) + hpack_fields.SLACK, np.uint8)
    said = tx.gather(data, at, size)
    joined[: len(said.data)] = said.data
    for one, newest in zip(lanes, number[last_part].tolist(), strict=True):
        one.next = newest + 1
        one.begun = None
    chained = tx.mix(hashes + (np.arange(len(hashes)) - np.repeat(first, last - first + 1)).astype(np.uint64) * _TURN)
    hashes = np.where(first == last, hashes[first], np.add.reduceat(chained, first))
    first_block = np.searchsorted(first, first_part)
    last_block, of_blocks = np.append(first_block[1:], len(first)) - 1, tx.Texts(said.data, said.at[first], total)
    for index in tx.marked(unfinished[last_block]).tolist():
        block = last_block[index]
        lanes[index].begun = of_blocks.text(block), int(hashes[block]), int(number[last_part[index]])
    return _Blocks(
        data=joined,
        at=of_blocks.at,
        size=np.where(whole, total, 0),
        whole=whole,
        hash=hashes,
        row=rows[last],
        first=first_block,
        lost=lost,
    )


def _states(lanes: list[Direction], blocks: _Blocks, read: Read, wrong: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The state of the table before each block; what it is then is noted."""
    bounds = np.append(blocks.first, len(blocks.at))
    # A sum, of which each summand depends on its place.
    turn = tx.mix(blocks.hash + read.before.astype(np.uint64) * _TURN)
    sums = np.append(np.uint64(0), np.cumsum(np.where(read.adds, turn, np.uint64(0))))
    owner = np.repeat(np.arange(len(lanes)), np.diff(bounds))
    state = np.array([one.state for one in lanes], np.uint64)[owner]
    origin = sums[bounds[:-1]][owner]
    for block in tx.marked(blocks.lost | wrong).tolist():
        rest = slice(block, bounds[owner[block] + 1])
        state[rest], origin[rest] = _FIRST_STATES[0][lanes[owner[block]].request], sums[block]
    state -= origin
    last = bounds[1:] - 1
    for one, after in zip(lanes, (state[last] + sums[bounds[1:]]).tolist(), strict=True):
        one.state = after
    state += sums[:-1]
    return state


def _upgraded(head: bytes) -> bytes:
    """The beginning of an HTTP/1 request that asked for HTTP/2, as the block it would be there (RFC 7540, 3.2)."""
    line, *rest = head.split(b"\r\n")
    method, _, target = line.partition(b" ")
    if not rest:  # the line is not whole
        return _literal(b":method", method) + _NO_ENTRY
    fields = [(b":method", method), (b":path", target.partition(b" ")[0])]
    named = (one.partition(b":") for one in rest[:-1])  # the last may not be whole
    fields += [(name.lower(), value.strip()) for name, colon, value in named if colon]
    return b"".join(_literal(name, value) for name, value in fields)


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that is no entry."""
    return b"\0" + b"".join(bytes(encode_integer(len(one), 7)) + one for one in (name, value))


_NO_ENTRY = b"\xff" + b"\xff" * 3 + b"\x7f"  # a field that no table holds


assert HTTP2_REQUEST == 1  # a lane is 2 * connection + this flag
