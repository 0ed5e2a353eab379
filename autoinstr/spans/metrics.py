"""Metrics as OTLP bytes: Protocol Buffers' wire format, without objects of its messages, which take 3 MB to import and
several times the request's size while it is made.

In: a `Snapshot`. Out: one `ExportMetricsServiceRequest`, grouped by resource and metric; what the agent says about
itself stands under a resource of its own. Field numbers are those of opentelemetry/proto/metrics/v1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from autoinstr.model import Attributes, SelfMetric, Series, Service, Snapshot
from autoinstr.semconv import SERVICE_NAME
from autoinstr.spans import wire

SCOPE_NAME = "autoinstr"
OWN_RESOURCE: Attributes = {SERVICE_NAME: "autoinstr"}
_DELTA, _CUMULATIVE = 1, 2  # AggregationTemporality
_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL = 5, 7, 9, 10  # fields of Metric
# Where data points have their attributes and exemplars.
_OF_NUMBER, _OF_HISTOGRAM, _OF_EXPONENTIAL = 7, 9, 1
_EXEMPLARS, _EXEMPLARS_EXPONENTIAL = 8, 11


class _Metric:
    """Points of one metric."""

    def __init__(self, name: str, unit: str, description: str, kind: int, about: bytes = b"") -> None:
        """`kind`: its field of Metric; `about`: what the message there has beside its points."""
        texts = zip((1, 2, 3), (name, description, unit), strict=True)
        self._head = b"".join(wire.message(field, wire.text(text)) for field, text in texts)
        self._kind = kind
        self._about = about
        self.points: list[bytes] = []

    def data(self) -> bytes:
        points = b"".join(wire.message(1, point) for point in self.points)
        return self._head + wire.message(self._kind, points + self._about)


def encode_metrics(
    snapshot: Snapshot, services: list[Service], version: str = "", own_resource: Attributes = OWN_RESOURCE
) -> bytes:
    """All of a snapshot. `version` is that of the scope, `own_resource` is the agent itself."""
    of_services: dict[int, dict[str, _Metric]] = {}
    for series in snapshot.series:
        metrics = of_services.setdefault(series.service, {})
        if series.name not in metrics:
            metrics[series.name] = _metric_of(series, snapshot)
        metrics[series.name].points.append(_point(series, snapshot.end))
    told = [(services[service].attributes, metrics) for service, metrics in of_services.items()]
    if snapshot.own:
        told.append((own_resource, _own(snapshot)))
    return b"".join(wire.message(1, _resource_metrics(of, metrics.values(), version)) for of, metrics in told)


def _resource_metrics(resource: Attributes, metrics: Iterable[_Metric], version: str) -> bytes:
    scope = wire.message(1, wire.text(SCOPE_NAME)) + wire.message(2, wire.text(version))
    scope_metrics = wire.message(1, scope) + b"".join(wire.message(2, metric.data()) for metric in metrics)
    return wire.message(1, wire.resource(resource)) + wire.message(2, scope_metrics)


def _metric_of(series: Series, snapshot: Snapshot) -> _Metric:
    """Without points."""
    about = _temporality(_DELTA if snapshot.delta else _CUMULATIVE)
    kind = _HISTOGRAM if series.exponential is None else _EXPONENTIAL
    if series.is_counter:
        kind, about = _SUM, about + _monotonic()
    return _Metric(series.name, series.unit, series.description, kind, about)


def _point(series: Series, end: int) -> bytes:
    times = _fixed(2, series.start) + _fixed(3, end)
    if series.is_counter:
        return wire.attributes(_OF_NUMBER, series.attributes) + times + _fixed(6, series.count)
    counted = times + _fixed(4, series.count) + _double(5, series.sum)
    if series.exponential is None:
        buckets = b""
        if series.buckets is not None:
            buckets = wire.message(6, series.buckets.astype("<u8").tobytes())
            buckets += wire.message(7, struct.pack(f"<{len(series.bounds)}d", *series.bounds))
        shape = wire.attributes(_OF_HISTOGRAM, series.attributes) + counted + buckets
        return shape + _exemplars(_EXEMPLARS, series)
    found = series.exponential
    counts = b"".join(map(wire.varint, found.counts.tolist()))
    positive = _signed(1, found.offset) + wire.message(2, counts)
    shape = wire.attributes(_OF_EXPONENTIAL, series.attributes) + counted
    shape += _signed(6, found.scale) + _fixed(7, found.zero_count) + wire.message(8, positive)
    return shape + _exemplars(_EXEMPLARS_EXPONENTIAL, series)


def _exemplars(field: int, series: Series) -> bytes:
    return b"".join(
        wire.message(
            field,
            _fixed(2, one.time) + _double(3, one.value) + wire.message(4, one.span_id) + wire.message(5, one.trace_id),
        )
        for one in series.exemplars
    )


def _own(snapshot: Snapshot) -> dict[str, _Metric]:
    """The agent's own metrics: those of one name are points of one metric."""
    metrics: dict[str, _Metric] = {}
    for one in snapshot.own:
        if one.name not in metrics:
            kind, about = (_SUM, _temporality(_CUMULATIVE) + _monotonic()) if one.monotonic else (_GAUGE, b"")
            metrics[one.name] = _Metric(one.name, one.unit, one.description, kind, about)
        metrics[one.name].points.append(_number(one, snapshot.end))
    return metrics


def _number(one: SelfMetric, end: int) -> bytes:
    start = _fixed(2, one.start) if one.monotonic else b""
    value = _fixed(6, one.value) if isinstance(one.value, int) else _double(4, one.value)
    return wire.attributes(_OF_NUMBER, one.attributes) + start + _fixed(3, end) + value


def _temporality(value: int) -> bytes:
    return wire.tag(2, wire.VARINT) + wire.varint(value)


def _monotonic() -> bytes:
    return wire.tag(3, wire.VARINT) + wire.varint(1)


def _fixed(field: int, value: int) -> bytes:
    """Eight bytes; of negative numbers those of the two's complement."""
    return wire.tag(field, wire.FIXED64) + struct.pack("<q" if value < 0 else "<Q", value)


def _double(field: int, value: float) -> bytes:
    return wire.tag(field, wire.FIXED64) + struct.pack("<d", value)


def _signed(field: int, value: int) -> bytes:
    """A sint32: near to zero is short, whatever its sign."""
    return wire.tag(field, wire.VARINT) + wire.varint(2 * value if value >= 0 else -2 * value - 1)
