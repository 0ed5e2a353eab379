"""Scrapes over real sockets, read by Prometheus' own parsers."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from unit.export.support import make_context, soon

from autoinstr.errors import UsageError
from autoinstr.export.base import create
from autoinstr.export.prometheus import Prometheus
from autoinstr.export.prometheus.exposition import labels, metric_name, render
from autoinstr.export.prometheus.server import MAX_CONNECTIONS
from autoinstr.health import Loss
from autoinstr.model import DURATION_BOUNDS, Exemplar, Exponential, SelfMetric, Series, Service, Snapshot

NASTY = 'a"b\\c\nd{}=,é'
SERVICES = [
    Service(
        "shop-api",
        {
            "service.name": "shop-api",
            "service.namespace": "shop",
            "service.instance.id": "host:1",
            "process.pid": 1,
            "host.name": "host",
            "tags": ["a", "b"],
        },
    ),
    Service("nobody", {"service.name": "nobody", "service.instance.id": "host:2"}),
    Service("plain", {"service.name": "plain", "service.instance.id": "host:3"}),
]


def make_snapshot() -> Snapshot:
    buckets = np.zeros(len(DURATION_BOUNDS) + 1, np.int64)
    buckets[[1, 3, 15]] = 5, 2, 1
    exemplars = [Exemplar(0.02, 1_700_000_000_500_000_000, b"\xab" * 16, b"\xcd" * 8)]
    duration = ("http.server.request.duration", "s", "Duration of HTTP server requests.")
    size = ("http.client.request.body.size", "By", "Size of\nbodies.")
    return Snapshot(
        start=1,
        end=2,
        delta=False,
        series=[
            Series(
                *duration,
                service=0,
                attributes={"http.request.method": "GET", "http.route": NASTY, "server.port": 8080},
                start=1,
                count=8,
                sum=12.5,
                bounds=DURATION_BOUNDS,
                buckets=buckets,
                exemplars=exemplars,
            ),
            Series(*duration, 2, {"otel.metric.overflow": True}, 1, 3, 0.25, (1.0,), np.array([3, 0])),
            Series(*size, 2, {}, 1, 3, 300, (32.0, 64.0), np.array([1, 2, 0])),
        ],
        own=[
            SelfMetric("autoinstr.lost", "{item}", "What was lost.", {"reason": "ring_full"}, 7, True),
            SelfMetric("autoinstr.lost", "{item}", "What was lost.", {"reason": "orphan_response"}, 0, True),
            SelfMetric("autoinstr.cpu.time", "s", "CPU time.", {}, 1.25, True),
            SelfMetric("autoinstr.ring.fill", "1", "Ring fill.", {}, 0.5, False),
            SelfMetric("autoinstr.cache_ratio", "1", "Cache.", {}, 0.25, False),
            SelfMetric("autoinstr.memory", "By", "Memory.", {}, 4096, False),
        ],
    )


class Served:
    def __init__(self, collect: Callable[[], tuple[Snapshot, list[Service]]] | None = None) -> None:
        self.context = make_context(collect=collect or (lambda: (make_snapshot(), SERVICES)), prometheus_port=0)
        exporter = create("prometheus", self.context)
        assert isinstance(exporter, Prometheus)
        self.exporter = exporter
        self.port = exporter.port

    def get(self, path: str = "/metrics", method: str = "GET", accept: str = "") -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["content-type"], body

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            client.sendall(data)
            return client.recv(65536)


@pytest.fixture
def served() -> Iterator[Served]:
    it = Served()
    yield it
    it.exporter.close(soon(1))


def test_a_scrape_in_the_text_format(served: Served) -> None:
    status, content_type, body = served.get()
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    duration = families["http_server_request_duration_seconds"]
    assert duration.type == "histogram"
    samples = {(s.name, s.labels["job"], s.labels.get("le")): s for s in duration.samples}
    first = samples["http_server_request_duration_seconds_bucket", "shop/shop-api", "0.005"]
    assert first.value == 5
    assert first.labels == {
        "job": "shop/shop-api",
        "instance": "host:1",
        "http_request_method": "GET",
        "http_route": NASTY,
        "server_port": "8080",
        "le": "0.005",
    }
    assert samples["http_server_request_duration_seconds_bucket", "shop/shop-api", "10.0"].value == 7
    assert samples["http_server_request_duration_seconds_bucket", "shop/shop-api", "+Inf"].value == 8
    assert samples["http_server_request_duration_seconds_count", "shop/shop-api", None].value == 8
    assert samples["http_server_request_duration_seconds_sum", "shop/shop-api", None].value == 12.5
    overflow = samples["http_server_request_duration_seconds_count", "plain", None]
    assert overflow.labels["otel_metric_overflow"] == "true"
    size = families["http_client_request_body_size_bytes"]
    assert [s.value for s in size.samples if s.name.endswith("_bucket")] == [1, 3, 3]
    assert size.documentation == "Size of\nbodies."


def test_resources_that_have_series_are_target_info(served: Served) -> None:
    families = {family.name: family for family in text_string_to_metric_families(served.get()[2])}
    assert [s.labels for s in families["target_info"].samples] == [
        {
            "job": "shop/shop-api",
            "instance": "host:1",
            "host_name": "host",
            "process_pid": "1",
            "tags": '["a", "b"]',
        },
        {"job": "plain", "instance": "host:3"},
    ]


def test_own_figures(served: Served) -> None:
    families = {family.name: family for family in text_string_to_metric_families(served.get()[2])}
    lost = families["autoinstr_lost"]
    assert lost.type == "counter"
    assert {(s.name, s.labels["reason"]): s.value for s in lost.samples} == {
        ("autoinstr_lost_total", "ring_full"): 7,
        ("autoinstr_lost_total", "orphan_response"): 0,
    }
    assert families["autoinstr_cpu_time_seconds"].samples[0].name == "autoinstr_cpu_time_seconds_total"
    assert families["autoinstr_ring_fill_ratio"].samples[0].value == 0.5
    assert families["autoinstr_cache_ratio"].samples[0].value == 0.25
    assert families["autoinstr_memory_bytes"].type == "gauge"


def test_open_metrics_when_it_is_asked_for(served: Served) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    _, content_type, body = served.get(accept=accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(body)}
    duration = families["http_server_request_duration_seconds"]
    assert duration.unit == "seconds"
    found = [(s.labels["le"], s.exemplar) for s in duration.samples if s.exemplar]
    assert [le for le, _ in found] == ["0.025"]
    exemplar = found[0][1]
    assert exemplar is not None
    assert exemplar.labels == {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    assert (exemplar.value, float(exemplar.timestamp)) == (0.02, 1_700_000_000.5)
    assert families["target"].type == "info"
    assert families["autoinstr_lost"].type == "counter"


def page(snapshot: Snapshot, *, open_metrics: bool = False) -> str:
    return b"".join(render(snapshot, SERVICES, open_metrics=open_metrics)).decode()


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("gzip;q=1.0, identity;q=0.5", True), ("deflate", False), ("gzip;q=0", False), ("", False)],
)
def test_compression_when_it_is_asked_for(served: Served, accepted: str, packed: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": accepted})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert (answer.headers["content-encoding"] == "gzip") is packed
    text = (gzip.decompress(body) if packed else body).decode()
    assert "http_server_request_duration_seconds_count" in text


def test_exponential_histograms_become_ordinary_ones() -> None:
    exponential = Exponential(scale=0, zero_count=1, offset=-1, counts=np.array([2, 0, 3]))
    series = Series("x", "s", "", 0, {}, 1, 6, 9.0, (), None, exponential)
    body = page(Snapshot(1, 2, False, [series]))
    (family,) = [f for f in text_string_to_metric_families(body) if f.name == "x_seconds"]
    buckets = [(s.labels["le"], s.value) for s in family.samples if s.name.endswith("_bucket")]
    assert buckets == [("0.5", 1), ("1.0", 3), ("2.0", 3), ("4.0", 6), ("+Inf", 6)]


def test_nothing_seen_yet_is_an_empty_page() -> None:
    assert page(Snapshot(1, 2, False)) == ""
    assert page(Snapshot(1, 2, False), open_metrics=True) == "# EOF\n"


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("http.server.request.duration", "s", "http_server_request_duration_seconds"),
        ("http.server.request.body.size", "By", "http_server_request_body_size_bytes"),
        ("already.seconds", "s", "already_seconds"),
        ("queue.size", "{batch}", "queue_size"),
        ("2xx..count", "", "_2xx_count"),
    ],
)
def test_names(name: str, unit: str, expected: str) -> None:
    assert metric_name(name, unit) == expected


def test_labels_that_become_the_same_share_one() -> None:
    assert labels({"a.b": "1", "a_b": "2", "9x": True}) == 'key_9x="true",a_b="1;2"'


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 200), ("GET", "/metrics?x=1", 200), ("GET", "/other", 404), ("POST", "/metrics", 501)],
)
def test_paths_and_methods(served: Served, method: str, path: str, status: int) -> None:
    assert served.get(path, method)[0] == status


def test_ready_once_it_looks_and_as_long_as_it_goes_on(served: Served) -> None:
    assert served.get("/ready")[0] == 503
    served.context.health.looked = time.monotonic()
    assert served.get("/ready")[0] == 200
    served.context.health.looked -= 31
    assert served.get("/ready")[0] == 503


def test_head_has_no_body(served: Served) -> None:
    status, _, body = served.get(method="HEAD")
    assert (status, body) == (200, "")


def test_the_front_page_leads_to_the_metrics(served: Served) -> None:
    assert 'href="/metrics"' in served.get("/")[2]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"\0" * 99,
    ],
)
def test_garbage_hurts_nobody(served: Served, garbage: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(garbage)
    assert served.get()[0] == 200
    assert capfd.readouterr().err == ""


def test_clients_that_hold_connections_do_not_keep_a_scrape_out(served: Served) -> None:
    before = threading.active_count()
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(5 * MAX_CONNECTIONS)]
    for client in held:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
    began = time.monotonic()
    assert served.get()[0] == 200
    assert time.monotonic() - began < 2
    while threading.active_count() - before > MAX_CONNECTIONS + 1:  # who made way is still ending
        assert time.monotonic() - began < 5
        time.sleep(0.01)
    for client in held:
        client.close()


def test_a_client_that_reads_nothing_does_not_keep_a_scrape_out() -> None:
    series = [
        Series("x", "s", "", 0, {"n": number}, 1, 1, 1.0, DURATION_BOUNDS, np.ones(16, np.int64))
        for number in range(5000)
    ]
    served = Served(lambda: (Snapshot(1, 2, False, series), SERVICES))
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        time.sleep(0.3)
        assert len(served.get()[2]) > 5_000_000
    served.exporter.close(soon(1))


def test_a_collection_that_fails_is_an_error_of_one_scrape(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> tuple[Snapshot, list[Service]]:
        raise RuntimeError("no")

    served = Served(fails)
    assert served.get()[0] == 500
    assert served.context.health.lost[Loss.INTERNAL] == 1
    served.exporter.close(soon(1))


def test_a_port_that_is_taken_is_a_usage_error(served: Served) -> None:
    with pytest.raises(UsageError, match=rf"--prometheus-port {served.port}.*Address already in use"):
        create("prometheus", make_context(prometheus_port=served.port))


def test_it_listens_on_loopback_only_unless_told_otherwise(served: Served) -> None:
    assert served.exporter._server._server.server_address[0] == "127.0.0.1"
    other = create("prometheus", make_context(prometheus_host="::1", prometheus_port=0))
    assert isinstance(other, Prometheus)
    with socket.create_connection(("::1", other.port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200")
    other.close(soon(1))


def test_close_frees_the_port_at_once() -> None:
    served = Served()
    began = time.monotonic()
    served.exporter.close(soon(5))
    assert time.monotonic() - began < 0.5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))
