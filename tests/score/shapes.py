"""The shapes of traffic: the columns of the matrix.

A shape is a function for servers (what the generator does to one), one for clients (the requests that one is told to
make, see `peer.py` for what the words in a path ask of the peer), and a line in `SHAPES`. Without one, the reason.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event, Thread

import load
from generator import TIMEOUT, AnyWire, Caller, UnableError, Wire, load_until, request_bytes
from http2_frames import CANCEL, INTERNAL_ERROR
from multiplexed import GoneError, Multiplexed
from servers import MULTIPLEXED, understood

CONNECTIONS = 64
STREAMS = 64
LARGE = 4_000_000
CUT = (None, "ECONNRESET", "EPIPE", "truncated", "no_response")


@dataclass(frozen=True)
class Ask:
    """One request that a client is told to make; `wish` goes into its path."""

    wish: str = "s/200/d/0/b/100/c/0"
    method: str = "GET"
    up: int = 0
    chunked: bool = False


# Servers


def keep_alive(caller: Caller) -> None:
    work = load.plans(caller.cell, 150, chunked_up=caller.place.chunked_up)
    caller.ask_all(understood(caller.place.always, work))


def per_connection(caller: Caller) -> None:
    for _ in range(150):
        wire = caller.connect()
        caller.ask(wire, caller.plan(), close=True)
        wire.close()


def full_speed(caller: Caller) -> None:
    wires: list[AnyWire | None] = [None] * CONNECTIONS
    end = time.monotonic() + caller.seconds
    while time.monotonic() < end:
        wires = caller.ask_on_each(wires, caller.plan)


def pipelined(caller: Caller) -> None:
    wire, answered = caller.connect(), 0
    wire.sock.settimeout(3)
    for _ in range(12):
        work = [caller.plan(("GET", "POST", "HEAD")[n % 3], size=n, body=b"y" * n * (n % 3 == 1)) for n in range(8)]
        begun = wire.send(b"".join(map(request_bytes, work)))
        try:
            while work:
                caller.note(work[0], wire, begun, wire.response(work[0].method))
                del work[0]
                answered += 1
                if wire.closes:
                    raise GoneError
        except (OSError, GoneError) as error:
            for plan in work:
                caller.note_uncertain(plan, wire)
            raise UnableError(f"answers {answered} of 8 pipelined requests, then {said(error)}") from error
    wire.close()


def said(error: Exception) -> str:
    return "closes" if isinstance(error, (GoneError, ConnectionError)) else "waits for more"


def upload(caller: Caller) -> None:
    body, chunked = b"u" * LARGE, [False, True] if caller.place.chunked_up else [False]
    caller.ask_all([caller.plan("POST", size=10, body=body, chunked_up=up) for up in chunked for _ in range(4)])


def download(caller: Caller) -> None:
    work = [caller.plan(size=500_000, chunked=True) for _ in range(6)]
    caller.ask_all([*work, *(caller.plan(size=LARGE) for _ in range(4))])


def slow(caller: Caller) -> None:
    """Sends in drips, and reads in sips out of small buffers."""
    wire = None
    for _ in range(5):
        if wire is None or wire.closes:
            wire = caller.connect(receive_buffer=32_768)
            wire.pause, wire.at_once = 0.002, 16_000
        plan = caller.plan("POST", size=400_000, body=b"u" * 1000)
        data = request_bytes(plan)
        step = len(data) // 8
        begun = wire.send(*(data[at : at + step] for at in range(0, len(data), step)), pause=0.02)
        caller.note(plan, wire, begun, wire.response(plan.method))
    if wire:
        wire.close()


def errors(caller: Caller) -> None:
    statuses = (400, 401, 403, 404, 409, 410, 422, 429, 500, 501, 502, 503, 504)
    work = [caller.plan(method, status=s, size=20) for s in statuses for method in ("GET", "DELETE", "GET")]
    caller.ask_all(work + [caller.plan("POST", status=s, size=20, body=b"bad") for s in statuses])


def aborts(caller: Caller) -> None:
    """Clients that leave before, within and after."""
    for leave in (Wire.close, Wire.reset) * 4:
        wire, plan = caller.connect(), caller.plan(delay=100, size=2000)
        wire.send(request_bytes(plan))
        time.sleep(0.05)  # it is with the handler now
        leave(wire)
        caller.note_uncertain(plan, wire, request_size=0, optional=False)

        wire, plan = caller.connect(), caller.plan(size=LARGE)
        wire.send(request_bytes(plan))
        wire.read()  # the head, and some of the body
        leave(wire)
        caller.note_uncertain(plan, wire, status=200, request_size=0, errors=CUT, optional=False)

        half_a_head(caller, leave)

        # how much of an upload the server read before the end is a matter of timing
        wire, plan = caller.connect(), caller.plan("POST", body=b"u" * 5000)
        wire.send(request_bytes(plan)[:-1000])
        time.sleep(0.02)
        leave(wire)
        caller.note_uncertain(plan, wire, optional=leave is Wire.reset)
        caller.ask_all([caller.plan() for _ in range(3)])


def half_a_head(caller: Caller, leave: Callable[[Wire], None]) -> None:
    """Is no request: whatever is told of it is invented, unless the server answers it all the same."""
    wire, plan = caller.connect(), caller.plan()
    wire.send(request_bytes(plan)[:-10])
    if leave is Wire.close:
        socket.socket.shutdown(wire.sock, socket.SHUT_WR)  # ssl's own would end the session, too
        with suppress(OSError, GoneError):
            answer = wire.response(plan.method)
            known = {"status": answer.status, "response_size": answer.size, "trace": ""}  # the trace was cut
            caller.note_uncertain(plan, wire, **known, optional=False)
    leave(wire)


def older(caller: Caller) -> None:
    """Connections that were opened, and some used, before the agent came."""
    used = caller.connect()
    for _ in range(5):
        # not noted: whatever is told of these is invented
        used.begin(caller.plan(size=10))
        used.response("GET")
        if used.closes:
            used = caller.connect()
    wires: list[AnyWire | None] = [used, *(caller.connect() for _ in range(4))]
    caller.order("agent")
    for _ in range(10):
        wires = caller.ask_on_each(wires, lambda: caller.plan("POST", size=10, body=b"y" * 10))
    if caller.place.multiplexed:
        forget_trace(caller, used)


def forget_trace(caller: Caller, used: AnyWire) -> None:
    """The name of the field with a request's trace is in the table of a connection since before the agent came."""
    for n, one in enumerate(caller.made):
        if one.expected.peer_port == used.port:
            caller.made[n] = replace(one, expected=replace(one.expected, trace=""))


def within(caller: Caller) -> None:
    """The agent comes within a head, an upload, and a response. These may be told, if rightly; what follows must be."""
    if caller.place.multiplexed:
        within_streams(caller)
        return
    halves = []
    for wire, plan, cut in (
        (caller.connect(), caller.plan(size=4 * LARGE), 0),  # more than all buffers hold
        (caller.connect(), caller.plan(size=10), 15),
        (caller.connect(), caller.plan("POST", size=10, body=b"u" * 100_000), 50_000),
    ):
        data = request_bytes(plan)
        wire.send(data[: len(data) - cut])
        halves.append((wire, plan, data[len(data) - cut :]))
    time.sleep(0.3)  # what arrived is with the server now
    caller.order("agent")
    for wire, plan, rest in halves:
        try:
            wire.send(rest)
            answer = wire.response(plan.method)
        except (OSError, GoneError):  # the server did not wait so long
            caller.note_uncertain(plan, wire)
            wire.closes = True
        else:
            known = {"status": answer.status, "request_size": len(plan.body), "response_size": answer.size}
            caller.note_uncertain(plan, wire, **known)
    for wire, _, _ in halves:
        caller.ask_all([caller.plan(size=10) for _ in range(8)], wire)


def within_streams(caller: Caller) -> None:
    wire = caller.connect()
    caller.ask(wire, caller.plan(size=10))  # the tables are not empty
    caller.made.clear()
    plans = [caller.plan(delay=600, size=10), caller.plan("POST", size=10, body=b"u" * 50_000)]
    streams = [wire.start(plans[0]), wire.start(plans[1], hold=25_000)]
    time.sleep(0.3)
    caller.order("agent")
    wire.release(streams[1])
    for plan, stream in zip(plans, streams, strict=True):
        wire.wait(stream)
        caller.note_uncertain(plan, wire)
    caller.ask_all([caller.plan(size=10) for _ in range(8)], wire)
    forget_trace(caller, wire)


def forks(caller: Caller) -> None:
    if not caller.place.forks:
        raise UnableError("has no workers that it could fork")
    under_load(caller, "fork")


def restart(caller: Caller) -> None:
    under_load(caller, "restart")


def under_load(caller: Caller, what: str) -> None:
    end = Event()
    thread = Thread(target=load_until, args=(caller, end.is_set))
    thread.start()
    try:
        for _ in range(3):
            time.sleep(0.4)
            caller.order(what)
        time.sleep(0.4)
    finally:
        end.set()
        thread.join(TIMEOUT)


# Of HTTP/2


def streams(caller: Caller) -> None:
    """All at once on one connection; as soon as one has ended, another one begins."""
    multiplex(caller, 1, STREAMS)


def many_streams(caller: Caller) -> None:
    multiplex(caller, 16, 16)


def multiplex(caller: Caller, connections: int, at_once: int) -> None:
    wires = [caller.connect() for _ in range(connections)]
    end = time.monotonic() + caller.seconds
    while time.monotonic() < end:
        for n, wire in enumerate(wires):
            if wire.closes:
                wire.close()
                wires[n] = caller.connect()
        sent = [(wire, plan, wire.start(plan)) for wire in wires for plan in (caller.plan() for _ in range(at_once))]
        for wire, plan, stream in sent:
            caller.note(plan, wire, stream.begun, wire.wait(stream))
    for wire in wires:
        wire.close()


def resets(caller: Caller) -> None:
    """Streams that the client ends, and connections that it leaves; others on the same one go on."""
    wire = caller.connect()
    for n in range(12):
        if wire.closes:
            wire = caller.connect()
        beside, gone = caller.plan(size=50, delay=80), caller.plan(size=50, delay=60)
        kept, left = wire.start(beside), wire.start(gone)
        time.sleep(0.02)  # it is with the handler now
        wire.reset(left, (CANCEL, INTERNAL_ERROR)[n % 2])
        caller.note_uncertain(gone, wire, optional=False)
        caller.note(beside, wire, kept.begun, wire.wait(kept))
        upload = caller.plan("POST", body=b"u" * 5000)
        wire.reset(wire.start(upload, hold=1000), CANCEL)
        caller.note_uncertain(upload, wire)
        caller.ask(wire, caller.plan())
    for leave in (Multiplexed.close, Multiplexed.cut) * 3:
        wire, plan = caller.connect(), caller.plan(delay=100, size=2000)
        wire.start(plan)
        time.sleep(0.05)
        leave(wire)
        caller.note_uncertain(plan, wire, optional=False)
        caller.ask_all([caller.plan() for _ in range(3)])
    if caller.place.keeps:
        caller.order("restart")


# Clients


def ask_mixed() -> list[Ask]:
    methods = ("GET", "GET", "HEAD", "POST", "PUT", "DELETE")
    statuses, sizes = (200, 200, 201, 204, 404, 500, 304), (0, 1, 1000, 70_000, 100)
    asked = []
    for n in range(60):
        method = methods[n % len(methods)]
        up = sizes[n % 4] if method in ("POST", "PUT") else 0
        wish = f"s/{statuses[n % 7]}/d/{30 * (n % 10 == 0)}/b/{sizes[n % 5]}/c/{int(n % 3 == 0)}"
        asked.append(Ask(wish, method, up, up > 0 and n % 4 == 1))
    return asked


def ask_closing() -> list[Ask]:
    return [Ask("s/200/d/0/b/100/c/0/close/1")] * 40


def ask_fast() -> list[Ask]:
    return [Ask("s/200/d/0/b/3/c/0")] * 100


def ask_up() -> list[Ask]:
    return [Ask(method="POST", up=LARGE, chunked=chunked) for chunked in (False, True) for _ in range(3)]


def ask_down() -> list[Ask]:
    return [Ask(f"s/200/d/0/b/{size}/c/{chunked}") for size, chunked in ((500_000, 1), (LARGE, 0)) for _ in range(4)]


def ask_dripping() -> list[Ask]:
    return [Ask("s/200/d/0/b/800/c/1/drip/20")] * 4 + [Ask("s/200/d/0/b/800/c/0/drip/20")] * 4


def ask_errors() -> list[Ask]:
    return [Ask(f"s/{s}/d/0/b/20/c/0", method) for s in (400, 403, 404, 429, 500, 503) for method in ("GET", "DELETE")]


def ask_aborted() -> list[Ask]:
    kinds = ("none", "reset", "within")
    return [Ask(f"s/200/d/0/b/2000/c/0/end/{kind}") for kind in kinds for _ in range(3)] + [Ask()] * 5


def ask_held() -> list[Ask]:
    return [*[Ask("s/200/d/0/b/10/c/0/hold/past")] * 3, Ask("s/200/d/0/b/10/c/0/hold/before"), *[Ask()] * 10]


def ask_held_within() -> list[Ask]:
    return [Ask("s/200/d/0/b/9000/c/0/hold/within"), *[Ask()] * 10]


@dataclass(frozen=True)
class Shape:
    """A column."""

    name: str
    about: str
    server: Callable[[Caller], None]
    client: Callable[[], list[Ask]] | str  # or why clients have none
    late: bool = False  # starts before the agent does
    at_once: int = 1  # clients
    short: bool = False  # also in the short form
    versions: str = "12"  # of HTTP that it is for

    def lacking(self, transport: str) -> str:
        """Why it can't be played over it."""
        if ("2" if transport in MULTIPLEXED else "1") in self.versions:
            return ""
        return "is of HTTP/1: HTTP/2 has streams" if self.versions == "1" else "HTTP/1 has no streams"


SHAPES = (
    Shape("keep-alive", "all sorts of requests on one connection", keep_alive, ask_mixed, short=True),
    Shape("per-connection", "a connection for each request", per_connection, ask_closing),
    Shape("full-speed", "64 connections (clients: 4 at once), as fast as it goes", full_speed, ask_fast, at_once=4),
    Shape(
        "pipelined", "8 requests in one write", pipelined, "none of these clients pipelines", short=True, versions="1"
    ),
    Shape("upload", "4 MB bodies, with length and in chunks", upload, ask_up),
    Shape("download", "500 kB in small chunks, 4 MB with length", download, ask_down),
    Shape("slow", "the other end sends in drips, and reads in sips", slow, ask_dripping, versions="1"),
    Shape("errors", "status 4xx and 5xx", errors, ask_errors, short=True),
    Shape("aborts", "connections that end too early", aborts, ask_aborted, short=True, versions="1"),
    Shape("streams", "64 streams on a connection", streams, "their libraries decide", versions="2", short=True),
    Shape("many-streams", "16 connections, 16 streams each", many_streams, "their libraries decide", versions="2"),
    Shape(
        "resets",
        "streams and connections that the client ends",
        resets,
        "no client here does",
        versions="2",
        short=True,
    ),
    Shape("older", "connections opened before the agent started", older, ask_held, late=True),
    Shape("within", "the agent starts in the middle of a request", within, ask_held_within, late=True),
    Shape("forks", "the server forks workers, under load", forks, "forking is a server's way"),
    Shape("restart", "the server is restarted, under load", restart, "the peer's end is in aborts"),
)
