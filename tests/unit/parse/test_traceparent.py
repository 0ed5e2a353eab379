"""W3C trace context, version by version."""

from __future__ import annotations

import numpy as np
import pytest

from autoinstr.health import Health
from autoinstr.parse import Groups, Parser, RouteOptions

from .exchanges import batch, exchange

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"cc-{TRACE}-{SPAN}-ff", 1),
        (f"01-{TRACE}-{SPAN}-01-what-the-future-brings", 1),
        (f"01-{TRACE}-{SPAN}-01.what", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{SPAN}-0g", None),
        (f"00-{TRACE[:-1]}W-{SPAN}-01", None),
        (f"00_{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}_01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        ("-" * 55, None),
    ],
)
def test_traceparent(value: str, flags: int | None) -> None:
    record = exchange(f"GET / HTTP/1.1\r\ntraceparent: {value}\r\nAccept: */*\r\n\r\n".encode())
    health = Health()
    parser = Parser(Groups(health), RouteOptions(), health)
    plain = exchange(b"GET / HTTP/1.1\r\n\r\n")
    for made, row in ((record, 0), (batch(plain, record, plain), 1)):
        requests = parser.parse(made, np.zeros(len(made), np.int32), 0)
        assert requests.has_parent[row] == (flags is not None)
        assert requests.has_parent.sum() == (flags is not None)
        if flags is not None:
            assert requests.parent_trace[row].tobytes().hex() == TRACE
            assert requests.parent_span[row].tobytes().hex() == SPAN
            assert requests.parent_flags[row] == flags


def test_a_place_outside_the_head_is_none() -> None:
    health = Health()
    parser = Parser(Groups(health), RouteOptions(), health)
    for place in (202, 255, 256, 60000):
        made = exchange(b"GET / HTTP/1.1\r\n\r\n", traceparent=place)
        assert not parser.parse(made, np.zeros(1, np.int32), 0).has_parent.any()
