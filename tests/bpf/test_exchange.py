"""Framing and pairing of the kernel side, message by message."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Connection, head, lines

from autoinstr.capture.abi import EXCHANGE_BODY_ABOUT, EXCHANGE_HEAD_CUT, Counter, Error, Role

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def talk(*parts: tuple[str, bytes], role: Role = Role.SERVER, fresh: bool = True) -> Connection:
    """A conversation: (">" request bytes | "<" response bytes)."""
    connection = Connection(role, fresh=fresh)
    for direction, data in parts:
        (connection.request if direction == ">" else connection.response)(data)
    return connection


CASES = {
    "keep-alive": ([(">", GET), ("<", OK), (">", GET), ("<", OK)], ["GET /a 200 0/2"] * 2),
    "content-length": (
        [(">", b"POST /p HTTP/1.1\r\ncontent-LENGTH:  5\r\n\r\nhello"), ("<", OK)],
        ["POST /p 200 5/2"],
    ),
    "chunked request": (
        [
            (
                ">",
                b"PUT /p HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
                b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
            ),
            ("<", OK),
        ],
        ["PUT /p 200 15/2"],
    ),
    "chunked response with trailers": (
        [
            (">", GET),
            ("<", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\nZ: a\r\n\r\n"),
            (">", GET),
            ("<", OK),
        ],
        ["GET /a 200 0/3", "GET /a 200 0/2"],
    ),
    "transfer-encoding overrides content-length": (
        [
            (">", b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
            ("<", OK),
        ],
        ["POST / 200 1/2"],
    ),
    "head": (
        [
            (">", b"HEAD /h HTTP/1.1\r\n\r\n"),
            ("<", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
            (">", GET),
            ("<", OK),
        ],
        ["HEAD /h 200 0/0", "GET /a 200 0/2"],
    ),
    "204 and 304": (
        [
            (">", GET),
            ("<", b"HTTP/1.1 204 No Content\r\n\r\n"),
            (">", GET),
            ("<", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        ],
        ["GET /a 204 0/0", "GET /a 304 0/0"],
    ),
    "100-continue": (
        [
            (">", b"POST /u HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
            ("<", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (">", b"body"),
            ("<", OK),
        ],
        ["POST /u 200 4/2"],
    ),
    "early hints": (
        [
            (">", GET),
            ("<", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        ],
        ["GET /a 200 0/1"],
    ),
    "early error to an upload": (
        [
            (">", b"POST /big HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100),
            ("<", b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
            (">", b"GET / HTTP/1.1\r\n\r\n" + b"y" * 882),
            (">", GET),
            ("<", OK),
        ],
        ["POST /big 413 100/0", "GET /a 200 0/2"],
    ),
    "pipelined in one segment": ([(">", GET * 3), ("<", OK + OK), ("<", OK)], ["GET /a 200 0/2"] * 3),
    "upgrade": (
        [
            (">", b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
            ("<", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"),
            (">", GET),
            ("<", OK),
        ],
        ["GET /ws 101 0/0"],
    ),
    "connect, then plaintext inside": (
        [(">", b"CONNECT h:80 HTTP/1.1\r\n\r\n"), ("<", b"HTTP/1.1 200 OK\r\n\r\n"), (">", GET), ("<", OK)],
        ["CONNECT h:80 200 0/0", "GET /a 200 0/2"],
    ),
    "connect, refused": (
        [
            (">", b"CONNECT h:80 HTTP/1.1\r\n\r\n"),
            ("<", b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"),
            (">", GET),
            ("<", OK),
        ],
        ["CONNECT h:80 403 0/2", "GET /a 200 0/2"],
    ),
    "line feeds alone": (
        [(">", b"GET /l HTTP/1.0\nHost: h\n\n"), ("<", b"HTTP/1.0 200 OK\nContent-Length: 1\n\nx")],
        ["GET /l 200 0/1"],
    ),
    "empty lines before a request": (
        [(">", b"\r\n\r\n" + GET), ("<", OK), (">", b"\r\n"), (">", GET), ("<", OK)],
        ["GET /a 200 0/2"] * 2,
    ),
    "body that looks like requests": (
        [
            (">", b"POST /b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (len(GET) * 3)),
            (">", GET),
            (">", GET),
            (">", GET),
            ("<", OK),
        ],
        ["POST /b 200 84/2"],
    ),
    "response body that looks like responses": (
        [
            (">", GET),
            ("<", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(OK) * 2) + OK),
            ("<", OK),
            (">", GET),
            ("<", OK),
        ],
        [f"GET /a 200 0/{len(OK) * 2}", "GET /a 200 0/2"],
    ),
    "response without a length is not over": ([(">", GET), ("<", b"HTTP/1.0 200 OK\r\n\r\nabc")], []),
    "PROXY protocol, version 1": (
        [(">", b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" + GET), ("<", OK), (">", GET), ("<", OK)],
        ["GET /a 200 0/2"] * 2,
    ),
    "garbage that the server answers": (
        [(">", b"Good morning\r\n\r\n"), ("<", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")],
        ["? 400 0/0"],
    ),
    "answer to half a head": (
        [(">", b"GET /slow HTTP/1.1\r\nHos"), ("<", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")],
        ["GET /slow 408 0/0"],
    ),
}


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("name", CASES)
def test_conversation(name: str, role: Role) -> None:
    parts, expected = CASES[name]
    assert lines(talk(*parts, role=role).told) == expected


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
# but for the one in which the end of a request is where its segment ends
@pytest.mark.parametrize("name", [name for name in CASES if "half a head" not in name])
def test_conversation_byte_by_byte(name: str, role: Role) -> None:
    parts, expected = CASES[name]
    single = [(direction, data[i : i + 1]) for direction, data in parts for i in range(len(data))]
    assert lines(talk(*single, role=role).told) == expected


@pytest.mark.parametrize("name", ["keep-alive", "content-length", "chunked response with trailers", "head"])
def test_connection_older_than_the_agent(name: str) -> None:
    """The role is found by what is seen first."""
    parts, expected = CASES[name]
    for role in (Role.SERVER, Role.CLIENT):
        connection = Connection(Role.UNKNOWN, fresh=False)
        connection.role = role
        for direction, data in parts:
            (connection.request if direction == ">" else connection.response)(data)
        assert lines(connection.told) == expected
        assert set(connection.told["role"]) == {role}


def test_agent_started_in_the_middle_of_a_response() -> None:
    connection = Connection(Role.UNKNOWN, fresh=False)
    for data in (b"rest of a body", b"GET / HTTP/1.1 is what it says\r\n"):
        connection.write(data)
    connection.read(GET)
    connection.write(OK)
    assert lines(connection.told) == ["GET /a 200 0/2"]


def test_agent_started_while_the_server_was_working() -> None:
    connection = Connection(Role.UNKNOWN, fresh=False)
    connection.write(OK)
    connection.read(GET)
    connection.write(OK)
    assert lines(connection.told) == ["GET /a 200 0/2"]
    assert connection.counter(Counter.ORPHAN_RESPONSE) == 1


def test_end_of_the_connection() -> None:
    for parts, error, expected in [
        ([(">", GET), ("<", b"HTTP/1.0 200 OK\r\n\r\nabc")], 0, ["GET /a 200 0/3"]),
        ([(">", GET)], 0, [f"GET /a 0 0/0 error {int(Error.NO_RESPONSE)}"]),
        ([(">", GET)], 104, ["GET /a 0 0/0 error 104"]),
        ([(">", GET), ("<", OK[:-1])], 0, [f"GET /a 200 0/1 error {int(Error.TRUNCATED)}"]),
        ([(">", GET), ("<", b"HTTP/1.1 200")], 0, [f"GET /a 0 0/0 error {int(Error.TRUNCATED)}"]),
        ([(">", GET + GET), ("<", OK)], 0, ["GET /a 200 0/2", f"GET /a 0 0/0 error {int(Error.NO_RESPONSE)}"]),
        ([(">", GET[:-2])], 0, []),
        (
            [(">", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")],
            0,
            [f"POST / 0 2/0 error {int(Error.NO_RESPONSE)}"],
        ),
    ]:
        connection = talk(*parts)
        connection.end(error)
        connection.end(error)
        assert lines(connection.told) == expected


@pytest.mark.parametrize(
    "first",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x08",
    ],
)
def test_other_protocols_are_let_be(first: bytes) -> None:
    connection = talk((">", first), ("<", b"\x00\x00\x12\x04\x00"), (">", GET), ("<", OK))
    assert lines(connection.told) == []


def test_text_protocols_are_let_be() -> None:
    connection = talk(("<", b"220 mail ESMTP\r\n"), (">", b"HELO me\r\n"), ("<", b"250 ok\r\n"))
    assert connection.ignored
    assert len(connection.told) == 0
    connection = talk((">", b"GET key\r\n"), ("<", b"$3\r\nabc\r\n"), (">", GET), ("<", OK))
    assert connection.ignored
    assert len(connection.told) == 0


@pytest.mark.parametrize("size", [200, 255, 256, 257, 300, 511, 512, 513, 600, 1500, 8192, 15000])
def test_long_heads(size: int) -> None:
    padding = b"X-Padding: " + b"p" * (size - len(GET) - 13) + b"\r\n"
    for request in (GET[:-2] + padding + b"\r\n", GET[:-2] + b"A: b\r\n" * (size // 6) + b"\r\n"):
        for cut in (0, 1, 100, 600, len(request) - 1):
            connection = talk((">", request[:cut]), (">", request[cut:]), ("<", OK), (">", GET), ("<", OK))
            assert lines(connection.told) == ["GET /a 200 0/2"] * 2
            first = connection.told[0]
            assert bool(first["flags"] & EXCHANGE_HEAD_CUT) == (len(request) > 256)
            assert head(first) == request[:256]


@pytest.mark.parametrize("size", [100, 240, 250, 256, 490, 505, 512, 600, 4000, 12000])
def test_long_paths(size: int) -> None:
    request = b"GET /" + b"p" * size + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
    for cut in (0, 1, 90, 97, 300, len(request) - 20):
        connection = talk((">", request[:cut]), (">", request[cut:]), ("<", OK), (">", GET), ("<", OK))
        told = connection.told
        assert [x["status"] for x in told] == [200, 200]
        assert told[0]["request_body"] == 1
        assert head(told[0]) == request[:-1][:256]


@pytest.mark.parametrize("before", [0, 50, 100, 119, 120, 170, 180, 230, 400, 440, 480, 1000, 4000])
def test_traceparent_anywhere_in_the_head(before: int) -> None:
    padding = b"X: " + b"p" * before + b"\r\n" if before else b""
    request = GET[:-2] + padding + b"TraceParent: " + TRACEPARENT + b"\r\nY: z\r\n\r\n"
    for cut in (0, 1, 60, 130, len(request) - 30):
        connection = talk((">", request[:cut]), (">", request[cut:]), ("<", OK))
        (told,) = connection.told
        at = int(told["traceparent"])
        assert bytes(told["head"][at : at + 55]) == TRACEPARENT
        assert head(told) == request[: told["head_size"]]
        assert told["head_size"] >= min(192, len(request))


def test_traceparent_of_one_request_is_not_the_next_ones() -> None:
    connection = talk((">", GET[:-2] + b"traceparent: " + TRACEPARENT + b"\r\n\r\n"), ("<", OK), (">", GET), ("<", OK))
    assert [bool(at) for at in connection.told["traceparent"]] == [True, False]


@pytest.mark.parametrize("blanks", [b"", b" ", b"\t", b" \t      ", b" " * 15])
@pytest.mark.parametrize(
    "digits", ["7", "12", "1234567", "12345678", "123456789", "123456789012345", "000000000000009"]
)
def test_content_length(blanks: bytes, digits: str) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length:" + blanks + digits.encode() + b"\r\n\r\n"
    connection = talk((">", GET), ("<", response))
    assert not len(connection.told)
    connection.sendfile(int(digits) - 1)
    assert not len(connection.told)
    connection.sendfile(1)
    assert lines(connection.told) == [f"GET /a 200 0/{int(digits)}"]


@pytest.mark.parametrize("digits", [b"", b"x", b"-1", b"1234567890123456", b" " * 17 + b"5"])
def test_content_length_that_is_none(digits: bytes) -> None:
    """Such a body ends with the connection."""
    connection = talk((">", GET), ("<", b"HTTP/1.1 200 OK\r\nContent-Length:" + digits + b"\r\n\r\nwhatever"))
    assert not len(connection.told)
    connection.end()
    assert lines(connection.told) == ["GET /a 200 0/8"]


@pytest.mark.parametrize(
    "digits", ["1", "a", "F", "09", "1aF", "7fffff", "ABCDEF0", "0000000c", "00000000c", "1ffffffff"]
)
@pytest.mark.parametrize("extension", [b"", b";x=f"])
def test_size_of_a_chunk(digits: str, extension: bytes) -> None:
    size = int(digits, 16)
    connection = talk((">", GET), ("<", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    connection.response(digits.encode() + extension + b"\r\n")
    connection.sendfile(size)
    connection.response(b"\r\n0\r\n\r\n")
    assert lines(connection.told) == [f"GET /a 200 0/{size}"]


@pytest.mark.parametrize("digits", [b"", b"g", b"\x11", b"@", b"`", b"1234567890123456", b"-1"])
def test_size_of_a_chunk_that_is_none(digits: bytes) -> None:
    connection = talk((">", GET), ("<", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    connection.response(digits + b"\r\n")
    assert connection.counter(Counter.LOST_SYNC) == 1


def test_many_small_chunks() -> None:
    for count in (10, 50, 1000, 2500):
        body = b"".join(b"3\r\nabc\r\n" for _ in range(count)) + b"0\r\n\r\n"
        response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        connection = talk((">", GET), ("<", response), (">", GET), ("<", OK))
        assert lines(connection.told) == [f"GET /a 200 0/{3 * count}", "GET /a 200 0/2"]


def test_more_chunks_than_a_run_may_look_at() -> None:
    body = b"".join(b"3\r\nabc\r\n" for _ in range(20000)) + b"0\r\n\r\n"
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    connection = talk((">", GET), ("<", response), (">", GET), ("<", OK))
    assert [x["status"] for x in connection.told] == [200, 200]
    for cut in (70000, len(response) - 3, len(response) - 6):
        again = talk((">", GET), ("<", response[:cut]), ("<", response[cut:]), (">", GET), ("<", OK))
        assert [x["status"] for x in again.told] == [200, 200], cut
    assert connection.told["flags"][0] & EXCHANGE_BODY_ABOUT
    assert connection.counter(Counter.STEPS_EXHAUSTED) == 1


@pytest.mark.parametrize("count", [2, 16, 50])
def test_pipelined(count: int) -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % i for i in range(count))
    responses = b"".join(b"HTTP/1.1 %d OK\r\nContent-Length: 1\r\n\r\nx" % (400 + i) for i in range(count))
    connection = talk((">", requests), ("<", responses))
    assert lines(connection.told) == [f"GET /{i} {400 + i} 0/1" for i in range(count)]
    assert list(connection.told["sequence"]) == list(range(count))


def test_more_pipelined_requests_than_a_run_may_look_at_are_no_wrong_pairs() -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % i for i in range(5000))
    connection = talk((">", requests), ("<", OK * 5000))
    assert connection.counter(Counter.STEPS_EXHAUSTED) == 1
    assert lines(connection.told) == [f"GET /{i} 200 0/2" for i in range(len(connection.told))]


def test_vectors() -> None:
    connection = talk((">", GET))
    connection.writev(b"HTTP/1.1 ", b"200 OK", b"\r\n", b"Content-", b"Length: 6\r\n", b"", b"\r\n", b"abc", b"def")
    connection.request(GET)
    connection.writev(*(OK[i : i + 1] for i in range(len(OK))))
    assert lines(connection.told) == ["GET /a 200 0/6", "GET /a 200 0/2"]


def test_sendfile() -> None:
    connection = talk((">", GET), ("<", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))
    connection.sendfile(60000)
    connection.sendfile(40000)
    connection.request(GET)
    connection.response(OK)
    assert lines(connection.told) == ["GET /a 200 0/100000", "GET /a 200 0/2"]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("begins", [b"", b"5\r\nabcde\r\n", b"ffff\r\nabc"])
def test_chunks_out_of_a_file(begins: bytes) -> None:
    """Size lines and all, so that their end is not seen. The next request tells, or the connection's end."""
    connection = talk((">", GET), ("<", CHUNKED + begins))
    connection.sendfile(70000)
    connection.sendfile(70000)
    assert not len(connection.told)
    connection.request(GET)
    assert lines(connection.told)[0].startswith("GET /a 200 0/")
    connection.response(OK)
    connection.request(GET)
    connection.response(CHUNKED)
    connection.sendfile(70000)
    connection.end()
    assert not any(connection.told["error"]) and len(connection.told) == 3
    assert list(connection.told["flags"] & EXCHANGE_BODY_ABOUT) == [EXCHANGE_BODY_ABOUT, 0, EXCHANGE_BODY_ABOUT]
    assert not connection.counter(Counter.LOST_SYNC)


def test_chunks_out_of_a_file_whose_end_is_seen() -> None:
    connection = talk((">", GET), ("<", CHUNKED))
    connection.sendfile(70000)
    connection.response(b"abc\r\n0\r\n\r\n")
    assert len(connection.told) == 1
    connection.request(GET)
    connection.response(OK)
    assert lines(connection.told)[1:] == ["GET /a 200 0/2"]


def test_who_pipelines_behind_chunks_out_of_a_file_is_given_up() -> None:
    connection = talk((">", GET), ("<", CHUNKED))
    connection.sendfile(70000)
    connection.request(GET)
    connection.response(b"abc\r\n0\r\n\r\n")
    connection.response(OK)
    assert len(connection.told) == 1
    assert connection.counter(Counter.LOST_SYNC) == 1


def test_full_ring_is_counted() -> None:
    connection = talk((">", GET), ("<", OK))
    connection.fill_ring()
    before = connection.aggregated(b"GET ", 200)
    for _ in range(5):
        connection.request(GET)
        connection.response(OK)
    counted = connection.aggregated(b"GET ", 200)
    start = np.zeros_like(counted) if before is None else before
    assert counted["count"] - start["count"] == 5
    assert counted["duration"].sum() - start["duration"].sum() == 5
    assert counted["response"][1] - start["response"][1] == 5
    assert counted["request"][0] - start["request"][0] == 5
    assert len(connection.told) == 1
    assert connection.counter(Counter.RING_FULL) == 5


def test_times() -> None:
    connection = talk(
        (">", b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"), (">", b"a"), (">", b"b"), ("<", OK[:-1]), ("<", OK[-1:])
    )
    (told,) = connection.told
    times = [told[name] for name in ("request_start", "request_end", "response_start", "response_end")]
    assert times == [1001, 1003, 1004, 1005]


def test_proxy_protocol_version_2() -> None:
    header = b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11\x00\x0c" + bytes(12)
    assert lines(talk((">", header + GET), ("<", OK)).told) == ["GET /a 200 0/2"]


def test_chunks_in_many_buffers() -> None:
    connection = talk((">", GET), ("<", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    parts = [part for _ in range(300) for part in (b"64\r\n", b"x" * 100, b"\r\n")]
    connection.writev(*parts)
    connection.writev(*parts, b"0\r\n\r\n")
    connection.request(GET)
    connection.response(OK)
    assert lines(connection.told) == ["GET /a 200 0/60000", "GET /a 200 0/2"]


def test_chunks_are_looked_at_no_further_than_was_moved() -> None:
    """As Node sends large ones: a size line in two buffers, the first of which is all that an entry looks at."""
    parts = (b"493", b"\r\n", b"x" * 0x493, b"\r\n", b"0\r\n\r\n")
    whole = b"".join(parts)
    for moved in (*range(1, 40), *range(len(whole) - 10, len(whole))):
        connection = talk((">", GET), ("<", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        connection.writev(*parts, moved=moved)
        connection.response(whole[moved:])
        connection.request(GET)
        connection.response(OK)
        assert lines(connection.told) == [f"GET /a 200 0/{0x493}", "GET /a 200 0/2"], moved


def test_chunks_whose_size_and_line_end_are_buffers_of_their_own() -> None:
    """As Node sends them: 1,024 buffers at a time."""
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64"
    parts = [start, *([b"\r\n", b"x" * 100, b"\r\n", b"64"] * 700)[:-1], b"0\r\n\r\n"]
    connection = talk((">", GET))
    for i in range(0, len(parts), 1024):
        connection.writev(*parts[i : i + 1024])
    connection.request(GET)
    connection.response(OK)
    assert lines(connection.told) == ["GET /a 200 0/70000", "GET /a 200 0/2"]


def test_agent_started_within_an_upload_of_text() -> None:
    connection = Connection(Role.UNKNOWN, fresh=False)
    connection.read(b"the rest of a letter, in plain words")
    connection.write(OK)
    connection.read(GET)
    connection.write(OK)
    assert lines(connection.told) == ["GET /a 200 0/2"]
    assert connection.counter(Counter.ORPHAN_RESPONSE) == 1


def test_size_of_a_body_cut_within_a_chunk() -> None:
    connection = talk(
        (">", GET), ("<", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n20\r\n0123456789")
    )
    connection.end()
    assert lines(connection.told) == [f"GET /a 200 0/15 error {int(Error.TRUNCATED)}"]


def test_a_long_line_within_a_response_older_than_the_agent_is_no_request() -> None:
    """The rest of a body may look like the beginning of a request line that has no end."""
    connection = Connection(Role.UNKNOWN, fresh=False)
    for _ in range(3):
        connection.write(b"x" * 2_000_000)
    for _ in range(2):
        connection.read(GET)
        connection.write(OK)
    assert lines(connection.told) == ["GET /a 200 0/2"] * 2
    assert not connection.ignored
