"""http.server with a thread for each connection, and http.client with a connection for each thread."""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import hop

place = urlsplit(hop.NEXT)
Connection = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
own = threading.local()
pool = ThreadPoolExecutor(16)


def ask(connection: http.client.HTTPConnection, served: str) -> None:
    connection.request("GET", hop.make(served))
    connection.getresponse().read()


def call(served: str) -> None:
    if not hasattr(own, "connection"):
        own.connection = Connection(place.netloc, timeout=20)
    ask(own.connection, served)


def call_later(served: str) -> None:
    time.sleep(hop.LATE)
    call(served)


def call_anew(served: str) -> None:
    connection = Connection(f"localhost:{place.port}", timeout=20)
    ask(connection, served)
    connection.close()


def serve(path: str) -> None:
    match hop.way(path):
        case "fan":
            list(pool.map(call, [path] * 3))
        case "twice":
            call(path)
            call(path)
        case "late":
            threading.Thread(target=call_later, args=(path,)).start()
        case "pause":
            time.sleep(hop.PAUSE)
            call(path)
        case "handed":
            pool.submit(call, path).result()
        case "name":
            call_anew(path)
        case _:
            call(path)


def poll() -> None:
    while True:
        time.sleep(hop.OFTEN)
        call("-")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        serve(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if hop.BACKGROUND:
    threading.Thread(target=poll, daemon=True).start()
server = Server(("127.0.0.1", int(hop.PORT)), Handler)
if context := hop.server_context():
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever(0.05)
