"""What the kernel side only counted: by which names it goes into the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autoinstr.capture.abi import OVERFLOW_KEY, Protocol, Role
from autoinstr.capture.counted import described


@pytest.mark.parametrize(
    ("protocol", "role", "method", "status", "metric", "attributes"),
    [
        (1, Role.SERVER, b"GET ", 200, "http.server", {"http.response.status_code": 200}),
        (1, Role.SERVER, b"GET ", 404, "http.server", {"http.response.status_code": 404}),
        (1, Role.SERVER, b"GET ", 503, "http.server", {"http.response.status_code": 503, "error.type": "503"}),
        (1, Role.CLIENT, b"GET ", 404, "http.client", {"http.response.status_code": 404, "error.type": "404"}),
        (1, Role.SERVER, b"GET ", 0, "http.server", {"error.type": "no_response"}),
        (2, Role.SERVER, b"gRPC", 0, "rpc.server", {"rpc.system": "grpc"}),
        (2, Role.CLIENT, b"gRPC", 0, "rpc.client", {"rpc.system": "grpc"}),
        (2, Role.SERVER, b"", 0, "http.server", {}),
        (2, Role.CLIENT, b"", 0, "http.client", {}),
    ],
)
def test_names(
    *, protocol: int, role: Role, method: bytes, status: int, metric: str, attributes: dict[str, Any]
) -> None:
    key = np.array([(7, method, status, role, protocol)], OVERFLOW_KEY)[0]
    http1 = {"http.request.method": "GET"} if protocol == Protocol.HTTP1 else {}
    assert described(key) == (metric, http1 | attributes)
