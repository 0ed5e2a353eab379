"""What the kernel side only counted since the ring was full: the aggregate, as differences between two looks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.bpf_call import items
from autoinstr.capture.abi import OVERFLOW, OVERFLOW_KEY, Role
from autoinstr.model import Kind, Overflow

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
        return Overflow(
            pid=int(key["pid"]),
            kind=Kind.CLIENT if key["role"] == Role.CLIENT else Kind.SERVER,
            method=METHODS.get(bytes(key["method"]).decode("latin-1").ljust(4), "_OTHER"),
            status=int(key["status"]),
            count=int(now["count"] - before["count"]),
            duration_sum=int(now["duration_sum"] - before["duration_sum"]),
            duration_buckets=(now["duration"] - before["duration"]).astype(np.int64),
            request_size_sum=int(now["request_sum"] - before["request_sum"]),
            request_size_buckets=(now["request"] - before["request"]).astype(np.int64),
            response_size_sum=int(now["response_sum"] - before["response_sum"]),
            response_size_buckets=(now["response"] - before["response"]).astype(np.int64),
        )
