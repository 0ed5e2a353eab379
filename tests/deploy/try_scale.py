"""What one node sends, at each sampling setting, and what 200 of them cost a real Mimir and a real Collector.

One agent watches the example shop under k6; its requests are weighed as they arrive. Its metrics, as bytes, are then
sent as those of 200 nodes, whose resources are named otherwise, and Mimir is asked for the sum. Its spans likewise, in
other traces, into a Collector, which has to write down every one. docs/scale.md has the figures.
"""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import backends  # noqa: E402 - found by the line above
from agent import Agent  # noqa: E402
from collector import Collector  # noqa: E402
from machine import wait_for  # noqa: E402
from otlp_receiver import OtlpReceiver  # noqa: E402
from queries import Api  # noqa: E402
from storefront import Storefront, k6  # noqa: E402
from try_lgtm import MIMIR, configured  # noqa: E402

NODES = 200
ROUNDS = 3
REQUESTS = 5  # with spans, of each node: some seconds of its traffic
# Mimir lets a tenant send 10,000 samples a second and keep 150,000 series, unless told otherwise.
LIMITS = (
    "-distributor.ingestion-rate-limit=10000000",
    "-distributor.ingestion-burst-size=10000000",
    "-ingester.max-global-series-per-user=0",
)
SAMPLERS = {
    "always_on": {},
    "keep_errors_slow": {"OTEL_TRACES_SAMPLER": "keep_errors_slow", "OTEL_TRACES_SAMPLER_ARG": "slow=500ms,ratio=0.01"},
    "always_off": {"OTEL_TRACES_SAMPLER": "always_off"},
}


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportMetricsServiceRequest]:
    return {}


@pytest.fixture(scope="module")
def spans_of_one() -> list[ExportTraceServiceRequest]:
    return []


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_one_node(
    sampler: str,
    payload: dict[str, ExportMetricsServiceRequest],
    spans_of_one: list[ExportTraceServiceRequest],
    tmp_path: Path,
) -> None:
    with Storefront(tmp_path) as front, OtlpReceiver("http/protobuf") as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_METRIC_EXPORT_INTERVAL": "15000",
            **SAMPLERS[sampler],
        }
        agent = Agent("--port", front.ports, environment=environment, exports=["otlp"]).wait_ready()
        try:
            assert k6("steady.js", HTTP_URL=front.http, RATE=100, DURATION="20s").returncode == 0
            time.sleep(2)
            agent.stop()
        finally:
            agent.kill()
        last = receiver.metrics[-1]
        points = [
            point
            for resource in last.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in (*metric.histogram.data_points, *metric.sum.data_points, *metric.gauge.data_points)
        ]
        told = sum(
            point.count
            for resource in last.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name.endswith("request.duration")
            for point in metric.histogram.data_points
        )
        spans = len(receiver.spans())
        size = sum(one.size for one in receiver.requests if one.signal == "traces")
        metrics = [one.size for one in receiver.requests if one.signal == "metrics"]
        print(
            f"\n{sampler}: {told} requests told, {spans} spans in {size} bytes ({size / max(1, spans):.0f} a span);",
            end=" ",
        )
        print(f"{len(points)} points in {metrics[-1]} bytes an export, {len(last.resource_metrics)} resources")
        assert told > 3000
        assert (spans == told) if sampler == "always_on" else (spans < told / 5)
        payload["one"] = last
        spans_of_one.extend(receiver.traces if sampler == "always_on" else [])


def test_two_hundred_nodes(payload: dict[str, ExportMetricsServiceRequest], tmp_path: Path) -> None:
    environment = {**os.environ, "ADDRESS": "127.0.0.1", "DATA": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        mimir = subprocess.Popen([*configured("mimir"), *LIMITS], env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        wait_for(lambda: urllib.request.urlopen(f"{MIMIR}/ready").read(), f"Mimir is ready: {tmp_path}/log", 120)
        process = psutil.Process(mimir.pid)
        before, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
        requests = [of_node(payload["one"], number) for number in range(NODES)]
        for turn in range(ROUNDS):
            now = time.time_ns()
            for request in requests:
                send(at(request, now + turn))
        used, grown = sum(process.cpu_times()[:2]) - before, process.memory_info().rss - memory
        api = Api(f"{MIMIR}/prometheus")
        series = float(wait_for(lambda: api.query('count({__name__=~".+"})'), "series", 20)[0]["value"][1])
        one = float(api.query('sum(http_server_request_duration_seconds_count{instance=~"node-7:.*"})')[0]["value"][1])
        every = float(api.query("sum(http_server_request_duration_seconds_count)")[0]["value"][1])
        print(f"\n{NODES} nodes: {series:.0f} series, {grown / 2**20:.0f} MiB more memory,", end=" ")
        print(f"{1000 * used / ROUNDS / NODES:.1f} ms of CPU for one export of one node")
        assert every == NODES * one
    finally:
        mimir.terminate()
        mimir.wait(60)


def test_spans_of_two_hundred_nodes(spans_of_one: list[ExportTraceServiceRequest], tmp_path: Path) -> None:
    with Collector(backends.build("collector") / "otelcol", tmp_path, format="proto") as collector:
        process = psutil.Process(collector.pid)
        taken = spans_of_one[:REQUESTS]
        requests = [gzip.compress(traces_of_node(one, node), 1) for node in range(NODES) for one in taken]
        before, began, most = sum(process.cpu_times()[:2]), time.monotonic(), 0
        for request in requests:
            headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
            url = f"http://127.0.0.1:{collector.http}/v1/traces"
            urllib.request.urlopen(urllib.request.Request(url, request, headers), timeout=60).read()
            most = max(most, process.memory_info().rss)
        sent = NODES * sum(map(count_spans, taken))
        wait_for(lambda: written(collector.file) == sent, f"{sent} spans written down", 60)
        used, took = sum(process.cpu_times()[:2]) - before, time.monotonic() - began
        size = sum(map(len, requests))
    print(
        f"\n{NODES} nodes: {sent} spans in {len(requests)} requests of {size / len(requests):.0f} bytes, all written;"
    )
    print(f"{1e6 * used / sent:.1f} us of CPU a span, {sent / took:.0f} spans/s, {most / 2**20:.0f} MiB resident")


def traces_of_node(original: ExportTraceServiceRequest, number: int) -> bytes:
    """In traces of its own: the first two bytes of their ids are the node's number."""
    request = ExportTraceServiceRequest.FromString(original.SerializeToString())
    for resource in request.resource_spans:
        rename(resource.resource, number)
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.trace_id = number.to_bytes(2, "big") + span.trace_id[2:]
    return request.SerializeToString()


def count_spans(request: ExportTraceServiceRequest) -> int:
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def written(file: Path) -> int:
    """Spans in what the Collector wrote: messages, each after its length."""
    data, at, found = file.read_bytes(), 0, 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if at + 4 + size > len(data):
            break
        found += count_spans(ExportTraceServiceRequest.FromString(data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def rename(resource: Resource, number: int) -> None:
    for one in resource.attributes:
        if one.key == "service.instance.id":
            one.value.string_value = f"node-{number}:{one.value.string_value.rpartition(':')[2]}"
        elif one.key == "host.name":
            one.value.string_value = f"node-{number}"


def of_node(original: ExportMetricsServiceRequest, number: int) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest.FromString(original.SerializeToString())
    for resource in request.resource_metrics:
        rename(resource.resource, number)
    return request


def at(request: ExportMetricsServiceRequest, now: int) -> bytes:
    """The same, measured now."""
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in (*metric.histogram.data_points, *metric.sum.data_points, *metric.gauge.data_points):
                    point.time_unix_nano = now
                    del point.exemplars[:]
    return request.SerializeToString()


def send(data: bytes) -> None:
    request = urllib.request.Request(f"{MIMIR}/otlp/v1/metrics", data, {"Content-Type": "application/x-protobuf"})
    urllib.request.urlopen(request, timeout=60).read()
