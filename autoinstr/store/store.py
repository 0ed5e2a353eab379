"""The recent past: spans and counts, within a limit of memory, and for a day at most.

In: traced batches and what the kernel only counted, from the pipeline's thread; questions from any thread.
Out: counts by series, interval and duration; spans. Metrics are exact, sampled or not.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import DURATION_BOUNDS, Group, Kind, Overflow, Requests, Service, Traced
from autoinstr.semconv import ERROR_TYPE, HTTP_REQUEST_METHOD, OTEL_METRIC_OVERFLOW
from autoinstr.store.chunks import Chunk, Chunks, Found, View, Wanted, search
from autoinstr.store.counts import FINE, FINE_KEPT, Counted, Counts, Level, Piece
from autoinstr.store.durations import BITS, BUCKETS, bucket_of
from autoinstr.store.series import MAX_SERIES, Series, SeriesTable
from autoinstr.turns import step

NANOSECONDS = 10**9
MAX_IN_USE = 8192  # series of processes that ended are kept as long as anything of them; some KB each
# Shares of the memory
FOR_SPANS, FOR_COUNTS = 0.75, 0.125  # the latter twice: fine and coarse
# What the kernel counts in a bucket has this duration here, ns.
_INSIDE = ((low + high) / 2 for low, high in pairwise(DURATION_BOUNDS))
MIDDLES = np.array([NANOSECONDS * middle for middle in (0, *_INSIDE, 2 * DURATION_BOUNDS[-1])], np.int64)


class Store:
    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes
        self.services: list[Service] = []
        self._table = SeriesTable(self.service_of)
        self._chunks = Chunks()
        self._counts = Counts()
        self._lock = threading.Lock()
        self.since = math.inf  # begin of what was there before a restart, seconds since the epoch

    # --- what comes in

    @step
    def add(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        """A batch. As to the lists see `model.Follower`."""
        requests = traced.requests
        if not len(requests):
            return
        with self._lock:
            self._follow(services)
            series = self._table.of(requests, groups)
            codes = series * np.int32(BUCKETS) + bucket_of(requests.end - requests.start)
            interval = requests.end // (FINE * NANOSECONDS)
            low, high = int(interval.min()), int(interval.max())
            if low == high:  # as it mostly is
                self._counts.add(low, codes)
            else:
                for at in sorted(set(interval.tolist())):
                    self._counts.add(at, codes[interval == at])
            self._chunks.add(traced, series)
            self._forget(int(requests.end.max()))

    def add_counted(self, overflow: Overflow, service: int, services: list[Service], now: int) -> None:
        """Requests that the kernel only counted. `now`: ns since the epoch."""
        key = (service, overflow.metric, *sorted(overflow.attributes.items()))
        used = np.flatnonzero(overflow.duration_buckets)
        with self._lock:
            self._follow(services)
            series = self._table.only_counted(key, _group_of(overflow, service))
            codes = np.int32(series * BUCKETS) + bucket_of(MIDDLES[used])
            self._counts.add_counted(now // (FINE * NANOSECONDS), codes, overflow.duration_buckets[used])
            self._forget(now)

    def _follow(self, services: list[Service]) -> None:
        if services is self.services:
            return
        used = self._in_use()
        while np.count_nonzero(used) > MAX_IN_USE and self._shed():
            used = self._in_use()
        self._table.begin_anew(services, used)
        self.services = services

    def _shed(self) -> bool:
        """Drop the older half of what is kept; whether there was any."""
        before = self._chunks.size + self._counts.size
        self._chunks.forget(0, self._chunks.size // 2)
        for level in self.levels():
            level.forget(0, level.size // 2)
        return self._chunks.size + self._counts.size < before

    def _in_use(self) -> NDArray[np.bool_]:
        """Of which series there are spans or counts, by number."""
        self._counts.settle()
        used = np.zeros(MAX_SERIES + 1, np.bool_)
        for view in self._chunks.views():
            used[view.column("series")] = True
        for level in self.levels():
            for piece in level.pieces(0, 1 << 62):
                used[piece.codes >> BITS] = True
        return used

    def _forget(self, now: int) -> None:
        self._chunks.forget(now // 1000, int(self.limit * FOR_SPANS))
        for level in (self._counts.fine, self._counts.coarse):
            level.forget(now // NANOSECONDS, int(self.limit * FOR_COUNTS))

    # --- what is asked

    @property
    def series(self) -> list[Series]:
        """By number. Grows; and one that nothing is left of may make way for another."""
        return self._table.series

    def size(self) -> tuple[int, int]:
        """Bytes, and spans."""
        with self._lock:
            return self._chunks.size + self._counts.size, self._chunks.spans

    def service_of(self, series: Series) -> Service:
        """As it is known by now."""
        return series.service or self.services[series.group.service]

    @property
    def first(self) -> int:
        """Sequence number of the oldest span."""
        return self._chunks.first

    @property
    def next(self) -> int:
        """Sequence number of the next span."""
        return self._chunks.next

    def counted(self, begin: float, end: float) -> Counted:
        """Counts of a span of time, in seconds since the epoch; it is widened to whole intervals: fine ones, if it is
        no longer than those are kept.
        """
        with self._lock:
            self._counts.settle()
            level = self._counts.fine if end - begin <= FINE_KEPT else self._counts.coarse
            low, high = int(begin // level.width), int(-(-end // level.width))
            pieces = level.pieces(low, high)
        return Counted(level.width, low * level.width, high * level.width, pieces)

    def search(self, wanted: Wanted, most: int, enough: Callable[[], bool]) -> Found:
        """The newest spans first, or the slowest; see `chunks.search`."""
        with self._lock:
            views = self._chunks.views()
        return search(views, wanted, most, enough)

    def traced(self, rows: list[tuple[View, int]]) -> tuple[Traced, list[Group], list[Service]]:
        """Spans as a batch, for who tells of their attributes, with groups and services of its own. Not empty."""
        numbers = np.array([view.chunk.columns["series"][row] for view, row in rows])
        different, where = np.unique(numbers, return_inverse=True)
        some = [self.series[number] for number in different.tolist()]
        groups = [replace(series.group, service=number) for number, series in enumerate(some)]
        return _traced(rows, where.astype(np.int32)), groups, [self.service_of(series) for series in some]

    # --- what a copy elsewhere needs: see `disk.py`

    def views(self) -> list[View]:
        """All spans, the newest first."""
        with self._lock:
            return self._chunks.views()

    def levels(self) -> tuple[Level, Level]:
        """Fine counts, and coarse ones."""
        return self._counts.fine, self._counts.coarse

    def closed(self, level: Level, number: int, before: int) -> list[tuple[int, Piece]]:
        """See `Level.closed`."""
        with self._lock:
            self._counts.settle()
            return level.closed(number, before)

    def restore_series(self, record: bytes, service: bytes) -> int:
        return self._table.restore(record, service)

    def restore(self, chunk: Chunk) -> None:
        """Spans, the oldest first, before anything else comes."""
        self._chunks.restore(chunk)

    def settle_down(self, now: int) -> None:
        """All is restored. `now`: ns since the epoch."""
        self._forget(now)
        self.since = min((level.since for level in self.levels() if level.since), default=math.inf)


def _group_of(overflow: Overflow, service: int) -> Group:
    attributes = overflow.attributes | {OTEL_METRIC_OVERFLOW: True}
    return Group(
        service=service,
        kind=Kind.SERVER if overflow.metric.endswith(".server") else Kind.CLIENT,
        name=str(attributes.get(HTTP_REQUEST_METHOD, overflow.metric)),
        metric=overflow.metric,
        metric_attributes=attributes,
        span_attributes=attributes,
        text_key="",
        failed=ERROR_TYPE in attributes,
    )


def _traced(rows: list[tuple[View, int]], group: NDArray[np.int32]) -> Traced:
    """The columns of these rows, together."""

    def column(name: str) -> NDArray[np.int64]:
        return np.array([view.chunk.columns[name][row] for view, row in rows])

    def optional(name: str, empty: object) -> NDArray[np.int64]:
        columns = ((getattr(view.chunk, name), row) for view, row in rows)
        return np.array([empty if values is None else values[row] for values, row in columns])

    text_at, text_size, query_size = column("text_at"), column("text_size"), optional("query_size", 0)
    sizes = (text_size.astype(np.int64) + query_size).tolist()
    texts = [view.chunk.text[at : at + size] for (view, _), at, size in zip(rows, text_at.tolist(), sizes, strict=True)]
    at = np.cumsum(sizes) - sizes
    text = np.concatenate(texts)
    end = np.array([view.chunk.base for view, _ in rows], np.int64) + column("end")
    took = column("took")
    parent = optional("parent", np.zeros(8, np.uint8)).astype(np.uint8)
    nothing = np.zeros(len(rows), np.uint8)
    requests = Requests(
        group=group,
        start=end * 1000 - np.round(took.astype(np.float64) * 1000).astype(np.int64),
        end=end * 1000,
        request_size=column("request_size").astype(np.int64),
        response_size=column("response_size").astype(np.int64),
        pid=nothing.astype(np.uint32),
        tid=nothing.astype(np.uint32),
        text=text,
        text_at=at,
        text_size=text_size.astype(np.int64),
        query=text,
        query_at=at + text_size,
        query_size=query_size.astype(np.int64),
        peer=column("peer").astype(np.uint8),
        peer_port=column("peer_port").astype(np.uint16),
        has_parent=np.asarray(parent.any(axis=1)),
        parent_trace=column("trace").astype(np.uint8),
        parent_span=parent,
        parent_flags=nothing,
    )
    trace, span = column("trace").astype(np.uint8), column("span").astype(np.uint8)
    return Traced(requests, trace, span, parent, np.ones(len(rows), np.bool_))
