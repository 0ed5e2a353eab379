"""Fuzzes the parse stage: mutated heads and records, held against the plain reading in tests/unit/parse/reference.py.

Usage: PYTHONPATH=tests python tests/fuzz/fuzz_parse.py [seconds]   (60 by default; no root)
Prints the seed of each round that fails, and the record that made it fail; exit status 1 then.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from unit.parse import reference
from unit.parse.exchanges import batch, exchange

from autoinstr.capture.abi import EXCHANGE
from autoinstr.health import Health
from autoinstr.parse import Groups, Parser, RouteOptions

ROWS = 512
SEEDS = (
    b"GET /users/17?token=abc&x=1 HTTP/1.1\r\nHost: shop.example:8080\r\nAccept: */*\r\n\r\n",
    b"POST http://shop.example/a/b?c#d HTTP/1.0\r\nUser-Agent: x\r\nhost: [::1]:9\r\n\r\n",
    b"CONNECT db.example:5432 HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\nHost:a\n\n",
    b"GET /" + b"long/" * 60 + b" HTTP/1.1\r\n\r\n",
    b"PUT /x HTTP/1.1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
)


def mutated(rng: random.Random) -> NDArray[Any]:
    """A seed with some bytes changed, left out, doubled or cut; seldom a record that no kernel would send."""
    head = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(0, 6)):
        place = rng.randrange(len(head) + 1)
        match rng.randrange(4):
            case 0:
                head[place : place + 1] = rng.choice([b" ", b"/", b"?", b"\n", b"\r", b"#", b"\x00", b"\xff", b"="])
            case 1:
                del head[place : place + rng.randint(1, 9)]
            case 2:
                head[place:place] = head[place : place + rng.randint(1, 60)]
            case _:
                del head[rng.randint(place, len(head)) :]
    record = exchange(bytes(head), role=rng.choice([2, 3]), status=rng.choice([0, 200, 404, 500]))
    if rng.random() < 0.05:
        record["traceparent"], record["head_size"] = rng.randrange(400), rng.randrange(400)
    return record


def check(seed: int) -> None:
    """One batch; raises AssertionError where the two readings differ."""
    rng = random.Random(seed)
    records = batch(*[mutated(rng) for _ in range(ROWS)])
    health = Health()
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health, queries=True)
    requests = parser.parse(records, np.zeros(ROWS, np.int32), 0)
    for row in range(ROWS):
        want = reference.read(records[row])
        attributes = groups.groups[requests.group[row]].span_attributes
        text = requests.text[requests.text_at[row] :][: requests.text_size[row]].tobytes()
        query = requests.query[requests.query_at[row] :][: requests.query_size[row]].tobytes()
        overflow = "http.request.method" not in attributes
        if (text, query) != (want.path, want.query) or not (
            overflow or attributes["http.request.method"] == want.method
        ):
            raise AssertionError(
                f"row {row}: {(text, query, attributes)} instead of {want}: {records[row]['head'].tobytes()!r}"
            )
        if bool(requests.has_parent[row]) != (reference.parent(records[row]) is not None):
            raise AssertionError(f"row {row}: trace context of {records[row]['head'].tobytes()!r}")
    noise = np.frombuffer(rng.randbytes(EXCHANGE.itemsize * ROWS), EXCHANGE).copy()
    noise["protocol"], noise["role"] = 1, 2 + noise["role"] % 2
    if len(parser.parse(noise, np.zeros(ROWS, np.int32), 0)) != ROWS:
        raise AssertionError("rows of noise are missing")


def main() -> int:
    end = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 60)
    first = seed = random.SystemRandom().randrange(2**32)
    while time.monotonic() < end:
        try:
            check(seed)
        except Exception:
            print(f"seed {seed} failed", file=sys.stderr)
            raise
        seed += 1
    print(f"{seed - first} rounds of {ROWS} records, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
