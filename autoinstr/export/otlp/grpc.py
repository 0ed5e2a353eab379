"""OTLP over gRPC: one unary call a request, with the bytes as they are.

In: an `Endpoint`, then bytes. Out: a `Reply`. The channel keeps the connection and makes it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from autoinstr.export.otlp.client import Reply
from autoinstr.export.otlp.settings import Endpoint

METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
# OTLP specification, "Failures". RESOURCE_EXHAUSTED belongs to them only if the server says when to come back: without
# that it means "too large".
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
STATUS_DETAILS = "grpc-status-details-bin"
OPTIONS = (
    # The channel's own pause between connection attempts grows to two minutes; ours decides, in `client.py`.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5000),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 * 1024),
)


class GrpcTransport:
    def __init__(self, endpoint: Endpoint, user_agent: str, rejected: Callable[[bytes], tuple[int, str]]) -> None:
        self._rejected = rejected
        self._headers = endpoint.headers
        options = (*OPTIONS, ("grpc.primary_user_agent", user_agent))
        compression = grpc.Compression.Gzip if endpoint.gzip else grpc.Compression.NoCompression
        if endpoint.secure:
            self._channel = grpc.secure_channel(endpoint.target, _credentials(endpoint), options, compression)
        else:
            self._channel = grpc.insecure_channel(endpoint.target, options, compression)
        # No serializers: bytes go in and come out.
        self._call = self._channel.unary_unary(METHODS[endpoint.signal])

    def pack(self, data: bytes) -> bytes:
        return data  # the channel compresses

    def send(self, packed: bytes, timeout: float) -> Reply:
        try:
            rejected, message = self._rejected(self._call(packed, timeout=timeout, metadata=self._headers))
        except grpc.RpcError as error:
            wait = _retry_delay(error)
            code = error.code()
            retry = code in RETRYABLE or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and wait is not None)
            return Reply(ok=False, retry=retry, retry_after=wait, problem=f"{code.name}: {error.details()}")
        except ValueError as error:  # the channel was closed meanwhile, by `close`
            return Reply(ok=False, problem=str(error))
        return Reply(ok=True, rejected=rejected, problem=message)

    def close(self) -> None:
        self._channel.close()


def _credentials(endpoint: Endpoint) -> Any:
    def content(path: str | None) -> bytes | None:
        return Path(path).read_bytes() if path else None

    chain = content(endpoint.client_certificate)
    # Certificate and key may be in one file.
    return grpc.ssl_channel_credentials(content(endpoint.certificate), content(endpoint.client_key) or chain, chain)


def _retry_delay(error: Any) -> float | None:
    """Seconds by the google.rpc.RetryInfo of a failed call. None: it has none."""
    details = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS)
    if not details:
        return None
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - rare
    from google.rpc.error_details_pb2 import RetryInfo  # noqa: PLC0415
    from google.rpc.status_pb2 import Status  # noqa: PLC0415

    info = RetryInfo()
    try:
        found = any(detail.Unpack(info) for detail in Status.FromString(details).details)
    except DecodeError:
        return None
    return info.retry_delay.ToNanoseconds() / 1e9 if found else None
