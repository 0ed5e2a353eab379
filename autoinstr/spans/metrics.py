"""Metrics as OTLP bytes. Seldom done, so by way of opentelemetry-proto's messages.

In: a `Snapshot`. Out: one `ExportMetricsServiceRequest`, grouped by resource and metric; what the agent says about
itself stands under a resource of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from autoinstr.model import Attributes, SelfMetric, Series, Service, Snapshot
from autoinstr.semconv import SERVICE_NAME
from autoinstr.spans import wire

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        AggregationTemporality,
        ExponentialHistogramDataPoint,
        HistogramDataPoint,
        Metric,
        ScopeMetrics,
    )

SCOPE_NAME = "autoinstr"
OWN_RESOURCE: Attributes = {SERVICE_NAME: "autoinstr"}
_DELTA = cast("AggregationTemporality.ValueType", 1)
_CUMULATIVE = cast("AggregationTemporality.ValueType", 2)
# Where messages have their attributes (a resource: 1).
_OF_HISTOGRAM, _OF_EXPONENTIAL, _OF_NUMBER = 9, 1, 7


def encode_metrics(
    snapshot: Snapshot, services: list[Service], version: str = "", own_resource: Attributes = OWN_RESOURCE
) -> bytes:
    """All of a snapshot. `version` is that of the scope, `own_resource` is the agent itself."""
    # Imported when it is needed: 2 MB that an agent without OTLP does not have to have.
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2  # noqa: PLC0415

    request = metrics_service_pb2.ExportMetricsServiceRequest()
    scopes: dict[int, ScopeMetrics] = {}
    metrics: dict[tuple[int, str], Metric] = {}
    for series in snapshot.series:
        if series.service not in scopes:
            scopes[series.service] = _add_scope(request, services[series.service].attributes, version)
        key = (series.service, series.name)
        if key not in metrics:
            metrics[key] = scopes[series.service].metrics.add(
                name=series.name, unit=series.unit, description=series.description
            )
        _add_series(metrics[key], series, snapshot)
    if snapshot.own:
        _add_own(_add_scope(request, own_resource, version), snapshot)
    return request.SerializeToString()


def _add_scope(request: ExportMetricsServiceRequest, resource: Attributes, version: str) -> ScopeMetrics:
    found = request.resource_metrics.add()
    found.resource.MergeFromString(wire.resource(resource))
    scope = found.scope_metrics.add()
    scope.scope.name, scope.scope.version = SCOPE_NAME, version
    return scope


def _add_series(metric: Metric, series: Series, snapshot: Snapshot) -> None:
    temporality = _DELTA if snapshot.delta else _CUMULATIVE
    point: HistogramDataPoint | ExponentialHistogramDataPoint
    if series.is_counter:
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, temporality
        number = metric.sum.data_points.add(
            start_time_unix_nano=series.start, time_unix_nano=snapshot.end, as_int=series.count
        )
        number.MergeFromString(wire.attributes(_OF_NUMBER, series.attributes))
        return
    if series.exponential is not None:
        metric.exponential_histogram.aggregation_temporality = temporality
        point = metric.exponential_histogram.data_points.add()
        point.MergeFromString(wire.attributes(_OF_EXPONENTIAL, series.attributes))
        point.scale, point.zero_count = series.exponential.scale, series.exponential.zero_count
        point.positive.offset = series.exponential.offset
        point.positive.bucket_counts.extend(series.exponential.counts.tolist())
    else:
        metric.histogram.aggregation_temporality = temporality
        point = metric.histogram.data_points.add()
        point.MergeFromString(wire.attributes(_OF_HISTOGRAM, series.attributes))
        if series.buckets is not None:
            point.explicit_bounds.extend(series.bounds)
            point.bucket_counts.extend(series.buckets.tolist())
    point.start_time_unix_nano, point.time_unix_nano = series.start, snapshot.end
    point.count, point.sum = series.count, series.sum
    for one in series.exemplars:
        point.exemplars.add(time_unix_nano=one.time, as_double=one.value, trace_id=one.trace_id, span_id=one.span_id)


def _add_own(scope: ScopeMetrics, snapshot: Snapshot) -> None:
    """The agent's own metrics: those of one name are points of one metric."""
    metrics: dict[str, Metric] = {}
    for one in snapshot.own:
        if one.name not in metrics:
            metrics[one.name] = scope.metrics.add(name=one.name, unit=one.unit, description=one.description)
        _add_number(metrics[one.name], one, snapshot.end)


def _add_number(metric: Metric, one: SelfMetric, end: int) -> None:
    if one.monotonic:
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, _CUMULATIVE
        point = metric.sum.data_points.add(start_time_unix_nano=one.start)
    else:
        point = metric.gauge.data_points.add()
    point.MergeFromString(wire.attributes(_OF_NUMBER, one.attributes))
    point.time_unix_nano = end
    if isinstance(one.value, int):
        point.as_int = one.value
    else:
        point.as_double = one.value
