"""Cost of the parse stage for HTTP/2: microseconds a call. One of gRPC comes as two records, others as three.

Usage: PYTHONPATH=tests python tests/bench/parse_cost_http2.py   (no root; one core, about ten seconds)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from hpack.hpack import encode_integer
from numpy.typing import NDArray
from unit.parse.streams import GRPC, OK, Peer, Record, head

from autoinstr.capture.abi import EXCHANGE, HTTP2_ENDED, HTTP2_JOINED
from autoinstr.health import Health
from autoinstr.parse import Groups, Parser, RouteOptions

CALLS = 5000
ROUNDS = 12
CONNECTIONS = 8
AT_ONCE = 20  # calls in progress on a connection

# connection, stream, nth call -> what makes its records; it is called in the order of the wire, as tables demand
Make = Callable[[Peer, int, int], list[Callable[[], list[Record]]]]


def answer(peer: Peer, stream: int) -> list[Callable[[], list[Record]]]:
    """All at once: the kernel side joins both blocks, since the first changes no table."""
    encode, trailers = peer.encoders[False].encode, [("grpc-status", "0"), ("grpc-message", "")]
    return [lambda: peer.raw(False, stream, encode(OK) + encode(trailers), flags=HTTP2_ENDED | HTTP2_JOINED)]


def same(peer: Peer, stream: int, _: int) -> list[Callable[[], list[Record]]]:
    fields = [*head("POST", "/echo.EchoService/Unary"), *GRPC]
    return [lambda: peer.request(stream, fields), *answer(peer, stream)]


def methods(peer: Peer, stream: int, index: int) -> list[Callable[[], list[Record]]]:
    fields = [*head("POST", f"/shop.Orders/M{index % 24}"), *GRPC]
    return [lambda: peer.request(stream, fields), *answer(peer, stream)]


def literal(peer: Peer, stream: int, index: int) -> list[Callable[[], list[Record]]]:
    """GET with a path of its own that is not indexed, as nghttp2 sends it."""
    method, scheme, _, authority = head("GET", "/")
    encoder = peer.encoders[True]
    path = encoder.huffman_coder.encode(f"/api/v1/users/{index}/orders/{index * 7919:x}".encode())
    own = b"\x04" + bytes([encode_integer(len(path), 7)[0] | 0x80]) + path
    fields = [method, scheme, authority, ("user-agent", "curl/8.5.0")]
    response = [(":status", "200"), ("content-type", "text/plain"), ("server", "y")]
    return [
        lambda: peer.raw(True, stream, encoder.encode(fields) + own),
        lambda: peer.response(stream, response),
        lambda: peer.end(stream),
    ]


def indexed(peer: Peer, stream: int, index: int) -> list[Callable[[], list[Record]]]:
    """Metadata of its own in each call, put into the table."""
    own = [("x-request-id", f"{index * 2654435761 % 2**64:016x}-{index:x}")]
    fields = [*head("POST", "/echo.EchoService/Unary"), *GRPC, *own]
    return [lambda: peer.request(stream, fields), *answer(peer, stream)]


def batches(make: Make, peers: list[Peer], first: int) -> NDArray[Any]:
    """Calls of several connections, many at a time on each, as the ring delivers them."""
    told: list[Record] = []
    for start in range(0, CALLS, AT_ONCE * len(peers)):
        some = [
            make(peers[index % len(peers)], 2 * (first + index) + 1, first + index)
            for index in range(start, min(start + AT_ONCE * len(peers), CALLS))
        ]
        for step in range(len(some[0])):
            told += chain.from_iterable(one[step]() for one in some)
    ring = np.zeros(len(told), np.dtype([("header", "<u8"), ("record", EXCHANGE)]))
    ring["record"] = np.concatenate(told)
    return ring["record"]


def cost(make: Make) -> tuple[float, float, int]:
    """Microseconds of CPU a call, the best and the middle round, and how many groups there are."""
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health)
    peers = [Peer(number) for number in range(1, CONNECTIONS + 1)]
    taken = []
    for index in range(ROUNDS):
        records = batches(make, peers, index * CALLS)
        service = np.zeros(len(records), np.int32)
        start = time.process_time()
        requests = parser.parse(records, service, 0)
        taken.append(1e6 * (time.process_time() - start) / CALLS)
        assert len(requests) == CALLS
    assert not health.lost
    taken = sorted(taken[2:])
    return taken[0], taken[len(taken) // 2], len(groups.groups)


def main() -> None:
    rows: list[tuple[str, Make]] = [
        ("gRPC, unary, every block known", same),
        ("gRPC, 24 methods", methods),
        ("GET, every path its own, not indexed", literal),
        ("gRPC, metadata that changes the table", indexed),
    ]
    print(f"{'parse stage, HTTP/2':40} microseconds a call: best, middle   groups")
    for name, make in rows:
        best, middle, count = cost(make)
        print(f"{name:40} {best:27.2f} {middle:7.2f} {count:8}")


if __name__ == "__main__":
    main()
