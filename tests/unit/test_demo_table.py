"""The demo's table says what the page of metrics says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))

import table

LABELS = 'http_request_method="GET",http_response_status_code="{status}",server_address="127.0.0.1",server_port="8080"'
SHOP = 'service_name="shop",' + LABELS.format(status=200) + ',http_route="/products/*"'
FAILED = 'service_name="shop",' + LABELS.format(status=500) + ',http_route="/products/*",error_type="500"'
CALL = 'service_name="shop",' + LABELS.format(status=200)


def page(count: int, failed: int) -> str:
    buckets = {"0.005": 0, "0.01": count // 2, "0.025": count, "+Inf": count}
    lines = [f'http_server_request_duration_seconds_bucket{{{SHOP},le="{le}"}} {n}' for le, n in buckets.items()]
    return "\n".join(
        [
            "# TYPE http_server_request_duration_seconds histogram",
            *lines,
            f"http_server_request_duration_seconds_sum{{{SHOP}}} 1.5",
            f"http_server_request_duration_seconds_count{{{SHOP}}} {count}",
            f"http_server_request_duration_seconds_count{{{FAILED}}} {failed}",
            f"http_client_request_duration_seconds_count{{{CALL}}} 7",
            f"http_server_request_body_size_bytes_count{{{SHOP}}} {count}",
            'target_info{job="shop"} 1',
        ]
    )


def test_a_row_joins_the_statuses_of_a_route() -> None:
    reading = table.read(page(90, 10))
    totals = reading.totals[table.Key("shop", "server", "GET", "/products/*")]
    assert (totals.count, totals.errors, totals.statuses) == (100, 10, {"200", "500"})


def test_a_call_is_named_after_whom_it_went_to() -> None:
    assert table.read(page(1, 0)).totals[table.Key("shop", "client", "GET", "-> 127.0.0.1:8080")].count == 7


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


def test_escaped_label_values() -> None:
    text = 'http_server_request_duration_seconds_count{service_name="a\\"}b",http_request_method="GET"} 3'
    assert [(key.method, totals.count) for key, totals in table.read(text).totals.items()] == [("GET", 3)]
