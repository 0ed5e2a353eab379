"""The demo's table says what the page of metrics says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from autoinstr.export.prometheus.exposition import render
from autoinstr.health import Health, Loss
from autoinstr.model import Series, Service, Snapshot
from autoinstr.red.own import own_metrics

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))

import table

BOUNDS = (0.005, 0.01, 0.025)
SERVICES = [Service("shop", {"service.name": "shop", "service.instance.id": "host:1"})]


def series(kind: str, counts: list[int], **attributes: str | int) -> Series:
    common = {"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": 8080}
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    buckets = np.array(counts, np.int64)
    name = f"http.{kind}.request.duration"
    return Series(name, "s", "", 0, common | named, 0, sum(counts), 1.5, BOUNDS, buckets)


def text_of(snapshot: Snapshot) -> str:
    return b"".join(render(snapshot, SERVICES, open_metrics=False)).decode()


def page(count: int, failed: int) -> str:
    """What the agent says of so many requests that took 5 to 25 ms, and some that failed, and seven calls."""
    halves = [0, count // 2, count - count // 2, 0]
    found = [
        series("server", halves, http__response__status_code=200, http__route="/products/*"),
        series(
            "server", [0, failed, 0, 0], http__response__status_code=500, http__route="/products/*", error__type="500"
        ),
        series("client", [7, 0, 0, 0], http__response__status_code=200),
    ]
    return text_of(Snapshot(0, 1, False, found))


def test_a_row_joins_the_statuses_of_a_route() -> None:
    reading = table.read(page(90, 10))
    totals = reading.totals[table.Key("shop", "server", "GET", "/products/*")]
    assert (totals.count, totals.errors, totals.statuses) == (100, 10, {"200", "500"})


def test_a_call_is_named_after_whom_it_went_to() -> None:
    assert table.read(page(1, 0)).totals[table.Key("shop", "client", "GET", "→127.0.0.1:8080")].count == 7


def test_served_counts_server_requests_by_port_only() -> None:
    assert table.read(page(90, 10)).served == {8080: 100}


def test_difference_of_two_readings() -> None:
    key = table.Key("shop", "server", "GET", "/products/*")
    recent = table.read(page(190, 10)).totals[key].since(table.read(page(90, 10)).totals[key])
    assert (recent.count, recent.errors) == (100, 0)


@pytest.mark.parametrize(
    ("q", "seconds"),
    [(0.25, 0.0075), (0.5, 0.010), (0.75, 0.0175), (1.0, 0.025)],
)
def test_quantiles_are_interpolated_within_their_bucket(q: float, seconds: float) -> None:
    totals = table.read(page(100, 0)).totals[table.Key("shop", "server", "GET", "/products/*")]
    assert totals.quantile(q) == pytest.approx(seconds)


def test_no_requests_no_quantile() -> None:
    assert table.Totals().quantile(0.5) is None


def test_losses_are_told() -> None:
    health = Health()
    health.lose(Loss.RING_FULL, 3)
    text = text_of(Snapshot(0, 1, False, [], own_metrics(health, 0)))
    assert table.read(text).lost == {"ring_full": 3}


def test_escaped_label_values() -> None:
    text = 'http_server_request_duration_seconds_count{job="a\\"} b",http_request_method="GET"} 3'
    assert [(key.method, totals.count) for key, totals in table.read(text).totals.items()] == [("GET", 3)]
