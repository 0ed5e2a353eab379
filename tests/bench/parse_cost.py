"""Cost of the parse stage: microseconds a request, for few paths and for a path of its own in every request.

Usage: python tests/bench/parse_cost.py   (no root; one core, about ten seconds)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import EXCHANGE, HEAD_SIZE, Family, Protocol, Role
from autoinstr.health import Health
from autoinstr.parse import Groups, Parser, RouteOptions

ROWS = 16384
ROUNDS = 15
FIELDS = "Host: shop.example:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
TRACEPARENT = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
PATTERNS = ("/user/{id}/orders/{order}", "/static/**", *(f"/api/v{i}/things/:id" for i in range(50)))


def batch(path: Callable[[int], str], fields: str = FIELDS, role: Role = Role.SERVER) -> NDArray[Any]:
    """A batch as the ring delivers it: a view of records with the ring's own eight bytes before each."""
    ring = np.zeros(ROWS, np.dtype([("header", "<u8"), ("record", EXCHANGE)]))
    records = ring["record"]
    for i in range(ROWS):
        head = f"{'GET' if i % 4 else 'POST'} {path(i)} HTTP/1.1\r\n{fields}\r\n".encode()[:HEAD_SIZE]
        records["head"][i, : len(head)] = np.frombuffer(head, np.uint8)
        records["head_size"][i] = len(head)
        records["traceparent"][i] = max(head.find(b"traceparent: ") + 13, 13) if b"traceparent" in head else 0
    records["status"] = np.random.default_rng(2).choice([200, 201, 404, 500], ROWS, p=[0.8, 0.1, 0.05, 0.05])
    records["protocol"], records["role"], records["family"] = Protocol.HTTP1, role, Family.INET
    records["local_port"], records["remote_port"] = 8080, 40000
    records["local"][:, 15] = records["remote"][:, 15] = 1
    records["response_end"] = 10**6
    return records


def cost(records: NDArray[Any], routes: RouteOptions, *, queries: bool = False) -> tuple[float, int]:
    """Microseconds of CPU a request when everything has been met before, and how many groups there are."""
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, routes, health, queries=queries)
    service = (np.arange(ROWS) % 4).astype(np.int32)
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        parser.parse(records, service, 0)
        best = min(best, time.process_time() - start)
    return 1e6 * best / ROWS, len(groups.groups)


def main() -> None:
    rng = np.random.default_rng(1)
    users, orders = rng.integers(10**6, size=ROWS).tolist(), rng.integers(10**9, size=ROWS).tolist()
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (ROWS, 12))

    def unique(i: int) -> str:
        return f"/user/{users[i]}/orders/{orders[i]:x}"

    def mixed(i: int) -> str:
        return (unique(i) if i % 3 else "/health") + ("?q=1&token=abc" if i % 5 == 0 else "")

    def few(i: int) -> str:
        return ("/health", "/", "/api/v1/orders", "/api/v1/users/me", "/static/app.js")[i % 5]

    def words(i: int) -> str:
        return f"/people/{''.join(letters[i])}/profile"

    rows: list[tuple[str, NDArray[Any], RouteOptions, bool]] = [
        ("few paths", batch(few), RouteOptions(), False),
        ("two thirds of the paths unique", batch(mixed), RouteOptions(), False),
        ("every path unique: numbers, hashes", batch(unique), RouteOptions(), False),
        ("every path unique: random words", batch(words), RouteOptions(), False),
        ("every path unique, traceparent", batch(unique, FIELDS + TRACEPARENT), RouteOptions(), False),
        ("every path unique, 52 user patterns", batch(unique), RouteOptions(patterns=PATTERNS), False),
        ("every path of 160 bytes", batch(lambda i: "/files" + f"/{users[i]:08d}abcdefgh" * 9), RouteOptions(), False),
        ("two thirds unique, queries kept", batch(mixed), RouteOptions(), True),
        ("client side, Host first", batch(unique, FIELDS, Role.CLIENT), RouteOptions(), False),
        ("client side, Host last, traceparent",
         batch(unique, TRACEPARENT + "Accept: */*\r\n" + FIELDS[:26], Role.CLIENT), RouteOptions(), False),
    ]  # fmt: skip
    print(f"{'parse stage, batches of ' + str(ROWS):40} microseconds a request   groups")
    for name, records, routes, queries in rows:
        microseconds, groups = cost(records, routes, queries=queries)
        print(f"{name:40} {microseconds:23.2f} {groups:8}")


if __name__ == "__main__":
    main()
