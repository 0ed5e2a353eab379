"""The HTTP side of the Prometheus exporter: `GET /metrics`, a page that leads there, and `/ready` for probes.

In: requests from anyone who can reach the port (this machine only, unless told otherwise). Out: the page that `page`
makes.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from autoinstr.errors import UsageError
from autoinstr.health import Health, Loss
from autoinstr.serving import Handler, Server, packed

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 8  # two Prometheus servers and someone who looks; one request each, then it is closed
GZIP_ASKED_FOR = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")
OPEN_METRICS = "application/openmetrics-text"
CONTENT_TYPES = {
    True: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    False: "text/plain; version=0.0.4; charset=utf-8",
}
STUCK = 30.0  # seconds without a look at the ring, which is looked at twice a second
INDEX = b'<!doctype html><title>autoinstr</title><a href="/metrics">/metrics</a>\n'

Page = Callable[[bool], Iterator[bytes]]  # OpenMetrics or not -> body, in pieces


class MetricsServer:
    def __init__(self, host: str, port: int, page: Page, health: Health) -> None:
        try:
            self._server = _Server(host, port, page, health)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"--prometheus-host {host} --prometheus-port {port}: can't listen there: {error}; choose another"
            ) from error
        self._server.start("prometheus")

    @property
    def port(self) -> int:
        return self._server.port

    def close(self, deadline: float) -> None:
        self._server.close(deadline)


class _Server(Server):
    def __init__(self, host: str, port: int, page: Page, health: Health) -> None:
        self.page = page
        self.rendering = threading.Lock()  # one page at a time: many scrapers cost no more memory than one
        self.health = health
        super().__init__(host, port, _Handler, MAX_CONNECTIONS)


class _Handler(Handler):
    server: _Server

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/ready":
            self._ready()
        elif path == "/":
            self.send(INDEX, "text/html; charset=utf-8")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _ready(self) -> None:
        """Has it attached, and does it go on looking?"""
        looked = self.server.health.looked
        if looked and time.monotonic() - looked < STUCK:
            self.send(b"ready\n", "text/plain; charset=utf-8")
        else:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)

    def _metrics(self) -> None:
        open_metrics = OPEN_METRICS in self.headers.get("accept", "")
        gzip = GZIP_ASKED_FOR.search(self.headers.get("accept-encoding", "")) is not None
        with self.server.rendering:
            try:
                pieces = self.server.page(open_metrics)
                body = packed(pieces) if gzip else b"".join(pieces)
            except Exception:  # the boundary of one request
                logger.exception("/metrics failed")
                self.server.health.lose(Loss.INTERNAL)
                self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
                return
        self.send(body, CONTENT_TYPES[open_metrics], headers={"Content-Encoding": "gzip"} if gzip else None)
