"""Streams of HTTP/2: the parts of many, in any order among them, become one row for each that has ended.

In: exchanges that are parts. Out: for each that ends a stream what its blocks said. What is known of open streams is
kept here, and dropped where it becomes too much: whose end was lost in a full ring is told by the kernel's sums.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import (
    HEAD_SIZE,
    HTTP2_ENDED,
    HTTP2_FIRST,
    HTTP2_FRAGMENT,
    HTTP2_JOINED,
    HTTP2_PART,
    HTTP2_PROMISE,
    HTTP2_REQUEST,
    HTTP2_TABLE_OLD,
)
from autoinstr.health import Health
from autoinstr.parse import texts as tx
from autoinstr.parse.base import Batch
from autoinstr.parse.http2_blocks import Blocks, Connection, Connections, Parts
from autoinstr.parse.http2_requests import (
    FINAL,
    GRPC_STATUS,
    GRPC_STATUS_MASK,
    GRPC_TYPE,
    LENGTH,
    NOTHING,
    PARENT,
    STATUS_BITS,
    RequestTable,
)

# Open streams that are kept of one connection, the newest, and of all together: about 500 bytes each. Of those beyond
# it the request is not known when they end.
MAX_STREAMS = 1024
MAX_OPEN = 32768

_FRAGMENT_AT = HTTP2_PART.fields["fragment"][1]  # type: ignore[index]


@dataclass(slots=True)
class Ended:
    """n streams that are over."""

    rows: NDArray[np.intp]  # which of the exchanges tells it, ascending
    flags: NDArray[np.uint16]  # HTTP2_*
    request: NDArray[np.intp]  # number in the RequestTable, until `Streams.settle`
    status: NDArray[np.uint16]  # :status; 0: none, or not known
    grpc: NDArray[np.int64]  # grpc-status + 1; 0: none, or not known
    blocks: NDArray[np.int64]  # header blocks of the response; trailers are the second
    grpc_type: NDArray[np.bool_]  # content-type of the response is one of gRPC's
    length: NDArray[np.int64]  # content-length of the response + 1; 0: none, or not known

    def take(self, rows: NDArray[np.intp]) -> Ended:
        """Some of them."""
        return Ended(*(getattr(self, column.name)[rows] for column in fields(self)))


# Of an open stream: the same, from `request` on, as far as it is known.
Open = tuple[int, int, int, int, bool, int]


class Streams:
    """Joins parts."""

    def __init__(self, requests: RequestTable, health: Health) -> None:
        self._requests = requests
        self._blocks = Blocks(requests, health)
        self._connections = Connections()
        self._open = 0
        # of the last batch: parts with which requests began that brought trace context, and their rows in `requests`
        self.brought = (np.empty(0, np.intp), np.empty(0, np.int64))
        self._over: list[int] = []  # rows of requests to release
        self._buffer = np.empty(0, np.uint8)  # for parts: a fresh one for each batch would cost page faults

    def join(self, batch: Batch) -> Ended:
        """What has ended with these exchanges, in their order."""
        if self._blocks.is_full:
            self._forget_blocks()
        parts = self._parts(batch)
        said = self._blocks.read(parts)
        said[(parts.flags & HTTP2_PROMISE != 0) | (parts.stream == 0)] = NOTHING
        self._note_brought(parts, said)
        order, starts = _by_stream(parts)
        stream = np.empty(len(batch), np.int64)  # of each part: index of its stream
        stream[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
        said, is_request = said[order], parts.flags[order] & HTTP2_REQUEST != 0
        request = self._first_request(said, is_request, stream[order], len(starts))
        answer = np.where(is_request, 0, said)
        blocks = np.where(parts.flags[order] & HTTP2_JOINED, 2, 1) * (answer & FINAL != 0)
        ended = Ended(
            rows=tx.marked(parts.flags & HTTP2_ENDED),
            flags=parts.flags,
            request=request,
            status=np.maximum.reduceat(answer & ((1 << STATUS_BITS) - 1), starts).astype(np.uint16),
            grpc=np.maximum.reduceat(answer // GRPC_STATUS & GRPC_STATUS_MASK, starts),
            blocks=np.add.reduceat(blocks, starts, dtype=np.int64),
            grpc_type=np.logical_or.reduceat(answer & GRPC_TYPE != 0, starts),
            length=np.maximum.reduceat(answer // LENGTH, starts),
        )
        self._carry(ended, parts, order[starts], stream[ended.rows])
        stream = stream[ended.rows]
        return Ended(
            ended.rows,
            parts.flags[ended.rows],
            ended.request[stream],
            ended.status[stream],
            ended.grpc[stream],
            ended.blocks[stream],
            ended.grpc_type[stream],
            ended.length[stream],
        )

    def _note_brought(self, parts: Parts, said: NDArray[np.int64]) -> None:
        whole = HTTP2_REQUEST | HTTP2_FIRST
        rows = tx.marked((parts.flags & whole == whole) & (said != NOTHING))
        rows = rows[self._requests.rows["marks"][said[rows]] & PARENT != 0]
        self.brought = rows, said[rows]

    def settle(self) -> None:
        """What was told is not needed any more."""
        self._requests.release(self._over)
        self._over = []
        for one in self._connections.surplus():
            self._drop_streams(one)
            self._blocks.drop(one)
        if self._open > MAX_OPEN:
            for one in self._connections:
                self._drop_streams(one)
                if self._open <= MAX_OPEN:
                    break

    def _parts(self, batch: Batch) -> Parts:
        wanted = (len(batch) + 1) * HEAD_SIZE
        if len(self._buffer) < wanted:
            self._buffer = np.zeros(wanted, np.uint8)
        data = self._buffer[:wanted]
        heads = data[:-HEAD_SIZE].reshape(len(batch), HEAD_SIZE)
        heads[:] = batch["head"]
        parts = heads.view(HTTP2_PART)[:, 0]
        flags = parts["flags"].copy()
        ids, first, connection = np.unique(parts["id"], return_index=True, return_inverse=True)
        old = flags[first] & HTTP2_TABLE_OLD != 0
        return Parts(
            connections=[
                self._connections.get(number, old=is_old)
                for number, is_old in zip(ids.tolist(), old.tolist(), strict=True)
            ],
            connection=connection,
            lane=2 * connection + (flags & HTTP2_REQUEST),
            number=parts["number"].copy(),
            flags=flags,
            stream=parts["stream"].copy(),
            size=np.minimum(parts["size"], HTTP2_FRAGMENT).astype(np.int64),
            data=data,
            at=np.arange(len(batch)) * HEAD_SIZE + _FRAGMENT_AT,
        )

    def _first_request(
        self, said: NDArray[np.int64], is_request: NDArray[np.bool_], stream: NDArray[np.int64], count: int
    ) -> NDArray[np.intp]:
        """The request of each of `count` streams: what a later block says of one is of no use."""
        request = np.zeros(count, np.intp)
        rows = tx.marked(is_request & (said != NOTHING))
        request[stream[rows[::-1]]] = said[rows[::-1]]
        unused = said[rows]
        unused = unused[unused != request[stream[rows]]]
        self._end_with(unused)
        return request

    def _carry(self, found: Ended, parts: Parts, example: NDArray[np.intp], over: NDArray[np.int64]) -> None:
        """Add what earlier batches knew of these streams; keep what is known of those that go on."""
        goes_on = np.ones(len(example), np.bool_)
        goes_on[over] = False
        for index in self._open_before(parts, example):
            before = parts.connections[parts.connection[example[index]]].streams.pop(int(parts.stream[example[index]]))
            self._open -= 1
            self._add(found, index, before)
        goes_on &= (found.request != NOTHING) | (found.blocks > 0)
        self._end_with(found.request[~goes_on])
        for index in tx.marked(goes_on).tolist():
            known = parts.connections[parts.connection[example[index]]].streams
            known[int(parts.stream[example[index]])] = (
                int(found.request[index]),
                int(found.status[index]),
                int(found.grpc[index]),
                int(found.blocks[index]),
                bool(found.grpc_type[index]),
                int(found.length[index]),
            )
            self._open += 1
            if len(known) > MAX_STREAMS:
                self._drop(known.pop(next(iter(known))))

    def _open_before(self, parts: Parts, example: NDArray[np.intp]) -> list[int]:
        """Which of these streams, ascending as `_by_stream` has them, were open before this batch."""
        streams = [one.streams for one in parts.connections]
        connection, number = parts.connection[example], parts.stream[example]
        if sum(map(len, streams)) > len(example):
            pairs = zip(connection.tolist(), number.tolist(), strict=True)
            return [index for index, (at, stream) in enumerate(pairs) if stream in streams[at]]
        keys = _keys(connection, number)
        before = np.array([at << 32 | stream for at, of in enumerate(streams) for stream in of], np.int64)
        place = np.searchsorted(keys, before)
        place[place == len(keys)] = 0
        found: list[int] = place[keys[place] == before].tolist()
        return found

    def _add(self, found: Ended, index: int, before: Open) -> None:
        request, status, grpc, blocks, grpc_type, length = before
        if request != NOTHING:
            if found.request[index] not in {NOTHING, request}:
                self._end_with(found.request[index : index + 1])
            found.request[index] = request
        found.status[index] = max(int(found.status[index]), status)
        found.grpc[index] = max(int(found.grpc[index]), grpc)
        found.blocks[index] += blocks
        found.grpc_type[index] |= grpc_type
        found.length[index] = max(int(found.length[index]), length)

    def _end_with(self, requests: NDArray[np.intp] | NDArray[np.int64]) -> None:
        """Streams' own rows are released when all of the batch is told."""
        self._over += requests[self._requests.own[requests]].tolist()

    def _drop(self, one: Open) -> None:
        self._open -= 1
        if self._requests.own[one[0]]:
            self._over.append(one[0])

    def _drop_streams(self, connection: Connection) -> None:
        for one in connection.streams.values():
            self._drop(one)
        connection.streams.clear()

    def _forget_blocks(self) -> None:
        """Open streams get their own copies of what they shared."""
        shared = self._blocks.forget()
        for connection in self._connections:
            for stream, (request, *rest) in connection.streams.items():
                if request != NOTHING and not self._requests.own[request]:
                    connection.streams[stream] = (self._requests.copy(request), *rest)
        self._requests.release(shared)


def _keys(connection: NDArray[np.int64], stream: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The same for parts of the same stream."""
    return connection.astype(np.int64) << 32 | stream


def _by_stream(parts: Parts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order that brings parts of a stream together, each's own kept; where in it each stream begins."""
    key = _keys(parts.connection, parts.stream)
    order = np.argsort(key, kind="stable")
    key = key[order]
    return order, np.append(0, tx.marked(key[1:] != key[:-1]) + 1)
