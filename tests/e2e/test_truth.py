"""The comparison itself: an honest agent passes, each kind of lie is found."""

from __future__ import annotations

from typing import Any

import pytest
from cells import Cell
from comparison import judge, pair
from generator import Made
from truth import CLIENT, Expected, compare

TRUTH = Expected("/a/1", request_size=3, response_size=5, server_port=80, peer_port=5000, delay=0.1)


def span(**attributes: Any) -> dict[str, Any]:
    honest = {
        "url.path": "/a/1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.request.body.size": 3,
        "http.response.body.size": 5,
        "server.port": 80,
        "client.port": 5000,
    }
    times = {"startTimeUnixNano": "1000000000", "endTimeUnixNano": "1101000000"}
    return {"kind": 2, "traceId": "", "parentSpanId": "", "attributes": honest | attributes, **times}


def test_honest() -> None:
    assert compare([TRUTH], [span()]) == []


def test_missing() -> None:
    assert compare([TRUTH], []) == ["missing: server GET /a/1"]
    assert compare([Expected("/a/2", optional=True)], []) == []


def test_twice() -> None:
    assert compare([TRUTH], [span(), span()]) == ["told 2 times: server GET /a/1"]


def test_invented() -> None:
    assert [line.split(":")[0] for line in compare([], [span()])] == ["invented"]
    other_side = Expected("/a/1", kind=CLIENT)
    assert len(compare([other_side], [span()])) == 2


@pytest.mark.parametrize(
    "lie",
    [
        {"http.response.status_code": 201},
        {"http.request.method": "PUT"},
        {"http.request.body.size": 4},
        {"http.response.body.size": 0},
        {"server.port": 81},
        {"client.port": 1},
        {"error.type": "500"},
    ],
)
def test_wrong_field(lie: dict[str, Any]) -> None:
    complaints = compare([TRUTH], [span(**lie)])
    assert complaints
    assert all(line.startswith("wrong: ") for line in complaints)


def test_wrong_duration() -> None:
    assert len(compare([TRUTH], [{**span(), "endTimeUnixNano": "1050000000"}])) == 1


RPC = Expected("/a.B/C", status=5, request_size=None, response_size=None, rpc=True)


def rpc_span(**attributes: Any) -> dict[str, Any]:
    told = {"rpc.system": "grpc", "rpc.service": "a.B", "rpc.method": "C", "rpc.grpc.status_code": 5}
    return {"kind": 2, "traceId": "", "parentSpanId": "", "attributes": told | attributes}


def test_honest_rpc() -> None:
    assert compare([RPC], [rpc_span()]) == []


@pytest.mark.parametrize("lie", [{"rpc.grpc.status_code": 0}, {"rpc.system": "http"}, {"error.type": "NOT_FOUND"}])
def test_wrong_rpc(lie: dict[str, Any]) -> None:
    """NOT_FOUND is no failure of a server's."""
    assert compare([RPC], [rpc_span(**lie)])


def test_rpcs_of_the_servers_here_are_told_apart_by_their_traces() -> None:
    own = Expected("/autoinstr.test.Echo/Unary/ab", status=0, request_size=None, response_size=None, rpc=True)
    told = rpc_span(**{"rpc.service": "autoinstr.test.Echo", "rpc.method": "Unary", "rpc.grpc.status_code": 0})
    assert compare([own], [{**told, "traceId": "ab"}]) == []
    assert len(compare([own], [{**told, "traceId": "cd"}])) == 2


def attempts_at(*spans: dict[str, Any]) -> Cell:
    """A cell of the score, of a request that its client sent again, since the first server did not take it."""
    refused = Expected("/a/1", CLIENT, status=0, response_size=0, errors=("REFUSED_STREAM",))
    answered = Expected("/a/1", CLIENT, response_size=5)
    cell = Cell("go", CLIENT, "h2", "per-connection")
    pairs = pair(cell, [Made(answered), Made(refused)], [{**span(), "kind": 3, **one} for one in spans])
    for made, told in pairs:
        judge(cell, made.expected, told)
    return cell


def attempt(**attributes: Any) -> dict[str, Any]:
    told = {"url.path": "/a/1", "http.request.method": "GET", "http.response.body.size": 5}
    return {"attributes": told | {"http.response.status_code": 200} | attributes, "spanId": ""}


NOT_TAKEN = {"http.response.status_code": None, "http.response.body.size": 0, "error.type": "REFUSED_STREAM"}


def test_each_attempt_is_a_request_and_no_more() -> None:
    failed = {**attempt(**NOT_TAKEN), "status": {"code": 2}}
    right = attempts_at(attempt(), failed)
    assert (right.seen, right.duplicated, right.missing, right.wrong) == (2, 0, 0, 0)
    assert attempts_at(failed).missing == 1
    assert attempts_at(attempt(), attempt()).wrong == 1
    twice = attempts_at(attempt(), attempt(), failed)
    assert (twice.duplicated, twice.seen) == (1, 0)
