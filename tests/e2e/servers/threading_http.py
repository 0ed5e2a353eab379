"""Python's own http.server, a thread for each connection. Arguments: port; for TLS also certificate and key."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from protocol import clock, pieces, read


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def read_body(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self) -> None:
        begun = time.monotonic_ns()
        wish = read(self.path)
        self.read_body()
        time.sleep(wish.delay)
        self.send_response(wish.status)
        self.send_header(*clock(begun))
        if wish.status not in (204, 304):
            self.send_header(
                *(("Transfer-Encoding", "chunked") if wish.chunked else ("Content-Length", str(len(wish.body))))
            )
        self.end_headers()
        if self.command == "HEAD" or wish.status in (204, 304):
            return
        if not wish.chunked:
            self.wfile.write(wish.body)
            return
        for piece in pieces(wish.body):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names are the library's

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """In the connection's thread, which also shakes hands."""
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, *_: object) -> None:
        """Callers that leave are part of the tests."""


if sys.argv[2:]:
    Server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Server.context.load_cert_chain(*sys.argv[2:])
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
