"""Golden requests: what each becomes, name by name."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autoinstr.capture.abi import Error, Family
from autoinstr.health import Health, Loss
from autoinstr.model import Group, Kind, Requests
from autoinstr.parse import Groups, Parser, RouteOptions
from autoinstr.parse.methods import MAX_METHODS

from .exchanges import batch, exchange, get

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def parse(made: NDArray[Any], *, queries: bool = False) -> tuple[Requests, list[Group], Health]:
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health, queries=queries)
    return parser.parse(made, np.zeros(len(made), np.int32), 10**18), groups.groups, health


def only(made: NDArray[Any]) -> Group:
    requests, groups, _ = parse(made)
    assert len(requests) == len(groups) == 1
    return groups[0]


def path(made: NDArray[Any]) -> bytes:
    requests, _, _ = parse(made)
    return requests.text[requests.text_at[0] :][: requests.text_size[0]].tobytes()


def test_a_served_request() -> None:
    requests, groups, health = parse(get("/users/17?token=1", request_body=3, response_body=5))
    group = groups[requests.group[0]]
    assert group.name == "GET /users/*"
    assert group.kind is Kind.SERVER
    assert group.metric == "http.server"
    assert group.metric_attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.route": "/users/*",
        "server.address": "127.0.0.1",
        "server.port": 8080,
    }
    assert group.span_attributes == group.metric_attributes | {"network.protocol.version": "1.1"}
    assert group.text_key == "url.path"
    assert not group.failed
    assert requests.text.tobytes() == b"/users/17"
    assert requests.query_size.tolist() == [0]
    assert (requests.start.tolist(), requests.end.tolist()) == ([10**18 + 1_000], [10**18 + 4_000])
    assert (requests.request_size.tolist(), requests.response_size.tolist()) == ([3], [5])
    assert (requests.pid.tolist(), requests.tid.tolist()) == ([77], [78])
    assert requests.peer[0].tobytes()[-4:] == bytes([10, 0, 0, 7])
    assert requests.peer_port.tolist() == [50514]
    assert not requests.has_parent.any()
    assert not health.lost


def test_a_sent_request() -> None:
    head = b"POST /v1/pay HTTP/1.0\r\nAccept: */*\r\nhost:  Pay.Example.:81\r\n\r\n"
    group = only(exchange(head, role=3, status=404))
    assert group.name == "POST"
    assert group.kind is Kind.CLIENT
    assert group.metric == "http.client"
    assert group.metric_attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.response.status_code": 404,
        "server.address": "10.0.0.7",  # two spaces: see the next test
        "server.port": 50514,
        "error.type": "404",
    }
    assert group.span_attributes["network.protocol.version"] == "1.0"
    assert group.failed


@pytest.mark.parametrize(
    ("field", "address", "port"),
    [
        ("Host: Pay.Example.:81", "pay.example", 81),
        ("HOST:pay.example", "pay.example", 50514),
        ("host: [2001:DB8::1]:9", "2001:db8::1", 9),
        ("Host: [::ffff:1.2.3.4]", "::ffff:102:304", 50514),
        ("Host: 10.1.2.3:80", "10.1.2.3", 80),
        ("Host: " + "a" * 90, "a" * 90, 50514),
        ("Host: " + "a" * 130, "10.0.0.7", 50514),
        ("Host: a_b-c.d", "a_b-c.d", 50514),
        ("Host: shop.example:99999", "10.0.0.7", 50514),
        ("Host: shop.example:-1", "10.0.0.7", 50514),
        ("Host: [::1", "10.0.0.7", 50514),
        ("Host: [zz]:1", "10.0.0.7", 50514),
        ("Host: ../../etc", "10.0.0.7", 50514),
        ("Host: sh\x7fop", "sh", 50514),
        ("Host:", "10.0.0.7", 50514),
        ("X-Host: no.example", "10.0.0.7", 50514),
    ],
)
@pytest.mark.parametrize("before", ["", "Accept: */*\r\n", "Xhost: x\r\nHosts: y\r\n"])
def test_host(before: str, field: str, address: str, port: int) -> None:
    group = only(exchange(f"GET / HTTP/1.1\r\n{before}{field}\r\n\r\n".encode("latin-1"), role=3))
    assert (group.span_attributes["server.address"], group.span_attributes["server.port"]) == (address, port)


def test_half_a_host_is_none() -> None:
    head = b"GET / HTTP/1.1\r\nCookie: " + b"c" * 213 + b"\r\nHost: shop.example\r\n\r\n"
    assert only(exchange(head, role=3)).metric_attributes["server.address"] == "10.0.0.7"


@pytest.mark.parametrize(
    ("target", "text", "route"),
    [
        ("/", b"/", "/"),
        ("/a/", b"/a/", "/a/"),
        ("//", b"//", "//"),
        ("/a?b=/c", b"/a", "/a"),
        ("/a#b?c", b"/a", "/a"),
        ("/a b", b"/a%20b", "/*"),
        ("/caf\xc3\xa9", b"/caf%C3%A9", "/*"),
        ("/caf%C3%A9", b"/caf%C3%A9", "/*"),
        ("/a\x1b[31m", b"/a%1B[31m", "/*"),
        ("http://shop.example/a?b", b"/a", "/a"),
        ("HTTPS://shop.example", b"/", "/"),
        ("http://shop.example?x/y", b"/", "/"),
        ("*", b"*", None),
        ("shop", b"shop", None),
    ],
)
def test_path_and_route(target: str, text: bytes, route: str | None) -> None:
    assert path(get(target)) == text
    assert only(get(target)).metric_attributes.get("http.route") == route


def test_connect() -> None:
    head = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: other.example\r\n\r\n"
    group = only(exchange(head, role=3))
    assert group.name == "CONNECT"
    assert (group.metric_attributes["server.address"], group.metric_attributes["server.port"]) == ("db.example", 5432)
    assert path(exchange(head, role=3)) == b""


def test_proxy_request_names_the_host_of_the_target() -> None:
    group = only(exchange(b"GET http://u:p@shop.example:81/ HTTP/1.1\r\nHost: other.example\r\n\r\n", role=3))
    assert (group.metric_attributes["server.address"], group.metric_attributes["server.port"]) == ("shop.example", 81)


@pytest.mark.parametrize(
    "head", [b"", b"\x16\x03\x01\x02\x00", b"GET", b"GET  HTTP/1.1\r\n", b"\r\n\r\n", b" / HTTP/1.1\r\n"]
)
def test_garbage_is_a_request_of_no_method(head: bytes) -> None:
    requests, groups, health = parse(batch(get("/before"), exchange(head), get("/after")))
    assert [groups[index].name for index in requests.group] == ["GET /before", "HTTP", "GET /after"]
    assert groups[requests.group[1]].metric_attributes["http.request.method"] == "_OTHER"
    assert requests.text_size.tolist() == [7, 0, 6]
    assert health.lost == {Loss.PARSE_ERROR: 1}


def test_unknown_methods() -> None:
    heads = [b"brew /pot HTTP/1.1\r\n\r\n", b"GE\xffT /pot HTTP/1.1\r\n\r\n", b"A" * 17 + b" /pot HTTP/1.1\r\n\r\n"]
    requests, groups, _ = parse(batch(*map(exchange, heads)))
    found = [groups[index] for index in requests.group]
    assert [group.name for group in found] == ["HTTP /pot"] * 3
    assert [group.span_attributes.get("http.request.method_original") for group in found] == ["brew", None, None]
    assert "http.request.method_original" not in found[0].metric_attributes


def test_invented_methods_are_bounded() -> None:
    _, groups, _ = parse(batch(*[exchange(b"M%d / HTTP/1.1\r\n\r\n" % number) for number in range(500)]))
    assert len(groups) <= MAX_METHODS
    assert {group.metric_attributes["http.request.method"] for group in groups} == {"_OTHER"}


@pytest.mark.parametrize(
    ("role", "status", "error", "error_type"),
    [
        (2, 200, 0, None),
        (2, 404, 0, None),
        (2, 500, 0, "500"),
        (2, 503, Error.TRUNCATED, "503"),
        (2, 200, Error.TRUNCATED, "truncated"),
        (2, 0, Error.NO_RESPONSE, "no_response"),
        (2, 0, 0, "no_response"),
        (2, 0, errno.ECONNRESET, "ECONNRESET"),
        (2, 0, 999, "_OTHER"),
        (3, 399, 0, None),
        (3, 400, 0, "400"),
        (3, 101, 0, None),
        (3, 0, errno.EPIPE, "EPIPE"),
    ],
)
def test_errors(role: int, status: int, error: int, error_type: str | None) -> None:
    group = only(get("/", role=role, status=status, error=error))
    assert group.metric_attributes.get("error.type") == error_type
    assert group.failed == (error_type is not None)
    assert group.metric_attributes.get("http.response.status_code") == (status or None)


def test_unix_socket_has_no_address() -> None:
    for role in (2, 3):
        group = only(get("/", role=role, family=Family.UNIX))
        assert "server.address" not in group.span_attributes
        assert "server.port" not in group.span_attributes
        assert group.span_attributes["network.transport"] == "unix"
        assert "network.transport" not in group.metric_attributes


def test_ipv6_address() -> None:
    local = np.frombuffer(bytes.fromhex("20010db8000000000000000000000001"), np.uint8)
    assert only(get("/", family=Family.INET6, local=local)).metric_attributes["server.address"] == "2001:db8::1"


def test_path_longer_than_the_head() -> None:
    requests, groups, health = parse(get("/files/" + "x" * 400))
    assert groups[requests.group[0]].metric_attributes["http.route"] == "/files/*"
    assert requests.text_size.tolist() == [252]
    assert health.lost == {Loss.HEAD_CUT: 1}


def test_head_cut_after_the_path_loses_nothing() -> None:
    for head in (b"GET /a?" + b"x" * 400 + b" HTTP/1.1\r\n\r\n", b"GET /a HTTP/1.1\r\nCookie: " + b"x" * 400):
        requests, groups, health = parse(exchange(head))
        assert groups[requests.group[0]].metric_attributes["http.route"] == "/a"
        assert not health.lost


def test_long_lines_beside_short_ones() -> None:
    long = "/" + "/".join(["item"] * 40)
    requests, _, _ = parse(batch(get("/a"), get(long), get("/b?" + "q" * 150)))
    texts = [requests.text[at:][:size].tobytes() for at, size in zip(requests.text_at, requests.text_size, strict=True)]
    assert texts == [b"/a", long.encode(), b"/b"]


def test_traceparent_in_its_slot_is_no_part_of_the_head() -> None:
    head = bytearray(b"GET /" + b"p" * 300)
    head[192 : 192 + 55] = TRACEPARENT.encode()
    requests, _, _ = parse(exchange(bytes(head), traceparent=192))
    assert requests.has_parent.tolist() == [True]
    assert requests.parent_trace[0].tobytes().hex() == TRACEPARENT[3:35]
    assert requests.text.tobytes() == b"/" + b"p" * 187


def test_queries_only_when_asked_for() -> None:
    made = batch(get("/a?x=1&api_key=s3cret#f"), get("/b"), get("/c?y"))
    assert parse(made)[0].query_size.tolist() == [0, 0, 0]
    requests, _, _ = parse(made, queries=True)
    assert requests.query.tobytes() == b"x=1&api_key=REDACTEDy"
    assert requests.query_size.tolist() == [20, 0, 1]
    assert b"s3cret" not in requests.text.tobytes()


def test_metric_attributes_do_not_tell_apart_what_spans_do() -> None:
    old = exchange(b"GET / HTTP/1.0\r\n\r\n")
    requests, groups, _ = parse(batch(get("/"), old))
    one, two = (groups[index] for index in requests.group)
    assert one.metric_attributes == two.metric_attributes
    assert one.span_attributes != two.span_attributes
