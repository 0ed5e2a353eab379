"""Spans, in chunks of columns: no Python object a span, the oldest chunk makes way.

In: sampled rows of batches. Out: rows that fulfil a wish, as `Traced` again. Rows that were written never change, so
whoever has a `View` reads without a lock. Times are kept to the microsecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Requests, Traced

Rows: TypeAlias = NDArray[np.intp] | slice

ROWS = 8192  # of a chunk
EARLIER = 60 * 10**6  # us that an end may lie before the first one of its chunk
SPAN = 4200 * 10**6  # us between the ends of a chunk: they are kept in 32 bits
LARGEST = (1 << 32) - 1
TEXT = 32 * ROWS  # bytes, to begin with
MAX_TEXT = 1 << 15  # bytes of a text that are kept, and of a query: lengths are kept in 16 bits
KEPT = 24 * 3600 * 10**6  # us

COLUMNS: tuple[tuple[str, Any, tuple[int, ...]], ...] = (
    ("end", np.uint32, ()),  # us since the chunk's base
    ("took", np.float32, ()),  # us: exact up to 16 s, to a ten-millionth beyond
    ("series", np.uint16, ()),
    ("request_size", np.uint32, ()),
    ("response_size", np.uint32, ()),
    ("peer", np.uint8, (16,)),
    ("peer_port", np.uint16, ()),
    ("trace", np.uint8, (16,)),
    ("span", np.uint8, (8,)),
    ("text_at", np.uint32, ()),
    ("text_size", np.uint16, ()),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which spans. Times are microseconds."""

    series: NDArray[np.bool_] | None = None  # by number; those beyond its end are not wanted
    begin: int = 0  # ended in [begin, end), since the epoch
    end: int = 1 << 62
    shortest: int = 0  # took
    longest: int = 1 << 62
    text: bytes = b""  # occurs in the request's text
    trace: bytes = b""
    after: int = -1  # sequence number
    before: int = 1 << 62
    slowest: bool = False  # those that took longest, else the newest


class Chunk:
    """Up to ROWS spans. Written by one thread."""

    def __init__(self, first: int, base: int) -> None:
        self.first = first  # sequence number of row 0
        self.base = base  # us since the epoch
        self.rows, self.room = 0, ROWS
        self.columns = {name: np.empty((ROWS, *shape), kind) for name, kind, shape in COLUMNS}
        self.parent: NDArray[np.uint8] | None = None  # (ROWS, 8), once there is one
        self.query_size: NDArray[np.uint16] | None = None  # once there is one: queries follow their texts
        self.text = np.empty(TEXT, np.uint8)
        self.text_end = 0

    @classmethod
    def of(cls, first: int, base: int, columns: dict[str, NDArray[Any]]) -> Chunk:
        """A whole one; `columns` have also `text`, `parent` and `query_size`."""
        chunk = cls.__new__(cls)
        chunk.first, chunk.base = first, base
        chunk.columns = {name: columns[name] for name, _, _ in COLUMNS}
        chunk.rows = chunk.room = len(columns["end"])
        chunk.parent, chunk.query_size = (
            columns[name] if columns[name].any() else None for name in ("parent", "query_size")
        )
        chunk.text = columns["text"]
        chunk.text_end = len(chunk.text)
        ends = columns["text_at"].astype(np.int64) + columns["text_size"] + columns["query_size"]
        if (ends > chunk.text_end).any():
            raise ValueError("texts that are not there")
        return chunk

    @property
    def size(self) -> int:
        """Bytes."""
        optional = [column.nbytes for column in (self.parent, self.query_size) if column is not None]
        return sum(column.nbytes for column in self.columns.values()) + sum(optional) + self.text.nbytes

    def takes(self, low: int, high: int) -> bool:
        """Is there a row left, and can ends from `low` to `high` be kept?"""
        return self.rows < self.room and self.base <= low and high - self.base <= SPAN

    def append(self, traced: Traced, rows: Rows, series: NDArray[np.int32], count: int) -> None:
        """So many rows, for which there is room."""
        requests, at = traced.requests, slice(self.rows, self.rows + count)
        end = requests.end[rows] // 1000
        fresh = {
            "end": np.clip(end - self.base, 0, LARGEST),
            "took": np.maximum(requests.end[rows] - requests.start[rows], 0) / 1000,
            "series": series[rows],
            "request_size": np.clip(requests.request_size[rows], 0, LARGEST),
            "response_size": np.clip(requests.response_size[rows], 0, LARGEST),
            "peer": requests.peer[rows],
            "peer_port": requests.peer_port[rows],
            "trace": traced.trace_id[rows],
            "span": traced.span_id[rows],
        }
        for name, values in fresh.items():
            self.columns[name][at] = values
        parents = traced.parent_id[rows]
        if self.parent is None and parents.any():
            self.parent = np.zeros((ROWS, 8), np.uint8)
        if self.parent is not None:
            self.parent[at] = parents
        self._append_texts(requests, rows, at)
        self.rows += count

    def _append_texts(self, requests: Requests, rows: Rows, at: slice) -> None:
        text_size = np.minimum(requests.text_size[rows], MAX_TEXT)
        query_size = np.minimum(requests.query_size[rows], MAX_TEXT)
        place = self.text_end + np.cumsum(text_size + query_size) - text_size - query_size
        self.columns["text_at"][at] = place
        self.columns["text_size"][at] = text_size
        self._room(int(text_size.sum() + query_size.sum()))
        copy_texts(requests.text, requests.text_at[rows], text_size, self.text, place)
        if self.query_size is None and query_size.any():
            self.query_size = np.zeros(ROWS, np.uint16)
        if self.query_size is not None:
            self.query_size[at] = query_size
            copy_texts(requests.query, requests.query_at[rows], query_size, self.text, place + text_size)
        self.text_end += int(text_size.sum() + query_size.sum())

    def _room(self, more: int) -> None:
        wanted = self.text_end + more
        if wanted > len(self.text):
            larger = np.empty(max(wanted, len(self.text) + TEXT), np.uint8)
            larger[: self.text_end] = self.text[: self.text_end]
            self.text = larger

    def finish(self) -> None:
        """Nothing more will come."""
        self.text = self.text[: self.text_end].copy()
        if self.rows < ROWS:
            self.columns = {name: column[: self.rows].copy() for name, column in self.columns.items()}


def copy_texts(
    data: NDArray[np.uint8],
    at: NDArray[np.int64],
    size: NDArray[np.int64],
    target: NDArray[np.uint8],
    place: NDArray[np.int64],
) -> None:
    """Each text from its place in `data` to its place in `target`."""
    total = int(size.sum())
    if not total:
        return
    begun = np.cumsum(size) - size
    if (at == at[0] + begun).all() and (place == place[0] + begun).all():
        target[place[0] : place[0] + total] = data[at[0] : at[0] + total]
        return
    step = np.arange(total)
    target[np.repeat(place - begun, size) + step] = data[np.repeat(at - begun, size) + step]


@dataclass(frozen=True, slots=True)
class View:
    """A chunk as it was at one time."""

    chunk: Chunk
    rows: int
    text: NDArray[np.uint8]
    text_end: int

    def column(self, name: str) -> NDArray[Any]:
        return self.chunk.columns[name][: self.rows]

    def find(self, wanted: Wanted) -> NDArray[np.intp]:
        """Rows, in their order; the text is not looked at."""
        chunk = self.chunk
        low = max(0, wanted.after + 1 - chunk.first)
        high = min(self.rows, wanted.before - chunk.first)
        if low >= high:
            return np.zeros(0, np.intp)
        found = np.ones(high - low, np.bool_)
        part = slice(low, high)
        if wanted.trace:
            words = self.column("trace")[part].view(np.uint64)
            sought = np.frombuffer(wanted.trace, np.uint64)
            found &= (words[:, 0] == sought[0]) & (words[:, 1] == sought[1])
        if wanted.series is not None:
            table = np.zeros(1 << 16, np.bool_)
            table[: len(wanted.series)] = wanted.series
            found &= table[self.column("series")[part]]
        if wanted.begin > chunk.base or wanted.end < chunk.base + SPAN:
            end = self.column("end")[part]
            found &= (end >= wanted.begin - chunk.base) & (end < min(wanted.end - chunk.base, LARGEST))
        if wanted.shortest or wanted.longest < 1 << 62:
            took = self.column("took")[part]
            found &= (took >= wanted.shortest) & (took < wanted.longest)
        return np.flatnonzero(found) + low

    def has_text(self, row: int, text: bytes) -> bool:
        at, size = int(self.column("text_at")[row]), int(self.column("text_size")[row])
        return text in self.chunk.text[at : at + size].tobytes()

    def with_text(self, rows: NDArray[np.intp], text: bytes) -> Iterator[int]:
        """Those of the rows, from the last one to the first, in whose text it occurs."""
        if len(rows) < ROWS // 16:
            yield from (row for row in rows[::-1].tolist() if self.has_text(row, text))
            return
        at, size = self.column("text_at"), self.column("text_size")
        data = self.chunk.text[: int(at[-1]) + int(size[-1])].tobytes()
        wanted = np.zeros(self.rows, np.bool_)
        wanted[rows] = True
        end = len(data)
        while (hit := data.rfind(text, 0, end)) >= 0:
            row = (
                int(np.searchsorted(at, hit, side="right")) - 1
            )  # of those that begin there, the one that is not empty
            if wanted[row] and hit + len(text) <= int(at[row]) + int(size[row]):
                yield row
                end = int(at[row])
            else:
                end = hit + len(text) - 1


class Chunks:
    """All spans that are kept."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._full = 0  # bytes of all chunks but the last
        self.next = 0  # sequence number of the next span

    @property
    def size(self) -> int:
        return self._full + (self._chunks[-1].size if self._chunks else 0)

    @property
    def first(self) -> int:
        """Sequence number of the oldest span."""
        return self._chunks[0].first if self._chunks else self.next

    @property
    def spans(self) -> int:
        return self.next - self.first

    def add(self, traced: Traced, series: NDArray[np.int32]) -> None:
        """The sampled rows of a batch."""
        rows = np.flatnonzero(traced.sampled)
        whole, done = len(rows) == len(traced.sampled), 0
        while done < len(rows):
            end = traced.requests.end[rows[done:]] // 1000
            chunk = self._chunk(int(end.min()), int(end.max()))
            count = min(chunk.room - chunk.rows, len(rows) - done)
            part = slice(done, done + count)
            chunk.append(traced, part if whole else rows[part], series, count)
            self.next += count
            done += count

    def _chunk(self, low: int, high: int) -> Chunk:
        """The last one, or a new one."""
        last = self._chunks[-1] if self._chunks else None
        if last and last.takes(low, high):
            return last
        if last:
            last.finish()
            self._full += last.size
        self._chunks.append(Chunk(self.next, low - EARLIER))
        return self._chunks[-1]

    def restore(self, chunk: Chunk) -> None:
        """One that was kept elsewhere, behind all that are here."""
        if self._chunks:
            self._full += self._chunks[-1].size
        self._chunks.append(chunk)
        self.next += chunk.rows

    def forget(self, now: int, limit: int) -> None:
        """Drop what is too old, at `now` us since the epoch, and the oldest of what takes more than `limit` bytes."""
        while len(self._chunks) > 1:
            first = self._chunks[0]
            if first.base + int(first.columns["end"][-1]) > now - KEPT and self.size <= limit:
                break
            self._full -= self._chunks.popleft().size

    def views(self) -> list[View]:
        """The newest first."""
        return [View(chunk, chunk.rows, chunk.text, chunk.text_end) for chunk in reversed(self._chunks)]


@dataclass(frozen=True, slots=True)
class Found:
    rows: list[tuple[View, int]]
    searched: int  # sequence number down to which was searched


def search(views: list[View], wanted: Wanted, most: int, enough: Callable[[], bool]) -> Found:
    """The newest or the slowest. `enough`: asked after each chunk; what was found until then will do."""
    found: list[tuple[View, int]] = []
    searched = 0
    for view in views:
        if (not wanted.slowest and len(found) >= most) or view.chunk.first + view.rows <= wanted.after:
            break
        rows = view.find(wanted)
        searched = view.chunk.first
        if wanted.slowest:
            found += [(view, row) for row in _slowest(view, rows, wanted.text, most)]
            found = sorted(found, key=lambda one: -float(one[0].column("took")[one[1]]))[:most]
        else:
            newest = view.with_text(rows, wanted.text) if wanted.text else iter(rows[::-1].tolist())
            for row in newest:
                found.append((view, row))
                if len(found) == most:
                    searched = view.chunk.first + row
                    break
        if enough():
            break
    return Found(found, searched)


def _slowest(view: View, rows: NDArray[np.intp], text: bytes, most: int) -> list[int]:
    took = view.column("took")[rows]
    if text:
        ordered = rows[np.argsort(-took, kind="stable")].tolist()
        matching = (row for row in ordered if view.has_text(row, text))
        return [row for row, _ in zip(matching, range(most), strict=False)]
    if len(rows) > most:
        some = np.argpartition(-took, most)[:most]
        rows, took = rows[some], took[some]
    slowest: list[int] = rows[np.argsort(-took, kind="stable")].tolist()
    return slowest
