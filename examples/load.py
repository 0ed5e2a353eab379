"""Load for the demo: a few hundred requests a second with ids in the paths, errors, and slow routes.

In: the port of a service on 127.0.0.1. Out: requests to it, at a bounded rate, until stopped. Never sends elsewhere.
"""

from __future__ import annotations

import http.client
import random
import threading
import uuid

RATE = 240  # requests per second, all workers together
WORKERS = 8  # enough for the slow routes not to hold up the rest


def a_request() -> tuple[str, str, bytes | None]:
    """Method, path and body of one request, as a visitor of the shop would send it."""
    dice = random.random()
    if dice < 0.45:
        return "GET", f"/products/{random.randrange(1, 100_000)}", None
    if dice < 0.65:
        return "GET", f"/static/theme-{random.randrange(1 << 64):016x}.css", None
    if dice < 0.80:
        return "GET", f"/users/{uuid.uuid4()}/orders", None
    if dice < 0.92:
        return "POST", "/orders", b'{"product": 42, "note": "' + b"x" * random.randrange(2000) + b'"}'
    if dice < 0.97:
        return "GET", f"/search?q={random.randrange(1000)}", None
    return "GET", "/no/such/page", None


class Load:
    """Workers that each keep one connection open and send at a steady pace."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.ident:  # else it was interrupted before it began
                thread.join(timeout=5)

    def _work(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        while not self._stop.wait(random.uniform(0.5, 1.5) * WORKERS / RATE):
            method, path, body = a_request()
            try:
                connection.request(method, path, body)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()  # opened again by the next request
        connection.close()
