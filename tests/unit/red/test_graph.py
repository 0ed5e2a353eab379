"""The service graph: who calls whom, told by both ends, counted once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from unit.spans.batches import SERVICES, START, Row, make_group, make_traced

from autoinstr.health import Health, Loss
from autoinstr.model import Kind, Series
from autoinstr.red import Red

TOTAL, FAILED = "traces_service_graph_request_total", "traces_service_graph_request_failed_total"
SERVED, CALLED = "traces_service_graph_request_server_seconds", "traces_service_graph_request_client_seconds"

SHOP, STOCK = 0, 1
CALL = replace(make_group(SHOP, Kind.CLIENT), metric_attributes={"server.address": "stock"})
SERVE = make_group(STOCK)
FAILURE = replace(SERVE, failed=True)
OF = [CALL, SERVE, FAILURE]


def told(red: Red, name: str) -> dict[tuple[str, ...], Series]:
    series = [one for one in red.reader().collect(START).series if one.name == name]
    return {(str(one.attributes["client"]), str(one.attributes["server"])): one for one in series}


def add(red: Red, rows: list[Row], peer: list[int]) -> None:
    red.graph.add(make_traced(rows), OF, SERVICES, np.array(peer, np.int32))


def test_an_edge_is_counted_where_it_is_served() -> None:
    red = Red(Health(), start=START)
    add(red, [Row(0), Row(1), Row(0), Row(2)], [STOCK, SHOP, STOCK, SHOP])
    edge = (SERVICES[SHOP].name, SERVICES[STOCK].name)
    assert {key: one.count for key, one in told(red, TOTAL).items()} == {edge: 2}
    assert {key: one.count for key, one in told(red, FAILED).items()} == {edge: 1}
    assert told(red, SERVED)[edge].count == 2
    assert told(red, CALLED)[edge].count == 2
    assert told(red, TOTAL)[edge].is_counter
    assert told(red, TOTAL)[edge].attributes["connection_type"] == ""


def test_a_call_to_who_is_no_target() -> None:
    red = Red(Health(), start=START)
    add(red, [Row(0), Row(1)], [-1, -1])
    edge = (SERVICES[SHOP].name, "stock")
    assert {key: one.count for key, one in told(red, TOTAL).items()} == {edge: 1}
    assert told(red, TOTAL)[edge].attributes["connection_type"] == "virtual_node"
    assert not told(red, SERVED), "who has asked the server is not known: no edge"


def test_deltas() -> None:
    red = Red(Health(), start=START)
    reader = red.reader("delta")
    add(red, [Row(1)], [SHOP])
    first = [one.count for one in reader.collect(START + 1).series if one.name == TOTAL]
    add(red, [Row(1), Row(1)], [SHOP, SHOP])
    second = [one.count for one in reader.collect(START + 2).series if one.name == TOTAL]
    assert (first, second) == ([1], [2])


def test_the_number_of_edges_is_bounded() -> None:
    health = Health()
    red = Red(health, start=START, cardinality_limit=2)
    groups = [replace(CALL, metric_attributes={"server.address": f"host-{number}"}) for number in range(5)]
    rows = [Row(number) for number in range(5)]
    red.graph.add(make_traced(rows), groups, SERVICES, np.full(5, -1, np.int32))
    series = [one for one in red.reader().collect(START).series if one.name == TOTAL]
    assert sum(one.count for one in series) == 5
    assert len(series) == 2
    assert health.lost[Loss.CARDINALITY] > 0
