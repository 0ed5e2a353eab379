"""Makes the records of HTTP/2 connections for tests of the parse stage: header blocks by `hpack`'s own encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from hpack import Encoder
from numpy.typing import NDArray

from autoinstr.capture.abi import (
    HTTP2_ENDED,
    HTTP2_ENTRY,
    HTTP2_FIELDS,
    HTTP2_FIRST,
    HTTP2_FRAGMENT,
    HTTP2_LAST,
    HTTP2_PART,
    HTTP2_REQUEST,
    HTTP2_TABLE,
    HTTP2_TABLE_OLD,
    Protocol,
    Role,
)

from .exchanges import exchange

Fields = list[tuple[str, str]]
Record = NDArray[Any]  # an array of one EXCHANGE
GRPC: Fields = [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-go/1.71.0")]
OK: Fields = [(":status", "200"), ("content-type", "application/grpc")]


def part(**values: Any) -> bytes:
    """The head of an exchange."""
    made = np.zeros(1, HTTP2_PART)
    fragment = values.pop("fragment", b"")
    made["fragment"][0, : len(fragment)] = np.frombuffer(fragment, np.uint8)
    made["size"] = len(fragment)
    for name, value in values.items():
        made[name] = value
    return made.tobytes()


class Peer:
    """One connection; what it returns are records, in order."""

    def __init__(self, number: int, *, old: bool = False, role: Role = Role.SERVER, **columns: Any) -> None:
        self.id = number
        self.encoders = {True: Encoder(), False: Encoder()}
        self.numbers = {True: 0, False: 0}
        self.flags = HTTP2_TABLE_OLD if old else 0
        self.columns = {"role": role, "protocol": Protocol.HTTP2, "connection": number} | columns

    def record(self, stream: int, flags: int = 0, fragment: bytes = b"", number: int = 0, **columns: Any) -> Record:
        frames = {name: columns.pop(name) for name in ("request_frames", "response_frames") if name in columns}
        head = part(id=self.id, stream=stream, number=number, flags=flags | self.flags, fragment=fragment, **frames)
        status = {} if flags & HTTP2_ENDED else {"request_end": 0, "response_start": 0, "response_end": 0}
        return exchange(head, **{"status": 0} | status | self.columns | columns)

    def raw(
        self, request: bool, stream: int, block: bytes, *, flags: int = 0, size: int = HTTP2_FRAGMENT, **columns: Any
    ) -> list[Record]:
        """A block in parts of `size` bytes; `flags` beside those that every part has go on the last one."""
        cuts = list(range(0, len(block), size)) or [0]
        made = []
        for at in cuts:
            now = HTTP2_FIELDS | (HTTP2_REQUEST if request else 0)
            now |= HTTP2_FIRST if at == 0 else 0
            now |= HTTP2_LAST | flags if at == cuts[-1] else 0
            made.append(self.record(stream, now, block[at : at + size], self.numbers[request], **columns))
            self.numbers[request] += 1
        return made

    def block(self, request: bool, stream: int, fields: Fields, **options: Any) -> list[Record]:
        return self.raw(request, stream, self.encoders[request].encode(fields), **options)

    def request(self, stream: int, fields: Fields, **options: Any) -> list[Record]:
        return self.block(True, stream, fields, **options)

    def response(self, stream: int, fields: Fields, **options: Any) -> list[Record]:
        return self.block(False, stream, fields, **options)

    def table(self, request: bool) -> list[Record]:
        """What its table holds now, as a library would tell it."""
        entries = [*self.encoders[request].header_table.dynamic_entries]
        made = []
        for left, (name, value) in enumerate(entries):
            entry = np.zeros(1, HTTP2_ENTRY)
            entry["left"], entry["of"] = left, len(entries)
            if len(name) <= entry["name"].shape[1] and len(value) <= entry["value"].shape[1]:
                for text, column in ((name, "name"), (value, "value")):
                    entry[f"{column}_size"] = len(text)
                    entry[column][0, : len(text)] = np.frombuffer(text, np.uint8)
            made.append(self.record(0, HTTP2_TABLE | HTTP2_REQUEST * request, entry.tobytes(), self.numbers[request]))
        return made[::-1]

    def end(self, stream: int, flags: int = 0, **columns: Any) -> list[Record]:
        """The stream ends with something that is no header block."""
        return [self.record(stream, HTTP2_ENDED | flags, **columns)]

    def get(self, stream: int, path: str, status: int = 200, **columns: Any) -> list[Record]:
        """A request and its response."""
        return [
            *self.request(stream, [*head("GET", path), ("user-agent", "x")]),
            *self.response(stream, [(":status", str(status)), ("server", "y")]),
            *self.end(stream, **columns),
        ]

    def call(
        self, stream: int, path: str, status: str = "0", more: Fields | None = None, flags: int = 0
    ) -> list[Record]:
        """A unary RPC."""
        return [
            *self.request(stream, [*head("POST", path), *GRPC, *(more or [])]),
            *self.response(stream, OK),
            *self.response(stream, [("grpc-status", status), ("grpc-message", "")], flags=HTTP2_ENDED | flags),
        ]


def head(method: str, path: str, scheme: str = "http", authority: str = "shop.example:50051") -> Fields:
    return [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
