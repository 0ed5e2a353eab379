"""Requests as OTLP log records, for `--request-logs`: a line each, with the ids of its span.

In: a traced batch. Out: `ExportLogsServiceRequest`s. Made by the same array work as spans, which they are like:
resource, scope and the attributes of the request are the same. The line is

    GET /users/7 200 12.345 ms         method and path where they are known, else the name of the span

and the record also says how long it took in seconds, which side was watched, and whether the span was kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Group, Kind, Traced
from autoinstr.semconv import HTTP_REQUEST_METHOD, OUTCOMES, REQUEST_DURATION, SPAN_KIND
from autoinstr.spans import wire
from autoinstr.spans.encoder import Batch, RequestEncoder, sizes, slices
from autoinstr.spans.rows import Integers, Rows, tag

# SeverityNumber and its text
_INFO = wire.tag(2, wire.VARINT) + wire.varint(9) + wire.message(3, b"INFO")
_ERROR = wire.tag(2, wire.VARINT) + wire.varint(17) + wire.message(3, b"ERROR")
_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_POWERS = 10 ** np.arange(1, 19, dtype=np.int64)
_UNIT = b" ms"


class RequestLogEncoder(RequestEncoder):
    """Failed requests, and those that took `slow` seconds or more: 0 is all, infinity none of them."""

    attribute = 6  # LogRecord.attributes

    def __init__(self, version: str, slow: float = 0, **limits: int) -> None:
        super().__init__(version, **limits)
        self._slow = _MOST if math.isinf(slow) else round(slow * 1e9) or _LEAST

    def begin_anew(self) -> None:
        super().begin_anew()
        # Of each group, what comes before the outcome: without a text of the request's own, and before it; the outcome.
        self._named: list[bytes] = []
        self._before_text: list[bytes] = []
        self._outcome: list[bytes] = []

    def chosen(self, traced: Traced) -> NDArray[np.bool_]:
        requests = traced.requests
        slow: NDArray[np.bool_] = requests.end - requests.start >= self._slow
        return slow | self._shared.failed[requests.group]

    def shared(self, group: Group) -> bytes:
        attributes = group.span_attributes
        method = str(attributes.get(HTTP_REQUEST_METHOD, "")) or group.name
        outcome = next((str(attributes[key]) for key in OUTCOMES if key in attributes), "")
        self._named.append(wire.text(group.name))
        self._before_text.append(wire.text(f"{method} "))
        self._outcome.append(wire.text(f" {outcome} " if outcome else " "))
        known = wire.attributes(self.attribute, attributes | {SPAN_KIND: group.kind.name.lower()})
        return known + (_ERROR if group.failed else _INFO)

    def begin(self, rows: Rows, batch: Batch, part: slice, layout: int, kind: Kind) -> None:
        requests, traced, row = batch.requests, batch.traced, batch.row[part]
        rows.time(1, requests.end[row])
        rows.fixed32(8, traced.sampled[row].astype(np.uint32))
        rows.field(9, np.take(traced.trace_id, row, axis=0))
        rows.field(10, np.take(traced.span_id, row, axis=0))
        rows.double(REQUEST_DURATION, (requests.end[row] - requests.start[row]) / 1e9)

    def end(self, batch: Batch) -> list[list[bytes]]:
        """The body."""
        requests, row = batch.requests, batch.row
        group = batch.group.tolist()
        before = [
            (self._before_text if has_text else self._named)[one]
            for one, has_text in zip(group, batch.text_size.tolist(), strict=True)
        ]
        text = slices(requests.text, requests.text_at[row], batch.text_size)
        outcome = list(map(self._outcome.__getitem__, group))
        duration = milliseconds(requests.end[row] - requests.start[row])
        size = sizes(before) + batch.text_size + sizes(outcome) + sizes(duration)
        width = wire.varint_width(int(size.max()) + 16)
        head = Rows(len(row))
        head.constant(tag(5, wire.LENGTH))
        head.varint(size + (1 + width), width)
        head.constant(tag(1, wire.LENGTH))
        head.varint(size, width)
        return [head.pieces(), before, text, outcome, duration]


def milliseconds(durations: Integers) -> list[bytes]:
    """Nanoseconds as `12.345 ms`, cut to microseconds."""
    micro = np.maximum(durations, 0) // 1000
    digits = np.maximum(np.searchsorted(_POWERS, micro, side="right") + 1, 4)  # at least one before the point
    width = int(digits.max())
    figures = (micro[:, None] // 10 ** np.arange(width - 1, -1, -1, dtype=np.int64) % 10 + ord("0")).astype(np.uint8)
    rest = np.frombuffer(_UNIT, np.uint8)
    point = np.full((len(micro), 1), ord("."), np.uint8)
    line = np.hstack((figures[:, :-3], point, figures[:, -3:], np.broadcast_to(rest, (len(micro), len(rest)))))
    end = (np.arange(len(micro)) + 1) * line.shape[1]
    size = digits + (line.shape[1] - width)
    return slices(line.ravel(), end - size, size)
