"""A small HTTP server for pages that an agent shows of itself: GET and HEAD, one request a connection.

In: requests from anyone who can reach the port. Out: what a handler makes of them. Whatever a client does (garbage,
silence, reading nothing) costs at most `connections` threads for TIMEOUT seconds, and when all of them are taken the
oldest connection makes way: a new one always gets through.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

logger = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds without a byte; Prometheus gives up after this too, by default
GZIP_LEVEL = 1


class Server(ThreadingHTTPServer):
    """Listens from the start; OSError or OverflowError if it can't. `start` begins to answer."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, host: str, port: int, handler: type[Handler], connections: int) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self._connections = connections
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._open_lock = threading.Lock()
        self._ending = False
        super().__init__(address[:2], handler)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        """The port that was bound: of interest where 0 was asked for."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Without http.server's look-up of the host's name, which can take seconds."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "autoinstr", self.server_address[1]

    def start(self, name: str) -> None:
        """Answer, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self, deadline: float) -> None:
        """Stop accepting: shutting a listening socket down wakes who waits in it."""
        self._ending = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        """Accept until the end. Blocks in accept: `serve_forever` would wake twice a second to look at a flag."""
        while not self._ending:
            self.handle_request()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        with self._open_lock:
            if len(self._open) >= self._connections:
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The boundary of one request. Clients that break off are no error of ours."""
        logger.debug("request of %s failed", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = TIMEOUT
    protocol_version = "HTTP/1.0"  # one request a connection: nothing idle is kept
    server_version = "autoinstr"
    sys_version = ""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        raise NotImplementedError

    def send(
        self,
        body: bytes,
        content_type: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def packed(pieces: Iterable[bytes]) -> bytes:
    """Pieces of a body as gzip, made without the whole of it in memory."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    return b"".join([*(packer.compress(piece) for piece in pieces), packer.flush()])
