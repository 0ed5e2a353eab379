"""What one node sends, at each sampling setting, and what 200 of them cost a real Mimir and a real Collector.

One agent watches the example shop under k6; its requests are weighed as they arrive. Its metrics, as bytes, are then
sent as those of 200 nodes, whose resources are named otherwise, and Mimir is asked for the sum. All that it sends in
some seconds, spans in other traces, goes to a Collector as 200 nodes would send it, at the same pace; that one hands it
on, and all of it has to be there behind it. docs/scale.md has the figures.
"""

from __future__ import annotations

import gzip
import http.client
import os
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from google.protobuf.message import Message
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
# What each node behind the gateway has to tell: visits of k6 a second, each of several requests, for so many seconds
VISITS, SECONDS, EVERY = 25, 12, 5
SIGNALS: dict[str, tuple[Any, str, str, str]] = {
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
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


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_one_node(sampler: str, payload: dict[str, ExportMetricsServiceRequest], tmp_path: Path) -> None:
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


class Export(NamedTuple):
    """What an agent sent, and when: seconds since the first."""

    after: float
    signal: str
    message: Message


@pytest.fixture
def sent_by_one(tmp_path: Path) -> list[Export]:
    """All that one agent sends in SECONDS, with every span."""
    (tmp_path / "one").mkdir()
    with Storefront(tmp_path / "one") as front, OtlpReceiver("http/protobuf") as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_METRIC_EXPORT_INTERVAL": f"{1000 * EVERY}",
        }
        agent = Agent("--port", front.ports, environment=environment, exports=["otlp"]).wait_ready()
        try:
            options = {"HTTP_URL": front.http, "HTTPS_URL": front.https, "RATE": VISITS, "DURATION": f"{SECONDS}s"}
            assert k6("steady.js", **options).returncode == 0
            time.sleep(2)
            agent.stop()
        finally:
            agent.kill()
        (first, *_) = [one.time for one in receiver.requests if one.signal == "traces"]
        sent = [Export(one.time - first, one.signal, one.message) for one in receiver.requests]
    return [one for one in sent if 0 <= one.after <= SECONDS and one.signal in SIGNALS]


def test_a_gateway_for_two_hundred_nodes(sent_by_one: list[Export], tmp_path: Path) -> None:
    """Each node on a connection of its own, at its own pace, its beginning somewhere in the first second."""
    for name in ("gateway", "behind"):
        (tmp_path / name).mkdir()
    program = backends.build("collector") / "otelcol"
    with (
        Collector(program, tmp_path / "behind", raw=True) as behind,
        Collector(program, tmp_path / "gateway", forward=f"http://127.0.0.1:{behind.http}") as gateway,
    ):
        plan = sorted(
            (one.after + node / NODES, node, f"/v1/{one.signal}", gzip.compress(as_of(one, node), 1))
            for node in range(NODES)
            for one in sent_by_one
        )
        traces = [one.message for one in sent_by_one if one.signal == "traces"]
        sent = NODES * sum(map(count_spans, traces))
        process = psutil.Process(gateway.pid)
        before, began, most = sum(process.cpu_times()[:2]), time.monotonic(), 0
        late = 0.0
        connections = [http.client.HTTPConnection("127.0.0.1", gateway.http, timeout=60) for _ in range(NODES)]
        for after, node, path, body in plan:
            time.sleep(max(0, began + after - time.monotonic()))
            late = max(late, time.monotonic() - began - after)
            connections[node].request("POST", path, body, HEADERS)
            answer = connections[node].getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            most = max(most, process.memory_info().rss)
        took = time.monotonic() - began
        wait_for(lambda: written(behind, "traces").total() == sent, f"{sent} spans behind the gateway", 60)
        used = sum(process.cpu_times()[:2]) - before
        told = [written(behind, signal) for signal in SIGNALS]
    size = sum(len(body) for *_, body in plan)
    print(f"\n{NODES} nodes of {sent / NODES / took:.0f} spans/s, {len(plan) / took:.0f} requests/s,", end=" ")
    print(f"{size / took / 1000:.0f} kB/s: {sent} spans in {took:.1f} s, all there, at most {late:.2f} s late;")
    print(f"{used / took:.2f} of a core, {1e6 * used / sent:.1f} us of CPU a span, {most / 2**20:.0f} MiB resident")
    for one in told:
        assert len(one) == NODES and len(set(one.values())) == 1, "of each node as much as of the others"


def as_of(export: Export, node: int) -> bytes:
    if isinstance(export.message, ExportTraceServiceRequest):
        return traces_of_node(export.message, node)
    return of_node(export.message, node).SerializeToString()


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


def written(collector: Collector, signal: str) -> Counter[str]:
    """Spans or metrics of each node in what a Collector wrote: messages, each after its length."""
    kind, resources, scopes, items = SIGNALS[signal]
    data, at, found = collector.file_of(signal).read_bytes(), 0, Counter[str]()
    while at + 4 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if at + 4 + size > len(data):
            break
        for resource in getattr(kind.FromString(data[at + 4 : at + 4 + size]), resources):
            name = next(one.value.string_value for one in resource.resource.attributes if one.key == "host.name")
            found[name] += sum(len(getattr(scope, items)) for scope in getattr(resource, scopes))
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
