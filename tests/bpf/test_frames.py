"""Walks HTTP/2 frames, cut anywhere: every header block leaves whole and in order, and every stream ends once."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from e2e import http2_frames as h2
from harness import Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from autoinstr.capture.abi import (
    EXCHANGE,
    HTTP2_ENDED,
    HTTP2_FIELDS,
    HTTP2_FIRST,
    HTTP2_FRAGMENT,
    HTTP2_JOINED,
    HTTP2_LAST,
    HTTP2_MESSAGES,
    HTTP2_PART,
    HTTP2_PROMISE,
    HTTP2_REQUEST,
    HTTP2_TABLE_OLD,
    HTTP2_UPGRADED,
    Counter,
    Error,
    Protocol,
    Role,
)

ROLES = (Role.SERVER, Role.CLIENT)
REQUEST = [(":method", "POST"), (":path", "/a/b"), (":scheme", "http"), (":authority", "host")]
Blocks = list[tuple[int, bytes]]  # stream and header block


@dataclass
class Told:
    """Parts, put together again."""

    requests: Blocks = field(default_factory=list)
    responses: Blocks = field(default_factory=list)
    joined: set[int] = field(default_factory=set)  # which of these are two
    ended: dict[int, Any] = field(default_factory=dict)
    flags: dict[int, int] = field(default_factory=dict)  # of the ends


def told(connection: Connection) -> Told:
    found, open_blocks, numbers = Told(), {}, [0, 0]
    for exchange in connection.told:
        assert exchange["protocol"] == Protocol.HTTP2
        part = exchange["head"].view(HTTP2_PART)[0]
        flags, stream, request = int(part["flags"]), int(part["stream"]), bool(part["flags"] & HTTP2_REQUEST)
        if flags & HTTP2_FIELDS:
            assert part["number"] == numbers[request], "parts are told in order, and none is left out"
            numbers[request] += 1
            if flags & HTTP2_FIRST:
                assert request not in open_blocks
                open_blocks[request] = b""
            open_blocks[request] += bytes(part["fragment"][: part["size"]])
            if flags & HTTP2_LAST:
                blocks = found.requests if request else found.responses
                if flags & HTTP2_JOINED:
                    assert flags & HTTP2_FIRST
                    assert not request
                    found.joined.add(len(blocks))
                blocks.append((0 if flags & HTTP2_PROMISE else stream, open_blocks.pop(request)))
        if flags & HTTP2_ENDED:
            assert stream not in found.ended, "a stream ends once"
            found.ended[stream] = exchange
            found.flags[stream] = flags
    return found


class Talk:
    """Both sides' bytes, in the order in which they are sent; and what is to be told of them."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.tables = h2.Tables(huffman=bool(seed % 2))
        self.bytes: list[tuple[bool, bytes]] = []  # by the client?
        self.requests: Blocks = []
        self.responses: Blocks = []
        self.ended: dict[int, tuple[int, int, int]] = {}  # stream -> bytes of both bodies, error

    def client(self, data: bytes) -> None:
        self.bytes.append((True, data))

    def server(self, data: bytes) -> None:
        self.bytes.append((False, data))

    def greet(self) -> None:
        self.client(h2.PREFACE + h2.settings((h2.HEADER_TABLE_SIZE, 4096)))
        self.server(h2.settings() + h2.SETTINGS_ACK)

    def some(self, most: int) -> int | None:
        return self.random.choice((None, self.random.randrange(most)))

    def block(self, stream: int, fields: h2.Fields, *, request: bool, end: bool) -> bytes:
        extra = [(f"x-{n}", str(self.random.random())) for n in range(self.random.choice((0, 0, 1, 30)))]
        encoder = self.tables.client if request else self.tables.server
        block = encoder.encode([*fields, *extra])
        (self.requests if request else self.responses).append((stream, block))
        pieces = [self.random.randrange(20) for _ in range(self.random.choice((0, 0, 1, 5)))]
        return h2.headers(
            stream, block, end=end, pad=self.some(256), priority=self.random.random() < 0.3, pieces=pieces
        )

    def body(self, stream: int, size: int, *, end: bool) -> bytes:
        return h2.data(stream, self.random.randbytes(size), end=end, pad=self.some(256))

    def noise(self) -> bytes:
        """Frames that tell nothing of any stream."""
        return self.random.choice(
            (b"", h2.ping(), h2.window_update(0, 5), h2.priority(99), h2.frame(0xB, 7, 0, b"unknown"), h2.settings())
        )

    def stream(self, stream: int) -> list[tuple[bool, bytes]]:
        """A request and its response, as steps that may mix with those of others."""
        up, down = self.random.choice((0, 1, 3000)), self.random.choice((0, 1, 40_000))
        steps = [(True, lambda: self.block(stream, REQUEST, request=True, end=not up))]
        if up:
            steps.append((True, lambda: self.body(stream, up, end=True)))
        if self.random.random() < 0.2:
            steps.append((False, lambda: self.block(stream, [(":status", "103")], request=False, end=False)))
        trailers = self.random.random() < 0.5
        last = not down and not trailers
        steps.append((False, lambda: self.block(stream, [(":status", "200")], request=False, end=last)))
        if down:
            steps.append((False, lambda: self.body(stream, down, end=not trailers)))
        if trailers:
            steps.append((False, lambda: self.block(stream, [("grpc-status", "0")], request=False, end=True)))
        self.ended[stream] = (up, down, 0)
        return steps

    def streams(self, count: int, first: int = 1) -> None:
        """So many at the same time."""
        waiting = [self.stream(first + 2 * n) for n in range(count)]
        begun = 0
        while any(waiting):
            some = self.random.choice([one for one in waiting[: begun + 3] if one])
            if waiting.index(some) >= begun:
                some = waiting[begun]  # numbers only increase
                begun += 1
            by_client, step = some.pop(0)
            (self.client if by_client else self.server)(self.noise() + step() + self.noise())

    def play(self, connection: Connection, cut: Callable[[bytes], Iterable[bytes]]) -> None:
        for by_client, data in self.bytes:
            for piece in cut(data):
                (connection.request if by_client else connection.response)(piece)

    def check(self, connection: Connection) -> Told:
        found = told(connection)
        assert found.requests == self.requests
        responses: Blocks = []
        for index, (stream, block) in enumerate(found.responses):
            at = len(self.responses[len(responses)][1]) if index in found.joined else len(block)
            responses += [(stream, part) for part in (block[:at], block[at:])[: 1 + (index in found.joined)]]
        assert responses == self.responses
        ends = {
            stream: (int(x["request_body"]), int(x["response_body"]), int(x["error"]))
            for stream, x in found.ended.items()
        }
        assert ends == self.ended
        for x in found.ended.values():
            assert 0 < x["request_start"] <= x["response_end"]
        return found


def whole(data: bytes) -> Iterable[bytes]:
    return [data]


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def pieces(generator: random.Random) -> Callable[[bytes], Iterable[bytes]]:
    def cut(data: bytes) -> Iterable[bytes]:
        while data:
            size = generator.choice((1, 5, 9, 10, 17, 100, 5000))
            yield data[:size]
            data = data[size:]

    return cut


def talk_of(streams: int, *, seed: int) -> Talk:
    """So many streams, mixed, behind the greeting."""
    talk = Talk(seed)
    talk.greet()
    talk.streams(streams)
    return talk


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(12))
def test_any_conversation(role: Role, seed: int) -> None:
    talk = talk_of(40, seed=seed)
    connection = Connection(role)
    talk.play(connection, whole if seed % 4 == 0 else pieces(talk.random))
    talk.check(connection)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(8))
def test_each_side_in_one_call(role: Role, seed: int) -> None:
    talk = talk_of(40, seed=seed)
    talk.bytes = [(by, b"".join(data for who, data in talk.bytes if who == by)) for by in (True, False)]
    connection = Connection(role)
    talk.play(connection, whole)
    talk.check(connection)


OK, DONE = b"\x88", b"\xbe"  # :status 200; a field of the table
AFTER = h2.data(1, b"abc", end=False)


@pytest.mark.parametrize(
    ("sent", "joined"),
    [
        (h2.headers(1, OK) + AFTER + h2.headers(1, DONE, end=True), True),
        (h2.headers(1, OK) + AFTER + h2.headers(1, b"\x40\x01a\x01b", end=True, pad=3), True),
        (h2.headers(1, b"\x88\xc0\xbf\xfe") + AFTER + h2.headers(1, DONE, end=True), True),
        # its length is not one byte, or it changes the table, or is an interim one
        (h2.headers(1, b"\x88\xff\x01") + AFTER + h2.headers(1, DONE, end=True), False),
        (h2.headers(1, b"\x88\x40\x01a\x01b") + AFTER + h2.headers(1, DONE, end=True), False),
        (h2.headers(1, b"\x08\x03103") + h2.headers(1, OK) + AFTER + h2.headers(1, DONE, end=True), True),
        # the other one begins with a size, comes in parts, or belongs to another stream
        (h2.headers(1, OK) + AFTER + h2.headers(1, b"\x20" + DONE, end=True), False),
        (h2.headers(1, OK) + AFTER + h2.headers(1, DONE * 9, end=True, pieces=(3,)), False),
        (h2.headers(1, OK) + AFTER + h2.headers(1, b"\x40\x01a\x7f\x60" + b"b" * 223, end=True), False),
        (h2.headers(1, OK) + h2.headers(3, OK) + AFTER + h2.headers(1, DONE, end=True), False),
        # there is none
        (h2.headers(1, OK) + AFTER + h2.data(1), False),
        (h2.headers(1, OK) + AFTER + h2.rst_stream(1), False),
        (h2.headers(1, OK) + AFTER, False),
        (h2.headers(1, OK) + AFTER + b"\0\0\4\1\4\0\0\0\0" + bytes(20), False),
    ],
)
def test_blocks_that_leave_together(sent: bytes, joined: bool) -> None:
    """A response's first block waits for the end of its stream in the same call, if that makes no difference."""
    for role in ROLES:
        talk, connection = Talk(), Connection(role)
        talk.greet()
        for stream in (1, 3):
            talk.client(talk.block(stream, REQUEST, request=True, end=True))
        talk.play(connection, whole)
        connection.response(sent)
        after = told(connection)
        assert bool(after.joined) == joined
        # what is told is what would be told of a call for each byte
        other = Connection(role)
        talk.play(other, whole)
        for piece in bytewise(sent):
            other.response(piece)
        there, blocks = told(other), {1: b"", 3: b""}
        for found, sign in ((after, 1), (there, -1)):
            for stream, block in found.responses:
                blocks[stream] = blocks[stream] + block if sign > 0 else blocks[stream].removeprefix(block)
        assert not any(blocks.values())
        assert {s: (int(x["error"]), int(x["response_body"])) for s, x in after.ended.items()} == {
            s: (int(x["error"]), int(x["response_body"])) for s, x in there.ended.items()
        }


@pytest.mark.parametrize("role", ROLES)
def test_byte_by_byte(role: Role) -> None:
    talk = talk_of(5, seed=3)
    connection = Connection(role)
    talk.play(connection, bytewise)
    talk.check(connection)


@pytest.mark.parametrize("role", ROLES)
def test_many_in_one_call(role: Role) -> None:
    talk = Talk(2)
    talk.greet()
    for stream in range(1, 1200, 2):
        for by_client, step in talk.stream(stream)[:1]:
            (talk.client if by_client else talk.server)(step())
        talk.ended.pop(stream)
    connection = Connection(role)
    connection.request(b"".join(data for by_client, data in talk.bytes if by_client)[: 60 << 10])
    assert connection.http2
    assert connection.counter(Counter.STEPS_EXHAUSTED) == 0
    assert connection.counter(Counter.LOST_SYNC) == 0


@pytest.mark.parametrize("role", ROLES)
def test_buffers_of_any_size(role: Role) -> None:
    talk = talk_of(10, seed=5)
    connection = Connection(role)
    cut = pieces(talk.random)
    for by_client, data in talk.bytes:
        if by_client == (role == Role.CLIENT):
            connection.writev(*cut(data))
        else:
            connection.read(data)
    talk.check(connection)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("first", ["client", "server"])
def test_preface_cut_anywhere(role: Role, first: str) -> None:
    for at in range(1, 24):
        talk = Talk()
        connection = Connection(role)
        if first == "server":
            connection.response(h2.settings())
        connection.request(h2.PREFACE[:at])
        if first == "client" and at > 12:
            connection.response(h2.settings())
        connection.request(h2.PREFACE[at:] + h2.settings())
        talk.streams(2)
        talk.play(connection, whole)
        talk.check(connection)


def test_server_speaks_byte_by_byte() -> None:
    talk, connection = Talk(), Connection()
    for piece in bytewise(h2.settings((3, 100))):
        connection.response(piece)
    talk.client(h2.PREFACE + h2.settings())
    talk.streams(2)
    talk.play(connection, whole)
    talk.check(connection)


@pytest.mark.parametrize("known", [False, True])
def test_in_the_middle_of_a_connection(known: bool) -> None:
    """Older than the agent; both sides are looked at from the start of a call on."""
    for role in ROLES:
        talk = Talk(1)
        talk.tables.client.encode(REQUEST)  # seen by nobody
        connection = Connection(role if known else Role.UNKNOWN, fresh=False)
        connection.role = role
        talk.noise = lambda: h2.window_update(0, 5)  # nothing unusual is believed at first
        talk.streams(8, first=1001)
        talk.play(connection, whole)
        if known:
            continue  # HTTP/1 may be expected where the role is known: nothing is invented
        found = talk.check(connection)
        assert all(flags & HTTP2_TABLE_OLD for flags in found.flags.values())
        assert {int(x["role"]) for x in found.ended.values()} == {int(role)}


def test_a_block_of_which_no_field_is_known() -> None:
    """As Go sends it after its first request: the authority comes first, and is in the dynamic table."""
    connection = Connection(Role.UNKNOWN, fresh=False)
    connection.read(h2.headers(7, b"\xbf\x83\xbe\x86", end=True))
    connection.write(h2.headers(7, b"\x88", end=True))
    found = told(connection)
    assert found.requests == [(7, b"\xbf\x83\xbe\x86")]
    assert list(found.ended) == [7]


@pytest.mark.parametrize(
    "data",
    [
        bytes(5000),
        random.Random(1).randbytes(5000),
        b"\x00\x00\x00\x2a\x00\x03\x00\x00\x00\x01\x00\x06client" * 50,  # Kafka
        struct.pack("<IIII", 40, 1, 0, 2013) * 30,  # MongoDB
        h2.data(1, b"", end=True)[:8] + b"x",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x01" + bytes(18),
    ],
)
def test_other_protocols(data: bytes) -> None:
    for fresh in (False, True):
        connection = Connection(Role.SERVER if fresh else Role.UNKNOWN, fresh=fresh)
        for _ in range(3):
            connection.read(data)
            connection.write(data[::-1])
            connection.write(data)
        assert not len(connection.told)
        connection.end()
        assert not len(connection.told)


def test_a_guess_that_was_wrong() -> None:
    connection = Connection(Role.UNKNOWN, fresh=False)
    connection.read(h2.ping() + bytes(20))
    connection.read(b"GET /after HTTP/1.1\r\n\r\n")
    connection.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [(int(x["protocol"]), bytes(x["head"][:10])) for x in connection.told] == [(Protocol.HTTP1, b"GET /after")]


def test_not_the_preface() -> None:
    connection = Connection()
    connection.response(h2.settings())
    connection.request(b"PUT / HTTP/1.1\r\n\r\n")
    assert connection.ignored
    assert not len(connection.told)


@pytest.mark.parametrize("by_client", [False, True])
def test_reset(by_client: bool) -> None:
    talk, connection = Talk(), Connection()
    talk.greet()
    talk.client(talk.block(1, REQUEST, request=True, end=False))
    talk.client(talk.block(3, REQUEST, request=True, end=True))
    (talk.client if by_client else talk.server)(h2.rst_stream(1, h2.CANCEL))
    talk.server(talk.block(3, [(":status", "200")], request=False, end=True))
    talk.server(h2.rst_stream(3, h2.NO_ERROR) + h2.rst_stream(1, h2.CANCEL))
    talk.ended = {1: (0, 0, Error.HTTP2 + h2.CANCEL), 3: (0, 0, 0)}
    talk.play(connection, whole)
    talk.check(connection)


def test_the_end_of_a_connection() -> None:
    talk, connection = Talk(), Connection()
    talk.greet()
    for stream in range(1, 200, 2):
        talk.client(talk.block(stream, REQUEST, request=True, end=False))
    talk.server(talk.block(5, [(":status", "200")], request=False, end=False))
    talk.server(h2.goaway(151, h2.NO_ERROR))
    for stream in (151, 171):  # some clients reset what they know to be refused
        talk.client(h2.rst_stream(stream))
    talk.play(connection, whole)
    connection.end()
    errors = {stream: int(x["error"]) for stream, x in told(connection).ended.items()}
    refused = dict.fromkeys(range(153, 200, 2), Error.HTTP2 + h2.REFUSED_STREAM)
    unanswered = dict.fromkeys(range(1, 150, 2), Error.NO_RESPONSE)
    assert errors == {**unanswered, 5: Error.TRUNCATED, 151: Error.HTTP2 + h2.CANCEL, **refused}
    assert connection.counter(Counter.STREAM_LOST) == 0


def test_more_streams_than_places() -> None:
    connection, talk = Connection(), Talk()
    talk.greet()
    for stream in range(1, 401, 2):
        talk.client(talk.block(stream, REQUEST, request=True, end=True))
    talk.play(connection, whole)
    connection.end()
    assert len(told(connection).ended) + connection.counter(Counter.STREAM_LOST) == 200


@pytest.mark.parametrize("size", [b"", b"\x20", b"\x3e", b"\x3f\x00", b"\x20\x3f\xe1\x1f", b"\x3f\xff\xff\x03"])
@pytest.mark.parametrize("before", [b"", h2.data(1, b"", end=True), h2.window_update(0, 5)])
def test_a_size_of_the_table_tells_nothing_of_whose_an_older_connection_is(size: bytes, before: bytes) -> None:
    """It stands at the beginning of the first block after the other side's settings."""
    connection = Connection(Role.UNKNOWN, fresh=False)
    connection.read(before)
    connection.write(h2.headers(3, size + h2.Tables().client.encode(REQUEST), end=True))
    connection.read(h2.headers(3, b"\x88", end=True))
    found = told(connection)
    assert found.ended[3]["role"] == Role.CLIENT
    assert found.ended[3]["status"] == 200


def test_a_client_is_answered_before_its_write_returns() -> None:
    talk, connection = Talk(), Connection(Role.CLIENT)
    connection.request(h2.PREFACE + h2.settings())
    connection.response(h2.settings())
    asked = talk.block(1, REQUEST, request=True, end=True)
    connection.response(talk.block(1, [(":status", "200")], request=False, end=True))
    assert not told(connection).ended
    connection.request(asked)
    found = told(connection)
    assert list(found.ended) == [1]
    assert found.ended[1]["request_start"] <= found.ended[1]["response_start"] <= found.ended[1]["response_end"]


@pytest.mark.parametrize("ends", ["with it", "later", "reset", "never"])
@pytest.mark.parametrize("apart", [True, False])
def test_a_body_counts_although_its_answer_comes_first(ends: str, *, apart: bool) -> None:
    """The server has the bytes, and may answer, before the client's write returns."""
    talk, connection = Talk(), Connection(Role.CLIENT)
    connection.request(h2.PREFACE + h2.settings())
    connection.response(h2.settings())
    asked = talk.block(1, REQUEST, request=True, end=False)
    if apart:
        connection.request(asked)
        asked = b""
    connection.enter()
    connection.response(talk.block(1, [(":status", "200")], request=False, end=True))
    assert not told(connection).ended
    connection.request(asked + h2.data(1, b"x" * 10, end=ends == "with it"))
    found = told(connection)
    assert found.ended[1]["request_body"] == 10
    if ends == "later":
        connection.request(h2.data(1, b"x", end=True))
    elif ends == "reset":
        connection.request(h2.rst_stream(1, h2.CANCEL))
    connection.end()
    assert told(connection).ended[1] == found.ended[1], "it is told once"
    assert found.ended[1]["error"] == 0


def test_an_answer_is_not_held_back() -> None:
    """No more than one, and not longer than the write takes."""
    talk, connection = Talk(), Connection(Role.CLIENT)
    connection.request(h2.PREFACE + h2.settings())
    connection.response(h2.settings())
    for stream in (1, 3, 5):
        connection.request(talk.block(stream, REQUEST, request=True, end=False) + h2.data(stream, b"x" * 10, end=False))
    connection.response(talk.block(1, [(":status", "200")], request=False, end=True))
    assert list(told(connection).ended) == [1]
    connection.enter()
    connection.response(talk.block(3, [(":status", "200")], request=False, end=True))
    connection.response(talk.block(5, [(":status", "200")], request=False, end=True))
    assert list(told(connection).ended) == [1, 5]
    connection.request(h2.ping())
    assert list(told(connection).ended) == [1, 5, 3]


@pytest.mark.parametrize(
    ("body", "is_message"),
    [
        (h2.message(b"hello"), True),
        (h2.message(b""), True),
        (h2.message(b"x", compressed=True) * 3, True),
        (b'{"a":1}', False),
        (b"\x00\x00\xff\xff\xff", False),
        (b"abc", False),
    ],
)
def test_messages(body: bytes, is_message: bool) -> None:
    for pad in (None, 3):
        talk, connection = Talk(), Connection()
        talk.greet()
        talk.client(talk.block(1, REQUEST, request=True, end=False) + h2.data(1, body, pad=pad))
        talk.server(talk.block(1, [(":status", "200")], request=False, end=True))
        talk.ended = {1: (len(body), 0, 0)}
        talk.play(connection, pieces(random.Random(4)))
        assert bool(talk.check(connection).flags[1] & HTTP2_MESSAGES) == is_message


def test_promised_streams() -> None:
    talk, connection = Talk(), Connection()
    talk.greet()
    talk.client(talk.block(1, REQUEST, request=True, end=True))
    promised = talk.tables.server.encode(REQUEST)
    talk.server(h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, struct.pack(">I", 2) + promised))
    talk.responses.append((0, promised))
    pushed = talk.tables.server.encode([(":status", "200")])
    talk.server(h2.headers(2, pushed) + h2.data(2, b"pushed"))
    talk.responses.append((0, pushed))
    talk.server(talk.block(1, [(":status", "200")], request=False, end=True))
    talk.ended = {1: (0, 0, 0)}
    talk.play(connection, whole)
    talk.check(connection)


@pytest.mark.parametrize("role", ROLES)
def test_upgrade(role: Role) -> None:
    asked = b"GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    for together in (False, True):
        talk, connection = Talk(), Connection(role)
        answer = h2.settings() + h2.headers(1, talk.tables.server.encode([(":status", "200")])) + h2.data(1, b"abc")
        connection.request(asked)
        for data in [switched + answer] if together else [switched, answer]:
            connection.response(data)
        connection.request(h2.PREFACE + h2.settings())
        first, *rest = connection.told
        assert (first["protocol"], first["status"]) == (Protocol.HTTP1, 101)
        parts = [x["head"].view(HTTP2_PART)[0] for x in rest]
        assert parts[0]["flags"] & HTTP2_UPGRADED
        assert bytes(parts[0]["fragment"][: parts[0]["size"]]) == asked
        assert [int(part["stream"]) for part in parts if part["flags"] & HTTP2_ENDED] == [1]
        assert (rest[-1]["response_body"], rest[-1]["error"]) == (3, 0)


def test_bodies_out_of_files() -> None:
    talk, connection = Talk(), Connection(Role.CLIENT)
    talk.greet()
    frame = h2.data(1, bytes(5000))
    talk.client(talk.block(1, REQUEST, request=True, end=False) + frame[:9])
    talk.play(connection, whole)
    connection.sendfile(5000)
    talk.bytes.clear()
    talk.server(talk.block(1, [(":status", "200")], request=False, end=True))
    talk.ended = {1: (5000, 0, 0)}
    talk.play(connection, whole)
    talk.check(connection)


def test_a_full_ring() -> None:
    """What found no room is counted, each stream once; and that parts are missing shows in their numbers."""
    talk, connection = Talk(1), Connection()
    talk.greet()
    talk.streams(3)
    talk.play(connection, whole)
    connection.fill_ring()
    talk.bytes.clear()
    talk.streams(20, first=101)
    talk.play(connection, whole)
    connection.fill_ring(False)
    sums = [connection.aggregated(name, status, Protocol.HTTP2) for name in (bytes(4), b"gRPC") for status in (0, 200)]
    assert sum(int(one["count"]) for one in sums if one is not None) == 20 == connection.counter(Counter.RING_FULL)
    before = len(connection.told)
    talk.bytes.clear()
    talk.streams(1, first=201)
    talk.play(connection, whole)
    after = connection.told[before:].view(EXCHANGE)
    numbers = [int(x["head"].view(HTTP2_PART)[0]["number"]) for x in after]
    assert max(numbers) > before / 2


def test_frames_are_lost_and_found() -> None:
    """Where a frame can't be one, what a side sends is looked at again from the start of a call on."""
    talk, connection = Talk(), Connection()
    talk.greet()
    talk.streams(1)
    talk.client(b"\x00\x00\x04\x01\x04\x00\x00\x00\x00" + bytes(50))
    talk.play(connection, whole)
    assert connection.counter(Counter.LOST_SYNC) == 1
    before = len(connection.told)
    talk.bytes.clear()
    talk.streams(1, first=11)
    talk.play(connection, whole)
    parts = [x["head"].view(HTTP2_PART)[0] for x in connection.told[before:]]
    assert [int(part["stream"]) for part in parts if part["flags"] & HTTP2_ENDED] == [11]


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 10, 60, 61, 100, 129])
def test_a_field_that_was_added_is_not_told(cut: int) -> None:
    """The first block of its stream ends with it, and with nothing else; trailers have none, nor have other streams."""
    block, field_of_ours = bytes(range(0x81, 0xBD)), bytes(69)
    connection = Connection(Role.CLIENT)
    connection.write(h2.PREFACE + h2.settings())
    connection.library.add_field(1)
    written = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, block + field_of_ours)
    for part in (written[:cut], written[cut:]):
        if part:
            connection.write(part)
    connection.write(h2.data(1, b"body", end=False))
    connection.write(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, block + bytes(69)))
    connection.write(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 3, block + bytes(69)))
    assert told(connection).requests == [(1, block), (1, block + bytes(69)), (3, block + bytes(69))]
    assert connection.counter(Counter.LOST_SYNC) == 0


@pytest.mark.parametrize("pad", [0, 4, 5, 6, 255])
def test_padding_that_is_longer_than_its_frame(pad: int) -> None:
    """It is an error (RFC 9113, section 6.1): no body has less than no bytes."""
    for ends in (0, h2.END_STREAM):
        talk, connection = Talk(), Connection()
        talk.greet()
        talk.client(talk.block(1, REQUEST, request=True, end=False))
        talk.client(h2.frame(h2.DATA, h2.PADDED | ends, 1, bytes((pad,)) + bytes(4)))
        talk.play(connection, whole)
        connection.end()
        assert told(connection).ended[1]["request_body"] <= 5
        assert connection.counter(Counter.LOST_SYNC) == (pad > 4)


MOST = 100 << 24  # bytes that so many frames may say they have
any_frame = st.tuples(
    st.booleans(),
    st.sampled_from((*range(10), h2.DATA, h2.HEADERS, 0x10)),
    st.sampled_from((0, 1, 4, 5, 8, 9, 0xC, 0xD, 0x2D, 0xFF)),
    st.sampled_from((0, 1, 1, 3, 3, 5, 2, 0x7FFFFFFF)),
    st.binary(max_size=12)
    | st.sampled_from((b"\x82\x84\x86", b"\x88", b"\0\0\0\x07", b"\0\0\0\1\0\0\0\0", bytes(300))),
)


@settings(max_examples=300, deadline=None)
@given(
    frames=st.lists(any_frame, max_size=25), seed=st.integers(0, 99), role=st.sampled_from(ROLES), whole=st.booleans()
)
def test_any_frames_at_all(frames: list[tuple[bool, int, int, int, bytes]], seed: int, role: Role, whole: bool) -> None:
    """Whatever both sides say, what was begun ends once, and no body has less than no bytes."""
    frames = [(True, h2.HEADERS, 4, 1, b"\x82\x84\x86"), (True, h2.HEADERS, 4, 3, b"\x83"), *frames]
    connection, dice = Connection(role), random.Random(seed)
    connection.request(h2.PREFACE + h2.settings())
    connection.response(h2.settings())
    for by_client, kind, flags, stream, payload in frames:
        data = h2.frame(kind, flags, stream, payload)
        for piece in [data] if whole else pieces(dice)(data):
            (connection.request if by_client else connection.response)(piece)
    connection.end()
    ended = set()
    for exchange in connection.told:
        part = exchange["head"].view(HTTP2_PART)[0]
        stream = int(part["stream"])
        assert stream not in ended
        assert part["size"] <= HTTP2_FRAGMENT
        if part["flags"] & HTTP2_ENDED:
            ended.add(stream)
            assert max(exchange["request_body"], exchange["response_body"]) < MOST
            assert 0 < exchange["request_start"] <= exchange["response_end"]
            assert not exchange["response_start"] or exchange["request_start"] <= exchange["response_start"]
    begun = {stream for by_client, kind, _, stream, _ in frames if by_client and kind == h2.HEADERS and stream & 1}
    assert ended <= begun
