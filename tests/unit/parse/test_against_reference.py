"""Whatever the bytes are: the array work finds what plain Python finds, whichever rows are in the batch with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoinstr.capture.abi import EXCHANGE
from autoinstr.health import Health, Loss
from autoinstr.model import Requests
from autoinstr.parse import Groups, Parser, RouteOptions
from autoinstr.parse.hosts import split_authority

from . import reference
from .exchanges import batch, exchange

METHODS = st.sampled_from(
    ["GET", "POST", "CONNECT", "OPTIONS", "QUERY", "get", "BREW", "X" * 16, "X" * 17, "B\xc4D", "a?"]
)
TEXT = st.text(st.sampled_from('abz019/?#&=;%. -\xe9\x00\t"<:@'), max_size=40)
TARGETS = st.one_of(
    TEXT.map(lambda text: "/" + text),
    TEXT.map(lambda text: "http://" + text),
    TEXT.map(lambda text: "HTTPS://host.example:8443" + text),
    st.sampled_from(
        ["*", "db:5432", "http://", "https:/x", "/" + "long/" * 30, "/" + "x" * 300, "?", "#", "/?token=1&key"]
    ),
    TEXT,
)
ENDS = st.sampled_from([" HTTP/1.1\r\n", " HTTP/1.0\n", " HTTP/1.1", " HTTP/2.0\r\n", "\r\n", "", " ", " HTTP/1.x\r\n"])
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIELDS = st.lists(
    st.sampled_from(
        [
            "Host: shop.example\r\n",
            "hOST:[::1]:99\r\n",
            "Host: " + "h" * 100 + "\r\n",
            "Host:\r\n",
            "Hosts: no\r\n",
            f"traceparent: {TRACEPARENT}\r\n",
            f"traceparent: {TRACEPARENT}-more\r\n",
            f"traceparent: cc{TRACEPARENT[2:]}-more\r\n",
            f"Traceparent: {TRACEPARENT.upper()}\r\n",
            f"traceparent: ff{TRACEPARENT[2:]}\r\n",
            "Accept: */*\r\n",
            "\r\n",
        ]
    ),
    max_size=5,
).map("".join)


@st.composite
def records(draw: st.DrawFn) -> NDArray[Any]:
    if draw(st.integers(0, 4)) == 0:
        head = draw(st.binary(max_size=300))
    else:
        head = f"{draw(METHODS)} {draw(TARGETS)}{draw(ENDS)}{draw(FIELDS)}".encode("latin-1")
    record = exchange(head, role=draw(st.sampled_from([2, 3])), status=draw(st.sampled_from([0, 101, 200, 404, 503])))
    if draw(st.integers(0, 9)) == 0:
        record["traceparent"] = draw(st.integers(0, 400))
    if draw(st.integers(0, 9)) == 0:
        record["head_size"] = draw(st.integers(0, 400))
    return record


def parse(made: NDArray[Any]) -> tuple[Requests, Groups, Health]:
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(patterns=["/long/**", "/a/{id}"], max_children=10**9), health, queries=True)
    return parser.parse(made, np.zeros(len(made), np.int32), 10**18), groups, health


def row(requests: Requests, groups: Groups, index: int) -> tuple[Any, ...]:
    """All of one request, comparable."""
    text = requests.text[requests.text_at[index] :][: requests.text_size[index]].tobytes()
    query = requests.query[requests.query_at[index] :][: requests.query_size[index]].tobytes()
    group = groups.groups[requests.group[index]]
    parent = (
        requests.parent_trace[index].tobytes(),
        requests.parent_span[index].tobytes(),
        int(requests.parent_flags[index]),
    )
    return group, text, query, parent if requests.has_parent[index] else None


@given(st.lists(records(), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_every_row_is_what_the_reference_reads(made: list[NDArray[Any]]) -> None:
    records_ = batch(*made)
    requests, groups, health = parse(records_)
    assert len(requests) == len(records_)
    seen = [reference.read(record) for record in records_]
    for index, (record, want) in enumerate(zip(records_, seen, strict=True)):
        group, text, query, parent = row(requests, groups, index)
        attributes = group.span_attributes
        assert text == want.path
        assert query == want.query
        assert attributes["http.request.method"] == want.method
        assert attributes.get("http.request.method_original", "") == want.original
        assert attributes.get("network.protocol.version", "") == want.version
        assert parent == reference.parent(record)
        assert ("http.route" in attributes) == (record["role"] == 2 and want.path.startswith(b"/"))
        if record["role"] == 3:
            host, port = split_authority((want.host or b"").decode("latin-1"))
            assert attributes["server.address"] == (host or "10.0.0.7")
            assert attributes["server.port"] == (port or 50514)
        else:
            assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", 8080)
        assert text.isascii() and text.decode().isprintable()
    assert health.lost[Loss.PARSE_ERROR] == sum(not want.fine for want in seen)
    cut = [want.fine and not want.whole and record["flags"] for want, record in zip(seen, records_, strict=True)]
    assert health.lost[Loss.HEAD_CUT] == sum(map(bool, cut))


@given(st.lists(records(), min_size=2, max_size=8), st.randoms())
@settings(max_examples=150, deadline=None)
def test_a_row_does_not_depend_on_its_batch(made: list[NDArray[Any]], random: Any) -> None:
    together, groups, _ = parse(batch(*made))
    order = list(range(len(made)))
    random.shuffle(order)
    shuffled, shuffled_groups, _ = parse(batch(*[made[index] for index in order]))
    for place, index in enumerate(order):
        alone, alone_groups, _ = parse(made[index])
        assert row(alone, alone_groups, 0) == row(together, groups, index)
        assert row(shuffled, shuffled_groups, place) == row(together, groups, index)


@given(st.binary(min_size=EXCHANGE.itemsize, max_size=EXCHANGE.itemsize * 4))
@settings(max_examples=100, deadline=None)
def test_no_record_raises_whatever_is_in_it(data: bytes) -> None:
    size = len(data) // EXCHANGE.itemsize * EXCHANGE.itemsize
    made = np.frombuffer(data[:size], EXCHANGE).copy()
    made["protocol"][::2] = 1
    made["role"][::2] = 2 + made["role"][::2] % 2
    requests, groups, health = parse(made)
    assert len(requests) + health.lost[Loss.PARSE_ERROR] >= len(made)
    assert len(requests) >= (len(made) + 1) // 2
    assert (requests.end >= requests.start).all()
    assert (requests.request_size >= 0).all() and (requests.response_size >= 0).all()
    assert all(group.metric_attributes for group in groups.groups)
