"""What the kernel side only counted since the ring was full: the aggregate, as differences between two looks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr import semconv
from autoinstr.bpf_call import items
from autoinstr.capture.abi import OVERFLOW, OVERFLOW_KEY, Protocol, Role
from autoinstr.model import Attributes, Overflow

METHODS = {
    name[:4].ljust(4): name.strip()
    for name in ("GET ", "HEAD", "POST", "PUT ", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}


class Aggregate:
    """Reads the `aggregate` map. Nothing in it is ever deleted, so counts are exact whenever they are read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._seen: dict[bytes, NDArray[Any]] = {}

    def read(self) -> list[Overflow]:
        """What was added since the last call."""
        found = []
        for key, value in items(self._fd, OVERFLOW_KEY.itemsize, OVERFLOW.itemsize):
            now = np.frombuffer(value, OVERFLOW)
            before = self._seen.get(key, np.zeros(1, OVERFLOW))
            if now["count"] == before["count"]:
                continue
            self._seen[key] = now
            found.append(self._difference(np.frombuffer(key, OVERFLOW_KEY)[0], now[0], before[0]))
        return found

    @staticmethod
    def _difference(key: Any, now: Any, before: Any) -> Overflow:
        metric, attributes = described(key)
        return Overflow(
            pid=int(key["pid"]),
            metric=metric,
            attributes=attributes,
            count=int(now["count"] - before["count"]),
            duration_sum=int(now["duration_sum"] - before["duration_sum"]),
            duration_buckets=(now["duration"] - before["duration"]).astype(np.int64),
            request_size_sum=int(now["request_sum"] - before["request_sum"]),
            request_size_buckets=(now["request"] - before["request"]).astype(np.int64),
            response_size_sum=int(now["response_sum"] - before["response_sum"]),
            response_size_buckets=(now["response"] - before["response"]).astype(np.int64),
        )


def described(key: Any) -> tuple[str, Attributes]:
    """Prefix of the metrics, and what the kernel side knows of their attributes; of HTTP/2 it reads no header block."""
    server, method, status = key["role"] != Role.CLIENT, bytes(key["method"]), int(key["status"])
    if key["protocol"] == Protocol.HTTP2:
        if method == b"gRPC":
            return semconv.RPC_SERVER if server else semconv.RPC_CLIENT, {semconv.RPC_SYSTEM: semconv.GRPC}
        return semconv.HTTP_SERVER if server else semconv.HTTP_CLIENT, {}
    attributes: Attributes = {
        semconv.HTTP_REQUEST_METHOD: METHODS.get(method.decode("latin-1").ljust(4), semconv.METHOD_OTHER)
    }
    if status:
        attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
    if status == 0:
        attributes[semconv.ERROR_TYPE] = semconv.ERROR_NO_RESPONSE
    elif status >= (500 if server else 400):
        attributes[semconv.ERROR_TYPE] = str(status)
    return semconv.HTTP_SERVER if server else semconv.HTTP_CLIENT, attributes
