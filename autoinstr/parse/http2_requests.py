"""What header blocks of HTTP/2 say of a request and of its response, once decoded (RFC 9113, 8.3).

In: fields. Out: of a request a row in `RequestTable`, and its number; of a response's block a few bits. A row stays
until it is released: rows of blocks that come again and again are shared, others are the stream's own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse import traceparent
from autoinstr.parse.hosts import MAX_AUTHORITY, Hosts
from autoinstr.parse.hpack_tables import Field
from autoinstr.parse.methods import Methods
from autoinstr.parse.texts import Texts

MAX_TARGET = 256  # bytes of :path that are kept, query included; as much as of an HTTP/1 request
MAX_REMEMBERED = 4096  # methods, and authorities, whose number is at hand; beyond it they are looked up each time

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
_pack_request = struct.Struct(f"<{MAX_TARGET}s{traceparent.ROOM}sHHiiBBxx").pack
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

NOTHING = 0  # number of the row of requests of which nothing is known

# What a response's block says: its status in the lowest bits, then
STATUS_BITS = 10
GRPC_STATUS = 1 << 10  # times grpc-status + 1
GRPC_STATUS_MASK = 0xFF
GRPC_TYPE = 1 << 18  # content-type is one of gRPC's
FINAL = 1 << 19  # it is none of an interim response
LENGTH = 1 << 20  # times content-length + 1; the highest bits
MAX_LENGTH_DIGITS = 12

_GRPC_TYPE = re.compile(rb"application/grpc(?:$|[+; ])")  # and not application/grpc-web


def is_grpc(content_type: bytes) -> bool:
    """application/grpc, application/grpc+proto ...; not application/grpc-web, which is HTTP's own."""
    return _GRPC_TYPE.match(content_type) is not None


def read_response(fields: Sequence[Field]) -> int:
    """What one block of a response says, its trailers included; 0 for interim responses."""
    found = FINAL
    for name, value in fields:
        match name:
            case b":status" if len(value) == 3 and value.isdigit():
                if value < b"200":
                    return 0
                found = found & ~((1 << STATUS_BITS) - 1) | int(value)
            case b"grpc-status" if value.isdigit() and len(value) <= 3 and int(value) < GRPC_STATUS_MASK:
                found = found & ~(GRPC_STATUS_MASK * GRPC_STATUS) | (int(value) + 1) * GRPC_STATUS
            case b"content-type" if is_grpc(value):
                found |= GRPC_TYPE
            case b"content-length" if value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
                found = found & (LENGTH - 1) | (int(value) + 1) * LENGTH
    return found


class RequestTable:
    """Rows of requests: those whose blocks are remembered, and those of open streams; its user bounds both."""

    def __init__(self, methods: Methods, hosts: Hosts) -> None:
        self.methods = methods
        self.hosts = hosts
        self._method_of: dict[bytes, int] = {}
        self._host_of: dict[bytes, int] = {b"": 0}
        self.rows = np.zeros(256, REQUEST)
        self.own = np.zeros(256, np.bool_)  # by row: it belongs to one stream
        self._bytes = self.rows.view(np.uint8).data
        self._free = list(range(255, NOTHING, -1))
        self._write(NOTHING, _pack_request(b"", b"", 0, 0, 0, 0, 0, UNKNOWN_SCHEME))

    def add(self, fields: Sequence[Field], *, own: bool) -> int:
        """The number of a new row; NOTHING for trailers. `own`: no other stream will refer to it."""
        values = dict(reversed(fields))  # of several the first
        unknown = b"" in values
        method, path = values.get(b":method"), values.get(b":path")
        if not (unknown or method or path):
            return NOTHING
        target = (path or b"").partition(b"#")[0]
        marks = PATH_KNOWN if path or not unknown else 0
        marks |= METHOD_KNOWN if method else 0
        content_type = values.get(b"content-type")
        if content_type is not None or not unknown:
            marks |= TYPE_KNOWN | (GRPC if is_grpc(content_type or b"") else 0)
        parent = values.get(b"traceparent", b"")
        if len(parent) >= traceparent.SIZE:
            marks |= PARENT
        kept = target[:MAX_TARGET]
        path_size = kept.find(b"?")
        if path_size < 0:
            path_size = len(kept)
            marks |= PATH_CUT if len(target) > MAX_TARGET else 0
        row = self._take(own)
        authority = values.get(b":authority") or values.get(b"host", b"")
        self._write(
            row,
            _pack_request(
                kept,
                parent[: traceparent.ROOM],
                path_size,
                len(kept),
                self._method(method or b""),
                self._host(authority),
                marks,
                _SCHEMES.get(values.get(b":scheme", b""), UNKNOWN_SCHEME),
            ),
        )
        return row

    def copy(self, row: int) -> int:
        """A row like it, of a stream's own."""
        number = self._take(True)
        self.rows[number] = self.rows[row]
        return number

    def release(self, rows: NDArray[np.intp] | list[int]) -> None:
        """These rows are not referred to any more; NOTHING is none."""
        self._free += [row for row in rows if row != NOTHING]

    def texts(self, row: NDArray[np.intp], size: NDArray[np.int64]) -> Texts:
        """The beginnings of the targets of some rows, in place."""
        return Texts(self.rows.view(np.uint8), row * _WIDTH, size)

    def traceparents(self, row: NDArray[np.intp]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Bytes, and where in them the traceparents of some rows lie."""
        return self.rows.view(np.uint8), row * _WIDTH + MAX_TARGET

    def _take(self, own: bool) -> int:
        if not self._free:
            count = len(self.rows)
            self._bytes.release()
            self.rows = np.concatenate([self.rows, np.zeros(count, REQUEST)])
            self.own = np.concatenate([self.own, np.zeros(count, np.bool_)])
            self._bytes = self.rows.view(np.uint8).data
            self._free = list(range(2 * count - 1, count - 1, -1))
        row = self._free.pop()
        self.own[row] = own
        return row

    def _write(self, row: int, data: bytes) -> None:
        self._bytes[row * _WIDTH : (row + 1) * _WIDTH] = data

    def _method(self, method: bytes) -> int:
        number = self._method_of.get(method)
        if number is None:
            number = self.methods.number(method)
            if len(self._method_of) < MAX_REMEMBERED:
                self._method_of[method] = number
        return number

    def _host(self, authority: bytes) -> int:
        number = self._host_of.get(authority)
        if number is None:
            number = self._look_up_host(authority)
            if len(self._host_of) < MAX_REMEMBERED:
                self._host_of[authority] = number
        return number

    def _look_up_host(self, authority: bytes) -> int:
        if len(authority) > MAX_AUTHORITY:
            return 0
        data = np.zeros(MAX_AUTHORITY + 8, np.uint8)
        data[: len(authority)] = np.frombuffer(authority, np.uint8)
        return int(self.hosts.find(Texts(data, np.zeros(1, np.int64), np.array([len(authority)])))[0])
