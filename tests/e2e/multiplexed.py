"""A connection of HTTP/2 from the client's side, which knows when each stream began and ended; by the h2 library.

In: a socket, and plans of requests. Out: a `Response` each. Over `grpc` a plan becomes an RPC: its path is the message,
chunks make it a stream, its status is mapped to a code (`code_of`), and its trace tells it apart (`truth.ECHO`).
"""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes
from http2_frames import message
from load import Plan
from truth import ECHO, Expected

WINDOW = 1 << 20
CODE_OF_STATUS = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 410: 9, 422: 11, 429: 8, 500: 13, 501: 12, 502: 2, 503: 14}
CODE_OF_STATUS[504] = 4
MESSAGES = 3  # of a stream


class Response(NamedTuple):
    status: int
    size: int
    ended: int
    clock: tuple[int, int] | None
    closes: bool


class GoneError(Exception):
    """The connection, or the stream, ended before the response did."""


def status_of(plan: Plan) -> int:
    return int(plan.path.split("/")[2])


def code_of(plan: Plan) -> int:
    """The gRPC status that a plan asks for."""
    return CODE_OF_STATUS.get(status_of(plan), 0)


def rpc_method(plan: Plan) -> str:
    down = "/c/1/" in plan.path
    return {(0, 0): "Unary", (1, 0): "Upload", (0, 1): "Download", (1, 1): "Chat"}[plan.chunked, down]


def rpc_trace(path: str) -> str:
    """Each RPC has one of its own: trace and parent."""
    digest = hashlib.md5(path.encode()).hexdigest()
    return f"{digest}-{digest[:16]}"


def rpc_path(plan: Plan) -> str:
    """As `truth.path_of` gives it."""
    return f"/{ECHO}/{rpc_method(plan)}/{rpc_trace(wish(plan)).partition('-')[0]}"


def wish(plan: Plan) -> str:
    """The path that goes into the message."""
    _, _, _, rest = plan.path.split("/", 3)
    return f"/s/{code_of(plan)}/{rest}"


def truth_of(plan: Plan, response: Response, *, rpc: bool, trace: str = "") -> Expected:
    """How the agent should tell of it."""
    if rpc:
        return Expected(
            rpc_path(plan),
            method="POST",
            status=response.status,
            request_size=None,
            response_size=None,
            delay=plan.delay,
            trace=rpc_trace(wish(plan)),
            rpc=True,
        )
    return Expected(
        plan.path,
        method=plan.method,
        status=response.status,
        request_size=len(plan.body),
        response_size=response.size,
        delay=plan.delay,
        trace=trace,
        version="2",
    )


@dataclass
class Stream:
    number: int
    begun: int
    body: memoryview
    held: memoryview
    ends: bool = True  # when the body is sent
    fields: dict[str, str] = field(default_factory=dict)
    size: int = 0
    done: bool = False
    reset: int | None = None
    ended: int = 0

    def response(self, closes: bool) -> Response:
        if self.reset is not None:
            raise GoneError(f"stream was reset with {self.reset}")
        begun, _, ready = self.fields.get("clock", "").partition(" ")
        status = int(self.fields.get("grpc-status", self.fields[":status"]))
        return Response(status, self.size, self.ended, (int(begun), int(ready)) if ready else None, closes)


class Multiplexed:
    """One connection."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        rpc: bool = False,
        secure: bool = False,
        trace_of: Callable[[Plan], str] = lambda _: "",
    ) -> None:
        self.sock, self._rpc, self._scheme, self._trace_of = sock, rpc, "https" if secure else "http", trace_of
        self.port = sock.getsockname()[1]
        self.closes = self._greeted = False
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.ENABLE_PUSH: 0})
        self._h2.increment_flow_control_window(WINDOW * 16)
        self._streams: dict[int, Stream] = {}
        self._last: Stream | None = None
        self.flush()
        while not self._greeted:  # how many streams the server allows stands in its first frame
            self.read()

    def flush(self) -> None:
        if out := self._h2.data_to_send():
            self.sock.sendall(out)

    # Requests

    def start(self, plan: Plan, *, hold: int = 0) -> Stream:
        """Sends what the windows allow; `hold` bytes of the body wait for `release`. GoneError: it takes no more."""
        if self.closes:
            raise GoneError
        if self._rpc:
            head, body = self._call(plan)
        else:
            head, body = self._request(plan)
        number = self._h2.get_next_available_stream_id()
        now, held = (memoryview(part) for part in (body[: len(body) - hold], body[len(body) - hold :]))
        stream = Stream(number, time.monotonic_ns(), now, held, ends=not hold)
        self._streams[number] = stream
        self._h2.send_headers(number, head, end_stream=not body)
        self._push(stream)
        self.flush()
        return stream

    def _request(self, plan: Plan) -> tuple[list[tuple[str, str]], bytes]:
        head = [(":method", plan.method), (":scheme", self._scheme), (":authority", "score.test"), (":path", plan.path)]
        head += [("user-agent", "score"), ("accept", "*/*")]
        if plan.body and not plan.chunked:
            head.append(("content-length", str(len(plan.body))))
        if trace := self._trace_of(plan):
            head.append(("traceparent", f"00-{trace}-01"))
        return head, plan.body

    def _call(self, plan: Plan) -> tuple[list[tuple[str, str]], bytes]:
        head = [(":method", "POST"), (":scheme", self._scheme), (":path", f"/{ECHO}/{rpc_method(plan)}")]
        head += [(":authority", "score.test"), ("content-type", "application/grpc"), ("te", "trailers")]
        head += [("user-agent", "score"), ("traceparent", f"00-{rpc_trace(wish(plan))}-01")]
        content = message(wish(plan).encode() + b" " + plan.body)
        return head, content * (MESSAGES if plan.chunked else 1)

    def release(self, stream: Stream) -> None:
        """What `start` has held."""
        stream.body, stream.held, stream.ends = stream.held, memoryview(b""), True
        self._push(stream)
        self.flush()

    def _push(self, stream: Stream) -> None:
        """As much of its body as the windows allow."""
        while stream.body:
            room = min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            part, stream.body = stream.body[:room], stream.body[room:]
            self._h2.send_data(stream.number, part.tobytes(), end_stream=not stream.body and stream.ends)
            self.flush()

    def reset(self, stream: Stream, code: int) -> None:
        self._h2.reset_stream(stream.number, code)
        self._streams.pop(stream.number)
        self.flush()

    def wait(self, stream: Stream) -> Response:
        """GoneError, OSError: there is none, or not all of it."""
        while not stream.done:
            self.read()
        self._streams.pop(stream.number, None)
        return stream.response(self.closes)

    def read(self) -> None:
        received = self.sock.recv(1 << 18)
        if not received:
            raise GoneError
        now = time.monotonic_ns()
        try:
            events = self._h2.receive_data(received)
        except h2.exceptions.ProtocolError as error:
            raise GoneError(str(error)) from error
        for event in events:
            self._take(event, now)
        for stream in [stream for stream in self._streams.values() if stream.body]:
            self._push(stream)
        self.flush()

    def _take(self, event: h2.events.Event, now: int) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._greeted = True
        if isinstance(event, h2.events.ConnectionTerminated):
            self.closes = True
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if stream:
                stream.size += len(event.data)
        if not stream:
            return
        if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
            stream.fields |= dict(event.headers)
        if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            if isinstance(event, h2.events.StreamReset) and not stream.done:
                stream.reset = event.error_code
            stream.done, stream.ended, stream.body = True, now, memoryview(b"")

    # As `generator.Wire` has it: one request after the other

    def begin(self, plan: Plan, *, close: bool = False) -> int:
        """`close`: the connection's end is for the caller to bring about."""
        self._last = self.start(plan)
        return self._last.begun

    def response(self, method: str) -> Response:
        assert self._last
        return self.wait(self._last)

    def close(self) -> None:
        self.sock.close()

    def cut(self) -> None:
        """With RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
