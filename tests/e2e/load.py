"""Load with the truth about it: requests over kept connections, each with an id of its own in the path.

In: a way to connect and the plans of requests. Out: the truth of each, as the client saw it.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from truth import Expected

BODY_SIZES = (0, 1, 100, 5000, 70_000)
STATUSES = (200, 200, 200, 201, 204, 302, 304, 404, 500, 503)


@dataclass(frozen=True)
class Plan:
    """One request to make."""

    path: str
    method: str = "GET"
    body: bytes = b""
    chunked: bool = False
    delay: float = 0.0


def plans(name: str, count: int, *, prefix: str = "", chunked_up: bool = True, chunked_down: bool = True) -> list[Plan]:
    """All sorts of requests of the servers' little protocol, the same ones in each run."""
    dice = random.Random(name)
    made = []
    for number in range(count):
        method = dice.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
        status, size = dice.choice(STATUSES), dice.choice(BODY_SIZES)
        delay = dice.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 30))
        down = int(chunked_down and dice.random() < 0.3)
        path = f"{prefix}/s/{status}/d/{delay}/b/{size}/c/{down}/{name}-{number}"
        body = b"y" * dice.choice(BODY_SIZES) if method in ("POST", "PUT") else b""
        up = chunked_up and bool(body) and dice.random() < 0.3
        made.append(Plan(path, method, body, up, delay / 1000))
    return made


class Connection(http.client.HTTPConnection):
    """http.client over whatever connects."""

    def __init__(self, connect: Callable[[], socket.socket], host: str) -> None:
        super().__init__(host)
        self._connect = connect

    def connect(self) -> None:
        self.sock = self._connect()

    def port_here(self) -> int:
        name = self.sock.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0


def parts(body: bytes, size: int = 1000) -> Iterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


def ask(connection: Connection, plan: Plan) -> Expected:
    if connection.sock is None:
        connection.connect()
    port = connection.port_here()
    if plan.chunked:
        connection.request(plan.method, plan.path, parts(plan.body), encode_chunked=True)
    else:
        connection.request(plan.method, plan.path, plan.body or None)
    response = connection.getresponse()
    size = len(response.read())
    return Expected(
        plan.path,
        method=plan.method,
        status=response.status,
        request_size=len(plan.body),
        response_size=size,
        peer_port=port or None,
        delay=plan.delay,
    )


def run(
    connect: Callable[[], socket.socket], work: Sequence[Plan], host: str = "127.0.0.1", at_once: int = 4
) -> list[Expected]:
    """Make the requests over `at_once` connections. The truth of each, in no particular order."""
    told: list[Expected] = []
    errors: list[Exception] = []

    def job(mine: Sequence[Plan]) -> None:
        connection = Connection(connect, host)
        try:
            for plan in mine:
                told.append(ask(connection, plan))
        except Exception as error:  # raised again below
            errors.append(error)
        connection.close()

    threads = [threading.Thread(target=job, args=(work[n::at_once],)) for n in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return told
