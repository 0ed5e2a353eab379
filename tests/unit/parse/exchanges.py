"""Makes EXCHANGE records for the tests of the parse stage."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import EXCHANGE, EXCHANGE_HEAD_CUT, HEAD_SIZE, Family, Protocol, Role

LOOPBACK = bytes(10) + b"\xff\xff\x7f\x00\x00\x01"
PEER = bytes(10) + b"\xff\xff\x0a\x00\x00\x07"


def exchange(head: bytes, **columns: Any) -> NDArray[Any]:
    """One record (an array of one) as the kernel side would send it: a served GET over IPv4, unless told otherwise."""
    record = np.zeros(1, EXCHANGE)
    kept = head[:HEAD_SIZE]
    record["head"][0, : len(kept)] = np.frombuffer(kept, np.uint8)
    values = {
        "head_size": len(kept),
        "flags": EXCHANGE_HEAD_CUT if len(head) > HEAD_SIZE else 0,
        "protocol": Protocol.HTTP1,
        "role": Role.SERVER,
        "family": Family.INET,
        "status": 200,
        "request_start": 1_000,
        "request_end": 2_000,
        "response_start": 3_000,
        "response_end": 4_000,
        "local_port": 8080,
        "remote_port": 50514,
        "local": np.frombuffer(LOOPBACK, np.uint8),
        "remote": np.frombuffer(PEER, np.uint8),
        "pid": 77,
        "tid": 78,
    }
    place = head.lower().find(b"\r\ntraceparent: ")
    if place >= 0 and place + 15 + 55 <= HEAD_SIZE:
        values["traceparent"] = place + 15
    for name, value in (values | columns).items():
        record[name] = value
    return record


def get(target: str, **columns: Any) -> NDArray[Any]:
    return exchange(f"GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode("latin-1"), **columns)


def batch(*records: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(records) if records else np.zeros(0, EXCHANGE)
