"""Framing and pairing under random conversations, cut anywhere: what is told is what was said, exactly."""

from __future__ import annotations

from dataclasses import dataclass

from harness import Connection, head, lines
from hypothesis import given, settings
from hypothesis import strategies as st

from autoinstr.capture.abi import Counter, Role

NAMES = ["Host", "accept", "X-Forwarded-For", "Cookie", "content-type", "Content-Languages", "transfer-encodings", "TE"]
SIZES = st.integers(0, 40) | st.sampled_from([63, 64, 95, 96, 97, 255, 256, 257, 511, 512, 513, 700])


@dataclass(frozen=True)
class Message:
    """Bytes of a message, and how many of them are payload."""

    data: bytes
    payload: int


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    made = draw(st.lists(st.tuples(st.sampled_from(NAMES), SIZES), max_size=6))
    return b"".join(name.encode() + b": " + b"v" * size + b"\r\n" for name, size in made)


@st.composite
def bodies(draw: st.DrawFn, *, may_be_long: bool = True) -> tuple[bytes, bytes, int]:
    """(fields, bytes of the body, payload). Bodies are made of what looks like messages."""
    text = draw(
        st.sampled_from(
            [b"x", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"\x00\xff"]
        )
    )
    body = text * draw(st.integers(0, 40 if may_be_long else 3))
    if draw(st.booleans()):
        return b"Content-Length: %d\r\n" % len(body), body, len(body)
    data, at = b"", 0
    while at < len(body):
        size = draw(st.integers(1, 300))
        part = body[at : at + size]
        # extensions take a run each, of which a call has 31: beyond that it is counted as lost
        extension = draw(st.sampled_from([b"", b";a=b", b"; q"])) if at < 8 else b""
        data += b"%x%s\r\n%s\r\n" % (len(part), extension, part)
        at += size
    trailers = draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
    return b"Transfer-Encoding: chunked\r\n", data + b"0\r\n" + trailers + b"\r\n", len(body)


@st.composite
def requests(draw: st.DrawFn, number: int) -> Message:
    method = draw(st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE", b"PROPFIND"]))
    target = b"/%d/" % number + b"p" * draw(SIZES)
    framing, body, payload = draw(bodies()) if method == b"POST" else (b"", b"", 0)
    before, after = draw(fields()), draw(fields())
    return Message(b"%s %s HTTP/1.1\r\n%s%s%s\r\n%s" % (method, target, before, framing, after, body), payload)


@st.composite
def responses(draw: st.DrawFn, request: Message) -> Message:
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 500, 503]))
    framing, body, payload = draw(bodies())
    if request.data.startswith(b"HEAD") or status in (204, 304):
        body, payload = b"", 0
    interim = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"])
    )
    data = b"HTTP/1.1 %d Reason\r\n%s%s%s\r\n%s" % (status, draw(fields()), framing, draw(fields()), body)
    return Message(interim + data, payload)


def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The data, cut into at most eight pieces."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=7)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_conversation(data: st.DataObject) -> None:
    """Requests and responses may overlap in any way in which no response comes before its request is complete."""
    draw = data.draw
    count = draw(st.integers(1, 5))
    asked = [draw(requests(i)) for i in range(count)]
    answered = [draw(responses(request)) for request in asked]
    connection = Connection(draw(st.sampled_from([Role.SERVER, Role.CLIENT])), socket=draw(st.booleans()))
    to_send = [piece for request in asked for piece in pieces(draw, request.data)]
    ends = [sum(len(one.data) for one in asked[: i + 1]) for i in range(count)]
    sent, waiting, expected = 0, list(range(count)), []
    while to_send or waiting:
        may_answer = bool(waiting) and sent >= ends[waiting[0]]
        if to_send and (not may_answer or draw(st.booleans())):
            # pieces of several requests may arrive together
            piece = b"".join(to_send.pop(0) for _ in range(min(len(to_send), draw(st.integers(1, 3)))))
            connection.request(piece)
            sent += len(piece)
            continue
        i = waiting.pop(0)
        for piece in pieces(draw, answered[i].data):
            connection.response(piece)
        line = asked[i].data.split(b"\r\n")[0].rsplit(b" ", 1)[0].decode()
        status = int(answered[i].data.rsplit(b" Reason", 1)[0][-3:])
        expected.append((line, status, asked[i].payload, answered[i].payload))
    told = connection.told
    assert [(x["status"], x["request_body"], x["response_body"]) for x in told] == [one[1:] for one in expected]
    for x, request in zip(told, asked, strict=True):
        start = request.data[: request.data.index(b"\r\n\r\n") + 4][:256]
        assert head(x) == start
    assert connection.counter(Counter.LOST_SYNC) == 0
    assert not connection.ignored


@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=600)), max_size=12), st.booleans(), st.sampled_from(list(Role))
)
@settings(max_examples=100, deadline=None)
def test_garbage_does_no_harm(parts: list[tuple[bool, bytes]], fresh: bool, role: Role) -> None:
    connection = Connection(role, fresh=fresh)
    for incoming, part in parts:
        (connection.read if incoming else connection.write)(part)
    connection.end()
    for x in connection.told:
        assert x["head_size"] <= 256
        assert x["traceparent"] <= 201


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_a_hole_gives_no_wrong_pair(noise: bytes, at: int) -> None:
    """Whatever is lost of one exchange, the ones that are told later are told right."""
    get = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
    answer = b"HTTP/1.1 %d OK\r\nContent-Length: 2\r\n\r\nok"
    connection = Connection(Role.SERVER)
    connection.read(get % 0)
    connection.write(answer % 200)
    connection.read((get % 1)[:at] + noise)
    connection.write(b"\x00" + noise)  # no response at all: empty lines alone might still be the start of one
    for i in range(2, 6):
        connection.read(get % i)
        connection.write(answer % (200 + i))
    for line in lines(connection.told)[1:]:
        target, status = line.split()[1:3]
        if target.lstrip("/").isdigit() and len(target) == 2 and target != "/1":
            assert int(status) == 200 + int(target[1:])
