"""Every way that HTTP/1 may cross a socket, as conversations, each with the requests that the agent should tell of it.

In: nothing. Out: `CASES`, by name. A case is a function that writes a `Talk`: what client and server say, and what is
true of it. Both sides are watched, so each request is expected twice, from the server's and from the client's side.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import deeds
from conversation import (
    CLIENT,
    MULTIPATH,
    SERVER,
    Accept,
    Close,
    CloseByRange,
    Die,
    Gate,
    Handler,
    Reset,
    ResetUnnoticed,
    Say,
    ShutWrite,
    Sleep,
    Spawn,
    Step,
    Turn,
    accept_here,
    just_play,
    just_visit,
)
from truth import Expected

HOST = "puppet.test"
CRLF = b"\r\n"
BOTH = (SERVER, CLIENT)
# What a side may call it when the other one went away; which of these depends on who noticed first.
GONE = ("ECONNRESET", "EPIPE", "no_response")
CUT = ("ECONNRESET", "EPIPE", "truncated")


@dataclass(frozen=True)
class Options:
    family: str = "tcp4"
    accept: Accept = accept_here
    handler: Handler = just_play
    client: Handler = just_visit
    before: bool = False  # begins before the agent, and waits at a gate
    # not beside others: a child that another case forks meanwhile would hold its descriptor, too, and the end of a Unix
    # socket is only seen when its last descriptor is closed by close()
    alone: bool = False
    at_once: bool = False


@dataclass
class Talk:
    """One case: connections with their steps, and the truth about them."""

    name: str
    options: Options
    connections: list[list[Step]] = field(default_factory=lambda: [[]])
    expected: list[tuple[int, Expected]] = field(default_factory=list)  # number of the connection, truth
    count: int = 0

    @property
    def steps(self) -> list[Step]:
        return self.connections[-1]

    def path(self) -> str:
        """A new path, like no other."""
        self.count += 1
        return f"/t/{self.name}/{self.count - 1}"

    def reconnect(self) -> None:
        self.connections.append([])

    def client(self, data: bytes, **how: Any) -> None:
        self.steps.append(Say(CLIENT, data, **how))

    def server(self, data: bytes, **how: Any) -> None:
        self.steps.append(Say(SERVER, data, **how))

    def do(self, *steps: Step) -> None:
        self.steps.extend(steps)

    def sleep(self, who: str, seconds: float) -> None:
        self.do(Sleep(who, seconds))

    def expect(
        self,
        path: str,
        roles: Collection[str] = BOTH,
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """The request with this path happened on the current connection; `server` and `client` differ as said."""
        for role, differing in ((SERVER, server), (CLIENT, client)):
            if role in roles:
                truth = Expected(path, role, **{**fields, **(differing or {})})
                self.expected.append((len(self.connections) - 1, truth))

    def exchange(
        self,
        method: str = "GET",
        *,
        body: bytes = b"",
        status: int = 200,
        answer: bytes = b"",
        fields: Collection[str] = (),
        how: dict[str, Any] | None = None,
        back: dict[str, Any] | None = None,
        **truth: Any,
    ) -> None:
        """A plain request and its response."""
        path = self.path()
        self.client(request(path, method, body, fields), **(how or {}))
        self.server(response(status, answer), **(back or {}))
        self.expect(path, method=method, status=status, request_size=len(body), response_size=len(answer), **truth)


def request(
    path: str,
    method: str = "GET",
    body: bytes = b"",
    fields: Collection[str] = (),
    *,
    version: str = "1.1",
    length: int | None = None,
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"Host: {HOST}", *fields]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def response(
    status: int = 200,
    body: bytes = b"",
    fields: Collection[str] = (),
    *,
    version: str = "1.1",
    length: int | None = None,
) -> bytes:
    lines = [f"HTTP/{version} {status} Whatever", *fields]
    if length != NO_LENGTH and status >= 200 and status != 204:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


NO_LENGTH = -1  # a head without Content-Length


def chunked(body: bytes, size: int, extension: str = "", trailers: Collection[str] = (), digits: str = "x") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    data = b"".join(f"{len(part):{digits}}{extension}\r\n".encode() + part + CRLF for part in parts)
    return data + b"0\r\n" + "".join(f"{line}\r\n" for line in trailers).encode() + CRLF


def bytewise(data: bytes) -> tuple[int, ...]:
    return (1,) * len(data)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


Writer = Callable[[Talk], None]


class Book:
    """Cases by name, each with what writes it. All names begin alike."""

    def __init__(self, prefix: str = "") -> None:
        self.talks: dict[str, Talk] = {}
        self._prefix = prefix
        self._writers: dict[str, Writer] = {}

    def add(self, name: str, options: Options, write: Writer) -> None:
        name = self._prefix + re.sub(r"\W+", "_", name)
        self._writers[name] = write
        self.talks[name] = self.again(name, "", options)

    def again(self, name: str, suffix: str, options: Options) -> Talk:
        """The same case with other options, under a name of its own."""
        talk = Talk(name + suffix, options)
        self._writers[name](talk)
        return talk

    def case(self, **options: Any) -> Callable[[Writer], Writer]:
        def register(write: Writer) -> Writer:
            self.add(write.__name__, Options(**options), write)
            return write

        return register

    def cases(self, values: Collection[Any]) -> Callable[[Callable[[Talk, Any], None]], Callable[[Talk, Any], None]]:
        """The same conversation with several values."""

        def register(write: Callable[[Talk, Any], None]) -> Callable[[Talk, Any], None]:
            for value in values:
                self.add(f"{write.__name__}_{value}", Options(), lambda t, value=value: write(t, value))
            return write

        return register


HTTP1 = Book()
CASES, add, again, case, cases = HTTP1.talks, HTTP1.add, HTTP1.again, HTTP1.case, HTTP1.cases


# Requests one after the other


@case()
def keep_alive(t: Talk) -> None:
    for n in range(7):
        t.exchange(answer=b"x" * n)


@case()
def methods(t: Talk) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST"):
        body = b"12345" if method in ("PUT", "PATCH", "POST") else b""
        t.exchange(method, body=body, answer=b"ok")


@case()
def method_unknown(t: Talk) -> None:
    path = t.path()
    t.client(request(path, "FROBNICATE"))
    t.server(response(200, b"done"))
    t.expect(path, method="_OTHER", response_size=4)


@case()
def statuses(t: Talk) -> None:
    for status in (200, 201, 302, 400, 404, 429, 500, 503):
        t.exchange(status=status, answer=b"body")


@case()
def slow_answer(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.sleep(SERVER, 0.15)
    t.server(response(200, b"late"))
    t.expect(path, response_size=4, delay=0.15)
    t.exchange(answer=b"at once")


@case()
def slow_body(t: Talk) -> None:
    """The duration goes on to the last byte of the response."""
    path = t.path()
    t.client(request(path))
    t.server(response(200, length=6))
    t.server(b"abcdef", pieces=(1, 2), pause=0.06)
    t.expect(path, response_size=6, delay=0.1)


@case()
def slow_upload(t: Talk) -> None:
    """The duration begins with the first byte of the request."""
    path = t.path()
    t.client(request(path, "POST", b"abcdef"), pieces=(3, 40), pause=0.06)
    t.server(response(200, b""))
    t.expect(path, method="POST", request_size=6, delay=0.1)


@cases((2, 16, 40, 100))
def pipelined(t: Talk, count: int) -> None:
    """Several requests in one segment, all answers in one segment."""
    paths = [t.path() for _ in range(count)]
    t.client(b"".join(request(path) for path in paths))
    t.server(b"".join(response(200 + n % 3, b"x" * n) for n in range(count)))
    for n, path in enumerate(paths):
        t.expect(path, status=200 + n % 3, response_size=n)


@case()
def pipelined_answered_singly(t: Talk) -> None:
    paths = [t.path() for _ in range(16)]
    t.client(b"".join(request(path, "POST", b"y" * n) for n, path in enumerate(paths)))
    for n, path in enumerate(paths):
        t.server(response(200, b"x" * n))
        t.expect(path, method="POST", request_size=n, response_size=n)


@case()
def pipelined_while_answering(t: Talk) -> None:
    """The second request comes in the middle of the first response."""
    first, second = t.path(), t.path()
    t.client(request(first))
    t.server(response(200, b"abc", length=6))
    t.client(request(second))
    t.server(b"def" + response(404, b""))
    t.expect(first, response_size=6)
    t.expect(second, status=404)


@case()
def pipelined_cut_anywhere(t: Talk) -> None:
    paths = [t.path() for _ in range(5)]
    t.client(b"".join(request(path, "POST", b"abc") for path in paths), pieces=(17,) * 30)
    t.server(b"".join(response(200, b"defg") for _ in paths), pieces=(13,) * 30)
    for path in paths:
        t.expect(path, method="POST", request_size=3, response_size=4)


# Heads


@case()
def byte_by_byte(t: Talk) -> None:
    for body in (b"", b"hello"):
        path = t.path()
        data, back = request(path, "POST", body), response(200, body)
        t.client(data, pieces=bytewise(data))
        t.server(back, pieces=bytewise(back))
        t.expect(path, method="POST", request_size=len(body), response_size=len(body))


@case()
def head_cut_at_each_byte(t: Talk) -> None:
    size = len(request("/t/head_cut_at_each_byte/10", "POST", b"12"))
    for cut in range(1, size):
        t.exchange("POST", body=b"12", answer=b"abc", how={"pieces": (cut,)}, back={"pieces": (cut % 44 + 1,)})


@cases((4, 8, 16, 32))
def long_head(t: Talk, kilobytes: int) -> None:
    fields = [f"X-Long-{n}: {'v' * 100}" for n in range(kilobytes * 9)]
    t.exchange(fields=fields, answer=b"ok")
    t.exchange("POST", body=b"abc", fields=fields, answer=b"ok", how={"pieces": (1460,) * 24})
    t.exchange(answer=b"and on")


@cases((8, 16, 32))
def long_field(t: Talk, kilobytes: int) -> None:
    """One cookie fills the head."""
    fields = [f"Cookie: {'c' * kilobytes * 1024}"]
    t.exchange("POST", body=b"abc", fields=fields, answer=b"ok")
    t.exchange("POST", body=b"abc", fields=fields, answer=b"ok", how={"pieces": (1000,) * 40})


@case()
def long_response_head(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.server(response(200, b"abc", [f"Set-Cookie: c{n}={'v' * 200}" for n in range(40)]), pieces=(1460,) * 6)
    t.expect(path, response_size=3)
    t.exchange(answer=b"next")


@case()
def long_path(t: Talk) -> None:
    """Host lies beyond the head that is kept: the client's span has the peer's address instead."""
    path = t.path() + "/" + "p" * 3000
    t.client(request(path))
    t.server(response(200, b"ok"))
    t.expect(path, response_size=2, client={"server_address": "127.0.0.1"})
    t.exchange(answer=b"next")


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traced(t: Talk, name: str, before: int, sampled: bool = True, **how: Any) -> None:
    path = t.path()
    trace = f"{len(t.expected) + 16:02x}{TRACE[2:]}"
    fields = [f"X-Fill: {'f' * before}"] if before else []
    fields += [f"{name}: 00-{trace}-{PARENT}-0{int(sampled)}"]
    t.client(request(path, fields=fields), **how)
    t.server(response(200, b"traced"))
    if sampled:
        t.expect(path, response_size=6, roles=(SERVER,), trace=f"{trace}-{PARENT}")
        t.expect(path, response_size=6, roles=(CLIENT,))


@case()
def traceparent_near(t: Talk) -> None:
    traced(t, "traceparent", 0)
    traced(t, "TraceParent", 0)
    traced(t, "TRACEPARENT", 20)


@case()
def traceparent_not_sampled(t: Talk) -> None:
    traced(t, "traceparent", 0, sampled=False)
    traced(t, "traceparent", 3000, sampled=False)


@case()
def traceparent_at_the_end_of_4_kb(t: Talk) -> None:
    traced(t, "traceparent", 3950)
    traced(t, "Traceparent", 3950, pieces=(1460,) * 4)


@case()
def traceparent_cut(t: Talk) -> None:
    for cut in range(60, 150, 7):
        traced(t, "traceparent", 10, pieces=(cut,))


@case()
def traceparent_around_the_kept_head(t: Talk) -> None:
    """The kernel keeps 256 bytes: every place of the field around that end."""
    for fill in range(60, 190, 3):
        traced(t, "traceparent", fill)


@case()
def odd_spelling(t: Talk) -> None:
    for line in (
        "content-length:5",
        "CONTENT-LENGTH:     5",
        "Content-Length:\t5",
        "cOnTeNt-lEnGtH: 5   ",
        "content-length: 005",
    ):
        path = t.path()
        t.client(f"PUT {path} HTTP/1.1\r\nhost:{HOST}\r\n{line}\r\n\r\nhello".encode())
        t.server(f"HTTP/1.1 200\r\n{line}\r\nx:y\r\n\r\nworld".encode())
        t.expect(path, method="PUT", request_size=5, response_size=5)


@case()
def misleading_fields(t: Talk) -> None:
    """Names that only begin or end as those that framing needs."""
    fields = ["X-Content-Length: 77", "Content-Length-X: 88", "Content-Type: a/b", "Transfer-Encoding-X: chunked"]
    t.exchange("POST", body=b"abc", fields=fields, answer=b"ok")
    t.exchange("GET", fields=fields, answer=b"ok")


@case()
def line_feeds_only(t: Talk) -> None:
    for n in range(3):
        path = t.path()
        t.client(f"POST {path} HTTP/1.1\nHost: {HOST}\nContent-Length: 2\n\nab".encode())
        t.server(f"HTTP/1.1 200 OK\nContent-Length: {n}\n\n".encode() + b"x" * n)
        t.expect(path, method="POST", request_size=2, response_size=n)


@case()
def empty_lines_before(t: Talk) -> None:
    for empty in (b"\r\n", b"\r\n\r\n", b"\n"):
        path = t.path()
        t.client(empty + request(path))
        t.server(response(200, b"ok"))
        t.expect(path, response_size=2)
    path = t.path()
    t.client(request(path, "POST", b"abc") + b"\r\n")  # old browsers
    t.server(response(200, b"ok"))
    t.expect(path, method="POST", request_size=3, response_size=2)
    t.exchange(answer=b"last")


@case()
def proxy_protocol(t: Talk) -> None:
    path = t.path()
    t.client(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n" + request(path))
    t.server(response(200, b"ok"))
    t.expect(path, response_size=2)
    t.exchange(answer=b"next")


@case()
def proxy_protocol_by_itself(t: Talk) -> None:
    t.client(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")
    t.exchange(answer=b"first")
    t.exchange(answer=b"next")


@case()
def http_1_0(t: Talk) -> None:
    for _ in range(3):
        path = t.path()
        t.client(request(path, version="1.0"))
        t.server(response(200, b"until close", version="1.0", length=NO_LENGTH))
        t.do(Close(SERVER))
        t.expect(path, response_size=11, version="1.0")
        t.reconnect()
    t.exchange(answer=b"last")


@case()
def http_1_0_keep_alive(t: Talk) -> None:
    for _ in range(3):
        path = t.path()
        t.client(request(path, version="1.0", fields=["Connection: keep-alive"]))
        t.server(response(200, b"kept", version="1.0", fields=["Connection: keep-alive"]))
        t.expect(path, response_size=4, version="1.0")


@case()
def targets(t: Talk) -> None:
    """Query strings and fragments are cut off, absolute targets lose their authority, odd bytes do no harm."""
    for form in ("{}?a=b&c=/d?e", "{}?", f"http://{HOST}{{}}", f"http://{HOST}{{}}?q=1", "{}#x", "{}/%20%C3%A4"):
        path = t.path()
        t.client(request(form.format(path)))
        t.server(response(200, b"ok"))
        kept = f"{path}/%20%C3%A4" if "%" in form else path
        t.expect(kept, response_size=2)


@case()
def options_of_everything(t: Talk) -> None:
    t.client(request("*", "OPTIONS"))
    t.server(response(204))
    t.expect("OPTIONS", method="OPTIONS", status=204)


# Bodies


@case()
def expect_continue(t: Talk) -> None:
    for _ in range(2):
        path, body = t.path(), b"patience" * 10
        t.client(request(path, "POST", fields=["Expect: 100-continue"], length=len(body)))
        t.server(b"HTTP/1.1 100 Continue\r\n\r\n")
        t.client(body)
        t.server(response(201, b"created"))
        t.expect(path, method="POST", status=201, request_size=len(body), response_size=7)


@case()
def expect_refused(t: Talk) -> None:
    path = t.path()
    t.client(request(path, "POST", fields=["Expect: 100-continue"], length=100000))
    t.server(response(417, b"no", ["Connection: close"]))
    t.do(Close(CLIENT))
    t.expect(path, method="POST", status=417, request_size=0, response_size=2)


@case()
def expect_with_both_in_one_segment(t: Talk) -> None:
    path = t.path()
    t.client(request(path, "POST", b"eager", fields=["Expect: 100-continue"]))
    t.server(b"HTTP/1.1 100 Continue\r\n\r\n" + response(200, b"ok"))
    t.expect(path, method="POST", request_size=5, response_size=2)
    t.exchange(answer=b"next")


@case()
def early_hints(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.server(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    t.sleep(SERVER, 0.05)
    t.server(b"HTTP/1.1 102 Processing\r\n\r\n" + response(200, b"page"))
    t.expect(path, response_size=4, delay=0.05)
    t.exchange(answer=b"next")


@case()
def head_requests(t: Talk) -> None:
    for _ in range(3):
        path = t.path()
        t.client(request(path, "HEAD"))
        t.server(response(200, b"", length=4711))
        t.expect(path, method="HEAD")
        t.exchange(answer=b"body")


@case()
def head_pipelined(t: Talk) -> None:
    paths = [t.path() for _ in range(6)]
    t.client(b"".join(request(path, "HEAD" if n % 2 else "GET") for n, path in enumerate(paths)))
    t.server(b"".join(response(200, b"" if n % 2 else b"12345", length=5) for n in range(6)))
    for n, path in enumerate(paths):
        t.expect(path, method="HEAD" if n % 2 else "GET", response_size=0 if n % 2 else 5)


@case()
def no_content(t: Talk) -> None:
    for status, length in ((204, None), (304, None), (304, 100)):
        path = t.path()
        t.client(request(path))
        t.server(response(status, b"", length=length))
        t.expect(path, status=status)
        t.exchange(answer=b"body")


@case()
def reset_content(t: Talk) -> None:
    t.exchange(status=205)
    t.exchange(answer=b"next")


CHUNK_SIZES = (1, 3, 16, 100, 1000, 70000)


@cases(CHUNK_SIZES)
def chunks_up(t: Talk, size: int) -> None:
    """All chunks in one write."""
    path, body = t.path(), noise(2000)
    t.client(request(path, "POST", fields=["Transfer-Encoding: chunked"]) + chunked(body, size))
    t.server(response(200, b"ok"))
    t.expect(path, method="POST", request_size=2000, response_size=2)
    t.exchange(answer=b"next")


@cases(CHUNK_SIZES)
def chunks_down(t: Talk, size: int) -> None:
    path, body = t.path(), noise(2000)
    t.client(request(path))
    t.server(response(200, fields=["Transfer-Encoding: chunked"], length=NO_LENGTH) + chunked(body, size))
    t.expect(path, response_size=2000)
    t.exchange(answer=b"next")


@case()
def chunks_singly(t: Talk) -> None:
    """A chunk a write, as servers that stream do."""
    path = t.path()
    t.client(request(path))
    t.server(response(200, fields=["Transfer-Encoding: chunked"], length=NO_LENGTH))
    for n in range(1, 30):
        t.server(f"{n:x}\r\n".encode() + b"c" * n + CRLF)
    t.server(b"0\r\n\r\n")
    t.expect(path, response_size=sum(range(1, 30)))
    t.exchange(answer=b"next")


@case()
def chunks_cut_anywhere(t: Talk) -> None:
    head = response(200, fields=["Transfer-Encoding: chunked"], length=NO_LENGTH)
    data = head + chunked(noise(60), 20, extension=";name=value", trailers=["X-Sum: 1"])
    for cut in range(len(head), len(data), 2):
        path = t.path()
        t.client(request(path))
        t.server(data, pieces=(cut,))
        t.expect(path, response_size=60)


@case()
def chunks_byte_by_byte(t: Talk) -> None:
    path, data = t.path(), chunked(noise(50), 11)
    up = request(path, "POST", fields=["Transfer-Encoding: chunked"]) + data
    down = response(200, fields=["Transfer-Encoding: chunked"], length=NO_LENGTH) + data
    t.client(up, pieces=bytewise(up))
    t.server(down, pieces=bytewise(down))
    t.expect(path, method="POST", request_size=50, response_size=50)
    t.exchange(answer=b"next")


@case()
def chunk_oddities(t: Talk) -> None:
    """Extensions, trailers, upper-case and padded sizes."""
    body = noise(300)
    for how in (
        {"extension": ';a="b;c"'},
        {"trailers": ["X-Checksum: abc", "Expires: never"]},
        {"digits": "X"},
        {"digits": "08x"},
        {"extension": " "},
    ):
        path = t.path()
        data = chunked(body, 171, **how)
        t.client(request(path, "POST", fields=["transfer-encoding:CHUNKED", "Trailer: X-Checksum"]) + data)
        t.server(response(200, fields=["Transfer-Encoding: gzip, chunked"], length=NO_LENGTH) + data)
        t.expect(path, method="POST", request_size=300, response_size=300)


@case()
def chunks_in_which_there_is_http(t: Talk) -> None:
    path, body = t.path(), response(500, b"invented") + request("/invented/chunk")
    t.client(request(path, "POST", fields=["Transfer-Encoding: chunked"]) + chunked(request("/invented/x"), 90))
    t.server(response(200, fields=["Transfer-Encoding: chunked"], length=NO_LENGTH))
    for _ in range(5):
        t.server(f"{len(body):x}\r\n".encode())
        t.server(body)
        t.server(b"\r\n")
    t.server(b"0\r\n\r\n")
    t.expect(path, method="POST", request_size=len(request("/invented/x")), response_size=5 * len(body))
    t.exchange(answer=b"next")


@case()
def bodies_that_look_like_http(t: Talk) -> None:
    inner_request, inner_response = request("/invented/1", "POST", b"x"), response(500, b"invented")
    for body, answer in ((inner_request, inner_response), (inner_response, inner_request)):
        path = t.path()
        t.client(request(path, "POST", length=len(body)))
        t.client(body)
        t.server(response(200, length=len(answer)))
        t.server(answer)
        t.expect(path, method="POST", request_size=len(body), response_size=len(answer))


@case()
def until_close_that_looks_like_http(t: Talk) -> None:
    path, body = t.path(), response(500, b"invented")
    t.client(request(path))
    t.server(response(200, length=NO_LENGTH, fields=["Connection: close"]))
    t.server(body)
    t.server(body)
    t.do(Close(SERVER))
    t.expect(path, response_size=2 * len(body))


@case()
def until_close(t: Talk) -> None:
    for size in (0, 1, 100000):
        path = t.path()
        t.client(request(path, fields=["Connection: close"]))
        t.server(response(200, b"z" * size, length=NO_LENGTH))
        t.do(Close(SERVER))
        t.expect(path, response_size=size)
        t.reconnect()
    t.exchange(answer=b"last")


@case()
def until_half_close(t: Talk) -> None:
    path = t.path()
    t.client(request(path, fields=["Connection: close"]))
    t.do(ShutWrite(CLIENT))
    t.server(response(200, b"half closed", length=NO_LENGTH))
    t.do(Close(SERVER))
    t.expect(path, response_size=11)


@case()
def binary_upload(t: Talk) -> None:
    path, body = t.path(), noise(3_000_000)
    t.client(request(path, "PUT", body))
    t.server(response(200, b"ok"))
    t.expect(path, method="PUT", request_size=len(body), response_size=2)
    t.exchange(answer=b"next")


@case()
def large_download(t: Talk) -> None:
    path, body = t.path(), noise(5_000_000)
    t.client(request(path))
    t.server(response(200, body))
    t.expect(path, response_size=len(body))
    t.exchange(answer=b"next")


@case()
def early_error(t: Talk) -> None:
    """A large upload is refused before it is complete; the server closes."""
    path = t.path()
    t.client(request(path, "POST", b"u" * 100_000, length=10_000_000), heard=60_000)
    t.server(response(413, b"too large", ["Connection: close"]))
    t.do(Reset(CLIENT))
    t.expect(
        path,
        method="POST",
        status=413,
        response_size=9,
        server={"request_size": None},
        client={"request_size": 100_000},
    )


@case()
def early_error_and_on(t: Talk) -> None:
    """The client sends the rest of its upload all the same, and goes on."""
    path = t.path()
    t.client(request(path, "POST", b"u" * 50_000, length=100_000))
    t.server(response(413, b"too large"))
    t.client(b"u" * 50_000)
    t.expect(path, method="POST", status=413, response_size=9, request_size=None)
    t.exchange("POST", body=b"abc", answer=b"next")


# Other protocols


def websocket_frame(payload: bytes, masked: bool) -> bytes:
    head = struct.pack("!BB", 0x81, len(payload) | (0x80 if masked else 0))
    if not masked:
        return head + payload
    key = b"\x01\x02\x03\x04"
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


@case()
def websocket(t: Talk) -> None:
    path = t.path()
    t.exchange(answer=b"a page first")
    t.client(request(path, fields=["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: abc"]))
    t.server(response(101, fields=["Upgrade: websocket", "Connection: Upgrade"]))
    for text in (b"hello", request("/invented/ws"), response(500)):
        t.client(websocket_frame(text, masked=True))
        t.server(websocket_frame(text, masked=False))
        t.client(text)
        t.server(text)
    t.expect(path, status=101)


@case()
def connect(t: Talk) -> None:
    t.client(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
    t.server(b"HTTP/1.1 200 Connection established\r\n\r\n")
    for n in range(3):
        t.client(b"\x16\x03\x01\x02\x00" + noise(512, n))
        t.server(b"\x16\x03\x03\x00\x7a" + noise(122, n))
    t.expect("CONNECT", method="CONNECT", request_size=None, response_size=None, client={"server_port": 443})


@case()
def redis(t: Talk) -> None:
    for command in (b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", b"GET key\r\n", b"POST / \r\n", b"PING\r\n"):
        t.client(command)
        t.server(b"$5\r\nvalue\r\n")


@case()
def smtp(t: Talk) -> None:
    t.server(b"220 mail.test ESMTP\r\n")
    for line, reply in ((b"EHLO me", b"250 HELP"), (b"MAIL FROM:<a@b>", b"250 OK"), (b"DATA", b"354 go on")):
        t.client(line + CRLF)
        t.server(reply + CRLF)
    t.client(b"Subject: hello\r\n\r\nGET /invented/mail HTTP/1.1\r\nHost: x\r\n\r\n.\r\n")
    t.server(b"250 OK\r\n")
    t.client(b"QUIT\r\n")
    t.server(b"221 bye\r\n")


@case()
def rtsp(t: Talk) -> None:
    for method in ("OPTIONS", "DESCRIBE"):
        t.client(f"{method} rtsp://puppet.test/invented/film RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
        t.server(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")


@case()
def binary_protocol(t: Talk) -> None:
    for n in range(5):
        t.client(noise(1000, n))
        t.server(noise(3000, n + 10))


@case()
def timeout_without_request(t: Talk) -> None:
    """Servers tell idle connections so, and close."""
    t.server(response(408, b"slow", ["Connection: close"]))
    t.do(Close(SERVER))


@case()
def other_protocol_on_the_same_number(t: Talk) -> None:
    """Descriptors are used again: what was known of the last connection must not stick."""
    for n in range(6):
        if n % 2:
            t.client(noise(300, n))
            t.server(noise(300, n))
        else:
            t.exchange("POST", body=b"abc", answer=b"ok")
        t.do(Close(CLIENT if n % 3 else SERVER))
        t.reconnect()
    t.exchange(answer=b"last")


# Ends that come too early


@case()
def client_leaves_before_the_response(t: Talk) -> None:
    for leave in (Close, Reset, CloseByRange) * 2:
        path = t.path()
        t.client(request(path, "POST", b"abc"))
        t.do(leave(CLIENT))
        t.expect(path, method="POST", status=0, request_size=3, errors=GONE)
        t.reconnect()
    t.exchange(answer=b"last")


@case()
def client_leaves_within_the_response(t: Talk) -> None:
    for leave in (Close, Reset):
        path = t.path()
        t.client(request(path))
        t.server(response(200, b"p" * 100, length=1000))
        t.do(leave(CLIENT))
        t.expect(path, response_size=100, errors=CUT)
        t.reconnect()
    t.exchange(answer=b"last")


@case()
def client_resets_while_the_server_writes(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.server(response(200, b"p" * 100, length=1000))
    t.do(ResetUnnoticed(CLIENT, b"p" * 900))
    t.expect(path, response_size=100, errors=CUT)
    t.reconnect()
    t.exchange(answer=b"last")


@case()
def client_resets_before_the_server_answers(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.do(ResetUnnoticed(CLIENT, response(200, b"too late")))
    t.expect(path, status=None, response_size=None, errors=GONE)
    t.reconnect()
    t.exchange(answer=b"last")


@case()
def client_leaves_within_the_upload(t: Talk) -> None:
    path = t.path()
    t.client(request(path, "POST", b"u" * 500, length=1000))
    t.do(Close(CLIENT))
    t.expect(path, method="POST", status=0, request_size=500, errors=GONE)
    t.reconnect()
    t.exchange(answer=b"last")


@case()
def client_leaves_within_the_head(t: Talk) -> None:
    """A head that was never complete is no request."""
    t.client(b"GET /invented/half HTTP/1.1\r\nHost: pupp")
    t.do(Close(CLIENT))
    t.reconnect()
    t.exchange(answer=b"last")


@case()
def client_leaves_after_one_of_three(t: Talk) -> None:
    paths = [t.path() for _ in range(3)]
    t.client(b"".join(request(path) for path in paths))
    t.server(response(200, b"one"))
    t.do(Reset(CLIENT))
    t.expect(paths[0], response_size=3)
    for path in paths[1:]:
        t.expect(path, status=0, errors=GONE)


@case()
def server_leaves_without_a_response(t: Talk) -> None:
    for leave in (Close, Reset, CloseByRange):
        path = t.path()
        t.client(request(path))
        t.do(leave(SERVER))
        t.expect(path, status=0, errors=GONE)
        t.reconnect()
    t.exchange(answer=b"last")


@case()
def server_leaves_within_the_response(t: Talk) -> None:
    for leave in (Close, Reset):
        for chunks in (False, True):
            path = t.path()
            t.client(request(path))
            if chunks:
                t.server(response(200, b"20\r\npppppppppp", ["Transfer-Encoding: chunked"], length=NO_LENGTH))
            else:
                t.server(response(200, b"pppppppppp", length=1000))
            t.do(leave(SERVER))
            t.expect(path, response_size=10, errors=CUT)
            t.reconnect()
    t.exchange(answer=b"last")


@case(handler=deeds.forked_killed)
def server_is_killed(t: Talk) -> None:
    for answered in (False, True):
        path = t.path()
        t.client(request(path))
        if answered:
            t.server(response(200, b"p" * 10, length=1000))
            t.expect(path, response_size=10, errors=CUT)
        else:
            t.expect(path, status=0, errors=GONE)
        t.do(Die(SERVER))
        t.reconnect()
    path = t.path()
    t.client(request(path))
    t.server(response(200, b"complete"))
    t.do(Die(SERVER))
    t.expect(path, response_size=8)


# System calls


SENDING = ("write", "writev", "writev-many", "sendmsg", "sendmsg-many", "sendmmsg", "more")
RECEIVING = (
    *("read", "readv", "readv-many", "recvmsg", "recvmsg-many", "recvmmsg"),
    *("peek", "waitall", "nonblocking", "mapped"),
)


@cases(SENDING)
def send_by(t: Talk, how: str) -> None:
    calls = {"send": how}
    t.exchange("POST", body=b"abc", answer=b"ok", how=calls, back=calls)
    t.exchange("PUT", body=noise(3000), answer=noise(5000), how=calls, back=calls)
    paths = [t.path() for _ in range(8)]
    t.client(b"".join(request(path) for path in paths), **calls)
    t.server(b"".join(response(200, b"x" * n) for n in range(8)), **calls)
    for n, path in enumerate(paths):
        t.expect(path, response_size=n)
    t.exchange(answer=b"last")


@cases(RECEIVING)
def receive_by(t: Talk, how: str) -> None:
    calls = {"receive": how}
    t.exchange("POST", body=b"abc", answer=b"ok", how=calls, back=calls)
    t.exchange("PUT", body=noise(3000), answer=noise(5000), how=calls, back=calls)
    paths = [t.path() for _ in range(8)]
    t.client(b"".join(request(path) for path in paths), **calls)
    t.server(b"".join(response(200, b"x" * n) for n in range(8)), **calls)
    for n, path in enumerate(paths):
        t.expect(path, response_size=n)
    t.exchange(answer=b"last")


@cases(("sendfile", "splice"))
def body_by(t: Talk, how: str) -> None:
    """Bodies out of files, without a copy in user space."""
    for body in (noise(100), noise(300_000)):
        path = t.path()
        t.client(request(path, "PUT", length=len(body)))
        t.client(body, send=how)
        t.server(response(200, length=len(body)))
        t.server(body, send=how, receive="splice" if how == "splice" else "recv")
        t.expect(path, method="PUT", request_size=len(body), response_size=len(body))
    t.exchange(answer=b"next")


@case()
def upload_by_splice(t: Talk) -> None:
    path, body = t.path(), noise(200_000)
    t.client(request(path, "PUT", length=len(body)))
    t.client(body, receive="splice")
    t.server(response(200, b"ok"))
    t.expect(path, method="PUT", request_size=len(body), response_size=2)
    t.exchange(answer=b"next")


@case()
def body_discarded(t: Talk) -> None:
    """Neither a body's chunks nor its bytes are taken from where they would have been put."""
    for _ in range(2):
        path = t.path()
        t.client(request(path, "PUT", length=5000))
        t.client(noise(5000), receive="discarded")
        t.server(response(200, fields=["Transfer-Encoding: chunked"], length=NO_LENGTH))
        t.server(chunked(noise(500), 100), receive="discarded")
        t.expect(path, method="PUT", request_size=5000, server={"response_size": 500}, client={"response_size": None})
    t.exchange(answer=b"next")


@case()
def until_close_by_sendfile(t: Talk) -> None:
    path, body = t.path(), noise(50_000)
    t.client(request(path))
    t.server(response(200, length=NO_LENGTH))
    t.server(body, send="sendfile")
    t.do(Close(SERVER))
    t.expect(path, response_size=len(body))


@case()
def all_kinds_of_calls_on_one_connection(t: Talk) -> None:
    for n in range(max(len(SENDING), len(RECEIVING))):
        calls = {"send": SENDING[n % len(SENDING)], "receive": RECEIVING[n % len(RECEIVING)]}
        t.exchange("POST", body=b"b" * n, answer=b"a" * n, how=calls, back=calls)


# Families


def family(t: Talk) -> None:
    for n in range(3):
        t.exchange("POST", body=b"abc", answer=b"x" * n)
    t.do(Close(CLIENT))
    t.reconnect()
    t.exchange(answer=b"again")


@case(family="tcp6")
def ipv6(t: Talk) -> None:
    family(t)


@case(family="mapped")
def ipv4_mapped(t: Talk) -> None:
    family(t)


def ends(t: Talk) -> None:
    for step, size, errors in ((Close(SERVER), NO_LENGTH, ()), (Close(CLIENT), 1000, CUT), (Close(SERVER), 1000, CUT)):
        path = t.path()
        t.client(request(path))
        t.server(response(200, b"some", length=size))
        t.do(step)
        t.expect(path, response_size=4, errors=errors)
        t.reconnect()
    path = t.path()
    t.client(request(path))
    t.do(Close(SERVER))
    t.expect(path, status=0, errors=GONE)


for _family in ("fast-open", *MULTIPATH):
    add(f"over_{_family}", Options(family=_family), family)
for _family in MULTIPATH:
    add(f"ends_of_{_family}", Options(family=_family), ends)


@case(family="unix")
def unix_socket(t: Talk) -> None:
    family(t)


@case(family="unix", alone=True)
def unix_socket_until_close(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.server(response(200, b"unix", length=NO_LENGTH))
    t.do(Close(SERVER))
    t.expect(path, response_size=4)


@case(family="unix", alone=True)
def unix_socket_aborted(t: Talk) -> None:
    path = t.path()
    t.client(request(path))
    t.do(Close(SERVER))
    t.expect(path, status=0, errors=GONE)


# Descriptors, processes and threads


def several(t: Talk) -> None:
    for _ in range(2):
        for n in range(3):
            t.exchange("POST", body=b"abc", answer=b"x" * n)
        t.do(Close(CLIENT))
        t.reconnect()
    t.exchange(answer=b"last")


for _name, _options in {
    "forked": {"handler": deeds.forked},
    "prefork": {"accept": deeds.child_accepts},
    "passed_over": {"handler": deeds.passed_over},
    "on_stdio": {"handler": deeds.on_stdio},
    "dup": {"handler": deeds.dup_each},
    "dup2": {"handler": deeds.dup2_each},
    "fcntl_dup": {"handler": deeds.fcntl_each},
    "dup2_over_another": {"handler": deeds.over_another},
    "thread_each": {"handler": deeds.thread_each},
}.items():
    add(_name, Options(**_options), several)


@case(handler=deeds.handed_to_child)
def handed_to_children(t: Talk) -> None:
    """Between requests, and between a request and its response."""
    t.exchange(answer=b"parent")
    t.do(Turn(""))
    t.exchange(answer=b"child")
    path = t.path()
    t.client(request(path, "POST", b"abc"))
    t.do(Turn(""))
    t.server(response(200, b"grandchild"))
    t.expect(path, method="POST", request_size=3, response_size=10)
    t.exchange(answer=b"more")


@case(handler=deeds.shell_on_stdio)
def shell_behind_inetd(t: Talk) -> None:
    for _ in range(3):
        path = t.path()
        t.client(request(path))
        t.do(Say(SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshell"))
        t.expect(path, response_size=5)


@case()
def inherited_by_a_program(t: Talk) -> None:
    """A program inherits the descriptor and ends: the connection does not."""
    path = t.path()
    t.client(request(path))
    t.do(Spawn(SERVER))
    t.server(response(200, b"still here"))
    t.expect(path, response_size=10)
    t.exchange(answer=b"next")


@case()
def many_connections(t: Talk) -> None:
    for n in range(60):
        t.exchange("POST", body=b"b" * n, answer=b"a" * n)
        t.do(Close(SERVER if n % 2 else CLIENT))
        t.reconnect()
    t.exchange(answer=b"last")


@case(at_once=True)
def many_threads(t: Talk) -> None:
    for n in range(24):
        if n:
            t.reconnect()
        for k in range(5):
            t.exchange("POST", body=b"b" * n, answer=b"a" * k)


# Connections that are older than the agent


@case(before=True)
def open_before_the_agent(t: Talk) -> None:
    """Accepted before, used after."""
    t.do(Gate())
    t.exchange("POST", body=b"abc", answer=b"after")
    t.exchange(answer=b"more")


@case(before=True)
def used_before_the_agent(t: Talk) -> None:
    t.client(request("/invented/before"))
    t.server(response(200, b"before"))
    t.do(Gate())
    t.exchange("POST", body=b"abc", answer=b"after")
    t.exchange(answer=b"more")


@case(before=True, family="unix")
def unix_socket_open_before_the_agent(t: Talk) -> None:
    t.do(Gate())
    t.exchange("POST", body=b"abc", answer=b"after")
    t.exchange(answer=b"more")


@case(before=True)
def agent_comes_within_a_request(t: Talk) -> None:
    """The request was before, its response after: that one may be missing, the next one not."""
    first = t.path()
    t.client(request(first))
    t.do(Gate())
    t.server(response(200, b"abcdef"))
    t.exchange(answer=b"after")
    t.exchange("POST", body=b"abc", answer=b"more")
    t.expect(first, response_size=6, optional=True)


@case(before=True)
def agent_comes_within_a_response(t: Talk) -> None:
    t.client(request("/invented/before"))
    t.server(response(200, b"abc", length=6))
    t.do(Gate())
    t.server(b"def")
    t.exchange(answer=b"after")
    t.exchange("POST", body=b"abc", answer=b"more")


@case(before=True)
def agent_comes_within_an_upload(t: Talk) -> None:
    t.client(request("/invented/before", "POST", b"u" * 100, length=200))
    t.do(Gate())
    t.client(b"u" * 100)
    t.server(response(200, b"ok"))
    t.exchange(answer=b"after")
    t.exchange("POST", body=b"abc", answer=b"more")


@case(before=True)
def agent_comes_within_a_binary_upload(t: Talk) -> None:
    t.client(request("/invented/before", "POST", noise(100), length=30_100))
    t.do(Gate())
    for n in range(30):
        t.client(noise(1000, n))
    t.server(response(200, b"ok"))
    t.exchange(answer=b"after")


@case(before=True)
def agent_comes_within_a_head(t: Talk) -> None:
    data = request("/invented/before", fields=["X-First: 1", "X-Second: 2"])
    t.client(data[:50])
    t.do(Gate())
    t.client(data[50:])
    t.server(response(200, b"ok"))
    t.exchange(answer=b"after")
