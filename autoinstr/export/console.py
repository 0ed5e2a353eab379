"""Spans on a terminal or in a pipe: one line each, as text for people or as JSON for programs.

In: traced batches from the pipeline's thread, which only queues them here. Out: lines on standard output, written by a
thread of its own, one write a chunk; what was lost in the whole run, to standard error, at the end.
A reader that does not keep up (a slow terminal, a pipe nobody reads) must cost neither time nor memory elsewhere: at
most MAX_ROWS requests wait, more are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import islice
from typing import TextIO

import numpy as np

from autoinstr.export.base import Context, Exporter
from autoinstr.health import Health, Loss
from autoinstr.model import Group, Kind, Overflow, Service, Snapshot, Traced
from autoinstr.semconv import OUTCOMES

logger = logging.getLogger(__name__)

# About 200 bytes a row: 13 MB at the most, a second of 60,000 requests.
MAX_ROWS = 65_536
# Lines that are made, then written at once: enough to make the write cheap, few enough to show soon.
CHUNK = 1024
RED, YELLOW, GREEN, DIM, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Batch:
    traced: Traced
    groups: list[Group]
    services: list[Service]


@dataclass(frozen=True, slots=True)
class Parts:
    """What all lines of a group share."""

    start: str  # before the request's own text
    end: str  # after the duration
    with_text: bool
    with_peer: bool


Render = Callable[[Batch], Iterator[str]]


class Console:
    name = "console"
    wants_spans = True
    wants_metrics = False

    def __init__(self, render: Render, output: TextIO, health: Health, stop: Callable[[], None]) -> None:
        self._render = render
        self._output = output
        self._health = health
        self._stop = stop
        self._waiting: deque[Batch] = deque()
        self._rows = 0
        self._closed = False
        self._reader_gone = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def spans(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        sampled = int(np.count_nonzero(traced.sampled))
        if not sampled:
            return
        rows = len(traced.requests)
        with self._changed:
            # A batch larger than the whole bound still goes through, alone.
            fits = not self._reader_gone and (self._rows + rows <= MAX_ROWS or not self._waiting)
            if fits:
                self._waiting.append(Batch(traced, groups, services))
                self._rows += rows
                self._changed.notify()
        if not fits:
            self._health.lose(Loss.SPAN_QUEUE_FULL, sampled)

    def counted(self, overflow: Overflow, service: int, services: list[Service]) -> None:
        pass

    def metrics(self, snapshot: Snapshot, services: list[Service]) -> None:
        pass

    def close(self, deadline: float) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left, self._waiting = list(self._waiting), deque()
        self._health.lose(Loss.SPAN_QUEUE_FULL, sum(int(np.count_nonzero(batch.traced.sampled)) for batch in left))
        print_losses(self._health, sys.stderr)

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            left = int(np.count_nonzero(batch.traced.sampled))
            lines = self._render(batch)
            try:
                while chunk := list(islice(lines, CHUNK)):
                    write_all(self._output.fileno(), "".join(chunk).encode())
                    left -= len(chunk)
                    self._health.did("spans_written", len(chunk))
            except OSError:
                self._health.lose(Loss.SPAN_EXPORT_FAILED, left)
                self._give_up()
            except Exception:  # the boundary of one batch
                logger.exception("console: batch given up")
                self._health.lose(Loss.INTERNAL)
            del batch, lines  # not kept while there is nothing to do

    def _take(self) -> Batch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or self._reader_gone)
            if not self._waiting or self._reader_gone:
                return None
            batch = self._waiting.popleft()
            self._rows -= len(batch.traced.requests)
            return batch

    def _give_up(self) -> None:
        """Nobody reads any more (`| head`): say so to the pipeline, which ends as if by a signal."""
        with self._changed:
            self._reader_gone = True
        # Else the interpreter fails once more, and says so, when it flushes standard output at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._output.fileno())
        self._stop()


def write_all(descriptor: int, data: bytes) -> None:
    """Write past Python's own buffer: its lock would be held by a blocked write when the interpreter ends."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # another process made the terminal non-blocking
            select.select((), (descriptor,), ())


def print_losses(health: Health, stream: TextIO) -> None:
    """What was lost in this run, one line each; nothing if nothing was."""
    for loss, count in sorted(health.lost.items(), key=lambda item: item[0].label):
        print(f"lost: {count} {loss.meaning}", file=stream)


def json_lines(context: Context) -> Render:
    from msgspec.json import encode  # noqa: PLC0415 - only who asks for JSON pays for it

    def render(batch: Batch) -> Iterator[str]:
        for record in context.span_records(batch.traced, batch.groups, batch.services):
            yield encode(record).decode() + "\n"

    return render


class TextLines:
    """One span a line: time, side, status, name, duration, service, addresses.

    `12:00:01.123 server 200 GET /users/* 1.3ms shop-api 127.0.0.1:8080 <- 127.0.0.1:50514`
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._parts: dict[int, Parts] = {}  # by index of the group

    def __call__(self, batch: Batch) -> Iterator[str]:
        requests = batch.traced.requests
        rows = np.flatnonzero(batch.traced.sampled)
        text = requests.text.tobytes()
        clock, second = "", -1
        for group, start, end, at, size, peer, port in zip(
            requests.group[rows].tolist(),
            requests.start[rows].tolist(),
            requests.end[rows].tolist(),
            requests.text_at[rows].tolist(),
            requests.text_size[rows].tolist(),
            requests.peer[rows],
            requests.peer_port[rows].tolist(),
            strict=True,
        ):
            if start // 10**9 != second:
                second = start // 10**9
                clock = time.strftime("%H:%M:%S", time.localtime(second))
            parts = self._parts.get(group) or self._part(group, batch)
            name = f" {printable(text[at : at + size].decode(errors='replace'))}" if parts.with_text else ""
            other = f" <- {address(peer.tobytes(), port)}" if parts.with_peer else ""
            stamp = f"{clock}.{start // 10**6 % 1000:03d}"
            yield f"{self._dim(stamp)} {parts.start}{name} {duration(end - start)} {parts.end}{other}\n"

    def _part(self, number: int, batch: Batch) -> Parts:
        group = batch.groups[number]
        outcome = next((group.span_attributes[key] for key in OUTCOMES if key in group.span_attributes), None)
        status = str(outcome if outcome is not None else "error" if group.failed else "ok")
        server = join(group.span_attributes.get("server.address"), group.span_attributes.get("server.port"))
        service = printable(batch.services[group.service].name)
        is_server = group.kind is Kind.SERVER
        self._parts[number] = Parts(
            start=f"{group.kind.name.lower()} {self._coloured(status, group.failed)} {printable(group.name)}",
            end=f"{service} {server}" if is_server else f"{service} -> {server}",
            with_text=" " not in group.name,  # a name without a route ("GET", as clients have) says too little
            with_peer=is_server,
        )
        return self._parts[number]

    def _coloured(self, status: str, failed: bool) -> str:
        if not self._colour:
            return status
        return f"{RED if failed else YELLOW if status.startswith('4') else GREEN}{status}{PLAIN}"

    def _dim(self, text: str) -> str:
        return f"{DIM}{text}{PLAIN}" if self._colour else text


def printable(text: str) -> str:
    """Text from the network without what a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(ns: int) -> str:
    if ns < 1_000_000:
        return f"{ns / 1e3:.0f}us"
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.1f}ms"
    return f"{ns / 1e9:.2f}s"


def address(raw: bytes, port: int) -> str:
    """An address of 16 bytes, IPv4 as ::ffff:a.b.c.d; zeros are a Unix socket."""
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return f"{raw[12]}.{raw[13]}.{raw[14]}.{raw[15]}:{port}"
    return f"[{IPv6Address(raw)}]:{port}" if any(raw) else "unix"


def join(host: object, port: object) -> str:
    if host is None:
        return "unix"
    text = printable(f"[{host}]" if ":" in str(host) else str(host))
    return text if port is None else f"{text}:{port}"


def create(context: Context) -> Exporter:
    colour = context.output.isatty() and not context.environ.get("NO_COLOR")
    render = json_lines(context) if context.console_format == "json" else TextLines(colour=colour)
    return Console(render, context.output, context.health, context.stop)
