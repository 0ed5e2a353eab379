"""A client that knows all that it does: each request with an id of its own, what came of it, and when.

In: a place to call, and orders to whoever started it (`Caller.order`). Out: a list of `Made`, the truth.
Every request has two pairs of times by CLOCK_MONOTONIC, which is the agent's clock, too. What a server does with a
request lies within the outer pair: before the first byte of it was sent, and after the last byte of the response was
read, both taken here. It contains the inner pair: when the server's handler was called, and when it had its answer, as
the server's own clock said in the field `Clock`. So a span begins between the two beginnings and ends between the two
ends; whatever is outside of these is its error.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from load import Plan, parts
from multiplexed import GoneError, Multiplexed, Response, code_of, rpc_path, rpc_trace, status_of, wish
from servers import MULTIPLEXED, RPC, SECURE, TRANSPORTS, Address
from truth import CLIENT, Expected

TIMEOUT = 15.0
Times = tuple[int, int]


class UnableError(Exception):
    """This server or client can't do what the shape is about; says why, and what was made all the same."""

    def __init__(self, why: str, made: Sequence[Made] = ()) -> None:
        super().__init__(why)
        self.made = made


@dataclass(frozen=True)
class Made:
    """A request that was made."""

    expected: Expected
    outer: Times | None = None
    inner: Times | None = None
    at_most: int | None = None  # ns that it took by the client's own clock, where there is no outer pair


@dataclass(frozen=True)
class Place:
    """The server of a row, as a caller has to know it."""

    transport: str
    address: Address
    port: int | None
    chunked_up: bool = True
    own: str = ""  # what is in the path of requests that it answers itself; others it hands on
    behind: int | None = None  # the port that it hands them to
    forks: bool = False
    always: int = 0  # the status that it answers everything with
    keeps: bool = False  # connections that were left stay open until it ends

    @property
    def multiplexed(self) -> bool:
        return self.transport in MULTIPLEXED

    @property
    def rpc(self) -> bool:
        return self.transport in RPC

    def hands_on(self, path: str) -> bool:
        return self.behind is not None and self.own not in path


class Wire:
    """One connection, from the client's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        name = sock.getsockname()
        self.port = name[1] if isinstance(name, tuple) else None
        self.closes = False
        self.pause = 0.0  # before each read
        self.at_once = 1 << 18
        self._buffer = bytearray()

    def begin(self, plan: Plan, *, close: bool = False) -> int:
        """Send a request. The time before it."""
        return self.send(request_bytes(plan, close=close))

    def send(self, *pieces: bytes, pause: float = 0.0) -> int:
        """The time before it."""
        begun = time.monotonic_ns()
        for piece in pieces:
            self.sock.sendall(piece)
            time.sleep(pause)
        return begun

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def read(self) -> None:
        if self.pause:
            time.sleep(self.pause)
        data = self.sock.recv(self.at_once)
        if not data:
            raise GoneError
        self._buffer += data

    def response(self, method: str) -> Response:
        """GoneError, OSError: there is none, or not all of it."""
        status, fields = self._head()
        size = self._body(method, status, fields)
        ended = time.monotonic_ns()
        begun, _, ready = fields.get(b"clock", b"").partition(b" ")
        self.closes = self.closes or fields.get(b"connection", b"").lower() == b"close"
        if self.closes:
            self.close()  # some servers wait for that
        return Response(status, size, ended, (int(begun), int(ready)) if ready else None, self.closes)

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self.read()
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        pairs = (line.split(b":", 1) for line in lines)
        self.closes = first.startswith(b"HTTP/1.0")
        return int(first[9:12]), {name.lower(): value.strip() for name, value in pairs}

    def _body(self, method: str, status: int, fields: dict[bytes, bytes]) -> int:
        if method == "HEAD" or status in (204, 304):
            return 0
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            return self._chunks()
        if length := fields.get(b"content-length"):
            return self._skip(int(length))
        self.closes, size = True, len(self._buffer)
        while data := self.sock.recv(self.at_once):
            size += len(data)
        return size

    def _skip(self, size: int) -> int:
        left = size
        while left > len(self._buffer):
            left -= len(self._buffer)
            self._buffer.clear()
            self.read()
        del self._buffer[:left]
        return size

    def _chunks(self) -> int:
        total, at = 0, 0
        while True:
            while (end := self._buffer.find(b"\r\n", at)) < 0:
                self.read()
            size = int(self._buffer[at:end], 16)
            while len(self._buffer) < end + 2 + size + 2:
                self.read()
            total, at = total + size, end + 2 + size + 2
            if not size or at > 1 << 16:
                del self._buffer[:at]
                at = 0
            if not size:
                return total


AnyWire = Wire | Multiplexed


@dataclass
class Caller:
    """What a shape has at hand."""

    place: Place
    cell: str  # begins the ids of its requests
    seconds: float
    orders: Connection
    made: list[Made] = field(default_factory=list)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, what: str) -> None:
        """Have something done that is not the caller's to do, and wait for it."""
        self.orders.send((what, None))
        self.orders.recv()

    def number(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def plan(
        self,
        method: str = "GET",
        *,
        status: int = 200,
        size: int = 3,
        delay: int = 0,
        chunked: bool = False,
        body: bytes = b"",
        chunked_up: bool = False,
    ) -> Plan:
        path = f"/s/{status}/d/{delay}/b/{size}/c/{int(chunked)}/{self.cell}-{self.number()}"
        return Plan(path, method, body, chunked_up, delay / 1000)

    def connect(self, receive_buffer: int = 0) -> AnyWire:
        place = self.place
        sock = TRANSPORTS[place.transport](place.address, TIMEOUT)
        if place.multiplexed:
            return Multiplexed(sock, rpc=place.rpc, secure=place.transport in SECURE, trace_of=trace_of)
        wire = Wire(sock)
        if receive_buffer:
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return wire

    def ask(self, wire: AnyWire, plan: Plan, *, close: bool = False) -> None:
        begun = wire.begin(plan, close=close)
        self.note(plan, wire, begun, wire.response(plan.method))

    def ask_all(self, work: list[Plan], wire: AnyWire | None = None) -> None:
        """One after the other, on one connection as long as the server keeps it."""
        for plan in work:
            if wire is None or wire.closes:
                wire = self.connect()
            self.ask(wire, plan)
        if wire:
            wire.close()

    def ask_on_each(self, wires: Sequence[AnyWire | None], plan: Callable[[], Plan]) -> list[Wire | None]:
        """A request on each connection before any response is read. The connections, new ones for those that ended."""
        sent = []
        for old in wires:
            wire = self.connect() if old is None or old.closes else old
            sent.append((planned := plan(), wire, wire.begin(planned)))
        for planned, wire, begun in sent:
            self.note(planned, wire, begun, wire.response(planned.method))
        return [wire for _, wire, _ in sent]

    def note(self, plan: Plan, wire: AnyWire, begun: int, response: Response) -> None:
        """A request that was answered."""
        due = self.place.always or (code_of(plan) if self.place.rpc else status_of(plan))
        assert response.status == due, f"{plan.method} {plan.path} was answered with {response.status}"
        self.add(
            plan,
            wire,
            {"status": response.status, "request_size": len(plan.body), "response_size": response.size},
            outer=(begun, response.ended),
            inner=response.clock,
        )

    def note_uncertain(self, plan: Plan, wire: AnyWire, **known: Any) -> None:
        """A request that met an end before its response had; optional unless said otherwise."""
        unknown = {"status": None, "request_size": None, "response_size": None, "optional": True}
        self.add(plan, wire, {**unknown, **known})

    def add(
        self, plan: Plan, wire: AnyWire, known: dict[str, Any], outer: Times | None = None, inner: Times | None = None
    ) -> None:
        place = self.place
        told = Expected(**{**self._own(plan), "server_port": place.port, "peer_port": wire.port, **known})
        if place.rpc:
            told = replace(told, request_size=None, response_size=None)
        self.made.append(Made(told, outer, inner))
        if place.hands_on(plan.path):
            handed = replace(
                told,
                kind=CLIENT,
                server_port=None,
                peer_port=place.behind,
                trace="",
                version=None,
                # what a proxy makes of a client that went away is its own affair
                **({} if outer else {"optional": True, "status": None, "errors": ()}),
            )
            self.made.append(Made(handed, outer, inner))

    def _own(self, plan: Plan) -> dict[str, Any]:
        if self.place.rpc:
            return {"path": rpc_path(plan), "method": "POST", "trace": rpc_trace(wish(plan)), "rpc": True}
        version = "2" if self.place.multiplexed else None
        return {"path": plan.path, "method": plan.method, "trace": trace_of(plan), "version": version}


def trace_of(plan: Plan) -> str:
    """Every other request comes with a trace of its own, made from its id."""
    number = int(plan.path.rpartition("-")[2])
    return f"{number + (1 << 120):032x}-{number + (1 << 60):016x}" if number % 2 else ""


def request_bytes(plan: Plan, *, close: bool = False) -> bytes:
    fields = ["Host: score.test"]
    if trace := trace_of(plan):
        fields.append(f"traceparent: 00-{trace}-01")
    if close:
        fields.append("Connection: close")
    body = plan.body
    if plan.chunked:
        fields.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in parts(body)) + b"0\r\n\r\n"
    elif body or plan.method in ("POST", "PUT"):
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{plan.method} {plan.path} HTTP/1.1", *fields, "", ""]).encode() + body


def load_until(caller: Caller, stop: Callable[[], bool], at_once: int = 4) -> None:
    """Calls from several threads, also where connections fail."""

    def job() -> None:
        wire = None
        while not stop():
            plan, begun = caller.plan(size=40), 0
            try:
                if wire is None or wire.closes:
                    wire = caller.connect()
                begun = wire.begin(plan)
                response = wire.response(plan.method)
            except (OSError, GoneError):
                if wire and begun:
                    caller.note_uncertain(plan, wire)
                wire = None
                time.sleep(0.005)
                continue
            caller.note(plan, wire, begun, response)

    threads = [threading.Thread(target=job) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
