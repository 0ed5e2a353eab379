"""Every way that HTTP/2 and gRPC may cross a socket, as conversations made of raw frames.

In: nothing. Out: `CASES`, by name, in the way of `cases`: what both sides say, and which requests the agent should tell
of it, from the server's and from the client's side. An RPC's path is `/t.<case>/Call<number>`.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import deeds
import http2_frames as h2
from cases import CUT, GONE, HOST, Book, Options, Talk, bytewise, noise
from conversation import CLIENT, RECEIVE, SEND, SERVER, Close, Gate, Reset
from http2_frames import Fields, Tables, data, headers, message, rst_stream
from stage import UNKNOWN

UNNAMED: dict[str, Any] = {"server_address": UNKNOWN}  # :authority is not to be known
LARGE_LIST = 16_000  # bytes of a header list
HTTP2 = Book("h2_")
CASES, add, again, case, cases = HTTP2.talks, HTTP2.add, HTTP2.again, HTTP2.case, HTTP2.cases


class Link:
    """One connection of a case: both HPACK tables, and the number of the next stream."""

    def __init__(self, t: Talk, *, greet: bool = True, **options: Any) -> None:
        self.t, self.tables, self._next = t, Tables(**options), 1
        if greet:
            t.client(h2.PREFACE + h2.settings((h2.ENABLE_PUSH, 1)))
            t.server(h2.settings((h2.MAX_CONCURRENT_STREAMS, 1000)) + h2.SETTINGS_ACK)
            t.client(h2.SETTINGS_ACK)

    def stream(self) -> int:
        self._next += 2
        return self._next - 2

    def request(
        self, method: str = "GET", *, path: str = "", fields: Fields = (), end: bool = True, **how: Any
    ) -> tuple[int, str, bytes]:
        """Stream, path and HEADERS of a new request."""
        stream, path = self.stream(), path or self.t.path()
        return stream, path, headers(stream, self.tables.request(path, method, HOST, fields), end=end, **how)

    def response(self, stream: int, status: int = 200, *, fields: Fields = (), end: bool = False, **how: Any) -> bytes:
        return headers(stream, self.tables.response(status, fields), end=end, **how)

    def trailers(self, stream: int, fields: Fields, *, of_client: bool = False) -> bytes:
        return headers(stream, self.tables.trailers(fields, of_client=of_client), end=True)

    def expect(self, path: str, **truth: Any) -> None:
        self.t.expect(path, **{"version": "2", **truth})

    def exchange(
        self,
        method: str = "GET",
        *,
        body: bytes = b"",
        status: int = 200,
        answer: bytes = b"",
        fields: Fields = (),
        answer_fields: Fields = (),
        how: dict[str, Any] | None = None,
        back: dict[str, Any] | None = None,
        **truth: Any,
    ) -> None:
        """A request, and then its response."""
        stream, path, asked = self.request(method, fields=fields, end=not body)
        self.t.client(asked + (data(stream, body) if body else b""), **(how or {}))
        told = self.response(stream, status, fields=answer_fields, end=not answer)
        self.t.server(told + (data(stream, answer) if answer else b""), **(back or {}))
        self.expect(path, method=method, status=status, request_size=len(body), response_size=len(answer), **truth)

    # gRPC

    def call(self, *, fields: Fields = (), content_type: str = "application/grpc") -> tuple[int, str, bytes]:
        """Stream, path and HEADERS of a new RPC."""
        path = f"/t.{self.t.name}/Call{self.t.path().rpartition('/')[2]}"
        own = [("te", "trailers"), ("content-type", content_type), *fields]
        return self.request("POST", path=path, fields=own, end=False)

    def accepted(self, stream: int) -> bytes:
        return self.response(stream, 200, fields=[("content-type", "application/grpc")])

    def done(self, stream: int, code: int = 0) -> bytes:
        return self.trailers(stream, [("grpc-status", str(code)), ("grpc-message", "")])

    def rpc(self, *, code: int = 0, answer: bytes = b"answer", told: bool = True, **truth: Any) -> None:
        """A plain unary one; `told`: its code is known."""
        stream, path, asked = self.call()
        self.t.client(asked + data(stream, message(b"question")))
        answered = data(stream, message(answer), end=False) if code == 0 else b""
        self.t.server(self.accepted(stream) + answered + self.done(stream, code))
        self.expect_rpc(path, code if told else None, **truth)

    def expect_rpc(self, path: str, code: int | None, **truth: Any) -> None:
        self.t.expect(path, rpc=True, status=code, request_size=None, response_size=None, **truth)


# Requests one after the other


@case()
def keep_alive(t: Talk) -> None:
    link = Link(t)
    for n in range(7):
        link.exchange(answer=b"x" * n)


@case()
def methods(t: Talk) -> None:
    link = Link(t)
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST"):
        body = b"12345" if method in ("PUT", "PATCH", "POST") else b""
        link.exchange(method, body=body, answer=b"ok")
    stream, path, asked = link.request("FROBNICATE")
    t.client(asked)
    t.server(link.response(stream, end=True))
    link.expect(path, method="_OTHER")


@case()
def statuses(t: Talk) -> None:
    link = Link(t)
    for status in (200, 201, 206, 302, 400, 404, 418, 429, 500, 503):
        link.exchange(status=status, answer=b"body")


@case()
def without_body(t: Talk) -> None:
    """HEAD, 204 and 304 tell a length and send none of it."""
    link = Link(t)
    length = [("content-length", "1000")]
    link.exchange("HEAD", answer_fields=length)
    link.exchange(status=204)
    link.exchange(status=304, answer_fields=length)
    link.exchange(answer=b"after")


@case()
def slow_answer(t: Talk) -> None:
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    t.sleep(SERVER, 0.15)
    t.server(link.response(stream) + data(stream, b"late"))
    link.expect(path, response_size=4, delay=0.15)
    link.exchange(answer=b"at once")


@case()
def slow_body(t: Talk) -> None:
    """The duration goes on to END_STREAM."""
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc", end=False))
    t.sleep(SERVER, 0.1)
    t.server(data(stream, b"def"))
    link.expect(path, response_size=6, delay=0.1)


@case()
def slow_upload(t: Talk) -> None:
    """The duration begins with the first byte of the request."""
    link = Link(t)
    stream, path, asked = link.request("POST", end=False)
    t.client(asked)
    t.sleep(CLIENT, 0.1)
    t.client(data(stream, b"abcdef"))
    t.server(link.response(stream, end=True))
    link.expect(path, method="POST", request_size=6, delay=0.1)


@case()
def slow_head(t: Talk) -> None:
    """Half a HEADERS frame begins a request."""
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked, pieces=(12,), pause=0.1)
    t.server(link.response(stream, end=True))
    link.expect(path, delay=0.09)


# Frames cut anywhere, and many at once


@case()
def byte_by_byte(t: Talk) -> None:
    link = Link(t, greet=False)
    for body in (b"", b"hello", b"hello again"):
        stream, path, asked = link.request("POST", end=not body)
        asked += data(stream, body) if body else b""
        asked = asked if stream > 1 else h2.PREFACE + h2.settings() + asked
        t.client(asked, pieces=bytewise(asked))
        answer = link.response(stream) + data(stream, body)
        answer = answer if stream > 1 else h2.settings() + h2.SETTINGS_ACK + answer
        t.server(answer, pieces=bytewise(answer))
        link.expect(path, method="POST", request_size=len(body), response_size=len(body))


@case()
def cut_at_each_byte(t: Talk) -> None:
    """HEADERS and DATA, in two writes."""
    link = Link(t)
    for cut in range(1, 60):
        how, back = {"pieces": (cut,)}, {"pieces": (cut % 20 + 1,)}
        link.exchange("POST", body=b"12", answer=b"abc", how=how, back=back)


@case()
def preface_cut_anywhere(t: Talk) -> None:
    for cut in (*range(1, 36), 40, 50):
        link = Link(t, greet=False)
        stream, path, asked = link.request()
        t.client(h2.PREFACE + h2.settings((h2.ENABLE_PUSH, 0)) + asked, pieces=(cut,), pause=0.001)
        t.server(h2.settings() + h2.SETTINGS_ACK + link.response(stream) + data(stream, b"yes"))
        link.expect(path, response_size=3)
        t.do(Close(CLIENT))
        t.reconnect()
    t.connections.pop()


@case()
def server_speaks_first(t: Talk) -> None:
    """Its SETTINGS cross the wire before the client's preface."""
    link = Link(t, greet=False)
    t.server(h2.settings((h2.MAX_CONCURRENT_STREAMS, 10)))
    t.client(h2.PREFACE + h2.settings() + h2.SETTINGS_ACK)
    for _ in range(3):
        link.exchange(answer=b"first")


@cases((2, 10, 60))
def many_in_one_write(t: Talk, count: int) -> None:
    """All requests with the preface, all responses at once."""
    link = Link(t, greet=False)
    asked = [link.request("POST" if n % 3 else "GET", end=not n % 3) for n in range(count)]
    bodies = [b"y" * n if n % 3 else b"" for n in range(count)]
    frames = [a + (data(stream, body) if body else b"") for (stream, _, a), body in zip(asked, bodies, strict=True)]
    t.client(h2.PREFACE + h2.settings() + b"".join(frames))
    answers = [link.response(stream, 200 + n % 3) + data(stream, b"x" * n) for n, (stream, _, _) in enumerate(asked)]
    t.server(h2.settings() + h2.SETTINGS_ACK + b"".join(answers))
    for n, (_, path, _) in enumerate(asked):
        method = "POST" if n % 3 else "GET"
        link.expect(path, method=method, status=200 + n % 3, request_size=len(bodies[n]), response_size=n)


@cases((3, 100, 128, 300))
def concurrent(t: Talk, count: int) -> None:
    """Streams that are all open at once, answered piece by piece in another order."""
    link, dice = Link(t), random.Random(count)
    asked = [link.request("POST", end=False) for _ in range(count)]
    t.client(b"".join(one for _, _, one in asked))
    dice.shuffle(asked)
    t.client(b"".join(data(stream, b"u" * (n % 7)) for n, (stream, _, _) in enumerate(asked)))
    dice.shuffle(asked)
    t.server(b"".join(link.response(stream, 200 + stream % 5) for stream, _, _ in asked))
    dice.shuffle(asked)
    t.server(b"".join(data(stream, b"d" * (stream % 100), end=False) for stream, _, _ in asked), pieces=(1000,) * 50)
    dice.shuffle(asked)
    t.server(b"".join(data(stream, b"e") for stream, _, _ in asked))
    for stream, path, _ in asked:
        link.expect(path, method="POST", status=200 + stream % 5, request_size=None, response_size=stream % 100 + 1)


@case()
def interleaved(t: Talk) -> None:
    """Frames of three streams in turns, cut in odd places."""
    link = Link(t)
    asked = [link.request("POST", end=False) for _ in range(3)]
    up = b"".join(one for _, _, one in asked)
    up += b"".join(data(stream, b"ab", end=n == 4) for n in range(5) for stream, _, _ in asked)
    t.client(up, pieces=(13,) * 30)
    down = b"".join(link.response(stream) for stream, _, _ in asked)
    down += b"".join(data(stream, b"xyz", end=n == 6) for n in range(7) for stream, _, _ in asked)
    t.server(down, pieces=(11,) * 40)
    for _, path, _ in asked:
        link.expect(path, method="POST", request_size=10, response_size=21)


@case()
def stream_numbers_with_gaps(t: Talk) -> None:
    link = Link(t)
    for gap in (0, 1, 50, 1000, 1 << 20):
        for _ in range(min(gap, 1000)):
            link.stream()
        link._next += 2 * max(gap - 1000, 0)
        link.exchange(answer=b"gap")


WITHIN_KERNEL = ("sendfile", "splice")  # what these carry is in no process' memory


@cases([way for way in SEND if way not in WITHIN_KERNEL])
def sent_by(t: Talk, way: str) -> None:
    """All ways out of a process, at both ends."""
    link, body = Link(t), noise(40_000)
    link.exchange("POST", body=body, answer=b"few", how={"send": way}, back={"send": way})
    link.exchange("POST", body=b"few", answer=body, how={"send": way}, back={"send": way})
    link.exchange(how={"send": way}, back={"send": way})


@cases([way for way in RECEIVE if way not in (*WITHIN_KERNEL, "discarded")])
def received_by(t: Talk, way: str) -> None:
    link, body = Link(t), noise(40_000)
    link.exchange("POST", body=body, answer=b"few", how={"receive": way}, back={"receive": way})
    link.exchange("POST", body=b"few", answer=body, how={"receive": way}, back={"receive": way})
    link.exchange(how={"receive": way}, back={"receive": way})


@cases(WITHIN_KERNEL)
def payload_by(t: Talk, way: str) -> None:
    """As a server of files does: heads of frames from memory, what is in them by the kernel."""
    link, body = Link(t), noise(10_000)
    for _ in range(2):
        stream, path, asked = link.request("POST", end=False)
        up, down = data(stream, body), data(stream, body[::-1])
        t.client(asked + up[:9])
        t.client(up[9:], send=way)
        t.server(link.response(stream) + down[:9])
        t.server(down[9:], send=way, receive="splice" if way == "splice" else "recv")
        link.expect(path, method="POST", request_size=len(body), response_size=len(body))
    link.exchange(answer=b"after")


def few(t: Talk) -> None:
    link = Link(t)
    for n in range(5):
        link.exchange("POST", body=b"u" * n, answer=b"d" * n)


for _family in ("tcp6", "mapped", "unix"):
    add(f"over_{_family}", Options(family=_family, alone=_family == "unix"), few)


@case(handler=deeds.thread_each)
def a_thread_for_each_step(t: Talk) -> None:
    few(t)


@case()
def last_stream_numbers(t: Talk) -> None:
    """As far as they go (RFC 9113, section 5.1.1): then a client needs another connection."""
    link = Link(t)
    link._next = (1 << 30) - 1
    link.exchange(answer=b"half way")
    link._next = (1 << 31) - 5
    for _ in range(3):
        link.exchange("POST", body=b"12345", answer=b"abc")


# Parts of frames


@case()
def padding(t: Talk) -> None:
    """Padding is no part of a header block, nor of a body."""
    link = Link(t)
    for pad in (0, 1, 100, 255):
        stream, path, asked = link.request("POST", end=False, pad=pad)
        t.client(asked + data(stream, b"12345", pad=pad))
        t.server(link.response(stream, pad=pad) + data(stream, b"abc", pad=pad))
        link.expect(path, method="POST", request_size=5, response_size=3)


@case()
def nothing_but_padding(t: Talk) -> None:
    """Frames that end a stream with no byte of a body, and such as begin one."""
    link = Link(t)
    for pad in (0, 3, 255):
        stream, path, asked = link.request("POST", end=False)
        t.client(asked + data(stream, b"", pad=pad, end=False) + data(stream, b"123") + h2.priority(stream))
        t.server(link.response(stream) + data(stream, b"abc", end=False) + data(stream, b"", pad=pad))
        link.expect(path, method="POST", request_size=3, response_size=3)


@case()
def priorities(t: Talk) -> None:
    link = Link(t)
    for pad in (None, 7):
        t.client(h2.priority(1001) + h2.priority(1003))
        stream, path, asked = link.request(priority=True, pad=pad)
        t.client(asked + h2.priority(stream))
        t.server(link.response(stream, priority=True) + data(stream, b"abc"))
        link.expect(path, response_size=3)


def many_fields(size: int = LARGE_LIST, seed: int = 1) -> list[tuple[str, str]]:
    return [(f"x-{seed}-{n}", noise(20, n).hex()) for n in range(size // 50)]


@case()
def continuation(t: Talk) -> None:
    """Header lists of 16 KB, of requests, responses and trailers; the block goes on in CONTINUATION."""
    link = Link(t, huffman=False)
    for n, pieces in enumerate(((5000, 5000), (1,) * 200, (0, 0, 10), (16_000,))):
        stream, path, asked = link.request(fields=many_fields(seed=n), end=True, pieces=pieces)
        t.client(asked)
        t.server(link.response(stream, fields=many_fields(seed=n), pieces=pieces) + data(stream, b"abc"))
        link.expect(path, response_size=3)
    link.exchange(answer=b"after")


@case()
def large_frames(t: Talk) -> None:
    """Larger than the 16 KB that every side has to take, since both have allowed it."""
    link, body = Link(t, huffman=False), noise(600_000)
    allowed = h2.settings((h2.MAX_FRAME_SIZE, (1 << 24) - 1))
    t.client(allowed)
    t.server(allowed + h2.SETTINGS_ACK)
    stream, path = link.stream(), t.path()
    fields = [("x-own", "put into the table"), *many_fields(20_000)]
    asked = h2.frame(h2.HEADERS, h2.END_HEADERS, stream, link.tables.request(path, "POST", HOST, fields))
    t.client(asked + h2.frame(h2.DATA, h2.END_STREAM, stream, body))
    told = h2.frame(h2.HEADERS, h2.END_HEADERS, stream, link.tables.response(201, fields))
    t.server(told + h2.frame(h2.DATA, h2.END_STREAM, stream, body[:300_000]))
    link.expect(path, method="POST", status=201, request_size=len(body), response_size=300_000)
    own = [("x-own", "put into the table")]
    link.exchange(answer=b"after", fields=own, answer_fields=own)


@case()
def continuation_byte_by_byte(t: Talk) -> None:
    link = Link(t)
    for pieces in ((3, 3, 3), (1,) * 40, (9,)):
        stream, path, asked = link.request(pieces=pieces)
        t.client(asked, pieces=bytewise(asked))
        answer = link.response(stream, pieces=(1, 1), fields=[("server", "puppet")]) + data(stream, b"abc")
        t.server(answer, pieces=bytewise(answer))
        link.expect(path, response_size=3)


@case()
def continuation_after_end_stream(t: Talk) -> None:
    """END_STREAM stands in HEADERS, the block ends later: then only is the request there."""
    link = Link(t)
    stream, path, asked = link.request("HEAD", pieces=(4, 4))
    t.client(asked, pieces=(15, 12), pause=0.02)
    t.server(link.response(stream, end=True, pieces=(1,)))
    link.expect(path, method="HEAD")
    link.exchange(answer=b"after")


@case()
def path_behind_many_fields(t: Talk) -> None:
    """Pseudo-fields may stand after 16 KB of others only in the order that RFC 9113 forbids: a long one before."""
    link = Link(t)
    own = [(":method", "GET"), (":authority", HOST), (":scheme", "http")]
    for size in (1000, 8000):
        stream, path = link.stream(), t.path()
        block = link.tables.client.encode([*own, (":path", f"{path}?{'q' * size}"), *many_fields()])
        t.client(headers(stream, block, end=True, pieces=(400, 4000)))
        t.server(link.response(stream, end=True))
        link.expect(path)
    link.exchange(answer=b"after")


@case()
def long_path(t: Talk) -> None:
    link = Link(t)
    for size in (200, 300, 1000, 4000):
        path = f"{t.path()}/{'p' * size}"
        stream, _, asked = link.request(path=path)
        t.client(asked)
        t.server(link.response(stream, end=True))
        link.expect(path)
    link.exchange(answer=b"after")


@case()
def trailers(t: Talk) -> None:
    link = Link(t)
    for _ in range(2):
        stream, path, asked = link.request("POST", end=False)
        sums = [("x-checksum", "1234")]
        t.client(asked + data(stream, b"12345", end=False) + link.trailers(stream, sums, of_client=True))
        t.server(link.response(stream) + data(stream, b"abc", end=False) + link.trailers(stream, sums))
        link.expect(path, method="POST", request_size=5, response_size=3)
    link.exchange(answer=b"after")


@case()
def trailers_later(t: Talk) -> None:
    """Trailers, and not the last DATA, end a response."""
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc", end=False))
    t.sleep(SERVER, 0.1)
    t.server(link.trailers(stream, [("x-late", "1")]))
    link.expect(path, response_size=3, delay=0.1)


@case()
def empty_data(t: Talk) -> None:
    link = Link(t)
    stream, path, asked = link.request("POST", end=False)
    nothing = data(stream, b"", end=False)
    t.client(asked + nothing * 50 + data(stream, b"a", end=False) + nothing + data(stream))
    t.server(link.response(stream) + nothing * 50 + data(stream))
    link.expect(path, method="POST", request_size=1)


@case()
def interim(t: Talk) -> None:
    """100 and 103 are no responses."""
    link = Link(t)
    stream, path, asked = link.request("POST", fields=[("expect", "100-continue")], end=False)
    t.client(asked)
    t.server(link.response(stream, 100))
    t.client(data(stream, b"12345"))
    t.server(link.response(stream, 103, fields=[("link", "</style.css>")]) * 1)
    t.server(link.response(stream, 103) + link.response(stream, 201) + data(stream, b"abc"))
    link.expect(path, method="POST", status=201, request_size=5, response_size=3)
    link.exchange(answer=b"after")


@case()
def push(t: Talk) -> None:
    """What is pushed was not asked for; its header blocks change the table all the same."""
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    promised = link.tables.server.encode(
        [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/t/h2_push/pushed")]
    )
    promise = h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, stream, struct.pack(">I", 2) + promised)
    t.server(promise + link.response(stream, fields=[("x-own", "one")]) + data(stream, b"page"))
    t.server(link.response(2, fields=[("x-own", "one")]) + data(2, b"style"))
    link.expect(path, response_size=4)
    link.exchange(answer=b"after", answer_fields=[("x-own", "one")])


@case()
def push_in_parts(t: Talk) -> None:
    """A promise with padding, that goes on in CONTINUATION; and what it promised, which the client does not want."""
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    own = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", f"/t/{t.name}/pushed"),
        ("x-own", "1"),
    ]
    promised = link.tables.server.encode(own)
    promise = h2.frame(h2.PUSH_PROMISE, h2.PADDED, stream, h2.padded(struct.pack(">I", 4) + promised[:5], 9))
    promise += h2.frame(h2.CONTINUATION, 0, stream, promised[5:20])
    promise += h2.frame(h2.CONTINUATION, h2.END_HEADERS, stream, promised[20:])
    t.server(promise + link.response(stream, fields=[("x-own", "1")]) + data(stream, b"page"), pieces=(9, 20, 30))
    t.client(rst_stream(4))
    t.server(link.response(4, fields=[("x-own", "1")]) + rst_stream(4, h2.NO_ERROR))
    link.expect(path, response_size=4)
    link.exchange(answer=b"after", answer_fields=[("x-own", "1")])


@case()
def tunnel(t: Talk) -> None:
    """CONNECT has neither scheme nor path; what is in the tunnel is its body."""
    link = Link(t)
    stream = link.stream()
    t.client(headers(stream, link.tables.client.encode([(":method", "CONNECT"), (":authority", HOST)])))
    t.server(link.response(stream))
    for n in range(3):
        t.client(data(stream, b"up" * n, end=n == 2))
        t.server(data(stream, b"down" * n, end=n == 2))
    link.expect("CONNECT", method="CONNECT", request_size=6, response_size=12)
    link.exchange(answer=b"after")


@case()
def web_socket(t: Talk) -> None:
    """Extended CONNECT (RFC 8441): a request that lasts as long as the socket does."""
    link = Link(t)
    t.server(h2.settings((h2.ENABLE_CONNECT_PROTOCOL, 1)))
    for ends in (True, False):
        stream, path = link.stream(), t.path()
        own = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        own += [(":authority", HOST), ("sec-websocket-version", "13")]
        t.client(headers(stream, link.tables.client.encode(own)))
        t.server(link.response(stream, fields=[("sec-websocket-protocol", "chat")]))
        for _ in range(3):
            t.client(data(stream, b"\x82\x05hello", end=False))
            t.server(data(stream, b"\x82\x02yo", end=False))
        t.sleep(CLIENT, 0.05)
        # closed in good order, and left
        t.client(data(stream) if ends else rst_stream(stream, h2.CANCEL))
        if ends:
            t.server(data(stream))
        errors = () if ends else ("CANCEL",)
        link.expect(path, method="CONNECT", request_size=21, response_size=12, delay=0.05, errors=errors)
    link.exchange(answer=b"after")


@case()
def unknown_frames(t: Talk) -> None:
    link = Link(t)
    strange = b"".join(h2.frame(kind, 0xFF, n, b"z" * 20 * n) for n, kind in enumerate((0x0A, 0x0C, 0x21, 0xFF)))
    stream, path, asked = link.request("POST", end=False)
    t.client(strange + asked + h2.frame(0x20, 5, stream, asked) + data(stream, b"12345") + strange)
    t.server(strange + link.response(stream) + h2.frame(0x20, 5, stream, b"y" * 300) + data(stream, b"abc"))
    link.expect(path, method="POST", request_size=5, response_size=3)
    link.exchange(answer=b"after")


@case()
def pings(t: Talk) -> None:
    """A flood of what is no request, in both directions, in and around one."""
    link = Link(t)
    flood = h2.ping() * 400
    stream, path, asked = link.request("POST", end=False)
    t.client(flood + asked + flood + data(stream, b"12345") + flood)
    t.server(h2.ping(answer=True) * 1200 + link.response(stream) + flood + data(stream, b"abc"))
    link.expect(path, method="POST", request_size=5, response_size=3)
    t.client((h2.settings() + h2.window_update(0, 1)) * 800)
    t.server(h2.SETTINGS_ACK * 800)
    link.exchange(answer=b"after")


@case()
def window_stalls(t: Talk) -> None:
    """A body that waits for WINDOW_UPDATE, both ways."""
    link = Link(t)
    stream, path, asked = link.request("POST", end=False)
    t.client(asked)
    for n in range(5):
        t.client(data(stream, b"u" * 16_000, end=n == 4))
        t.server(h2.window_update(0, 16_000) + h2.window_update(stream, 16_000))
    t.server(link.response(stream))
    for n in range(5):
        t.server(data(stream, b"d" * 16_000, end=n == 4))
        t.sleep(CLIENT, 0.02)
        t.client(h2.window_update(0, 16_000) + (h2.window_update(stream, 16_000) if n < 4 else b""))
    link.expect(path, method="POST", request_size=80_000, response_size=80_000, delay=0.08)
    link.exchange(answer=b"after")


@case()
def large_bodies(t: Talk) -> None:
    link, body = Link(t), noise(1_000_000)
    link.exchange("POST", body=body, answer=b"few")
    link.exchange("POST", body=b"few", answer=body)
    link.exchange(answer=b"after")


@case()
def bodies_like_protocols(t: Talk) -> None:
    """What is in DATA is never read as something else."""
    link, other = Link(t), Tables()
    http1 = b"GET /invented HTTP/1.1\r\nHost: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    frames = headers(1, other.request("/invented", "GET", HOST), end=True) + rst_stream(1) + h2.goaway(1)
    for body in (http1, frames, h2.PREFACE + h2.settings() + frames, headers(1, other.response(500), end=True)):
        for pieces in ((), (5, 4, 30)):
            link.exchange("POST", body=body, answer=body, how={"pieces": pieces}, back={"pieces": pieces})
    # cut so that each write begins with what looks like a frame of its own
    stream, path, asked = link.request("POST", end=False)
    t.client(asked + data(stream, frames), pieces=(len(asked) + 9,), pause=0.02)
    answer = link.response(stream)
    t.server(answer + data(stream, frames), pieces=(len(answer) + 9,), pause=0.02)
    link.expect(path, method="POST", request_size=len(frames), response_size=len(frames))


# HPACK


@case()
def table_sizes(t: Talk) -> None:
    """SETTINGS_HEADER_TABLE_SIZE of both sides, and the updates in header blocks that follow."""
    link = Link(t)
    for size in (4096, 0, 64, 200, 8192, 65_536, 4096):
        setting = h2.settings((h2.HEADER_TABLE_SIZE, size))
        t.client(setting)
        t.server(setting + h2.SETTINGS_ACK)
        t.client(h2.SETTINGS_ACK)
        link.tables.client.header_table_size = link.tables.server.header_table_size = size
        for n in range(4):
            fields = [("x-kept", "one and the same"), ("x-number", str(n))]
            link.exchange(answer=b"x" * n, fields=fields, answer_fields=fields)


@case()
def table_sizes_at_once(t: Talk) -> None:
    """Several changes in one SETTINGS: a block begins with the smallest, and then the last (RFC 7541, section 4.2)."""
    link = Link(t)
    kept = [("x-kept", "one and the same"), ("x-more", "of a table")]
    for sizes in ((0, 4096), (8192, 100, 4096), (200, 0), (4096,), (60, 70, 80)):
        setting = h2.settings(*((h2.HEADER_TABLE_SIZE, size) for size in sizes))
        t.client(setting)
        t.server(setting + h2.SETTINGS_ACK)
        t.client(h2.SETTINGS_ACK)
        for size in sizes:
            link.tables.client.header_table_size = link.tables.server.header_table_size = size
        for n in range(3):
            link.exchange(answer=b"x" * n, fields=kept, answer_fields=kept)


@case()
def field_larger_than_the_table(t: Talk) -> None:
    """It empties the table and is no entry of it (RFC 7541, section 4.4)."""
    link = Link(t)
    kept = [("x-kept", "one and the same")]
    for n in range(4):
        link.exchange(answer=b"before", fields=kept, answer_fields=kept)
        huge = [("x-huge", f"{n}" * 5000)]
        link.exchange(answer=b"huge", fields=[*huge, *kept], answer_fields=[*huge, *kept])


@case()
def list_beyond_all_limits(t: Talk) -> None:
    """48 KB of fields are not put together. The request counts; the table is unknown until it is sent anew."""
    link = Link(t, huffman=False)
    link.exchange(answer=b"before")
    stream, _, asked = link.request(fields=many_fields(60_000))
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc"))
    link.expect("_OTHER", method="_OTHER", response_size=3, client=UNNAMED)
    for n in range(3):
        link.exchange(answer=b"x" * n, client=UNNAMED)


@case()
def table_evicts(t: Talk) -> None:
    """More than a table holds, again and again."""
    link = Link(t)
    for n in range(40):
        fields = [(f"x-field-{(n * 7 + k) % 90}", "v" * (k * 11 % 60)) for k in range(20)]
        link.exchange(answer=b"x" * n, fields=fields, answer_fields=fields)


@case()
def same_block_again(t: Talk) -> None:
    """Blocks that are one byte a field, since all of it is in the table. The path, too: told as often as it came."""
    link = Link(t)
    fields = [("user-agent", "puppet"), ("accept", "*/*"), ("authorization", "Bearer of a long secret")]
    for _ in range(20):
        link.exchange(answer=b"same", fields=fields, answer_fields=fields, status=404)


@case()
def plain_strings(t: Talk) -> None:
    """No Huffman, nothing indexed."""
    link = Link(t, huffman=False)
    own = ((":method", "GET"), (":scheme", "http"), (":authority", HOST))

    def literal(name: str, value: str) -> bytes:
        return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()

    for _ in range(3):
        stream, path = link.stream(), t.path()
        block = b"".join(literal(*field) for field in (*own, (":path", path), ("x-plain", "yes")))
        t.client(headers(stream, block, end=True))
        t.server(headers(stream, literal(":status", "404")) + data(stream, b"abc"))
        link.expect(path, status=404, response_size=3)


@case()
def cookies_in_parts(t: Talk) -> None:
    link = Link(t)
    for n in range(3):
        fields = [("cookie", f"part{k}={n}") for k in range(30)]
        link.exchange(answer=b"abc", fields=fields, answer_fields=[("set-cookie", "a=b"), ("set-cookie", "c=d")])


@case()
def block_that_cannot_be_read(t: Talk) -> None:
    """An index that no table has: the connection ends, and nothing is invented of it."""
    link = Link(t)
    link.exchange(answer=b"before")
    t.client(headers(link.stream(), b"\xff\xff\xff\x7f", end=True))
    link.expect("_OTHER", method="_OTHER", status=0, optional=True, errors=("COMPRESSION_ERROR", *GONE), client=UNNAMED)
    t.server(h2.goaway(1, h2.COMPRESSION_ERROR))
    t.do(Close(SERVER))


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@case()
def traceparent(t: Talk) -> None:
    link = Link(t)
    for n in range(6):
        trace = f"{n + 16:02x}{TRACE[2:]}"
        stream, path, asked = link.request(fields=[*many_fields(n * 400), ("traceparent", f"00-{trace}-{PARENT}-01")])
        t.client(asked)
        t.server(link.response(stream, end=True))
        link.expect(path, trace=f"{trace}-{PARENT}")


# What ends a stream before its time


@case()
def reset_by_client(t: Talk) -> None:
    link = Link(t)
    # before the response
    stream, path, asked = link.request()
    t.client(asked)
    t.sleep(CLIENT, 0.02)
    t.client(rst_stream(stream))
    link.expect(path, status=0, errors=("CANCEL",))
    link.exchange(answer=b"between")
    # within its own body
    stream, path, asked = link.request("POST", end=False)
    t.client(asked + data(stream, b"12345", end=False) + rst_stream(stream, h2.INTERNAL_ERROR))
    link.expect(path, method="POST", status=0, request_size=5, errors=("INTERNAL_ERROR",))
    link.exchange(answer=b"between")
    # within the response
    stream, path, asked = link.request()
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc", end=False))
    t.client(rst_stream(stream))
    link.expect(path, response_size=3, errors=("CANCEL",))
    # after it: too late
    stream, path, asked = link.request()
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc"))
    t.client(rst_stream(stream))
    link.expect(path, response_size=3)
    link.exchange(answer=b"after")


@case()
def reset_by_client_crosses(t: Talk) -> None:
    """The server goes on for a while; those frames belong to no stream, but to the table."""
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc", end=False))
    t.client(rst_stream(stream))
    t.server(data(stream, b"def", end=False) + link.trailers(stream, [("x-late", "indexed")]))
    link.expect(path, response_size=None, errors=("CANCEL",))
    link.exchange(answer=b"after", answer_fields=[("x-late", "indexed")])


@case()
def reset_by_server(t: Talk) -> None:
    link = Link(t)
    # instead of a response
    stream, path, asked = link.request()
    t.client(asked)
    t.server(rst_stream(stream, h2.REFUSED_STREAM))
    link.expect(path, status=0, errors=("REFUSED_STREAM",))
    # within the response
    stream, path, asked = link.request()
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc", end=False) + rst_stream(stream, h2.INTERNAL_ERROR))
    link.expect(path, response_size=3, errors=("INTERNAL_ERROR",))
    # while the request goes on
    stream, path, asked = link.request("POST", end=False)
    t.client(asked + data(stream, b"12345", end=False))
    t.server(rst_stream(stream, h2.CANCEL))
    t.client(data(stream, b"67890"))  # was on its way
    link.expect(path, method="POST", status=0, request_size=None, errors=("CANCEL",))
    link.exchange(answer=b"after")


@case()
def answered_before_the_end(t: Talk) -> None:
    """A whole response, and RST_STREAM with NO_ERROR: no need to send the rest (RFC 9113, section 8.1)."""
    link = Link(t)
    stream, path, asked = link.request("POST", end=False)
    t.client(asked + data(stream, b"12345", end=False))
    t.server(link.response(stream, 413) + data(stream, b"too large") + rst_stream(stream, h2.NO_ERROR))
    link.expect(path, method="POST", status=413, request_size=5, response_size=9)
    link.exchange(answer=b"after")


@case()
def answered_while_sending(t: Talk) -> None:
    """The response ends first; the request is sent to its end all the same."""
    link = Link(t)
    stream, path, asked = link.request("POST", end=False)
    t.client(asked + data(stream, b"12345", end=False))
    t.server(link.response(stream, 200) + data(stream, b"early"))
    t.client(data(stream, b"67890"))
    link.expect(path, method="POST", request_size=None, response_size=5)
    link.exchange(answer=b"after")


@case()
def trailers_after_the_answer(t: Talk) -> None:
    """What a client still says of a request that was answered changes the table."""
    link = Link(t)
    stream, path, asked = link.request("POST", end=False)
    t.client(asked + data(stream, b"12345", end=False))
    t.server(link.response(stream) + data(stream, b"early"))
    t.client(data(stream, b"678", end=False) + link.trailers(stream, [("x-sum", "new")], of_client=True))
    link.expect(path, method="POST", request_size=None, response_size=5)
    link.exchange(answer=b"after", fields=[("x-sum", "new")])


@case()
def refused_and_asked_again(t: Talk) -> None:
    """On another connection: both are requests, and one was answered."""
    link = Link(t)
    asked = [link.request() for _ in range(3)]
    t.client(b"".join(one for _, _, one in asked))
    t.server(b"".join(rst_stream(stream, h2.REFUSED_STREAM) for stream, _, _ in asked) + h2.goaway(0))
    for _, path, _ in asked:
        link.expect(path, status=0, errors=("REFUSED_STREAM",))
    t.do(Close(CLIENT))
    t.reconnect()
    link = Link(t)
    for _ in range(3):
        link.exchange(answer=b"now")


@case()
def goaway_graceful(t: Talk) -> None:
    """What is open goes on to its end."""
    link = Link(t)
    asked = [link.request() for _ in range(3)]
    t.client(b"".join(one for _, _, one in asked))
    t.server(h2.goaway(0x7FFFFFFF) + h2.ping() + h2.goaway(asked[-1][0]))
    for stream, path, _ in asked:
        t.server(link.response(stream) + data(stream, b"abc"))
        link.expect(path, response_size=3)
    t.do(Close(SERVER))


@case()
def goaway_leaves_some(t: Talk) -> None:
    """Streams above the last one that it names were not processed."""
    link = Link(t)
    asked = [link.request() for _ in range(3)]
    t.client(b"".join(one for _, _, one in asked))
    t.server(h2.goaway(asked[0][0]))
    t.server(link.response(asked[0][0]) + data(asked[0][0], b"abc"))
    t.do(Close(SERVER))
    link.expect(asked[0][1], response_size=3)
    for _, path, _ in asked[1:]:
        link.expect(path, status=0, errors=(*GONE, "REFUSED_STREAM"))


@case()
def goaway_with_error(t: Talk) -> None:
    link = Link(t)
    link.exchange(answer=b"before")
    stream, path, asked = link.request()
    half, half_path, half_asked = link.request()
    t.client(asked + half_asked)
    t.server(link.response(half) + data(half, b"abc", end=False))
    t.server(h2.goaway(stream, h2.INTERNAL_ERROR, b"out of order"))
    t.do(Close(SERVER))
    link.expect(path, status=0, errors=(*GONE, "INTERNAL_ERROR"))
    link.expect(half_path, response_size=3, errors=(*CUT, "INTERNAL_ERROR", "REFUSED_STREAM"))


@case()
def server_closes(t: Talk) -> None:
    """Without a word: before a response, and within one."""
    for within in (False, True):
        link = Link(t)
        link.exchange(answer=b"before")
        stream, path, asked = link.request()
        t.client(asked)
        if within:
            t.server(link.response(stream) + data(stream, b"abc", end=False))
        t.do(Close(SERVER))
        link.expect(path, status=200 if within else 0, response_size=3 * within, errors=CUT if within else GONE)
        t.reconnect()
    t.connections.pop()


@case()
def client_closes(t: Talk) -> None:
    for close in (Close, Reset):
        for within in (False, True):
            link = Link(t)
            stream, path, asked = link.request()
            t.client(asked)
            if within:
                t.server(link.response(stream) + data(stream, b"abc", end=False))
            t.sleep(CLIENT, 0.02)
            t.do(close(CLIENT))
            link.expect(path, status=200 if within else 0, response_size=3 * within, errors=(*CUT, *GONE))
            t.reconnect()
    t.connections.pop()


@case()
def cut_within_a_frame(t: Talk) -> None:
    """Half a HEADERS frame is no request; half a DATA frame no end."""
    for cut in (5, 12, 30):
        link = Link(t)
        link.exchange(answer=b"before")
        _, _, asked = link.request(path=f"/t/{t.name}/half_{cut}/{'x' * 50}")
        t.client(asked[:cut])
        t.do(Close(CLIENT))
        t.reconnect()
    link = Link(t)
    stream, path, asked = link.request()
    t.client(asked)
    t.server((link.response(stream) + data(stream, b"abcdef"))[:-3])
    t.do(Close(SERVER))
    link.expect(path, response_size=None, errors=CUT)


@case()
def cut_within_continuation(t: Talk) -> None:
    link = Link(t)
    _, _, asked = link.request(path=f"/t/{t.name}/half", pieces=(40,), fields=[("x-more", "field" * 10)])
    t.client(asked[:-10])
    t.do(Close(CLIENT))


@case()
def all_streams_gone_at_once(t: Talk) -> None:
    link = Link(t)
    asked = [link.request() for _ in range(50)]
    t.client(b"".join(one for _, _, one in asked))
    t.server(b"".join(link.response(stream) for stream, _, _ in asked[:25]))
    t.do(Close(SERVER))
    for n, (_, path, _) in enumerate(asked):
        link.expect(path, status=200 if n < 25 else 0, errors=CUT if n < 25 else GONE)


# How HTTP/2 begins


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")


def upgrade(path: str, method: str = "GET", body: bytes = b"") -> bytes:
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {HOST}", *UPGRADE, *length, "", ""]).encode() + body


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@case()
def upgraded(t: Talk) -> None:
    """The request of HTTP/1 is answered on stream 1."""
    link, path = Link(t, greet=False), t.path()
    stream = link.stream()
    t.client(upgrade(path))
    t.server(SWITCHING + h2.settings())
    t.client(h2.PREFACE + h2.settings() + h2.SETTINGS_ACK)
    t.server(h2.SETTINGS_ACK + link.response(stream, 404) + data(stream, b"not here"))
    link.expect(path, status=404, response_size=8, version=None)
    for n in range(3):
        link.exchange(answer=b"x" * n)


@case()
def upgraded_with_body(t: Talk) -> None:
    link, path = Link(t, greet=False), t.path()
    stream = link.stream()
    t.client(upgrade(path, "POST", b"12345"))
    t.server(SWITCHING)
    t.client(h2.PREFACE + h2.settings())
    t.server(h2.settings() + h2.SETTINGS_ACK + link.response(stream) + data(stream, b"abc"))
    link.expect(path, method="POST", request_size=5, response_size=3, version=None)
    link.exchange(answer=b"after")


@case()
def upgrade_refused(t: Talk) -> None:
    """A server may go on with HTTP/1."""
    path = t.path()
    t.client(upgrade(path))
    t.server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
    t.expect(path, response_size=3, version="1.1")
    t.exchange(answer=b"after", version="1.1")


@case()
def answered_in_http_1(t: Talk) -> None:
    """By a server that knows nothing else. What was asked was asked, and its answer is none."""
    link = Link(t, greet=False)
    _, path, asked = link.request()
    t.client(h2.PREFACE + h2.settings() + asked)
    t.server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    t.do(Close(SERVER))
    link.expect(path, status=0, errors=GONE)


# Older than the agent


@case(before=True)
def older(t: Talk) -> None:
    """Both tables have entries that the agent has not seen. New paths are literals, and told from the first on."""
    link = Link(t)
    fields = [("user-agent", "puppet"), ("x-kept", "one and the same")]
    for n in range(5):
        stream, _, asked = link.request(fields=fields)
        t.client(asked)
        t.server(link.response(stream, 404 if n % 2 else 200, fields=fields) + data(stream, b"early"))
    t.do(Gate())
    for n in range(6):
        status = 404 if n % 2 else 200
        own = [*fields, ("x-new", str(n))]
        link.exchange(status=status, answer=b"x" * n, fields=own, answer_fields=fields, client=UNNAMED)


@case(before=True)
def older_with_high_numbers(t: Talk) -> None:
    """Of a connection that has carried hundreds of millions of requests."""
    link = Link(t)
    link._next = (1 << 30) + 12_345
    link.exchange(answer=b"early")
    t.expected.clear()
    t.do(Gate())
    for n in range(4):
        link.exchange(answer=b"x" * n, client=UNNAMED)


@case(before=True)
def older_path(t: Talk) -> None:
    """A path that stands in the table only: told without it, or not as something else."""
    link = Link(t)
    stream, _, asked = link.request(path=f"/t/{t.name}/known_before")
    t.client(asked)
    t.server(link.response(stream, end=True))
    t.do(Gate())
    link.exchange(answer=b"new", client=UNNAMED)
    stream, _, asked = link.request(path=f"/t/{t.name}/known_before")
    t.client(asked)
    t.server(link.response(stream) + data(stream, b"abc"))
    link.expect("GET", response_size=3, client=UNNAMED)
    link.exchange(answer=b"new again", client=UNNAMED)


@case(before=True)
def older_rpc(t: Talk) -> None:
    """Service and method are in the table: that it was an RPC, and what came of it, is known all the same."""
    link = Link(t)
    for _ in range(3):
        stream, _, asked = link.call()
        t.client(asked + data(stream, message(b"question")))
        t.server(link.accepted(stream) + data(stream, message(b"answer"), end=False) + link.done(stream))
    t.do(Gate())
    link.rpc(told=False, client=UNNAMED)
    link.rpc(code=5, told=False, client=UNNAMED)


@case(before=True)
def older_and_open(t: Talk) -> None:
    """Streams that are open when the agent starts may be told, rightly; those that come later must be."""
    link = Link(t)
    asked = [link.request("POST", end=False) for _ in range(3)]
    t.client(b"".join(one for _, _, one in asked))
    t.do(Gate())
    t.client(b"".join(data(stream, b"12345") for stream, _, _ in asked))
    t.server(b"".join(link.response(stream) + data(stream, b"abc") for stream, _, _ in asked))
    for n in range(5):
        link.exchange("POST", body=b"u" * n, answer=b"x" * n, client=UNNAMED)


@case(before=True)
def older_within_a_frame(t: Talk) -> None:
    """The agent starts in the middle of a DATA frame."""
    link, inner = Link(t), noise(1000)
    stream, path, asked = link.request("POST", end=False)
    frames = asked + data(stream, inner)
    t.client(frames[: -len(inner)])
    t.do(Gate())
    t.client(frames[-len(inner) :])
    t.server(link.response(stream) + data(stream, b"abc"))
    link.expect(path, method="POST", request_size=None, response_size=None, optional=True, client=UNNAMED)
    for _ in range(3):
        link.exchange(answer=b"after", optional=True, client=UNNAMED)


# gRPC


@case()
def grpc_unary(t: Talk) -> None:
    link = Link(t)
    for _ in range(5):
        link.rpc()


@case()
def grpc_codes(t: Talk) -> None:
    link = Link(t)
    for code in range(17):
        link.rpc(code=code)


@case()
def grpc_trailers_only(t: Talk) -> None:
    """One HEADERS frame is the whole response."""
    link = Link(t)
    for code in (5, 12, 0):
        stream, path, asked = link.call()
        t.client(asked + data(stream, message(b"question")))
        own = [("content-type", "application/grpc"), ("grpc-status", str(code)), ("grpc-message", "no%20such")]
        t.server(link.response(stream, 200, fields=own, end=True))
        link.expect_rpc(path, code)


@case()
def grpc_streams(t: Talk) -> None:
    """Client-, server- and bidirectional streaming: one span a call."""
    link = Link(t)
    for up, down in ((10, 1), (1, 10), (10, 10), (0, 0)):
        stream, path, asked = link.call()
        t.client(asked)
        for n in range(max(up, down)):
            if n < up:
                t.client(data(stream, message(b"m" * n), end=False))
            if n == 0:
                t.server(link.accepted(stream))
            if n < down:
                t.server(data(stream, message(b"a" * n * 100), end=False))
        t.client(data(stream))
        t.server((b"" if up or down else link.accepted(stream)) + link.done(stream))
        link.expect_rpc(path, 0)


@case()
def grpc_messages_cut(t: Talk) -> None:
    """Messages know nothing of frames."""
    link = Link(t)
    stream, path, asked = link.call()
    up = b"".join(message(b"m" * n) for n in range(20))
    t.client(asked + b"".join(data(stream, up[at : at + 7], end=False) for at in range(0, len(up), 7)) + data(stream))
    down = b"".join(message(b"a" * n, compressed=True) for n in range(20))
    t.server(link.accepted(stream) + data(stream, down, end=False) + link.done(stream, 0))
    link.expect_rpc(path, 0)


@cases(("+proto", "+json", ";charset=utf-8"))
def grpc_type(t: Talk, ending: str) -> None:
    link = Link(t)
    stream, path, asked = link.call(content_type=f"application/grpc{ending}")
    t.client(asked + data(stream, message(b"question")))
    t.server(link.accepted(stream) + data(stream, message(b"answer"), end=False) + link.done(stream))
    link.expect_rpc(path, 0)


NO_FAILURE: dict[str, Any] = {"errors": ()}  # to a server, that a client has cancelled is none of its own


@case()
def grpc_cancelled(t: Talk) -> None:
    """By the client, as at its deadline: after it was accepted, and before."""
    link = Link(t)
    for accepted in (False, True):
        stream, path, asked = link.call(fields=[("grpc-timeout", "100m")])
        t.client(asked + data(stream, message(b"question")))
        if accepted:
            t.server(link.accepted(stream))
        t.sleep(CLIENT, 0.1)
        t.client(rst_stream(stream, h2.CANCEL))
        link.expect_rpc(path, None, delay=0.1, errors=("CANCEL",), server=NO_FAILURE)
        link.rpc()


@case()
def grpc_refused(t: Talk) -> None:
    link = Link(t)
    stream, path, asked = link.call()
    t.client(asked + data(stream, message(b"question")))
    t.server(rst_stream(stream, h2.REFUSED_STREAM))
    link.expect_rpc(path, None, errors=("REFUSED_STREAM", "UNAVAILABLE", "14"))
    link.rpc()


@case()
def grpc_concurrent(t: Talk) -> None:
    link = Link(t)
    calls = [link.call() for _ in range(100)]
    t.client(b"".join(asked + data(stream, message(b"question")) for stream, _, asked in calls))
    calls.reverse()
    t.server(b"".join(link.accepted(stream) + data(stream, message(b"a"), end=False) for stream, _, _ in calls))
    t.server(b"".join(link.done(stream, stream % 17) for stream, _, _ in calls))
    for stream, path, _ in calls:
        link.expect_rpc(path, stream % 17)


@case()
def grpc_web(t: Talk) -> None:
    """Trailers are in the body: plain HTTP."""
    link = Link(t)
    fields = [("content-type", "application/grpc-web+proto")]
    link.exchange("POST", body=message(b"question"), answer=message(b"answer"), fields=fields, answer_fields=fields)


# Not HTTP/2


LOOKALIKES = {
    "frames_without_preface": h2.settings() + headers(1, Tables().request("/invented", "GET", HOST), end=True),
    "preface_of_something_else": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + h2.settings(),
    "half_a_preface": h2.PREFACE[:20] + b"GET /invented HTTP/1.1\r\n\r\n",
    "length_prefixed": b"".join(struct.pack(">I", 9 + n) + bytes((1, 5, 0, 0, 0, 1)) + b"\x82" * 8 for n in range(50)),
    "amqp": b"AMQP\x00\x00\x09\x01" + h2.frame(1, 5, 1, b"\x82\x84\x86"),
    "noise": noise(3000),
    "zeros": bytes(3000),
}


@cases(list(LOOKALIKES))
def lookalike(t: Talk, name: str) -> None:
    """Nothing may be told of what only resembles it."""
    for pieces in ((), (9,) * 20):
        t.client(LOOKALIKES[name], pieces=pieces)
        answer = h2.settings() + headers(1, Tables().response(200), end=True)
        t.server(answer if "preface" not in name else noise(50), pieces=pieces)


@case()
def frame_too_large(t: Talk) -> None:
    """After what no frame can be, a connection is not HTTP/2 any more; what was before stands."""
    link = Link(t)
    link.exchange(answer=b"before")
    t.client(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + noise(2000))
    t.server(h2.goaway(1, h2.PROTOCOL_ERROR))
    t.do(Close(SERVER))
