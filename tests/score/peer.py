"""The server that clients of the matrix call: it knows each request that came, what it answered, and when.

Beside the little protocol (`servers`), words in a path ask for: `close/1` the connection's end after the response,
`drip/<ms>` between pieces of the body, `end/none|reset|within` no response or not all of it, `hold/past` nothing, but
the request is before the agent's time, and `hold/before|within` that the agent starts now, before or within the
response.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from certificates import server_context
from generator import Made, Times
from servers import SECURE
from truth import CLIENT, Expected

GONE = ("ECONNRESET", "EPIPE", "no_response")
CUT = ("ECONNRESET", "EPIPE", "truncated")


class Peer:
    """Serves from its beginning on; records what it did."""

    protocols: tuple[str, ...] = ()  # of ALPN

    def __init__(self, order: Callable[[str], None], transport: str = "http") -> None:
        self.order = order
        self._tls = transport in SECURE
        self.records: list[Made] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._tls:
                sock = server_context(*self.protocols).wrap_socket(sock, server_side=True)
            self._talk(sock)
        except (OSError, EOFError):
            pass
        sock.close()

    def _talk(self, sock: socket.socket) -> None:
        buffer = bytearray()
        while self._exchange(sock, buffer):
            pass

    def _exchange(self, sock: socket.socket, buffer: bytearray) -> bool:
        """One request and its response; whether there may be another one."""

        def read() -> None:
            data = sock.recv(1 << 18)
            if not data:
                raise EOFError
            buffer.extend(data)

        if not buffer:
            read()
        begun = time.monotonic_ns()
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            read()
        first, *lines = bytes(buffer[:end]).decode().split("\r\n")
        del buffer[: end + 4]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, path, _ = first.split(" ")
        if "100-continue" in fields.get("expect", ""):
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = 0
        if "chunked" in fields.get("transfer-encoding", ""):
            while True:
                while (line := buffer.find(b"\r\n")) < 0:
                    read()
                piece = int(buffer[:line], 16)
                while len(buffer) < line + 4 + piece:
                    read()
                del buffer[: line + 4 + piece]
                size += piece
                if not piece:
                    break
        else:
            size = left = int(fields.get("content-length", 0))
            while left:
                if not buffer:
                    read()
                taken = min(left, len(buffer))
                del buffer[:taken]
                left -= taken
        closes = fields.get("connection", "").lower() == "close"
        return Answer(self, sock, Request(method, path, size, begun, closes)).give()


class Request(NamedTuple):
    method: str
    path: str
    size: int
    begun: int  # when its first byte was read
    closes: bool  # the client wants no other one


class Answer:
    """What the path asks for."""

    def __init__(self, peer: Peer, sock: socket.socket, request: Request) -> None:
        self._peer, self._sock, self._request = peer, sock, request
        parts = request.path.strip("/").split("/")
        self._wish = dict(zip(parts[::2], parts[1::2], strict=False))

    def give(self) -> bool:
        wish = self._wish
        status, size = int(wish["s"]), int(wish["b"])
        hold, end = wish.get("hold"), wish.get("end")
        time.sleep(int(wish["d"]) / 1000)
        if hold == "before":
            self._peer.order("agent")
        if end in ("none", "reset"):
            self._note(status=0, response_size=0, errors=GONE)
            if end == "reset":
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        bodyless = self._request.method == "HEAD" or status in (204, 304)
        closes = "close" in wish or self._request.closes
        pieces = self._pieces(status, size, wish.get("c") == "1", bodyless, closes)
        if end == "within":
            self._note(status=status, response_size=10, errors=CUT)
            self._sock.sendall(pieces[0] + pieces[1][:10])
            return False
        for piece in pieces[:-1]:
            self._sock.sendall(piece)
            time.sleep(int(wish.get("drip", 0)) / 1000)
            if hold == "within":
                self._peer.order("agent")
                hold = "done"
        if hold != "past":
            # the client may read the last byte before this thread runs again: noted, and the clock read, before
            told = {"status": status, "response_size": 0 if bodyless else size, "optional": hold is not None}
            self._note(**told, inner=None if hold else (self._request.begun, time.monotonic_ns()))
        self._sock.sendall(pieces[-1])
        return not closes

    def _pieces(self, status: int, size: int, chunked: bool, bodyless: bool, closes: bool) -> list[bytes]:
        head = f"HTTP/1.1 {status} Whatever\r\n" + ("Connection: close\r\n" if closes else "")
        if status not in (204, 304):
            head += "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {size}\r\n"
        first, body = f"{head}\r\n".encode(), b"x" * size
        if bodyless:
            return [first]
        parts = [body[at : at + 100] for at in range(0, size, 100)] if chunked or "drip" in self._wish else [body]
        if chunked:
            parts = [*(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]
        # one write is what most servers make of a small answer
        return [first, *parts] if size > 1000 or len(parts) > 1 else [first + b"".join(parts)]

    def _note(self, *, inner: Times | None = None, **known: Any) -> None:
        port = self._peer.port
        told = Expected(
            self._request.path,
            CLIENT,
            self._request.method,
            request_size=self._request.size,
            server_port=port,
            server_address="127.0.0.1",
            peer_port=port,
            **known,
        )
        self._peer.records.append(Made(told, inner=inner))
