"""A real OTLP backend for tests: gRPC or HTTP/protobuf, on a real socket, that can be told to misbehave.

    with OtlpReceiver("grpc") as backend:
        ... OTEL_EXPORTER_OTLP_ENDPOINT=backend.url ...
        backend.wait_for(lambda: len(backend.spans()) >= 10)

Everything accepted is kept as decoded protobuf messages (`traces`, `metrics`, `logs`). `answers` is a queue of
misbehaviours, one taken by each request: `Answer(503)`, `Answer(503, retry_after=1)`, `Answer(rejected=3)`. `delay`
makes every answer slow, `required` are headers without which a request is refused; `stop()` and `start()` take the
backend down and bring it back on the same port.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import CERT_REQUIRED, PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from ports import free_port

# signal -> what is asked, what is answered, and where that says how much was refused
SIGNALS: dict[str, tuple[Any, Any, str]] = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse, "rejected_log_records"),
}


@dataclass(frozen=True)
class Answer:
    """What one request meets. Not ok: HTTP status or name of the gRPC code."""

    status: int | str = 200
    retry_after: float | None = None  # Retry-After field, or RetryInfo in the details of the status
    rejected: int = 0  # partial success
    message: str = ""
    body: bytes | None = None  # instead of the right answer (HTTP)

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass(frozen=True)
class Tls:
    """Paths of PEM files: the server's own, and of the authority that clients' certificates must come from."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


@dataclass
class Received:
    """One request as it arrived, answered well or not."""

    signal: str
    path: str
    headers: dict[str, str]
    size: int  # bytes on the wire (HTTP), decoded (gRPC)
    time: float
    peer: str
    message: Any = field(repr=False)


class OtlpReceiver:
    def __init__(self, protocol: str = "grpc", port: int = 0, tls: Tls | None = None) -> None:
        self.protocol = protocol
        self.port = port or free_port()
        self.tls = tls
        self.delay = 0.0
        self.answers: deque[Answer] = deque()
        self.always: Answer | None = None  # for every request, when `answers` is empty
        self.required: dict[str, str] = {}
        self.requests: list[Received] = []
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.logs: list[ExportLogsServiceRequest] = []
        self._changed = threading.Condition()
        self._server: _HttpServer | _GrpcServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def __enter__(self) -> OtlpReceiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._server = _GrpcServer(self) if self.protocol == "grpc" else _HttpServer(self)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def take(self, received: Received) -> Answer:
        """Decide on the answer to a request, and keep what it brought if that is a good one."""
        with self._changed:
            self.requests.append(received)
            answer = self.answers.popleft() if self.answers else self.always or Answer()
            if any(received.headers.get(key) != value for key, value in self.required.items()):
                answer = Answer(401 if self.protocol != "grpc" else "UNAUTHENTICATED")
            self._changed.notify_all()
        if self.delay:
            time.sleep(self.delay)
        with self._changed:
            if answer.ok:
                getattr(self, received.signal).append(received.message)
            self._changed.notify_all()
        return answer

    def wait_for(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until the condition holds. AssertionError: it did not in time."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"not in {timeout} s; {len(self.requests)} requests came"

    def spans(self) -> list[Span]:
        return [span for _, span in self.spans_with_resource()]

    def spans_with_resource(self) -> list[tuple[dict[str, Any], Span]]:
        return [
            (attributes(resource.resource.attributes), span)
            for request in list(self.traces)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def log_records(self) -> list[tuple[dict[str, Any], LogRecord]]:
        """Each with its resource."""
        return [
            (attributes(resource.resource.attributes), record)
            for request in list(self.logs)
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def points(self, name: str) -> Iterator[tuple[dict[str, Any], Metric, Any]]:
        """Every point of a metric that came, oldest first: (resource attributes, metric, point)."""
        for request in list(self.metrics):
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in (metric for metric in scope.metrics if metric.name == name):
                        for point in getattr(metric, metric.WhichOneof("data")).data_points:
                            yield attributes(resource.resource.attributes), metric, point


def attributes(pairs: Any) -> dict[str, Any]:
    """OTLP attributes as a plain dictionary."""

    def value(pair: KeyValue) -> Any:
        kind = pair.value.WhichOneof("value")
        content = getattr(pair.value, kind)
        if kind == "array_value":
            return [getattr(item, item.WhichOneof("value")) for item in content.values]
        return content

    return {pair.key: value(pair) for pair in pairs}


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, receiver: OtlpReceiver) -> None:
        self.receiver = receiver
        self.open: set[Any] = set()
        super().__init__(("127.0.0.1", receiver.port), _Handler)
        if receiver.tls:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(receiver.tls.certificate, receiver.tls.key)
            if receiver.tls.client_authority:
                context.load_verify_locations(receiver.tls.client_authority)
                context.verify_mode = CERT_REQUIRED
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.open):  # a backend that dies takes its kept connections with it
            connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body of an answer are two writes
    server: _HttpServer

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        signal = next((one for one in SIGNALS if one[:-1] in self.path), "traces")
        data = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
        headers = {key.lower(): value for key, value in self.headers.items()}
        assert headers["content-type"] == "application/x-protobuf"
        peer = f"{self.client_address[0]}:{self.client_address[1]}"
        received = Received(
            signal, self.path, headers, len(raw), time.monotonic(), peer, SIGNALS[signal][0].FromString(data)
        )
        self._reply(signal, self.server.receiver.take(received))

    def _reply(self, signal: str, answer: Answer) -> None:
        body = _response(signal, answer).SerializeToString() if answer.ok else answer.message.encode()
        body = body if answer.body is None else answer.body
        self.send_response(int(answer.status))
        if answer.retry_after is not None:
            self.send_header("Retry-After", str(int(answer.retry_after)))
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _response(signal: str, answer: Answer) -> Any:
    _, kind, refused = SIGNALS[signal]
    response = kind()
    setattr(response.partial_success, refused, answer.rejected)
    response.partial_success.error_message = answer.message
    return response


class _GrpcServer:
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
        add_TraceServiceServicer_to_server(_Traces(receiver), self._server)
        add_MetricsServiceServicer_to_server(_Metrics(receiver), self._server)
        add_LogsServiceServicer_to_server(_Logs(receiver), self._server)
        address = f"127.0.0.1:{receiver.port}"
        if receiver.tls:
            self._server.add_secure_port(address, _credentials(receiver.tls))
        else:
            self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=tls.client_authority.read_bytes() if tls.client_authority else None,
        require_client_auth=tls.client_authority is not None,
    )


class _Servicer:
    signal = ""

    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is gRPC's
        headers = dict(context.invocation_metadata())
        received = Received(self.signal, "", headers, request.ByteSize(), time.monotonic(), context.peer(), request)
        answer = self._receiver.take(received)
        if answer.ok:
            return _response(self.signal, answer)
        if answer.retry_after is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", _retry_info(answer)),))
        context.abort(grpc.StatusCode[str(answer.status)], answer.message or "told to fail")
        return None


class _Traces(_Servicer, TraceServiceServicer):
    signal = "traces"


class _Metrics(_Servicer, MetricsServiceServicer):
    signal = "metrics"


class _Logs(_Servicer, LogsServiceServicer):
    signal = "logs"


def _retry_info(answer: Answer) -> bytes:
    delay = Duration()
    delay.FromNanoseconds(int((answer.retry_after or 0) * 1e9))
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=delay))
    code: int = grpc.StatusCode[str(answer.status)].value[0]
    return Status(code=code, message=answer.message, details=[detail]).SerializeToString()
