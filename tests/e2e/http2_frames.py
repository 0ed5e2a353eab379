"""HTTP/2 by hand: frames as bytes, and header blocks of both directions of a connection, each with its own HPACK table.

In: what a side wants to say. Out: bytes, to be sent in any pieces, but in the order in which they were made.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
# RFC 9113, section 7
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0, 1, 2, 7, 8, 9
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
ENABLE_CONNECT_PROTOCOL = 8  # RFC 8441
FRAME_SIZE = 16384

Fields = Sequence[tuple[str, str]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def padded(payload: bytes, pad: int | None) -> bytes:
    return payload if pad is None else bytes((pad,)) + payload + bytes(pad)


def data(stream: int, payload: bytes = b"", *, end: bool = True, pad: int | None = None) -> bytes:
    """As many frames as it takes; each of them padded."""
    room = FRAME_SIZE - (0 if pad is None else pad + 1)
    parts = [payload[at : at + room] for at in range(0, len(payload), room)] or [b""]
    flags = 0 if pad is None else PADDED
    frames = [frame(DATA, flags, stream, padded(part, pad)) for part in parts[:-1]]
    return b"".join([*frames, frame(DATA, flags | (END_STREAM if end else 0), stream, padded(parts[-1], pad))])


def headers(
    stream: int,
    block: bytes,
    *,
    end: bool = False,
    pad: int | None = None,
    priority: bool = False,
    pieces: Collection[int] = (),
) -> bytes:
    """HEADERS with a header block; what is beyond each size in `pieces`, or of a frame, goes into CONTINUATION."""
    parts, at = [], 0
    for size in pieces:
        parts.append(block[at : at + size])
        at += size
    most = FRAME_SIZE - 300  # with padding and priority
    parts += [block[n : n + most] for n in range(at, len(block), most)] or [b""]
    first = (struct.pack(">IB", 0, 15) if priority else b"") + parts[0]
    flags = (END_STREAM if end else 0) | (0 if pad is None else PADDED) | (WITH_PRIORITY if priority else 0)
    frames = [[HEADERS, flags, stream, padded(first, pad)], *([CONTINUATION, 0, stream, part] for part in parts[1:])]
    frames[-1][1] |= END_HEADERS
    return b"".join(frame(*one) for one in frames)


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *value) for value in values))


SETTINGS_ACK = frame(SETTINGS, ACK)


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last: int, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def ping(answer: bool = False, content: bytes = b"autoinst") -> bytes:
    return frame(PING, ACK if answer else 0, 0, content)


def priority(stream: int, weight: int = 7) -> bytes:
    return frame(PRIORITY, 0, stream, struct.pack(">IB", 0, weight))


def message(content: bytes, compressed: bool = False) -> bytes:
    """A message of gRPC."""
    return struct.pack(">?I", compressed, len(content)) + content


class Tables:
    """The encoders of one connection."""

    def __init__(self, *, huffman: bool = True) -> None:
        self.client, self.server = hpack.Encoder(), hpack.Encoder()
        self._huffman = huffman

    def request(self, path: str, method: str, authority: str, fields: Fields = (), scheme: str = "http") -> bytes:
        own = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
        return self.client.encode([*own, *fields], huffman=self._huffman)

    def response(self, status: int, fields: Fields = ()) -> bytes:
        return self.server.encode([(":status", str(status)), *fields], huffman=self._huffman)

    def trailers(self, fields: Fields, *, of_client: bool = False) -> bytes:
        return (self.client if of_client else self.server).encode(fields, huffman=self._huffman)
