"""Spans over OTLP, against a real backend on a real socket that misbehaves on demand."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from e2e.otlp_receiver import Answer, OtlpReceiver, Tls
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from ports import free_port
from unit.export.support import SERVER, SERVICE, EncodedSpans, encode_spans, make_context, make_traced, soon

from autoinstr.errors import UsageError
from autoinstr.export.base import Context, Exporter, create
from autoinstr.export.otlp.settings import QUEUE_BYTES
from autoinstr.health import Loss
from autoinstr.model import Group, Service, Traced

UNAVAILABLE: dict[str, int | str] = {"grpc": "UNAVAILABLE", "http/protobuf": 503}
REFUSED: dict[str, int | str] = {"grpc": "INVALID_ARGUMENT", "http/protobuf": 400}


@pytest.fixture(params=["grpc", "http/protobuf"])
def backend(request: pytest.FixtureRequest) -> Iterator[OtlpReceiver]:
    with OtlpReceiver(request.param) as receiver:
        yield receiver


class Running:
    """An exporter that is closed at the end of the test."""

    def __init__(self, backend: OtlpReceiver | None, **variables: str) -> None:
        environ = {"OTEL_BSP_SCHEDULE_DELAY": "20"}
        if backend:
            environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url, "OTEL_EXPORTER_OTLP_PROTOCOL": backend.protocol}
        environ |= {key if key.startswith("OTEL") else f"OTEL_EXPORTER_OTLP_{key}": v for key, v in variables.items()}
        self.encoded: list[EncodedSpans] = []  # in place of what a batch would be encoded to
        self.context: Context = make_context(environ=environ, encode_spans=self._encode)
        self.exporter: Exporter = create("otlp", self.context)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.exporter.close(time.monotonic())

    def send(self, count: int = 3) -> None:
        self.exporter.spans(make_traced(count), [SERVER], [SERVICE])

    def send_encoded(self, *batches: EncodedSpans) -> None:
        self.encoded = list(batches)
        self.send()

    def _encode(self, traced: Traced, groups: list[Group], services: list[Service]) -> list[EncodedSpans]:
        return self.encoded or encode_spans(traced, groups, services)

    def lost(self, loss: Loss) -> int:
        return self.context.health.lost[loss]

    @property
    def exported(self) -> int:
        return self.context.health.work["spans_exported"]


def eventually(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_spans_arrive_as_they_were_encoded(backend: OtlpReceiver) -> None:
    traced = make_traced(7)
    with Running(backend, HEADERS="x-scope-orgid=shop,authorization=Basic%20abc=") as running:
        backend.required = {"x-scope-orgid": "shop", "authorization": "Basic abc="}
        running.exporter.spans(traced, [SERVER], [SERVICE])
        backend.wait_for(lambda: len(backend.spans()) == 7)
        eventually(lambda: running.exported == 7)
    assert [span.trace_id for span in backend.spans()] == [row.tobytes() for row in traced.trace_id]
    assert backend.requests[0].headers["user-agent"].startswith("autoinstr/1.2.3 OTel-OTLP-Exporter-Python")
    assert sum(running.context.health.lost.values()) == 0


def test_rows_that_are_not_sampled_make_no_request(backend: OtlpReceiver) -> None:
    with Running(backend) as running:
        running.exporter.spans(make_traced(5, sampled=False), [SERVER], [SERVICE])
        running.exporter.close(soon())
    assert backend.requests == []


def test_small_batches_share_a_request_and_a_connection(backend: OtlpReceiver) -> None:
    with Running(backend, OTEL_BSP_SCHEDULE_DELAY="300") as running:
        for _ in range(10):
            running.send(2)
        backend.wait_for(lambda: len(backend.spans()) == 20)
        assert len(backend.requests) == 1
        running.send(1)
        backend.wait_for(lambda: len(backend.spans()) == 21)
    assert len({request.peer for request in backend.requests}) == 1


def test_a_request_carries_no_more_spans_than_asked_for(backend: OtlpReceiver) -> None:
    with Running(backend, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4", OTEL_BSP_SCHEDULE_DELAY="300") as running:
        for _ in range(5):
            running.send(2)
        backend.wait_for(lambda: len(backend.spans()) == 10)
    sizes = [sum(len(s.spans) for r in t.resource_spans for s in r.scope_spans) for t in backend.traces]
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_compression(backend: OtlpReceiver, compression: str) -> None:
    with Running(backend, COMPRESSION=compression) as running:
        running.send(500)
        backend.wait_for(lambda: len(backend.spans()) == 500)
    headers = backend.requests[0].headers
    if backend.protocol == "grpc":
        # The server's library decompresses; what it was is told by the client's accepted list only, so look at sizes
        assert "gzip" in headers.get("grpc-accept-encoding", "gzip")
    else:
        assert headers.get("content-encoding") == (compression if compression == "gzip" else None)


def test_a_busy_backend_gets_the_same_spans_again(backend: OtlpReceiver) -> None:
    backend.answers.extend([Answer(UNAVAILABLE[backend.protocol])] * 2)
    with Running(backend) as running:
        running.send()
        backend.wait_for(lambda: len(backend.spans()) == 3)
        eventually(lambda: running.exported == 3)
        assert running.lost(Loss.SPAN_EXPORT_FAILED) == 0
    first, second, third = (request.time for request in backend.requests)
    assert 0.2 < second - first < 1.5, "the first pause is half a second, give or take a half"
    assert 0.4 < third - second < 2.5


def test_a_refusal_is_not_repeated_and_counted(backend: OtlpReceiver) -> None:
    backend.answers.append(Answer(REFUSED[backend.protocol]))
    with Running(backend) as running:
        running.send(3)
        eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3)
        running.send(2)
        backend.wait_for(lambda: len(backend.spans()) == 2)
    assert len(backend.requests) == 2


@pytest.mark.parametrize("status", [301, 401, 404, 413, 500, 501])
def test_statuses_that_are_not_repeated(status: int) -> None:
    with OtlpReceiver("http/protobuf") as backend, Running(backend) as running:
        backend.answers.append(Answer(status))
        running.send(3)
        eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3)
        assert len(backend.requests) == 1


def test_the_time_that_a_backend_asks_for_is_given(backend: OtlpReceiver) -> None:
    backend.answers.append(Answer(429 if backend.protocol != "grpc" else "RESOURCE_EXHAUSTED", retry_after=2))
    with Running(backend) as running:
        running.send()
        backend.wait_for(lambda: len(backend.spans()) == 3)
    assert backend.requests[1].time - backend.requests[0].time >= 2


def test_a_wait_beyond_the_deadline_ends_the_export_and_holds_the_next_one(backend: OtlpReceiver) -> None:
    backend.answers.append(Answer(UNAVAILABLE[backend.protocol], retry_after=2))
    with Running(backend, TIMEOUT="1000") as running:
        running.send(3)
        eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3, 1.0)
        running.send(2)
        backend.wait_for(lambda: len(backend.spans()) == 2)
    assert backend.requests[1].time - backend.requests[0].time >= 1.9


def test_exhausted_without_a_time_is_a_refusal() -> None:
    with OtlpReceiver("grpc") as backend, Running(backend) as running:
        backend.answers.append(Answer("RESOURCE_EXHAUSTED"))
        running.send(3)
        eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3)
        assert len(backend.requests) == 1


def test_one_deadline_for_all_attempts(backend: OtlpReceiver) -> None:
    backend.always = Answer(UNAVAILABLE[backend.protocol])
    with Running(backend, TIMEOUT="1500") as running:
        began = time.monotonic()
        running.send(3)
        eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3)
        assert time.monotonic() - began < 2.5
        assert len(backend.requests) >= 2


def test_partial_success_counts_what_was_refused(backend: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    backend.answers.append(Answer(rejected=4, message="attribute too long"))
    with Running(backend) as running:
        running.send(10)
        eventually(lambda: running.exported == 6)
        assert running.lost(Loss.SPAN_EXPORT_FAILED) == 4
    assert len(backend.requests) == 1, "a partial success is not sent again"
    assert "attribute too long" in caplog.text


def test_an_answer_that_is_no_protobuf_is_still_a_success() -> None:
    with OtlpReceiver("http/protobuf") as backend, Running(backend) as running:
        backend.answers.append(Answer(body=b"\xff\xffthank you"))
        backend.answers.append(Answer(body=b"x" * 1_000_000))
        running.send()
        eventually(lambda: running.exported == 3)
        running.send()
        eventually(lambda: running.exported == 6)
        running.send()
        eventually(lambda: running.exported == 9)


def test_a_dead_backend_that_comes_back(backend: OtlpReceiver) -> None:
    backend.stop()
    with Running(backend) as running:
        running.send(3)
        time.sleep(0.7)
        running.send(2)
        backend.start()
        backend.wait_for(lambda: len(backend.spans()) == 5)
        eventually(lambda: running.exported == 5)
        assert sum(running.context.health.lost.values()) == 0


def test_a_backend_that_restarts_between_two_exports(backend: OtlpReceiver) -> None:
    with Running(backend) as running:
        running.send(1)
        backend.wait_for(lambda: len(backend.spans()) == 1)
        backend.stop()
        backend.start()
        running.send(1)
        backend.wait_for(lambda: len(backend.spans()) == 2)


def test_a_slow_backend_costs_bounded_memory_and_every_drop_is_counted(backend: OtlpReceiver) -> None:
    """100 MB offered within a moment, while one request takes a second."""
    backend.delay = 1.0
    size, count = 1_000_000, 100
    filler = Filler(size)
    with Running(backend) as running:
        running.send(1)
        backend.wait_for(lambda: len(backend.requests) == 1)
        before = psutil.Process().memory_info().rss
        for number in range(count):
            running.send_encoded(filler.batch(number))
        grown = psutil.Process().memory_info().rss - before
        assert running.context.health.gauges["span_queue_bytes"] <= QUEUE_BYTES
        assert grown < 3 * QUEUE_BYTES
        backend.delay = 0.0
        dropped = running.lost(Loss.SPAN_QUEUE_FULL)
        backend.wait_for(lambda: len(backend.spans()) == 1 + count * filler.spans - dropped)
        eventually(lambda: running.exported + dropped == 1 + count * filler.spans)
        assert dropped > 80 * filler.spans
    assert backend.spans()[-1].name == f"{count - 1}", "the newest are kept, the oldest dropped"


class Filler:
    """Batches of a given size, of ten spans."""

    spans = 10

    def __init__(self, size: int) -> None:
        self._text = "x" * (size // self.spans)

    def batch(self, number: int) -> EncodedSpans:
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        for _ in range(self.spans):
            scope.spans.add(name=str(number), trace_state=self._text)
        return EncodedSpans(request.SerializeToString(), self.spans)


def test_close_delivers_what_waits(backend: OtlpReceiver) -> None:
    with Running(backend, OTEL_BSP_SCHEDULE_DELAY="60000") as running:
        running.send(5)
        began = time.monotonic()
        running.exporter.close(soon(5))
        assert time.monotonic() - began < 2
    assert len(backend.spans()) == 5
    assert running.exported == 5


def test_close_keeps_its_deadline_when_the_backend_is_dead(backend: OtlpReceiver) -> None:
    backend.stop()
    with Running(backend) as running:
        running.send(5)
        time.sleep(0.1)
        running.send(4)
        began = time.monotonic()
        running.exporter.close(soon(1.0))
        assert time.monotonic() - began < 1.5
        assert running.lost(Loss.SPAN_EXPORT_FAILED) == 9


def test_close_keeps_its_deadline_when_the_backend_hangs(backend: OtlpReceiver) -> None:
    backend.delay = 6.0
    with Running(backend) as running:
        running.send(5)
        backend.wait_for(lambda: len(backend.requests) == 1)
        running.send(4)
        began = time.monotonic()
        running.exporter.close(soon(0.5))
        assert time.monotonic() - began < 1.0
        assert running.lost(Loss.SPAN_EXPORT_FAILED) == 9
    backend.delay = 0.0


def test_a_port_that_accepts_and_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Running(None, ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}", TIMEOUT="600") as running:
            running.send(3)
            eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3, 2.0)


def test_the_same_trouble_is_said_once(backend: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    backend.always = Answer(REFUSED[backend.protocol], message="no such tenant")
    with Running(backend, HEADERS="authorization=s3cret", OTEL_BSP_SCHEDULE_DELAY="0") as running:
        for number in range(1, 6):
            running.send(1)
            eventually(lambda number=number: running.lost(Loss.SPAN_EXPORT_FAILED) == number)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert str(backend.port) in lines[0]
    assert "s3cret" not in caplog.text


def test_a_mistake_of_ours_costs_one_batch(backend: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    with Running(backend) as running:
        running.send_encoded(EncodedSpans("not bytes", 2))  # type: ignore[arg-type]
        eventually(lambda: running.lost(Loss.INTERNAL) == 1)


def test_an_idle_exporter_does_not_wake() -> None:
    earlier = set(threading.enumerate())
    with OtlpReceiver("http/protobuf") as backend, Running(backend) as running:
        running.send(1)
        eventually(lambda: running.exported == 1)
        started = set(threading.enumerate()) - earlier
        threads = {thread.native_id for thread in started if thread.name.startswith("otlp-")}
        switches = _switches(threads)
        time.sleep(1.0)
        assert len(threads) == 2
        assert _switches(threads) - switches <= 2


def _switches(threads: set[int | None]) -> int:
    lines = (line for t in threads for line in Path(f"/proc/self/task/{t}/status").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


class Authority:
    """A certificate authority of our own, with a server and a client that it vouches for."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.certificate = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.certificate))
        self.server = self._issue(authority, folder, "localhost")
        self.client = self._issue(authority, folder, "agent")

    def _issue(self, authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(name)
        certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("mutual", [False, True])
def test_tls(protocol: str, mutual: bool, authority: Authority) -> None:
    tls = Tls(*authority.server, client_authority=authority.certificate if mutual else None)
    variables = {"CERTIFICATE": str(authority.certificate)}
    if mutual:
        variables |= {"CLIENT_CERTIFICATE": str(authority.client[0]), "CLIENT_KEY": str(authority.client[1])}
    with OtlpReceiver(protocol, tls=tls) as backend, Running(backend, **variables) as running:
        assert backend.url.startswith("https")
        running.send(3)
        backend.wait_for(lambda: len(backend.spans()) == 3)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_tls_with_an_unknown_authority_delivers_nothing(
    protocol: str, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with OtlpReceiver(protocol, tls=Tls(*authority.server)) as backend, Running(backend, TIMEOUT="700") as running:
        running.send(3)
        eventually(lambda: running.lost(Loss.SPAN_EXPORT_FAILED) == 3)
        assert backend.requests == []
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text or "UNAVAILABLE" in caplog.text


def test_a_broken_certificate_is_a_usage_error(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(UsageError, match="CERTIFICATE"):
        Running(None, ENDPOINT=f"https://localhost:{free_port()}", CERTIFICATE=str(broken))


def test_each_signal_can_have_its_own_backend() -> None:
    with OtlpReceiver("http/protobuf") as everything, OtlpReceiver("grpc") as own:
        with Running(everything, TRACES_ENDPOINT=own.url, TRACES_PROTOCOL="grpc", TRACES_HEADERS="a=b") as running:
            running.send(3)
            own.wait_for(lambda: len(own.spans()) == 3)
        assert everything.requests == []
        assert own.requests[0].headers["a"] == "b"


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver("http/protobuf") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with Running(None, ENDPOINT="http://backend.invalid:4318") as running:
            running.send(3)
            proxy.wait_for(lambda: len(proxy.spans()) == 3)
    assert proxy.requests[0].path == "http://backend.invalid:4318/v1/traces"
