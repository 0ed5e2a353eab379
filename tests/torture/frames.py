"""HTTP/2 of odd shapes over TCP, each byte held against what arrives, and what it says by a decoder of its own.

Usage: frames.py REQUESTS SEED

Several processes, each with a client that writes raw frames and a server that reads them. The server knows what was
written. All that may come in addition is a field `traceparent`, once, at the end of the one HEADERS frame of a request
that may have it; everything else is equal byte by byte, and header blocks, decoded one after another (hpack), say what
they said. Prints `listening`, waits for a line on standard input, prints one line of JSON in the end. Exit status 1:
something was not right.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import select
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

PROCESSES = 6
SECONDS = 60  # without a byte: it hangs
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 1, 4, 8, 32
FIELD = re.compile(rb"\x00\x0btraceparent\x3700-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")
FIELD_SIZE = 69
OWN = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANSWER = b"\x88"  # :status: 200
SO_ZEROCOPY, ZEROCOPY = 60, 0x4000000

huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


class Wrong(Exception):  # noqa: N818 - it is what it is
    """Something was not right."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541, 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    value -= most
    out = bytearray([first | most])
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def text(value: bytes, coded: bool) -> bytes:
    if coded:
        value = huffman.encode(value)
    return integer(len(value), 7, 128 if coded else 0) + value


@dataclass
class Chunk:
    """What is written: a frame, or something that is none."""

    data: bytes
    may: bool = False  # it may get the field
    plain: bool = False  # it will, if any does
    block: bytes = b""  # what the decoder is given when it has come
    answers: int = 0  # stream that is answered then


@dataclass
class Batch:
    """What is written between two waits."""

    chunks: list[Chunk] = field(default_factory=list)
    ends: bool = False  # nothing is answered any more


class Client:
    """Makes frames, with a state of its own for each connection."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.encoder = hpack.Encoder()
        self.stream = -1
        self.open: list[int] = []  # streams whose request goes on
        self.quiet = False  # nothing may be inserted any more

    def next_stream(self) -> int:
        self.stream += 2 * self.rng.choice((1, 1, 1, 1, 3, 50))
        return self.stream

    def fields(self) -> list[tuple[str, str]]:
        rng = self.rng
        found = [(":method", rng.choice(("GET", "POST", "PURGE"))), (":scheme", "http")]
        found += [(":path", f"/{rng.randrange(40)}?{'q' * rng.randrange(60)}"), (":authority", "odd.example")]
        for _ in range(rng.randrange(8)):
            name = rng.choice(("x", "traceparenx", "tracepar", "tracestate", "cookie", "a" * rng.randrange(1, 300)))
            found.append((name, "traceparent" * rng.randrange(3) + "v" * rng.randrange(120)))
        return found

    def literal(self, name: bytes, value: bytes, kind: int) -> bytes:
        """A field whose name is written as it is, or in Huffman's code. `kind`: 0x40 goes into the table."""
        return bytes([kind]) + text(name, bool(self.rng.getrandbits(1))) + text(value, bool(self.rng.getrandbits(1)))

    def resize(self, size: int) -> None:
        if size != self.encoder.header_table_size:  # else the encoder forgets what it has not told yet
            self.encoder.header_table_size = size

    def block(self) -> bytes:
        rng = self.rng
        if rng.randrange(12) == 0:
            self.resize(rng.choice((0, 100, 4096)))
        block: bytes = self.encoder.encode(self.fields(), huffman=bool(rng.getrandbits(1)))
        for _ in range(rng.randrange(3)):
            block += self.literal(b"y" * rng.randrange(1, 200), b"w" * rng.randrange(300), rng.choice((0, 0x10)))
        return block

    def request(self, *, flags: int = END_STREAM) -> Chunk:
        """The simplest one."""
        stream, block = self.next_stream(), self.block()
        if not flags & END_STREAM:
            self.open.append(stream)
        data = frame(HEADERS, END_HEADERS | flags, stream, block)
        return Chunk(data, not self.quiet and len(block) <= 2048, block=block, answers=stream)

    # --- shapes: each gives what is written next

    def simple(self) -> list[Chunk]:
        return [self.request()]

    def several(self) -> list[Chunk]:
        made = []
        for _ in range(self.rng.randrange(2, 14)):
            made.append(self.request(flags=self.rng.choice((0, END_STREAM))))
            made += self.between() if self.rng.randrange(3) == 0 else []
        return made

    def between(self) -> list[Chunk]:
        rng = self.rng
        made = [
            frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * rng.randrange(3)),
            frame(SETTINGS, 1, 0),
            frame(PING, rng.randrange(2), 0, rng.randbytes(8)),
            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1000)),
            frame(PRIORITY, 0, 1, rng.randbytes(5)),
            frame(rng.randrange(0x10, 0x100), rng.randrange(256), rng.randrange(9), rng.randbytes(rng.randrange(90))),
        ]
        return [Chunk(rng.choice(made)) for _ in range(rng.randrange(1, 4))]

    def with_body(self) -> list[Chunk]:
        rng = self.rng
        head = self.request(flags=0)
        made = [head]
        like = frame(HEADERS, END_HEADERS | END_STREAM, self.stream + 2, b"\x82\x86\x84")
        for _ in range(rng.randrange(1, 4)):
            size = rng.choice((0, 9, 500, 16384))
            body = (like * (size // len(like) + 1))[:size] if rng.getrandbits(1) else rng.randbytes(size)
            made.append(Chunk(frame(DATA, 0, self.stream, body)))
        return made

    def large_body(self) -> list[Chunk]:
        body = self.rng.randbytes(16384)
        return [self.request(flags=0), *(Chunk(frame(DATA, 0, self.stream, body)) for _ in range(30))]

    def trailers(self) -> list[Chunk]:
        if not self.open:
            return self.with_body()
        stream = self.open.pop(self.rng.randrange(len(self.open)))
        block = self.encoder.encode([("x-trailer", "t" * self.rng.randrange(40))])
        return [Chunk(frame(HEADERS, END_HEADERS | END_STREAM, stream, block), block=block)]

    def padded(self) -> list[Chunk]:
        stream, block = self.next_stream(), self.block()
        padding, first = self.rng.randrange(40), self.rng.randbytes(5) if self.rng.getrandbits(1) else b""
        flags = END_HEADERS | END_STREAM | PADDED | (HAS_PRIORITY if first else 0)
        payload = bytes([padding]) + first + block + bytes(padding)
        return [Chunk(frame(HEADERS, flags, stream, payload), block=block, answers=stream)]

    def priority(self) -> list[Chunk]:
        stream, block = self.next_stream(), self.block()
        data = frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, stream, struct.pack(">IB", 0, 15) + block)
        return [Chunk(data, not self.quiet and len(block) <= 2000, block=block, answers=stream)]

    def resized(self) -> list[Chunk]:
        """Another size of the table, twice, in front of what is as before."""
        self.resize(0)
        self.resize(4096)
        return [self.request()]

    def reset(self) -> list[Chunk]:
        return [*self.with_body(), Chunk(frame(RST_STREAM, 0, self.stream, struct.pack(">I", 8)))]

    def huge(self) -> list[Chunk]:
        stream = self.next_stream()
        block = self.encoder.encode([(":method", "GET"), (":path", "/"), (":scheme", "http")])
        while len(block) < self.rng.randrange(1500, 16000):
            block += self.literal(b"h", b"z" * self.rng.randrange(600), 0)
        block = block if len(block) <= 16384 else self.encoder.encode([(":path", "/")])
        data = frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
        return [Chunk(data, not self.quiet and len(block) <= 2048, block=block, answers=stream)]

    def _silent(self, chunks: list[Chunk]) -> list[Chunk]:
        self.quiet = True
        for one in chunks:
            one.may = False
        return chunks

    def continued(self) -> list[Chunk]:
        stream, block = self.next_stream(), self.block()
        cuts = sorted(self.rng.randrange(len(block)) for _ in range(self.rng.randrange(1, 4)))
        parts = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
        made = [Chunk(frame(HEADERS, END_STREAM, stream, parts[0]))]
        made += [Chunk(frame(CONTINUATION, 0, stream, part)) for part in parts[1:-1]]
        made.append(Chunk(frame(CONTINUATION, END_HEADERS, stream, parts[-1]), block=block, answers=stream))
        return self._silent(made)

    def own(self) -> list[Chunk]:
        """Trace context of its own, which then may be in the table."""
        stream, kind = self.next_stream(), self.rng.choice((0, 0x10, 0x40))
        if kind == 0x40:  # the encoder has to know of it
            coded = bool(self.rng.getrandbits(1))
            block = self.encoder.encode([*self.fields(), ("traceparent", OWN.decode())], huffman=coded)
        else:
            block = self.encoder.encode(self.fields()) + self.literal(b"traceparent", OWN, kind)
        made = [Chunk(frame(HEADERS, END_HEADERS | END_STREAM, stream, block), block=block, answers=stream)]
        for _ in range(self.rng.randrange(3)):
            stream = self.next_stream()
            block = self.encoder.encode([*self.fields(), ("traceparent", OWN.decode())])
            made.append(Chunk(frame(HEADERS, END_HEADERS | END_STREAM, stream, block), block=block, answers=stream))
        return self._silent(made)

    def gone(self) -> list[Chunk]:
        made = [Chunk(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))]
        return self._silent(made + self.several())

    def broken(self) -> list[Chunk]:
        """No frames, or none that may be: nothing of it is answered."""
        rng = self.rng
        bad = [
            frame(PING, 0, 0, b"seven77"),
            frame(HEADERS, END_HEADERS, 2, b"\x82"),
            frame(HEADERS, END_HEADERS, 0, b"\x82"),
            frame(HEADERS, END_HEADERS, self.next_stream() | 1 << 31, b"\x82"),
            frame(HEADERS, END_HEADERS, self.next_stream(), b""),
            frame(HEADERS, END_HEADERS, self.next_stream(), b"\x80"),
            frame(HEADERS, END_HEADERS, self.next_stream(), b"\x40\x05abc"),
            frame(HEADERS, END_HEADERS, self.next_stream(), b"\x82\x7f"),
            frame(HEADERS, END_HEADERS | PADDED, self.next_stream(), b"\x09\x82"),
            frame(HEADERS, END_HEADERS | HAS_PRIORITY, self.next_stream(), b"\x82"),
            frame(CONTINUATION, END_HEADERS, self.stream, b"\x82"),
            frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82"),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        made = [Chunk(rng.choice(bad)), *(Chunk(one.data) for one in self.several())]
        return self._silent(made)


GOOD = (
    "simple",
    "simple",
    "simple",
    "several",
    "between",
    "with_body",
    "trailers",
    "padded",
    "priority",
    "resized",
    "reset",
    "huge",
)
LAST = ("continued", "own", "gone")  # behind which nothing may be inserted
BEGINNINGS = ("each", "once", "more", "unblocked")  # ways to write a connection's first bytes whose preface is whole
HOWS = (*BEGINNINGS, "cut", "bytes", "vector", "file", "zerocopy")


@dataclass
class Counts:
    requests: int = 0
    connections: int = 0
    inserted: int = 0
    plain: int = 0
    plain_inserted: int = 0


class Pair:
    """A client and its server."""

    def __init__(self, seed: int, wanted: int) -> None:
        self.rng = random.Random(seed)
        self.wanted = wanted
        self.counts = Counts()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.plan: Batch = Batch()
        self.orders = threading.Semaphore(0)
        self.wrong: list[str] = []

    def run(self) -> Counts:
        while self.counts.requests < self.wanted:
            self.connection()
        return self.counts

    def shape(self) -> tuple[str, bool]:
        """Of what is written next, and whether it is the last of its connection."""
        draw = self.rng.random()
        if draw < 0.015:
            return "broken", True
        if draw < 0.055:
            return self.rng.choice(LAST), False
        return self.rng.choice(GOOD) if draw < 0.98 else "large_body", False

    def connection(self) -> None:
        rng, client = self.rng, Client(self.rng)
        kind = rng.randrange(12)
        near = socket.socket()
        if kind == 2:  # it may send without copying
            near.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        near.connect(self.listener.getsockname())
        near.settimeout(None if rng.getrandbits(1) else SECONDS)  # blocks, or does not and is polled
        far, _ = self.listener.accept()
        far.settimeout(SECONDS)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if rng.randrange(4) == 0:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        with contextlib.suppress(OSError):  # as it is where messages may be changed
            near.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        self.counts.connections += 1
        first = [Chunk(PREFACE), Chunk(frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 0)))]
        if kind == 0:
            self.upgrade(near, far)
        client.quiet = kind < 3
        client.stream = 1 if kind == 0 else -1
        server = Server(far, self.counts)
        for number in range(rng.randrange(1, 25)):
            shape, last = self.shape()
            how = rng.choice(HOWS if number or kind == 1 else BEGINNINGS)
            client.quiet |= how == "file"  # which is not seen
            chunks = getattr(client, shape)()
            if not number and kind == 1:
                self.exchange(near, server, first, "bytes", broken=False)
            elif not number:
                chunks = first + chunks
            if shape == "simple" and how in {"each", "once"}:
                chunks[-1].plain = chunks[-1].may
            if sum(len(one.data) for one in chunks) > 4000 and how == "bytes":
                how = "cut"
            self.exchange(near, server, chunks, how, broken=last)
            if last:
                break
        near.close()
        far.close()

    def upgrade(self, near: socket.socket, far: socket.socket) -> None:
        """HTTP/1 first, which may get its own field."""
        ask = b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        ask += b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        near.sendall(ask)
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += far.recv(4096)
        if re.sub(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\r\n", b"", got, count=1) != ask:
            raise Wrong(f"the request for an upgrade: {got!r}")
        far.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += near.recv(4096)

    def exchange(self, near: socket.socket, server: Server, chunks: list[Chunk], how: str, *, broken: bool) -> None:
        failed: list[BaseException] = []

        def read() -> None:
            try:
                server.take(chunks)
            except BaseException as error:
                failed.append(error)
                server.socket.close()

        reading = threading.Thread(target=read)
        reading.start()
        try:
            write(near, [one.data for one in chunks], how, self.rng)
        except OSError as error:
            if not failed:
                failed.append(error)
        reading.join()
        if failed:
            raise Wrong(f"{how}: {failed[0]!r}") from failed[0]
        wanted = 0 if broken else sum(1 for one in chunks if one.answers) * (9 + len(ANSWER))
        while wanted:
            got = len(near.recv(min(wanted, 65536)))
            if not got:
                raise Wrong("the server has gone")
            wanted -= got
        self.counts.requests += sum(1 for one in chunks if one.answers or one.data[3:4] == b"\1")


class Server:
    """Reads what was written, byte by byte."""

    def __init__(self, end: socket.socket, counts: Counts) -> None:
        self.socket = end
        self.counts = counts
        self.decoders = hpack.Decoder(), hpack.Decoder()  # of what was written, and of what came
        for one in self.decoders:
            one.max_header_list_size = 1 << 20
        self.had = b""

    def read(self, size: int) -> bytes:
        while len(self.had) < size:
            got = self.socket.recv(1 << 18)
            if not got:
                raise Wrong("the connection has ended")
            self.had += got
        found, self.had = self.had[:size], self.had[size:]
        return found

    def take(self, chunks: Iterable[Chunk]) -> None:
        for one in chunks:
            got, more = one.data[:9], b""
            if one.may:
                got = self.read(9)
                if got == self.longer(one.data):
                    rest = self.read(len(one.data) - 9 + FIELD_SIZE)
                    more, got = rest[-FIELD_SIZE:], one.data[:9] + rest[:-FIELD_SIZE]
                    if not FIELD.fullmatch(more):
                        raise Wrong(f"no field: {more!r}")
                else:
                    got += self.read(len(one.data) - 9)
            else:
                got = self.read(len(one.data))
            if got != one.data:
                at = next(i for i, (a, b) in enumerate(zip(got, one.data, strict=False)) if a != b)
                raise Wrong(f"byte {at} of {len(one.data)}: {got[at : at + 80]!r} for {one.data[at : at + 80]!r}")
            self.counts.inserted += bool(more)
            self.counts.plain += one.plain
            self.counts.plain_inserted += one.plain and bool(more)
            if one.block:
                said, told = (
                    decoder.decode(block)
                    for decoder, block in zip(self.decoders, (one.block, one.block + more), strict=True)
                )
                if told[: len(said)] != said or [name for name, _ in told[len(said) :]] != ["traceparent"] * bool(more):
                    raise Wrong(f"{told} for {said}")
                if [name for name, _ in told].count("traceparent") > 1:
                    raise Wrong(f"twice: {told}")
            if one.answers:
                self.socket.sendall(frame(HEADERS, END_HEADERS | END_STREAM, one.answers, ANSWER))

    @staticmethod
    def longer(data: bytes) -> bytes:
        return struct.pack(">I", int.from_bytes(data[:3]) + FIELD_SIZE)[1:] + data[3:9]


def whole(end: socket.socket, data: bytes, send: Callable[[bytes], int]) -> None:
    while data:
        try:
            data = data[send(data) :]
        except BlockingIOError:
            select.select([], [end], [], SECONDS)


def send_in_place(end: socket.socket, data: bytes) -> int:
    try:
        return end.send(data, ZEROCOPY | socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno != errno.ENOBUFS:  # nobody reads the notices
            raise
        return end.send(data, socket.MSG_DONTWAIT)


def write(end: socket.socket, parts: list[bytes], how: str, rng: random.Random) -> None:
    """All of the parts, cut in some way."""
    data = b"".join(parts)
    match how:
        case "each":
            for part in parts:
                end.sendall(part)
        case "cut" | "bytes":
            while data:
                size = 1 if how == "bytes" else rng.choice((1, 5, 9, 10, 60, 300, 3000, 40000))
                end.sendall(data[:size])
                data = data[size:]
        case "vector":
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(12)))
            pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            sent = end.sendmsg(pieces)
            if sent < len(data):
                end.sendall(data[sent:])
        case "more":
            for part in parts[:-1]:
                whole(end, part, lambda some: end.send(some, socket.MSG_MORE))
            end.sendall(parts[-1])
        case "unblocked":
            whole(end, data, lambda some: end.send(some, socket.MSG_DONTWAIT))
        case "file":
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.flush()
                whole(
                    end, data, lambda left: os.sendfile(end.fileno(), file.fileno(), len(data) - len(left), len(left))
                )
        case "zerocopy":
            whole(end, data, lambda some: send_in_place(end, some))
        case _:
            end.sendall(data)


def work(seed: int, wanted: int, answers: Any) -> None:
    try:
        answers.put(vars(Pair(seed, wanted).run()))
    except BaseException as error:
        answers.put(f"seed {seed}: {error!r}")


def main() -> int:
    wanted, seed = map(int, sys.argv[1:3])
    print("listening", flush=True)
    if not sys.stdin.readline():
        return 2
    context = get_context("fork")
    answers = context.SimpleQueue()
    each = wanted // PROCESSES + 1
    processes = [context.Process(target=work, args=(seed * 1000 + n, each, answers)) for n in range(PROCESSES)]
    for one in processes:
        one.start()
    found = [answers.get() for _ in processes]
    for one in processes:
        one.join()
    bad = [one for one in found if isinstance(one, str)]
    for one in bad:
        print(f"frames: {one}", file=sys.stderr)
    print(json.dumps({} if bad else {key: sum(one[key] for one in found) for key in found[0]}), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
