"""What puppets do on two hosts: one serves in another network namespace, one calls it. All runs in the puppets."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h2.config
import h2.connection
import h2.events
import httpx

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
SO_ATTACH_FILTER = 26
SO_ZEROCOPY, MSG_ZEROCOPY, MSG_ERRQUEUE = 60, 0x4000000, 0x2000
NOTICE = struct.Struct("<IBBBxII")  # struct sock_extended_err: its last two are the first and the last call it tells of
ZEROCOPY = 5  # SO_EE_ORIGIN_ZEROCOPY
LARGE = 3_000_000  # bytes, of which each few pages would need a notice of their own
FIELD = "traceparent"

_seen: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        _seen.append(self.headers[FIELD])
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def enter(namespace: str) -> None:
    """This thread, and those that it starts, are on the other host."""
    fd = os.open(namespace, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None, use_errno=True).setns(fd, NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)


def serve(namespace: str, address: str, drops: bool = False) -> int:
    """The port. `drops`: whatever comes with a TCP header of full length is dropped, as if on its way."""
    enter(namespace)
    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    if drops:
        drop_full_headers(server.socket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def serve_http2(namespace: str, address: str) -> int:
    """The port of a server of HTTP/2 without TLS, which answers RPCs, too."""
    enter(namespace)
    listener = socket.create_server((address, 0), backlog=64)

    def accept() -> None:
        while True:
            end, _ = listener.accept()
            threading.Thread(target=answer_http2, args=(end,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def answer_http2(end: socket.socket) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    rpcs: dict[int, bool] = {}
    with end:
        end.sendall(connection.data_to_send())
        while data := end.recv(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    fields = [value for name, value in event.headers if name == FIELD]
                    _seen.append(fields[0] if len(fields) == 1 else ",".join(fields) or None)
                    kind = dict(event.headers).get("content-type", "")
                    rpcs[event.stream_id] = kind.startswith("application/grpc")
                elif isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded) and rpcs.pop(event.stream_id):
                    stream = event.stream_id
                    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                    connection.send_data(stream, bytes(5))
                    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
                elif isinstance(event, h2.events.StreamEnded):
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, b"ok", end_stream=True)
            end.sendall(connection.data_to_send())


def drop_full_headers(listener: socket.socket) -> None:
    """A classic filter; connections inherit it: load byte 12, and 0xf0, equal to 0xf0: drop, else keep."""
    code = ((0x30, 0, 0, 12), (0x54, 0, 0, 0xF0), (0x15, 0, 1, 0xF0), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF))
    program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in code))
    listener.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(program))
    )


def seen() -> list[str | None]:
    """The traceparents that came as header fields."""
    return list(_seen)


def call_http2(urls: list[str]) -> None:
    """One after the other, by prior knowledge."""
    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        for url in urls:
            assert client.get(url).status_code == 200


def call(address: str, port: int, count: int, *, anew: bool, fields: dict[str, str] | None = None) -> list[float]:
    """Seconds of each request. `anew`: on a connection of its own."""
    took = []
    connection = HTTPConnection(address, port, timeout=20)
    for number in range(count):
        begun = time.monotonic()
        connection.request("GET", f"/{'anew' if anew else 'kept'}/{number}", headers=fields or {})
        assert connection.getresponse().read() == b"ok"
        took.append(time.monotonic() - begun)
        if anew:
            connection.close()
    connection.close()
    return took


def zero_copy(address: str, port: int, *, before: bool) -> tuple[bool, int]:
    """Can a socket send without copying, asked `before` it is connected or afterwards; and of how many calls it then
    tells that they are complete, after one that sends a request, and one that sends a large body."""
    with socket.socket() as client:
        client.settimeout(20)
        if not before:
            client.connect((address, port))
        try:
            client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        except OSError:
            how = 0
        else:
            how = MSG_ZEROCOPY
        if before:
            client.connect((address, port))
        fields = f"Host: a\r\nContent-Length: {LARGE}\r\nConnection: close\r\n\r\n"
        client.send(f"GET /{'before' if before else 'after'} HTTP/1.1\r\n{fields}".encode(), how)
        client.setblocking(True)
        assert client.send(bytes(LARGE), how) == LARGE
        while client.recv(1 << 16):
            pass
        return bool(how), calls_complete(client) if how else 0


def calls_complete(client: socket.socket) -> int:
    """From the notices of a socket, which all have come by now."""
    client.setblocking(False)
    last = -1
    while True:
        try:
            _, ancillary, _, _ = client.recvmsg(1, 512, MSG_ERRQUEUE)
        except BlockingIOError:
            return last + 1
        for _level, _kind, data in ancillary:
            _error, origin, _type, _code, _first, until = NOTICE.unpack_from(data)
            last = max(last, until) if origin == ZEROCOPY else last
