"""Golden streams: what each becomes, name by name; and what becomes of them where parts are missing."""

from __future__ import annotations

import errno
import tracemalloc
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoinstr.capture.abi import (
    EXCHANGE,
    EXCHANGE_TLS,
    HTTP2_ENDED,
    HTTP2_FIELDS,
    HTTP2_FIRST,
    HTTP2_JOINED,
    HTTP2_LAST,
    HTTP2_MESSAGES,
    HTTP2_PART,
    HTTP2_PROMISE,
    HTTP2_REQUEST,
    HTTP2_UPGRADED,
    Error,
    Role,
)
from autoinstr.health import Health, Loss
from autoinstr.model import Group, Requests
from autoinstr.parse import Groups, Parser, RouteOptions, grpc, http2_blocks, http2_streams, parser

from .exchanges import batch, get
from .streams import GRPC, OK, Fields, Peer, Record, head

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNARY = "/echo.EchoService/Unary"


class Stage:
    """A parse stage, and what it told."""

    def __init__(self, *, queries: bool = False) -> None:
        self.health = Health()
        self.groups = Groups(self.health)
        self.parser = Parser(self.groups, RouteOptions(), self.health, queries=queries)

    def parse(self, *records: Record, service: int = 0) -> Requests:
        made = batch(*records)
        return self.parser.parse(made, np.full(len(made), service, np.int32), 0)

    def tell(self, *records: Record) -> list[Group]:
        return [self.groups.groups[number] for number in self.parse(*records).group.tolist()]

    def names(self, *records: Record) -> list[str]:
        return [group.name for group in self.tell(*records)]


def only(*records: Record) -> Group:
    stage = Stage()
    (group,) = stage.tell(*records)
    assert not stage.health.lost
    return group


def text(requests: Requests, row: int) -> bytes:
    return requests.text[requests.text_at[row] :][: requests.text_size[row]].tobytes()


# --- HTTP


def test_a_served_request() -> None:
    peer, stage = Peer(1), Stage()
    requests = stage.parse(*peer.get(1, "/users/17?token=1", request_body=3, response_body=5, tid=79))
    (group,) = stage.groups.groups
    assert group.name == "GET /users/*"
    assert group.metric == "http.server"
    assert group.metric_attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.route": "/users/*",
        "server.address": "127.0.0.1",
        "server.port": 8080,
    }
    assert group.span_attributes == group.metric_attributes | {"network.protocol.version": "2"}
    assert not group.failed
    assert text(requests, 0) == b"/users/17"
    assert requests.query_size.tolist() == [0]
    assert (requests.start.tolist(), requests.end.tolist()) == ([1_000], [4_000])
    assert (requests.request_size.tolist(), requests.response_size.tolist()) == ([3], [5])
    assert requests.tid.tolist() == [79]
    assert not stage.health.lost


def test_a_sent_request() -> None:
    peer = Peer(1, role=Role.CLIENT)
    fields = head("PROPFIND", "/x", "https", "Files.Example.:81")
    response = peer.response(1, [(":status", "404")], flags=HTTP2_ENDED)
    group = only(*peer.request(1, fields), *response)
    assert group.name == "HTTP"
    assert group.metric_attributes == {
        "http.request.method": "_OTHER",
        "url.scheme": "https",
        "http.response.status_code": 404,
        "server.address": "files.example",
        "server.port": 81,
        "error.type": "404",
    }
    assert group.span_attributes["http.request.method_original"] == "PROPFIND"
    assert group.failed


@pytest.mark.parametrize(("flags", "scheme"), [(0, "http"), (EXCHANGE_TLS, "https")])
def test_without_a_scheme_it_is_that_of_the_connection(flags: int, scheme: str) -> None:
    peer = Peer(1, flags=flags)
    group = only(*peer.request(1, [(":method", "CONNECT"), (":authority", "a:1")]), *peer.end(1))
    assert group.metric_attributes["url.scheme"] == scheme


def test_queries_are_kept_if_asked_for() -> None:
    requests = Stage(queries=True).parse(*Peer(1).get(1, "/a?x=1&token=abc#f"))
    assert (text(requests, 0), requests.query.tobytes()) == (b"/a", b"x=1&token=REDACTED")


def test_a_long_path_is_cut() -> None:
    stage = Stage()
    requests = stage.parse(*Peer(1).get(1, "/" + "a" * 300))
    assert text(requests, 0) == b"/" + b"a" * 255
    assert stage.health.lost == {Loss.HEAD_CUT: 1}


def test_bytes_that_no_path_may_hold_are_escaped() -> None:
    peer = Peer(1)
    block = b"\x82\x04\x04/\xff\x00 "
    assert text(Stage().parse(*peer.raw(True, 1, block), *peer.end(1)), 0) == b"/%FF%00%20"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errno.ECONNRESET, "ECONNRESET"),
        (Error.NO_RESPONSE, "no_response"),
        (Error.TRUNCATED, "truncated"),
        (Error.HTTP2 + 8, "CANCEL"),
        (Error.HTTP2 + 7, "REFUSED_STREAM"),
        (Error.HTTP2 + 0, "NO_ERROR"),
        (Error.HTTP2 + 13, "HTTP_1_1_REQUIRED"),
        (Error.HTTP2 + 14, "_OTHER"),
        (65535, "_OTHER"),
    ],
)
def test_a_reset_stream(error: int, name: str) -> None:
    peer = Peer(1)
    group = only(*peer.request(1, head("GET", "/")), *peer.end(1, error=error))
    assert group.metric_attributes["error.type"] == name
    assert "http.response.status_code" not in group.metric_attributes
    assert group.failed


@pytest.mark.parametrize(
    ("method", "fields", "body", "complete"),
    [
        ("GET", [(":status", "200"), ("content-length", "5")], 5, True),
        ("GET", [(":status", "200"), ("content-length", "0")], 0, True),
        ("GET", [(":status", "200"), ("content-length", "5")], 4, False),
        ("GET", [(":status", "200")], 5, False),
        ("GET", [(":status", "204")], 0, True),
        ("HEAD", [(":status", "200"), ("content-length", "5")], 0, True),
    ],
)
@pytest.mark.parametrize("error", [Error.TRUNCATED, errno.ECONNRESET])
def test_a_client_closes_when_it_has_all(method: str, fields: Any, body: int, complete: bool, error: int) -> None:
    peer = Peer(1)
    end = peer.end(1, error=error, response_body=body)
    group = only(*peer.request(1, head(method, "/")), *peer.response(1, fields), *end)
    assert group.metric_attributes.get("error.type") == (None if complete else errno.errorcode.get(error, "truncated"))


def test_blocks_of_several_connections_that_go_on_in_later_batches() -> None:
    stage = Stage()
    peers = [Peer(number) for number in (1, 2, 3)]
    blocks = [peer.request(1, head("GET", f"/{'long' * 40}/{number}"), size=50) for number, peer in enumerate(peers)]
    assert min(map(len, blocks)) > 2
    names: list[str] = []
    for parts in zip_longest(*blocks):
        names += stage.names(*filter(None, parts))
    names += stage.names(*chain(*(peer.end(1) for peer in peers)))
    assert names == ["GET /*/*"] * 3
    assert not stage.health.lost


def test_interim_responses_come_before_the_one_that_counts() -> None:
    peer = Peer(1)
    interim = [peer.response(1, [(":status", code)]) for code in ("100", "103", "103")]
    group = only(
        *peer.request(1, head("POST", "/")), *chain(*interim), *peer.response(1, [(":status", "201")]), *peer.end(1)
    )
    assert group.metric_attributes["http.response.status_code"] == 201


def test_grpc_web_is_http() -> None:
    peer = Peer(1)
    fields = [*head("POST", UNARY), ("content-type", "application/grpc-web+proto")]
    group = only(*peer.request(1, fields), *peer.response(1, [(":status", "200")]), *peer.end(1, HTTP2_MESSAGES))
    assert (group.metric, group.name) == ("http.server", "POST /echo.EchoService/Unary")


def test_an_upgraded_connection() -> None:
    peer, stage = Peer(1), Stage()
    line = b"GET /index?x HTTP/1.1\r\nHost: a.example\r\ntraceparent: " + TRACEPARENT.encode() + b"\r\nUpgrade: h2c\r\n"
    flags = HTTP2_FIELDS | HTTP2_FIRST | HTTP2_LAST | HTTP2_REQUEST | HTTP2_UPGRADED
    records = [peer.record(1, flags, line, 0), *peer.response(1, [(":status", "200")]), *peer.end(1, HTTP2_UPGRADED)]
    peer.numbers[True] = 1
    requests = stage.parse(*records, *peer.get(3, "/next"), *peer.get(5, "/next"))
    assert [text(requests, row) for row in range(3)] == [b"/index", b"/next", b"/next"]
    assert requests.has_parent.tolist() == [True, False, False]
    assert [stage.groups.groups[number].name for number in requests.group] == ["GET /index", "GET /next", "GET /next"]


# --- gRPC


def test_a_served_call() -> None:
    group = only(*Peer(1).call(1, UNARY))
    assert group.name == "echo.EchoService/Unary"
    assert group.metric == "rpc.server"
    assert group.metric_attributes == {
        "rpc.system": "grpc",
        "rpc.service": "echo.EchoService",
        "rpc.method": "Unary",
        "rpc.grpc.status_code": 0,
        "server.address": "127.0.0.1",
        "server.port": 8080,
    }
    assert not group.failed


def test_a_sent_call() -> None:
    group = only(*Peer(1, role=Role.CLIENT).call(1, UNARY, "5"))
    assert group.metric == "rpc.client"
    assert group.metric_attributes == {
        "rpc.system": "grpc",
        "rpc.service": "echo.EchoService",
        "rpc.method": "Unary",
        "rpc.grpc.status_code": 5,
        "server.address": "shop.example",
        "server.port": 50051,
        "error.type": "NOT_FOUND",
    }


@pytest.mark.parametrize("code", [*range(18), 254])
def test_which_status_is_whose_failure(code: int) -> None:
    name = grpc.STATUS_NAMES[code] if code < 17 else "_OTHER"
    served, sent = (only(*Peer(1, role=role).call(1, UNARY, str(code))) for role in (Role.SERVER, Role.CLIENT))
    assert served.metric_attributes["rpc.grpc.status_code"] == sent.metric_attributes["rpc.grpc.status_code"] == code
    assert served.metric_attributes.get("error.type") == (name if code in (2, 4, 12, 13, 14, 15) else None)
    assert sent.metric_attributes.get("error.type") == (name if code else None)
    assert (served.failed, sent.failed) == (
        "error.type" in served.metric_attributes,
        "error.type" in sent.metric_attributes,
    )


@pytest.mark.parametrize(
    ("role", "response", "error", "name"),
    [
        (Role.SERVER, OK, Error.HTTP2 + 8, None),  # cancelled: none of the server's failures
        (Role.CLIENT, OK, Error.HTTP2 + 8, "CANCEL"),
        (Role.SERVER, [], Error.HTTP2 + 2, "INTERNAL_ERROR"),
        (Role.SERVER, [], Error.NO_RESPONSE, "no_response"),
        (Role.CLIENT, OK, Error.TRUNCATED, "truncated"),
        (Role.CLIENT, [(":status", "503")], 0, "503"),
        (Role.SERVER, [(":status", "404")], 0, "404"),
    ],
)
def test_calls_without_a_status(role: Role, response: Fields, error: int, name: str | None) -> None:
    peer = Peer(1, role=role)
    answer = peer.response(1, response) if response else []
    group = only(*peer.request(1, [*head("POST", UNARY), *GRPC]), *answer, *peer.end(1, error=error))
    assert group.name == "echo.EchoService/Unary"
    assert "rpc.grpc.status_code" not in group.metric_attributes
    assert group.metric_attributes.get("error.type") == name
    assert group.failed == bool(name)


@pytest.mark.parametrize("old", [False, True])
def test_blocks_of_a_response_that_came_together(*, old: bool) -> None:
    """Also on a connection where only trailers, behind another block, tell that it is a call."""

    def told(*, joined: bool) -> Group:
        peer = warm(True) if old else Peer(1)
        first, last = peer.encoders[False].encode(OK), peer.encoders[False].encode([("grpc-status", "5")])
        flags = HTTP2_ENDED | HTTP2_MESSAGES
        answer = (
            peer.raw(False, 5, first + last, flags=flags | HTTP2_JOINED)
            if joined
            else [*peer.raw(False, 5, first), *peer.raw(False, 5, last, flags=flags)]
        )
        return only(*peer.request(5, [*head("POST", UNARY), *GRPC]), *answer)

    together, apart = told(joined=True), told(joined=False)
    assert (together.name, together.span_attributes) == (apart.name, apart.span_attributes)
    assert together.span_attributes["rpc.system"] == "grpc"


def test_trailers_only() -> None:
    peer = Peer(1)
    answer = peer.response(1, [*OK, ("grpc-status", "13"), ("grpc-message", "no")], flags=HTTP2_ENDED)
    group = only(*peer.request(1, [*head("POST", UNARY), *GRPC]), *answer)
    assert group.metric_attributes["rpc.grpc.status_code"] == 13


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;x=1"])
def test_kinds_of_grpc(kind: str) -> None:
    peer = Peer(1)
    assert only(*peer.request(1, [*head("POST", UNARY), ("content-type", kind)]), *peer.end(1)).metric == "rpc.server"


@pytest.mark.parametrize(
    ("path", "service", "method"),
    [
        ("/a.b.C/D", "a.b.C", "D"),
        ("/C/D", "C", "D"),
        ("/proxy/a.C/D_1", "proxy/a.C", "D_1"),
        ("/a.C", None, "_OTHER"),
        ("/a.C/../etc", None, "_OTHER"),
        ("/a.C/D?x", "a.C", "D"),
        ("/a C/D", None, "_OTHER"),
        ("/a.C/" + "D" * 400, "a.C", "D" * 251),
        ("*", None, "_OTHER"),
    ],
)
def test_paths(path: str, service: str | None, method: str) -> None:
    stage = Stage()
    (group,) = stage.tell(*Peer(1).call(1, path))
    if len(path) > 256:
        return  # what is cut is no name: see the next test
    assert (group.metric_attributes.get("rpc.service"), group.metric_attributes["rpc.method"]) == (service, method)
    assert (group.name, group.text_key) == ((f"{service}/{method}", "") if service else ("grpc", "url.path"))


def test_methods_that_no_server_has_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "MAX_UNIMPLEMENTED", 3)
    peer, stage = Peer(1), Stage()
    names = stage.names(*chain(*(peer.call(2 * i + 1, f"/a.B/No{i}", "12") for i in range(5))))
    assert names == ["a.B/No0", "a.B/No1", "a.B/No2", "grpc", "grpc"]
    assert stage.names(*peer.call(99, "/a.B/No4", "0"), *peer.call(101, "/a.B/No4", "12")) == ["a.B/No4"] * 2


# --- trace context


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (TRACEPARENT, True),
        (TRACEPARENT + "-x", False),
        ("01" + TRACEPARENT[2:] + "-x", True),
        ("x" * 55, False),
        ("", False),
    ],
)
def test_trace_context(value: str, valid: bool) -> None:
    requests = Stage().parse(*Peer(1).call(1, UNARY), *Peer(2).call(1, UNARY, more=[("traceparent", value)]))
    assert requests.has_parent.tolist() == [False, valid]
    if valid:
        assert requests.parent_trace[1].tobytes().hex() == TRACEPARENT[3:35]
        assert requests.parent_span[1].tobytes().hex() == TRACEPARENT[36:52]


# --- how parts come


def many_calls(peer: Peer, count: int = 12) -> tuple[list[Record], list[str]]:
    """Calls of two methods with metadata that changes the table, and what they are called."""
    made: list[Record] = []
    paths = [UNARY if index % 3 else "/a.B/C" for index in range(count)]
    for index, path in enumerate(paths):
        own = [("x-id", f"{index}" * 7)] if index % 4 == 0 else []
        made += peer.call(2 * index + 1, path, more=own, flags=HTTP2_MESSAGES)
    return made, [path[1:] for path in paths]


def is_right(told: list[str], names: list[str]) -> bool:
    """Each has its name, or one that says that its name is not known."""
    unknown = ("grpc", "POST", "HTTP")
    return all(one in (name, f"POST /{name}", *unknown) for one, name in zip(told, names, strict=True))


@pytest.mark.parametrize("size", [1, 2, 7, 224])
def test_any_cut_gives_the_same(size: int) -> None:
    peer, stage = Peer(1), Stage()
    fields = [*head("POST", UNARY), *GRPC, ("authorization", "x" * 700), ("traceparent", TRACEPARENT)]
    records: list[Record] = []
    for stream in range(1, 30, 2):
        records += peer.request(stream, fields, size=size)
        records += peer.response(stream, OK, size=size)
        records += peer.response(stream, [("grpc-status", "0")], size=size, flags=HTTP2_ENDED)
    for one in np.array_split(batch(*records), 5):
        requests = stage.parse(one)
        assert requests.has_parent.all()
    assert [group.name for group in stage.groups.groups] == ["echo.EchoService/Unary"]
    assert not stage.health.lost


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 64])
def test_batches_of_any_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "CHUNK", chunk)
    peers = [Peer(1), Peer(2, role=Role.CLIENT), Peer(3)]
    made = [many_calls(peer) for peer in peers]
    woven = [one for some in zip_longest(*(records for records, _ in made)) for one in some if one is not None]
    stage = Stage()
    told = stage.names(*woven) + stage.names(*chain(*(many_calls(peer)[0] for peer in peers)))
    assert (
        told == [name for names in zip(*(names for _, names in made), strict=True) for name in names] + made[0][1] * 3
    )


def test_the_response_may_come_first() -> None:
    peer = Peer(1, role=Role.CLIENT)
    request, response = peer.request(1, [*head("POST", UNARY), *GRPC]), peer.response(1, OK)
    trailers = peer.response(1, [("grpc-status", "7")])
    group = only(*response, *trailers, *request, *peer.end(1))
    assert (group.name, group.metric_attributes["rpc.grpc.status_code"]) == ("echo.EchoService/Unary", 7)


def test_trailers_of_a_request_change_nothing() -> None:
    peer = Peer(1)
    records = [
        *peer.request(1, head("POST", "/a")),
        *peer.request(1, [("x-sum", "1")]),
        *peer.response(1, [(":status", "200")]),
    ]
    assert only(*records, *peer.end(1)).name == "POST /a"


def test_a_promise_is_for_the_table_alone() -> None:
    peer, stage = Peer(1), Stage()
    records = [*peer.request(1, head("GET", "/")), *peer.response(1, head("GET", "/style"), flags=HTTP2_PROMISE)]
    records += peer.response(0, [("x-known", "y")])
    records += [*peer.response(1, [(":status", "418"), ("x-known", "y")]), *peer.end(1)]
    (group,) = stage.tell(*records)
    assert (group.name, group.metric_attributes["http.response.status_code"]) == ("GET /", 418)


def test_connections_of_http_1_beside_it() -> None:
    peer, stage = Peer(1), Stage()
    records = peer.call(1, UNARY)
    assert stage.names(records[0], get("/a"), records[1], get("/b"), records[2]) == ["GET /a", "GET /b", UNARY[1:]]


def test_of_no_service_is_not_told_but_read() -> None:
    peer, stage = Peer(1), Stage()
    records = batch(*peer.call(1, UNARY), *peer.call(3, UNARY))
    service = np.array([-1, -1, -1, -1, 0, 0], np.int32)
    requests = stage.parser.parse(records, service, 0)
    assert [stage.groups.groups[number].name for number in requests.group] == [UNARY[1:]]
    assert not stage.health.lost


# --- tables


def test_the_table_changes_its_size() -> None:
    peer, stage = Peer(1), Stage()
    told = []
    for turn, size in enumerate((4096, 0, 100, 65536, 60, 1 << 20, 4096)):
        for encoder in peer.encoders.values():
            encoder.header_table_size = size
        told += stage.names(*chain(*(peer.call(100 * turn + i, f"/a.B/C{i}") for i in range(1, 31, 2))))
    assert told == [f"a.B/C{i}" for i in range(1, 31, 2)] * 7
    assert not stage.health.lost


def test_entries_beyond_a_huge_table_are_unknown() -> None:
    peer, stage = Peer(1), Stage()
    peer.encoders[True].header_table_size = 1 << 20
    fields = [*head("POST", UNARY), *GRPC]
    records = [*peer.request(1, fields), *chain(*(peer.request(0, [("x" * 30, f"{i:0200}")]) for i in range(2100)))]
    assert not stage.tell(*records)
    (group,) = stage.tell(*peer.request(3, fields), *peer.response(3, OK), *peer.end(3, HTTP2_MESSAGES))
    assert (group.metric, group.name) == ("rpc.server", "grpc")


def warm(old: bool, role: Role = Role.SERVER) -> Peer:
    """A connection in whose tables there is something that the agent did not see."""
    peer = Peer(1, old=old, role=role)
    peer.call(1, UNARY)
    peer.get(3, "/known", 418)
    peer.numbers = {True: 0, False: 0}
    return peer


def test_an_old_connection_tells_what_is_certain() -> None:
    peer, stage = warm(True), Stage()
    call = peer.call(5, UNARY, flags=HTTP2_MESSAGES)
    groups = stage.tell(*call, *peer.get(7, "/known"), *peer.get(9, "/known", 418))
    assert [group.name for group in groups] == ["grpc", "GET", "GET"]
    assert "rpc.method" not in groups[0].metric_attributes
    assert "rpc.grpc.status_code" not in groups[0].metric_attributes
    assert "http.route" not in groups[1].metric_attributes
    assert groups[1].metric_attributes["http.response.status_code"] == 200
    assert "http.response.status_code" not in groups[2].metric_attributes
    assert not any(group.failed for group in groups)


def test_what_the_tables_of_an_old_connection_hold() -> None:
    """It is told after the part that it was told for was seen, and that one is understood, too."""
    peer, stage = warm(True), Stage()
    tables = [*peer.table(True), *peer.table(False)]
    assert stage.names(*peer.get(5, "/known", 418), *tables, *peer.call(7, UNARY), *peer.get(9, "/new", 418)) == [
        "GET /known",
        "echo.EchoService/Unary",
        "GET /new",
    ]
    (group,) = stage.tell(*peer.get(11, "/known", 418))
    assert group.metric_attributes["http.response.status_code"] == 418


def test_tables_that_are_told_after_others_were_read() -> None:
    peer, stage = warm(True), Stage()
    before = peer.get(5, "/new", 418)
    tables = [*peer.table(True), *peer.table(False)]
    assert stage.names(*before, *peer.get(7, "/known"), *tables, *peer.get(9, "/known")) == [
        "GET /new",
        "GET /known",
        "GET /known",
    ]


def test_tables_that_come_too_late_or_not_whole() -> None:
    peer, stage = warm(True), Stage()
    tables = [*peer.table(True), *peer.table(False)]
    assert stage.names(*peer.get(5, "/known")) == ["GET"]
    assert stage.names(*tables, *peer.get(7, "/known")) == ["GET"]
    of_requests = len(peer.encoders[True].header_table.dynamic_entries) - 1  # one came with /known
    for missing in range(len(tables)):
        peer, stage = warm(True), Stage()
        told = [record for number, record in enumerate(tables) if number != missing]
        assert stage.names(*told, *peer.get(5, "/known")) == ["GET" if missing <= of_requests else "GET /known"]


def test_an_entry_that_is_too_long_to_be_told_is_unknown() -> None:
    peer, stage = Peer(1, old=True), Stage()
    path = "/long/" + "x" * 200
    peer.get(1, path)
    peer.get(3, "/known")
    peer.numbers = {True: 0, False: 0}
    assert stage.names(*peer.table(True), *peer.get(5, path), *peer.get(7, "/known")) == ["GET", "GET /known"]


def test_an_old_connection_heals() -> None:
    peer, stage = warm(True), Stage()
    assert stage.names(*peer.get(5, "/known"), *peer.get(7, "/new"), *peer.get(9, "/new")) == [
        "GET",
        "GET /new",
        "GET /new",
    ]
    peer.encoders[True].header_table.maxsize = 0
    peer.encoders[True].header_table.maxsize = 4096
    assert stage.names(*peer.get(11, "/known"), *peer.get(13, "/known")) == ["GET /known"] * 2


def test_messages_and_trailers_make_a_call_of_an_old_stream() -> None:
    def told(flags: int, trailers: bool, path: str = UNARY, method: str = "POST") -> str:
        peer = warm(True)
        records = [
            *peer.request(5, [*head(method, path), *GRPC]),
            *peer.response(5, [(":status", "200"), ("server", "y")]),
        ]
        if trailers:
            records += peer.response(5, [("x-sum", "0")])
        return only(*records, *peer.end(5, flags)).name

    assert told(HTTP2_MESSAGES, True) == "grpc"
    assert told(HTTP2_MESSAGES, True, "/a.B/New") == "a.B/New"
    assert told(HTTP2_MESSAGES, False) == "POST"
    assert told(0, True) == "POST"
    assert told(HTTP2_MESSAGES, True, method="GET") == "GET"


@pytest.mark.parametrize("lost", range(0, 36, 5))
def test_a_gap_never_makes_a_wrong_name(lost: int) -> None:
    peer, stage = Peer(1), Stage()
    records, names = many_calls(peer)
    told = stage.names(*records[:lost], *records[lost + 2 :])
    ended = [name for index, name in enumerate(names) if not lost <= 3 * index + 2 < lost + 2]
    assert is_right(told, ended)
    more, names = many_calls(peer)
    assert is_right(stage.names(*more), names)
    assert stage.names(*peer.call(99, "/a.B/New", flags=HTTP2_MESSAGES)) == ["a.B/New"]


def test_a_block_in_very_many_parts_takes_no_more_than_its_bytes() -> None:
    """Whoever sends each byte in a frame of its own costs no more memory than others."""
    stage, before = Stage(), 0
    tracemalloc.start()
    for peer in (Peer(1), Peer(2)):  # the first one fills what stays
        before, _ = tracemalloc.get_traced_memory()
        parts = peer.request(1, [*head("GET", "/drop/by/drop"), ("x-long", "z" * 2500)], size=1)
        for at in range(0, len(parts) - 1, 500):
            assert not stage.names(*parts[at : min(at + 500, len(parts) - 1)])
        *_, last = parts
        del parts
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000
    assert stage.names(last, *peer.response(1, OK), *peer.end(1)) == ["GET /drop/by/drop"]


def test_a_gap_within_a_block() -> None:
    peer, stage = Peer(1), Stage()
    long = [*head("POST", UNARY), *GRPC, ("authorization", "x" * 700)]
    records = peer.request(1, long)
    told = stage.tell(*records[:1], *records[2:], *peer.end(1), *peer.request(3, long), *peer.end(3))
    assert told[0].name == "HTTP"
    assert all(group.metric_attributes.get("rpc.method") in (None, "Unary") for group in told)


def test_a_broken_block_costs_its_own_connection_alone() -> None:
    peer, other, stage = Peer(1), Peer(2), Stage()
    peer.call(1, UNARY)
    peer.numbers = {True: 0, False: 0}
    broken = [
        peer.raw(True, 5, block)
        for block in (b"\x80", b"\x40\x8f\xff", b"\x7f" + b"\xff" * 30, b"\x44\x84\xff\xff\xff\xff")
    ]
    names = stage.names(*chain(*broken), *other.call(1, UNARY), *peer.end(5), *other.call(3, UNARY))
    assert names == [UNARY[1:], "HTTP", UNARY[1:]]
    assert stage.health.lost == {Loss.PARSE_ERROR: 4}


# --- bounds


def test_open_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_streams, "MAX_STREAMS", 5)
    monkeypatch.setattr(http2_streams, "MAX_OPEN", 8)
    peers, stage = [Peer(1), Peer(2), Peer(3)], Stage()
    for peer in peers[:2]:
        stage.parse(*chain(*(peer.request(2 * i + 1, [*head("POST", f"/a.B/C{i}"), *GRPC]) for i in range(9))))
    stage.parse(*peers[2].request(1, [*head("POST", UNARY), *GRPC]))
    told = [stage.names(*chain(*(peer.end(2 * i + 1) for i in range(9)))) for peer in peers[:2]]
    assert told == [["HTTP"] * 9, ["HTTP"] * 4 + [f"a.B/C{i}" for i in range(4, 9)]]
    assert stage.names(*peers[2].end(1)) == [UNARY[1:]]


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_blocks, "MAX_CONNECTIONS", 2)
    peers, stage = [Peer(number) for number in range(4)], Stage()
    for peer in peers:
        assert stage.names(*peer.call(1, UNARY)) == [UNARY[1:]]
    calls = [peers[number].call(3, UNARY, flags=HTTP2_MESSAGES) for number in (3, 0)]
    assert stage.names(*chain(*calls)) == [UNARY[1:], "grpc"]


def test_known_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_blocks, "MAX_KNOWN", 4)
    peers, stage = [Peer(number) for number in range(6)], Stage()
    opened = [stage.parse(*peer.request(1, [*head("POST", f"/a.B/C{peer.id}"), *GRPC])) for peer in peers]
    assert not any(map(len, opened))
    for turn in range(3, 40, 2):
        for peer in peers:
            assert stage.names(*peer.call(turn, f"/a.B/C{peer.id}")) == [f"a.B/C{peer.id}"]
    assert [stage.names(*peer.end(1)) for peer in peers] == [[f"a.B/C{peer.id}"] for peer in peers]


def test_rows_of_requests_are_used_again() -> None:
    peer, stage = Peer(1), Stage()
    for turn in range(50):
        stage.parse(*chain(*(peer.get(1000 * turn + 2 * i + 1, f"/{turn}/{i}/x") for i in range(20))))
    table = stage.parser._protocols[2]._requests  # type: ignore[attr-defined]
    assert len(table.rows) == 256
    assert len(set(table._free)) == len(table._free) >= 200


def test_blocks_that_come_again_are_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    read = http2_blocks.hpack_fields.read

    def count(data: Any, at: Any, size: Any) -> Any:
        decoded.append(len(at))
        return read(data, at, size)

    monkeypatch.setattr(http2_blocks.hpack_fields, "read", count)
    peers, stage = [Peer(number) for number in range(20)], Stage()
    for turn in range(4):
        calls = (peer.call(stream, UNARY) for peer in peers for stream in range(turn * 60 + 1, turn * 60 + 60, 2))
        assert stage.names(*chain(*calls)) == [UNARY[1:]] * 600
        assert len(decoded) == 1  # in the first turn


# --- anything at all


def values(seed: int) -> np.ndarray[Any, Any]:
    dice = np.random.default_rng(seed)
    return np.frombuffer(dice.bytes(EXCHANGE.itemsize * 40), EXCHANGE).copy()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 4), st.integers(0, 511), st.integers(0, 9), st.binary(max_size=224)
        ),
        max_size=40,
    ),
    st.integers(0, 2**32),
)
def test_whatever_comes_each_end_is_told_once(parts: list[tuple[int, int, int, int, bytes]], seed: int) -> None:
    stage, peers = Stage(queries=True), [Peer(number) for number in range(4)]
    records = [peers[of].record(stream, flags, fragment, number) for of, stream, flags, number, fragment in parts]
    noise = values(seed)
    noise["protocol"], noise["role"] = 2, 2 + noise["role"] % 2
    made = batch(*records, noise)
    ended = np.count_nonzero(made["head"].copy().view(HTTP2_PART)["flags"] & HTTP2_ENDED)
    assert len(stage.parser.parse(made, np.zeros(len(made), np.int32), 0)) == ended
    assert stage.names(*Peer(99).call(1, UNARY)) == [UNARY[1:]]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_lost_and_shuffled_parts_never_make_a_wrong_name(data: st.DataObject) -> None:
    peer, stage = Peer(1), Stage()
    records, names = many_calls(peer, 20)
    kept = [data.draw(st.booleans()) or index % 3 == 2 for index in range(len(records))]
    some = [one for one, keep in zip(records, kept, strict=True) if keep]
    cut = data.draw(st.integers(0, len(some)))
    told = stage.names(*some[:cut]) + stage.names(*some[cut:])
    assert is_right(told, names)
