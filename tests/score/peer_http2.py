"""The server that clients of HTTP/2 and gRPC call; as `peer`, whose words in a path it knows.

`close/1` is GOAWAY after the response, and the connection's end; `end/reset` ends the stream with RST_STREAM. An RPC's
message begins with the path; its status is `s`. All requests of a connection are answered one after the other.

What a client sends before it has met the GOAWAY is read to the end, and is a request of its own: clients that know that
it was not answered send it again, over another connection.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from select import select
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from generator import Made
from http2_frames import GOAWAY, INTERNAL_ERROR, frame, message
from multiplexed import WINDOW
from peer import CUT, GONE, Peer
from servers import RPC
from truth import CLIENT, ECHO, Expected

SENT_WITHIN = 0.05  # seconds: what a client has to say it has said by then
LEFT_WITHIN = 2.0  # so long it may take one to leave
REFUSED = (*GONE, "REFUSED_STREAM")


class PeerHttp2(Peer):
    """The same, over HTTP/2."""

    protocols = ("h2",)

    def __init__(self, order: Callable[[str], None], transport: str) -> None:
        self.rpc = transport in RPC
        self.ordered = 0  # when the agent was, last
        super().__init__(order, transport)

    def _talk(self, sock: socket.socket) -> None:
        Session(self, sock).run()


@dataclass
class Request:
    stream: int
    fields: dict[str, str]
    begun: int  # when its first byte was read
    size: int = 0
    start: bytes = b""  # of its body


@dataclass
class Session:
    """One connection."""

    peer: PeerHttp2
    sock: socket.socket
    open: dict[int, Request] = field(default_factory=dict)
    whole: list[Request] = field(default_factory=list)

    def run(self) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        self.h2.increment_flow_control_window(WINDOW * 16)
        self.flush()
        while True:
            while self.whole:
                if not self.answer(self.whole.pop(0)):
                    return
            self.read()

    def flush(self) -> None:
        if out := self.h2.data_to_send():
            self.sock.sendall(out)

    def read(self) -> None:
        self.receive()
        self.flush()

    def receive(self) -> None:
        received = self.sock.recv(1 << 18)
        if not received:
            raise EOFError
        for event in self.h2.receive_data(received):
            self.take(event, time.monotonic_ns())

    def drain(self) -> None:
        """All that the client, which may have several requests at a time, has sent by now."""
        time.sleep(SENT_WITHIN)
        while select([self.sock], [], [], 0)[0]:
            self.read()

    def order_agent(self) -> None:
        self.drain()
        self.peer.ordered = time.monotonic_ns()
        self.peer.order("agent")

    def path_of(self, request: Request) -> str:
        return request.start[5:].partition(b" ")[0].decode() if self.peer.rpc else request.fields[":path"]

    def take(self, event: h2.events.Event, now: int) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.open[event.stream_id] = Request(event.stream_id, dict(event.headers), now)
        elif isinstance(event, h2.events.DataReceived):
            request = self.open[event.stream_id]
            request.size += len(event.data)
            request.start += event.data[: max(0, 500 - len(request.start))]
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.whole.append(self.open.pop(event.stream_id))

    def send(self, stream: int, body: bytes) -> None:
        """As the windows allow."""
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room > 0:
                self.h2.send_data(stream, body[:room])
                body = body[room:]
                self.flush()
            else:
                self.read()

    def answer(self, request: Request) -> bool:
        """What its path asks for; whether there may be another one."""
        rpc, stream, path = self.peer.rpc, request.stream, self.path_of(request)
        parts = path.strip("/").split("/")
        wish = dict(zip(parts[::2], parts[1::2], strict=False))
        status, size, method = int(wish["s"]), int(wish["b"]), request.fields[":method"]
        hold, end = wish.get("hold"), wish.get("end")
        time.sleep(int(wish["d"]) / 1000)
        if hold == "before":
            self.order_agent()
        if end in ("none", "reset"):
            self.note(request, path, status=0, response_size=0, errors=(*GONE, "INTERNAL_ERROR"))
            if end == "reset":
                self.h2.reset_stream(stream, INTERNAL_ERROR)
                self.flush()
            return end == "reset"
        empty = not rpc and (method == "HEAD" or status in (204, 304))
        head = [
            (":status", "200" if rpc else str(status)),
            ("content-type", "application/grpc" if rpc else "text/plain"),
        ]
        self.h2.send_headers(stream, head)
        body = b"" if empty else message(b"x" * size) if rpc else b"x" * size
        if end == "within":
            self.note(request, path, status=status, response_size=10, errors=CUT)
            self.send(stream, body[:10])
            return False
        step = 100 if "drip" in wish else max(1, len(body))
        for at in range(0, 0 if rpc and status else len(body), step):
            self.send(stream, body[at : at + step])
            time.sleep(int(wish.get("drip", 0)) / 1000)
            if hold == "within":
                self.order_agent()
                hold = "done"
        if hold != "past":
            early = hold is not None or request.begun < self.peer.ordered
            known = {"status": status, "response_size": len(body), "optional": early}
            self.note(request, path, **known, inner=None if early else (request.begun, time.monotonic_ns()))
        if rpc:
            self.h2.send_headers(stream, [("grpc-status", str(status))], end_stream=True)
        else:
            self.h2.end_stream(stream)
        self.flush()
        if "close" in wish:
            self.go_away(stream)
        return "close" not in wish

    def go_away(self, last: int) -> None:
        """No stream behind the last one is answered (RFC 9113, 6.8). The client has left when this returns."""
        self.sock.sendall(frame(GOAWAY, 0, 0, struct.pack(">II", last, 0)))
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # ssl's own would end the session, too
        self.sock.settimeout(LEFT_WITHIN)
        with suppress(OSError, EOFError):
            while True:
                self.receive()
        for one in (*self.whole, *self.open.values()):
            self.note(one, self.path_of(one), status=0, response_size=0, errors=REFUSED)

    def note(self, request: Request, path: str, *, inner: tuple[int, int] | None = None, **known: Any) -> None:
        port = self.peer.port
        own: dict[str, Any] = {"path": path, "method": request.fields[":method"], "request_size": request.size}
        if self.peer.rpc:
            method = request.fields[":path"].rpartition("/")[2]
            trace = request.fields["traceparent"].split("-")[1]
            own = {"path": f"/{ECHO}/{method}/{trace}", "method": "POST", "request_size": None, "rpc": True}
            known["response_size"] = None
            if "errors" in known:
                known["status"] = None
                if known["errors"] is not REFUSED:  # what a library makes of a connection's end is its own affair
                    known["errors"] = ()
        told = Expected(**{**own, **known}, kind=CLIENT, server_port=port, server_address="127.0.0.1", peer_port=port)
        self.peer.records.append(Made(told, inner=inner))
