"""What header blocks of HTTP/2 say of a request and of its response, once decoded (RFC 9113, 8.3).

In: fields of many blocks. Out: of a request a row in `RequestTable`, and its number; of a response's block a few bits.
A row stays until it is released: rows of blocks that come again and again are shared, others are the stream's own.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse import hpack_tables as h
from autoinstr.parse import texts as tx
from autoinstr.parse import traceparent
from autoinstr.parse.hosts import MAX_AUTHORITY, Hosts
from autoinstr.parse.hpack_tables import Read, texts_of
from autoinstr.parse.methods import Methods
from autoinstr.parse.texts import Texts

MAX_TARGET = 256  # bytes of :path that are kept, query included; as much as of an HTTP/1 request

REQUEST = np.dtype(
    [
        ("target", "u1", MAX_TARGET),
        ("traceparent", "u1", traceparent.ROOM),
        ("path_size", "<u2"),  # of the target: before the question mark
        ("target_size", "<u2"),
        ("method", "<i4"),  # number in Methods
        ("host", "<i4"),  # number in Hosts
        ("marks", "u1"),
        ("scheme", "u1"),  # index into SCHEMES, or UNKNOWN_SCHEME
        ("unused", "<u2"),
    ]
)
_WIDTH = REQUEST.itemsize

# marks
PATH_KNOWN = 1
PATH_CUT = 2
TYPE_KNOWN = 4  # whether it is gRPC is known
GRPC = 8
METHOD_KNOWN = 16
PARENT = 32  # a traceparent came

UNKNOWN_SCHEME = 255
_SCHEMES = {b"http": 0, b"https": 1}

_EMPTY = -2  # in place of the number of a host
# By name: the value of a field that is not there.
_DEFAULTS = np.zeros(len(h.NAMES) + 1, np.int64)
_DEFAULTS[[h.AUTHORITY, h.HOST, h.CONTENT_TYPE, h.SCHEME]] = _EMPTY, _EMPTY, -1, UNKNOWN_SCHEME
NOTHING = 0  # number of the row of requests of which nothing is known

# What a response's block says: its status in the lowest bits, then
STATUS_BITS = 10
GRPC_STATUS = 1 << 10  # times grpc-status + 1
GRPC_STATUS_MASK = 0xFF
GRPC_TYPE = 1 << 18  # content-type is one of gRPC's
FINAL = 1 << 19  # it is none of an interim response
LENGTH = 1 << 20  # times content-length + 1; the highest bits
MAX_LENGTH_DIGITS = 12
_FINAL_FROM = 200

_GRPC_TYPE = re.compile(rb"application/grpc(?:$|[+; ])")  # and not application/grpc-web


def is_grpc(content_type: bytes) -> bool:
    """application/grpc, application/grpc+proto ...; not application/grpc-web, which is HTTP's own."""
    return _GRPC_TYPE.match(content_type) is not None


def read_responses(read: Read, count: int) -> NDArray[np.int64]:
    """What each of `count` blocks of responses says, trailers included; 0 for interim responses."""

    def last(name: int) -> NDArray[np.int64]:
        column = np.zeros(count, np.int64)
        rows = tx.marked((read.name == name) & (read.value > 0))
        column[read.block[rows]] = read.value[rows]
        return column

    said = FINAL | last(h.STATUS) | last(h.GRPC_STATUS) * GRPC_STATUS | last(h.CONTENT_LENGTH) * LENGTH
    said[read.block[(read.name == h.CONTENT_TYPE) & (read.value > 0)]] |= GRPC_TYPE
    said[read.block[(read.name == h.STATUS) & (read.value > 0) & (read.value < _FINAL_FROM)]] = 0
    return said


class RequestTable:
    """Rows of requests: those whose blocks are remembered, and those of open streams; its user bounds both."""

    def __init__(self, methods: Methods, hosts: Hosts) -> None:
        self.methods = methods
        self.hosts = hosts
        self.rows = np.zeros(256, REQUEST)
        self.own = np.zeros(256, np.bool_)  # by row: it belongs to one stream
        self._free = list(range(255, NOTHING, -1))
        self.rows["scheme"][NOTHING] = UNKNOWN_SCHEME

    def meaning(self, name: int, value: bytes) -> int:
        """What a value says, of a field that is one of `hpack_tables.NAMES`."""
        said = 0
        match name:
            case h.METHOD if value:
                said = self.methods.number(value) + 1
            case h.SCHEME:
                said = _SCHEMES.get(value, UNKNOWN_SCHEME)
            case h.AUTHORITY | h.HOST:
                said = self._host(value) if value else _EMPTY
            case h.STATUS if len(value) == 3 and value.isdigit():
                said = int(value)
            case h.GRPC_STATUS if value.isdigit() and len(value) <= 3 and int(value) < GRPC_STATUS_MASK:
                said = int(value) + 1
            case h.CONTENT_TYPE:
                said = is_grpc(value)
            case h.CONTENT_LENGTH if value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
                said = int(value) + 1
        return said

    def add(self, read: Read, blocks: NDArray[np.intp], texts: NDArray[np.uint8]) -> NDArray[np.intp]:
        """The numbers of new rows for some blocks, each one's own; NOTHING for trailers. `texts`: those of values."""

        first = np.empty((len(read.unknown), len(_DEFAULTS)), np.int64)
        first[:] = _DEFAULTS
        known = tx.marked(read.name < len(_DEFAULTS))[::-1]
        first[read.block[known], read.name[known]] = read.value[known]
        values = first[blocks].T
        path, unknown, method = values[h.PATH], read.unknown[blocks], values[h.METHOD]
        target = texts_of(texts, path)
        told = tx.marked(unknown | (method > 0) | (target.size > 0))
        number = np.full(len(blocks), NOTHING)
        if not len(told):
            return number
        number[told] = rows = np.array(self._take(len(told)))
        unknown, authority, kind = unknown[told], values[h.AUTHORITY, told], values[h.CONTENT_TYPE, told]
        target, _ = tx.cut_before(tx.gather(texts, target.at[told], target.size[told]), ord("#"))
        cut = target.size > MAX_TARGET
        if cut.any():
            target = tx.gather(target.data, target.at, np.minimum(target.size, MAX_TARGET))
        paths, queried = tx.cut_before(target, ord("?"))
        cut[queried] = False
        host = np.where(authority == _EMPTY, values[h.HOST, told], authority)
        parent = texts_of(texts, values[h.TRACEPARENT, told])
        parented = tx.marked(parent.size >= traceparent.SIZE)
        marks = cut * PATH_CUT | (method[told] > 0) * METHOD_KNOWN | (kind > 0) * GRPC
        marks |= ((target.size > 0) | ~unknown) * PATH_KNOWN | ((kind >= 0) | ~unknown) * TYPE_KNOWN
        marks[parented] |= PARENT
        table = self.rows
        table["path_size"][rows], table["target_size"][rows] = paths.size, target.size
        table["method"][rows], table["host"][rows] = np.maximum(method[told] - 1, 0), np.where(host == _EMPTY, 0, host)
        table["marks"][rows], table["scheme"][rows] = marks, values[h.SCHEME, told]
        self._write(rows * _WIDTH, target)
        if len(parented):
            table["traceparent"][rows[parented]] = 0
            size = np.minimum(parent.size[parented], traceparent.ROOM)
            self._write(rows[parented] * _WIDTH + MAX_TARGET, tx.gather(texts, parent.at[parented], size))
        return number

    def copy(self, row: int) -> int:
        """A row like it, of a stream's own."""
        (number,) = self._take(1)
        self.rows[number] = self.rows[row]
        return number

    def release(self, rows: list[int]) -> None:
        """These rows, of which NOTHING is none, are not referred to any more."""
        self._free += rows

    def texts(self, row: NDArray[np.intp], size: NDArray[np.int64]) -> Texts:
        """The beginnings of the targets of some rows, in place."""
        return Texts(self.rows.view(np.uint8), row * _WIDTH, size)

    def traceparents(self, row: NDArray[np.intp]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Bytes, and where in them the traceparents of some rows lie."""
        return self.rows.view(np.uint8), row * _WIDTH + MAX_TARGET

    def _take(self, many: int) -> list[int]:
        while len(self._free) < many:
            count = len(self.rows)
            self.rows = np.concatenate([self.rows, np.zeros(count, REQUEST)])
            self.own = np.concatenate([self.own, np.zeros(count, np.bool_)])
            self._free = [*range(2 * count - 1, count - 1, -1), *self._free]
        rows = self._free[-many:]
        del self._free[-many:]
        self.own[rows] = True
        return rows

    def _write(self, place: NDArray[np.int64], texts: Texts) -> None:
        """Put texts, which lie end to end, to places in the rows."""
        index = np.repeat(place - texts.at, texts.size)
        index += tx.numbers(len(index))
        self.rows.view(np.uint8)[index] = texts.data

    def _host(self, authority: bytes) -> int:
        if len(authority) > MAX_AUTHORITY:
            return 0
        data = np.zeros(MAX_AUTHORITY + 8, np.uint8)
        data[: len(authority)] = np.frombuffer(authority, np.uint8)
        return int(self.hosts.find(Texts(data, np.zeros(1, np.int64), np.array([len(authority)])))[0])
