"""Metric bytes, decoded by opentelemetry-proto, say what the snapshot says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, ResourceMetrics
from unit.spans.batches import SERVICES
from unit.spans.test_spans import attributes

from autoinstr.model import Exemplar, Exponential, SelfMetric, Series, Snapshot
from autoinstr.spans import encode_metrics


def make_series(service: int = 0, **values: Any) -> Series:
    defaults: dict[str, Any] = {
        "name": "http.server.request.duration",
        "unit": "s",
        "description": "Duration of requests",
        "attributes": {"http.route": "/users/*", "http.response.status_code": 200},
        "start": 5,
        "count": 6,
        "sum": 1.5,
        "bounds": (0, 0.5),
        "buckets": np.array([1, 2, 3]),
    }
    return Series(service=service, **defaults | values)


def decoded(snapshot: Snapshot) -> list[ResourceMetrics]:
    data = encode_metrics(snapshot, SERVICES, "1.2", {"service.name": "autoinstr", "host.name": "h"})
    resources = list(ExportMetricsServiceRequest.FromString(data).resource_metrics)
    for resource in resources:
        (scope,) = resource.scope_metrics
        assert (scope.scope.name, scope.scope.version) == ("autoinstr", "1.2")
    return resources


def metrics(resource: ResourceMetrics) -> dict[str, Metric]:
    found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    assert len(found) == len(resource.scope_metrics[0].metrics)
    return found


@pytest.mark.parametrize("delta", [False, True])
def test_an_explicit_histogram(delta: bool) -> None:
    exemplar = Exemplar(value=0.25, time=7, trace_id=b"T" * 16, span_id=b"S" * 8)
    (resource,) = decoded(Snapshot(5, 9, delta, [make_series(exemplars=[exemplar])]))
    assert attributes(resource.resource.attributes) == SERVICES[0].attributes
    (metric,) = resource.scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("http.server.request.duration", "s")
    assert metric.description == "Duration of requests"
    assert metric.histogram.aggregation_temporality == (
        AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
        if delta
        else AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    (point,) = metric.histogram.data_points
    assert attributes(point.attributes) == {"http.route": "/users/*", "http.response.status_code": 200}
    assert (point.start_time_unix_nano, point.time_unix_nano, point.count, point.sum) == (5, 9, 6, 1.5)
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([0, 0.5], [1, 2, 3])
    (found,) = point.exemplars
    assert (found.as_double, found.time_unix_nano, found.trace_id, found.span_id) == (0.25, 7, b"T" * 16, b"S" * 8)


def test_an_exponential_histogram() -> None:
    buckets = Exponential(scale=-2, zero_count=4, offset=-7, counts=np.array([2, 0, 1]))
    (resource,) = decoded(Snapshot(5, 9, True, [make_series(buckets=None, exponential=buckets)]))
    histogram = metrics(resource)["http.server.request.duration"].exponential_histogram
    assert histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    (point,) = histogram.data_points
    assert attributes(point.attributes) == {"http.route": "/users/*", "http.response.status_code": 200}
    assert (point.scale, point.zero_count, point.positive.offset) == (-2, 4, -7)
    assert list(point.positive.bucket_counts) == [2, 0, 1]
    assert (point.count, point.sum) == (6, 1.5)


def test_series_are_grouped_by_resource_and_metric() -> None:
    sizes = {"name": "http.server.request.body.size", "unit": "By"}
    series = [make_series(1), make_series(0), make_series(1, **sizes), make_series(1, attributes={"a": 1})]
    one, other = decoded(Snapshot(5, 9, False, series))
    assert attributes(one.resource.attributes)["service.name"] == "cart"
    assert attributes(other.resource.attributes)["service.name"] == "shop"
    assert {name: len(metric.histogram.data_points) for name, metric in metrics(one).items()} == {
        "http.server.request.duration": 2,
        "http.server.request.body.size": 1,
    }


def test_own_metrics_stand_under_a_resource_of_their_own() -> None:
    own = [
        SelfMetric("autoinstr.lost", "", "What", {"loss": "ring_full"}, 3, True, start=4),
        SelfMetric("autoinstr.lost", "", "What", {"loss": "internal"}, 0, True, start=4),
        SelfMetric("autoinstr.ring_fill_ratio", "1", "State", {}, 0.25, False),
    ]
    _, resource = decoded(Snapshot(5, 9, True, [make_series()], own))
    assert attributes(resource.resource.attributes) == {"service.name": "autoinstr", "host.name": "h"}
    found = metrics(resource)
    lost = found["autoinstr.lost"].sum
    assert lost.is_monotonic
    assert lost.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    points = [(attributes(point.attributes)["loss"], point.as_int) for point in lost.data_points]
    assert points == [("ring_full", 3), ("internal", 0)]
    assert {(point.start_time_unix_nano, point.time_unix_nano) for point in lost.data_points} == {(4, 9)}
    (point,) = found["autoinstr.ring_fill_ratio"].gauge.data_points
    assert (point.as_double, point.time_unix_nano) == (0.25, 9)
    assert found["autoinstr.ring_fill_ratio"].unit == "1"


def test_nothing_to_say() -> None:
    assert decoded(Snapshot(5, 9, False)) == []


def test_protobuf_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, autoinstr.spans, autoinstr.red, autoinstr.correlate; sys.exit('google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
