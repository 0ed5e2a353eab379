"""The table of groups, and the table of hashes below it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoinstr.health import Health, Loss
from autoinstr.model import Group, Kind
from autoinstr.parse import Groups, Parser, RouteOptions
from autoinstr.parse.table import Table

from .exchanges import batch, exchange, get


def parse(groups: Groups, health: Health, *statuses: int, service: int = 0) -> list[Group]:
    records = batch(*[get("/", status=status) for status in statuses])
    parser = Parser(groups, RouteOptions(), health)
    requests = parser.parse(records, np.full(len(records), service, np.int32), 0)
    return [groups.groups[index] for index in requests.group]


def test_same_requests_share_a_group() -> None:
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health)
    records = batch(get("/a/1"), get("/a/2"), get("/b"), get("/a/3", status=500), get("/a/4", role=3))
    first = parser.parse(records, np.zeros(5, np.int32), 0).group.tolist()
    assert first == [0, 0, 1, 2, 3]
    assert parser.parse(records[::-1].copy(), np.zeros(5, np.int32), 0).group.tolist() == first[::-1]
    assert parser.parse(records, np.array([0, 1, 0, 0, 0], np.int32), 0).group.tolist() == [0, 4, 1, 2, 3]


def test_beyond_the_limit_requests_are_counted_in_one_group() -> None:
    health = Health()
    groups = Groups(health, max_groups_per_service=3)
    found = parse(groups, health, 200, 201, 202, 203, 500, 204)
    assert [group.metric_attributes.get("http.response.status_code") for group in found[:3]] == [200, 201, 202]
    for group, failed in zip(found[3:], (False, True, False), strict=True):
        assert group.metric_attributes == {"otel.metric.overflow": True}
        assert (group.service, group.kind, group.metric, group.failed) == (0, Kind.SERVER, "http.server", failed)
    assert health.lost == {Loss.CARDINALITY: 3}
    assert len(groups.groups) == 5
    other = parse(groups, health, 299, service=1)
    assert other[0].metric_attributes["http.response.status_code"] == 299


def test_the_whole_table_is_bounded() -> None:
    health = Health()
    groups = Groups(health, max_groups=4)
    for service in range(5):
        parse(groups, health, 200, 201, service=service)
    assert sum("otel.metric.overflow" not in group.metric_attributes for group in groups.groups) == 4
    assert health.lost == {Loss.CARDINALITY: 6}
    assert [group.service for group in parse(groups, health, 200, service=90)] == [90]


def test_hosts_without_bound_go_to_the_overflow_group(monkeypatch: object) -> None:
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health)
    heads = [f"GET / HTTP/1.1\r\nHost: h{number}.example\r\n\r\n".encode() for number in range(5000)]
    records = batch(*[exchange(head, role=3) for head in heads])
    requests = parser.parse(records, np.zeros(5000, np.int32), 0)
    assert len(groups.groups) <= 2048 + 1
    assert health.lost[Loss.CARDINALITY] == 5000 - 2048
    assert requests.group.min() >= 0


@given(st.sets(st.integers(0, 2**64 - 1), max_size=600), st.integers(0, 8))
@settings(max_examples=50, deadline=None)
def test_a_table_finds_what_was_added(keys: set[int], shift: int) -> None:
    table = Table()
    added = sorted({key >> shift << shift for key in keys})  # low bits alike: long probes
    for value, key in enumerate(added):
        table.add(key, value)
    assert len(table) == len(added)
    assert table.find(np.array(added, np.uint64)).tolist() == list(range(len(added)))
    absent = sorted({key ^ 1 << 63 for key in added} - set(added))
    assert (table.find(np.array(absent, np.uint64)) == -1).all()
