"""The HTTP side of the Prometheus exporter: `GET /metrics`, a page that leads there, and `/ready` for probes.

In: requests from anyone who can reach the port (this machine only, unless told otherwise). Out: the page that `page`
makes. Whatever a client does (garbage, silence, reading nothing) costs at most MAX_CONNECTIONS threads for TIMEOUT
seconds, and when all of them are taken the oldest connection makes way: a scrape always gets through.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from autoinstr.errors import UsageError
from autoinstr.health import Health, Loss

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 8  # two Prometheus servers and someone who looks; one request each, then it is closed
TIMEOUT = 10.0  # Prometheus gives up after this too, by default
GZIP_LEVEL = 1
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
        self._thread = threading.Thread(target=self._server.run, name="prometheus", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self, deadline: float) -> None:
        self._server.end()
        self._thread.join(max(0.0, deadline - time.monotonic()))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, host: str, port: int, page: Page, health: Health) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self.page = page
        self.rendering = threading.Lock()  # one page at a time: many scrapers cost no more memory than one
        self.health = health
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._open_lock = threading.Lock()
        self._ending = False
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Without http.server's look-up of the host's name, which can take seconds."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "autoinstr", self.server_address[1]

    def run(self) -> None:
        """Accept until the end. Blocks in accept: `serve_forever` would wake twice a second to look at a flag."""
        while not self._ending:
            self.handle_request()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        with self._open_lock:
            if len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        return request, address

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stop accepting: shutting a listening socket down wakes who waits in it."""
        self._ending = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The boundary of one request. Clients that break off are no error of ours."""
        logger.debug("request of %s failed", client_address, exc_info=True)


def packed(pieces: Iterator[bytes]) -> bytes:
    """The page as gzip, made without the whole of it in memory."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = TIMEOUT
    protocol_version = "HTTP/1.0"  # one request a connection: nothing idle is kept
    server_version = "autoinstr"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/ready":
            self._ready()
        elif path == "/":
            self._send(INDEX, "text/html; charset=utf-8")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _ready(self) -> None:
        """Has it attached, and does it go on looking?"""
        looked = self.server.health.looked
        if looked and time.monotonic() - looked < STUCK:
            self._send(b"ready\n", "text/plain; charset=utf-8")
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
        self._send(body, CONTENT_TYPES[open_metrics], gzip=gzip)

    def _send(self, body: bytes, content_type: str, *, gzip: bool = False) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        if gzip:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
