"""Metrics over OTLP while the backend misbehaves: cumulative ones are made up for later, delta ones arrive exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from e2e.otlp_receiver import Answer, OtlpReceiver
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from unit.export.support import SERVICE, make_context, soon

from autoinstr.export.base import Context, Exporter, create
from autoinstr.export.otlp import exporter as otlp
from autoinstr.health import Loss
from autoinstr.model import Series, Service, Snapshot

METRIC = "http.server.request.duration"


def snapshot(count: int, delta: bool, number: int = 0, path: str = "/a") -> Snapshot:
    one = Series(METRIC, "s", "", 0, {"http.route": path}, number, count, 0.1, (1.0,), np.array([count, 0]))
    return Snapshot(number, number + 1, delta, [one])


def encode_metrics(snapshot: Snapshot, services: list[Service]) -> bytes:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for series in snapshot.series:
        metric = metrics.add(name=series.name, unit=series.unit)
        point = metric.histogram.data_points.add(count=series.count)
        point.start_time_unix_nano, point.time_unix_nano = snapshot.start, snapshot.end
    return request.SerializeToString()


@pytest.fixture(params=["grpc", "http/protobuf"])
def backend(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(request.param) as receiver:
        yield receiver


@pytest.fixture
def running(backend: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Exporter, Context]]:
    monkeypatch.setattr(otlp, "REPEAT_PAUSE", 0.2)
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": backend.protocol,
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "400",
    }
    context = make_context(environ=environ, encode_metrics=encode_metrics)
    exporter = create("otlp", context)
    yield exporter, context
    exporter.close(time.monotonic())


def counts(backend: OtlpReceiver) -> list[int]:
    return [point.count for _, _, point in backend.points(METRIC)]


def eventually(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_snapshot_arrives(backend: OtlpReceiver, running: tuple[Exporter, Context]) -> None:
    exporter, context = running
    exporter.metrics(snapshot(7, delta=False), [SERVICE])
    backend.wait_for(lambda: counts(backend) == [7])
    eventually(lambda: context.health.work["metric_batches_exported"] == 1)
    assert backend.requests[0].signal == "metrics"


def test_cumulative_after_an_outage_the_newest_says_it_all(
    backend: OtlpReceiver, running: tuple[Exporter, Context]
) -> None:
    exporter, context = running
    backend.stop()
    for number in range(1, 6):
        exporter.metrics(snapshot(number * 10, delta=False), [SERVICE])
        time.sleep(0.1)
    backend.start()
    sent = 5
    while not counts(backend):  # as at each interval; with so short a timeout a channel that waits makes some fail
        sent += 1
        exporter.metrics(snapshot(sent * 10, delta=False), [SERVICE])
        time.sleep(0.3)
        assert sent < 30
    backend.wait_for(lambda: counts(backend)[-1] == sent * 10)
    lost, work = context.health.lost, context.health.work
    eventually(lambda: sum(lost.values()) + work["metric_batches_exported"] == sent)
    assert set(lost) <= {Loss.METRIC_EXPORT_FAILED, Loss.METRIC_QUEUE_FULL}
    assert len(counts(backend)) < sent


def test_delta_after_an_outage_nothing_is_missing(backend: OtlpReceiver, running: tuple[Exporter, Context]) -> None:
    exporter, context = running
    backend.stop()
    for number in range(20):
        exporter.metrics(snapshot(number, delta=True, number=number), [SERVICE])
        time.sleep(0.1)
    backend.start()
    backend.wait_for(lambda: sum(counts(backend)) == sum(range(20)))
    assert len(counts(backend)) == 2, "the one in flight as it was, all others as one"
    assert sum(context.health.lost.values()) == 0
    assert context.health.work["metric_exports_repeated"] >= 1
    times = [(point.start_time_unix_nano, point.time_unix_nano) for _, _, point in backend.points(METRIC)]
    assert times[0][1] == times[1][0], "no time is told twice"


def test_delta_through_a_busy_backend(backend: OtlpReceiver, running: tuple[Exporter, Context]) -> None:
    exporter, context = running
    busy: int | str = "UNAVAILABLE" if backend.protocol == "grpc" else 503
    backend.answers.extend([Answer(busy)] * 4)
    for number in range(10):
        exporter.metrics(snapshot(1, delta=True, number=number), [SERVICE])
        time.sleep(0.05)
    backend.wait_for(lambda: sum(counts(backend)) == 10)
    assert sum(context.health.lost.values()) == 0


def test_delta_that_is_refused_for_good_is_counted_and_makes_way(
    backend: OtlpReceiver, running: tuple[Exporter, Context]
) -> None:
    exporter, context = running
    backend.answers.append(Answer("INVALID_ARGUMENT" if backend.protocol == "grpc" else 400))
    exporter.metrics(snapshot(1, delta=True), [SERVICE])
    eventually(lambda: context.health.lost[Loss.METRIC_EXPORT_FAILED] == 1)
    exporter.metrics(snapshot(2, delta=True), [SERVICE])
    backend.wait_for(lambda: counts(backend) == [2])


def test_refused_points_are_counted(
    backend: OtlpReceiver, running: tuple[Exporter, Context], caplog: pytest.LogCaptureFixture
) -> None:
    exporter, context = running
    backend.answers.append(Answer(rejected=2, message="out of order"))
    exporter.metrics(snapshot(1, delta=False), [SERVICE])
    eventually(lambda: context.health.lost[Loss.METRIC_POINTS_REFUSED] == 2)
    eventually(lambda: "out of order" in caplog.text)  # said once it is counted


@pytest.mark.parametrize("delta", [False, True])
def test_close_delivers_the_last_one(backend: OtlpReceiver, running: tuple[Exporter, Context], delta: bool) -> None:
    exporter, _ = running
    exporter.metrics(snapshot(3, delta=delta), [SERVICE])
    exporter.close(soon())
    assert counts(backend) == [3]


def test_close_delivers_both_once_the_backend_is_back(backend: OtlpReceiver, running: tuple[Exporter, Context]) -> None:
    exporter, _ = running
    backend.stop()
    exporter.metrics(snapshot(3, delta=True), [SERVICE])
    time.sleep(0.1)
    exporter.metrics(snapshot(4, delta=True), [SERVICE])
    backend.start()
    exporter.close(soon(4))
    assert sum(counts(backend)) == 7


@pytest.mark.parametrize("delta", [False, True])
def test_close_keeps_its_deadline(backend: OtlpReceiver, running: tuple[Exporter, Context], delta: bool) -> None:
    exporter, context = running
    backend.stop()
    exporter.metrics(snapshot(3, delta=delta), [SERVICE])
    time.sleep(0.1)
    exporter.metrics(snapshot(4, delta=delta), [SERVICE])
    began = time.monotonic()
    exporter.close(soon(0.6))
    assert time.monotonic() - began < 1.2
    assert context.health.lost[Loss.METRIC_EXPORT_FAILED] == 2


def test_an_encoder_that_fails_costs_one_batch(backend: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    def fails_once(snapshot: Snapshot, services: list[Service]) -> bytes:
        if snapshot.series[0].count == 1:
            raise RuntimeError("no")
        return encode_metrics(snapshot, services)

    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url, "OTEL_EXPORTER_OTLP_PROTOCOL": backend.protocol}
    context = make_context(environ=environ, encode_metrics=fails_once)
    exporter = create("otlp", context)
    exporter.metrics(snapshot(1, delta=False), [SERVICE])
    eventually(lambda: context.health.lost[Loss.INTERNAL] == 1)
    exporter.metrics(snapshot(2, delta=False), [SERVICE])
    backend.wait_for(lambda: counts(backend) == [2])
    exporter.close(soon())
