"""The store on disk: what is kept in memory is there too, so that a restart goes on with it.

In: a store, every few seconds; a folder of its own. Out: at the start, the store as it was. Each file knows the series
that are in it, so the oldest can go at any time; on disk there is hardly more than in memory. Rows, and counts of
intervals that are over, never change: they are written without holding anybody up.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import stat
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from autoinstr.errors import UsageError
from autoinstr.health import Health, Loss
from autoinstr.model import Group, Service
from autoinstr.store.chunks import COLUMNS, Chunk, View
from autoinstr.store.counts import COARSE, FINE, Piece
from autoinstr.store.durations import BITS, BUCKETS
from autoinstr.store.journal import File, Journal
from autoinstr.store.series import MAX_SERIES, Series, record_of
from autoinstr.store.store import Store

log = logging.getLogger(__name__)


ROLL_EVERY = 3600.0  # seconds that one file of counts is written to
SETTLED = 2  # seconds after which an interval has been told in full; what comes later is written apart
FOREVER = 1 << 62
COMPLAIN_EVERY = 600.0
OPTIONAL: tuple[tuple[str, Any, tuple[int, ...]], ...] = (("parent", np.uint8, (8,)), ("query_size", np.uint16, ()))
OPTIONAL_NAMES = tuple(name for name, _, _ in OPTIONAL)
# Files whose parts have another form than ours are of another version.
_SHAPE = repr((COLUMNS, [field.name for one in (Group, Service) for field in fields(one)], BUCKETS, FINE, COARSE))
MARK = f"autoinstr store {zlib.crc32(_SHAPE.encode()):08x}\n".encode()


class Head(msgspec.Struct):
    """What stands before the arrays of a block: numbers of services and series, and what they are, if that is new to
    the file; of spans, or of an interval's counts.
    """

    services: list[tuple[int, msgspec.Raw]]
    series: list[tuple[int, int, msgspec.Raw]]
    base: int = 0
    rows: int = 0
    optional: list[str] = []
    text_at: int = 0
    at: int = 0


Blocks: TypeAlias = list[tuple[Head, memoryview]]


class Disk:
    """UsageError: the folder can't be used. Used by one thread at a time."""

    def __init__(self, folder: Path, store: Store, health: Health) -> None:
        self._store, self.health = store, health
        self.lock = own(folder)
        self._spans, self._fine, self._coarse = (Told(folder, kind, store) for kind in ("spans", "fine", "coarse"))
        self._rows = 0  # number of the next span that is not written yet
        self._whole = 0  # of the first chunk that may have been written in parts
        self._complained = -COMPLAIN_EVERY
        self._load()

    def save(self, *, last: bool = False) -> None:
        """Write what has come since; `last`: also counts of intervals that are not over."""
        self._try(self._save_spans, self._skip_spans)
        fine, coarse = self._store.levels()
        for told, level in ((self._fine, fine), (self._coarse, coarse)):
            closed = FOREVER if last else int(time.time() - SETTLED) // level.width
            for number, piece in self._store.closed(level, told.next, closed):
                told.next = number + 1
                self._try(lambda told=told, number=number, piece=piece: told.count(number, piece))  # type: ignore[misc]
            told.journal.forget(level.first)
        self._spans.journal.forget(self._store.first)

    def close(self) -> None:
        self.save(last=True)
        os.close(self.lock)

    def _try(self, work: Callable[[], None], failed: Callable[[], int] = lambda: 1) -> None:
        try:
            work()
        except OSError as error:
            self.health.lose(Loss.STORE_FAILED, failed())
            if (now := time.monotonic()) - self._complained > COMPLAIN_EVERY:
                self._complained = now
                log.warning("what the page shows can't be kept on disk: %s", error)

    # --- spans

    def _save_spans(self) -> None:
        """What is new; a chunk to which nothing comes any more as one block, which is soon read."""
        views = self._store.views()
        for view in reversed(views):
            first, end = view.chunk.first, view.chunk.first + view.rows
            if view is not views[0] and first >= self._whole:
                self._spans.rows(view, 0, whole=True)
                self._whole = end
            elif end > self._rows:
                self._spans.rows(view, max(0, self._rows - first))
            self._rows = max(self._rows, end)

    def _skip_spans(self) -> int:
        """Those that could not be written are not tried again."""
        missed, self._rows = self._store.next - self._rows, self._store.next
        self._whole = max(self._whole, self._rows)
        return missed

    # --- what was there

    def _load(self) -> None:
        """What is there; a file that is not as it should be costs what is in it."""
        began = time.monotonic()
        store = self._store
        for reader, blocks in self._spans.read():
            with self._spoilt(reader):
                if chunk := read_chunk(reader, blocks, store.next):
                    store.restore(chunk)
            reader.file.last = store.next - 1
        self._rows = self._whole = store.next
        fine, coarse = store.levels()
        minutes = -1
        for reader, blocks in self._coarse.read():
            with self._spoilt(reader):
                for piece in read_pieces(reader, blocks):
                    minutes = max(minutes, piece.at)
                    coarse.add(piece)
            coarse.freeze()
            reader.file.last = coarse.next - 1
        self._coarse.next = coarse.next
        for reader, blocks in self._fine.read():
            with self._spoilt(reader):
                for piece in read_pieces(reader, blocks):
                    fine.add(piece)
                    if piece.at * FINE // COARSE > minutes:  # we were killed before that minute was over
                        coarse.add(replace(piece, at=piece.at * FINE // COARSE))
            fine.freeze()
            reader.file.last = fine.next - 1
        self._fine.next = fine.next
        store.settle_down(time.time_ns())
        if store.next:
            log.info("read %s spans from disk in %.1f s", f"{store.next:,}", time.monotonic() - began)

    @contextmanager
    def _spoilt(self, reader: Reader) -> Iterator[None]:
        try:
            yield
        except (ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:
            log.warning("%s can't be read, and is left out: %r", reader.file.path, error)


class Told:
    """A journal, and what its last file has been told of series and services."""

    def __init__(self, folder: Path, kind: str, store: Store) -> None:
        self.journal = Journal(folder, kind, MARK, Head)
        self.next = 0  # number of the next piece to write
        self._chunk = -1  # that its last file is of
        self._store = store
        self._began = 0.0
        self._known: dict[int, Series] = {}  # by number
        self._services: dict[bytes, int] = {}

    def rows(self, view: View, begin: int, *, whole: bool = False) -> None:
        """Spans of a chunk, from a row on; `whole`: it is complete, and they are all that there is of it."""
        chunk, rows = view.chunk, view.rows
        if chunk.first != self._chunk:
            self._chunk = chunk.first
            self.journal.roll()
        if not self.journal.size or whole:
            self._forget()
        columns = [view.column(name)[begin:] for name, _, _ in COLUMNS]
        optional = [name for name in OPTIONAL_NAMES if getattr(chunk, name) is not None]
        columns += [getattr(chunk, name)[begin:rows] for name in optional]
        low = int(view.column("text_at")[begin])
        services, series = self._tell(np.unique(view.column("series")[begin:]))
        head = Head(services, series, chunk.base, rows - begin, optional, low)
        arrays, last = [*columns, view.text[low : view.text_end]], chunk.first + rows - 1
        if whole:
            self.journal.whole(head, arrays, chunk.first, last)
        else:
            self.journal.append(head, arrays, last)

    def count(self, number: int, piece: Piece) -> None:
        """One interval's counts."""
        now = time.monotonic()
        if self.journal.size and (now - self._began > ROLL_EVERY or self.journal.size > self._store.limit // 64):
            self.journal.roll()
        if not self.journal.size:
            self._forget()
            self._began = now
        head = Head(*self._tell(np.unique(piece.codes >> BITS)), at=piece.at)
        self.journal.append(head, [piece.codes, piece.counts], number)

    def _forget(self) -> None:
        self._known, self._services = {}, {}

    def _tell(self, numbers: NDArray[Any]) -> tuple[list[tuple[int, msgspec.Raw]], list[tuple[int, int, msgspec.Raw]]]:
        """Services and series that this file has not been told of."""
        store = self._store
        services, told = [], []
        encoded: dict[int, bytes] = {}
        for number in numbers.tolist():
            if (series := store.series[number]) is self._known.get(number):
                continue
            self._known[number] = series
            service = store.service_of(series)
            if (record := encoded.get(id(service))) is None:
                record = encoded[id(service)] = msgspec.json.encode(service)
            if record not in self._services:
                self._services[record] = len(self._services)
                services.append((self._services[record], msgspec.Raw(record)))
            told.append((number, self._services[record], msgspec.Raw(record_of(series))))
        return services, told

    def read(self) -> Iterator[tuple[Reader, Blocks]]:
        """Each file, and who knows what its numbers mean."""
        for file, blocks in self.journal.read():
            yield Reader(file, self._store), blocks


class Reader:
    """The series of one file: numbers in there -> numbers in the store."""

    def __init__(self, file: File, store: Store) -> None:
        self.file = file
        self._store = store
        self._services: dict[int, bytes] = {}
        self._numbers = np.full(MAX_SERIES + 1, -1, np.int32)

    def learn(self, head: Head) -> None:
        for number, service in head.services:
            self._services[number] = bytes(service)
        for number, told_of, record in head.series:
            self._numbers[number] = self._store.restore_series(bytes(record), self._services[told_of])

    def numbers(self, own: NDArray[Any]) -> NDArray[np.int32]:
        found: NDArray[np.int32] = self._numbers[own]
        if (found < 0).any():
            raise ValueError("series that the file does not know")
        return found


def read_chunk(reader: Reader, blocks: Blocks, first: int) -> Chunk | None:
    """All spans of a file; None if there are none."""
    parts: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)
    rows = text_end = base = 0
    for head, data in blocks:
        reader.learn(head)
        count, base, at = head.rows, head.base, 0
        for name, kind, shape in (*COLUMNS, *OPTIONAL):
            if name in OPTIONAL_NAMES and name not in head.optional:
                column = np.zeros((count, *shape), kind)
            else:
                size = np.dtype(kind).itemsize * math.prod(shape) * count
                column = np.frombuffer(data[at : at + size], kind).reshape(count, *shape)
                at += size
            parts[name].append(column)
        parts["series"][-1] = reader.numbers(parts["series"][-1]).astype(np.uint16)
        parts["text_at"][-1] = parts["text_at"][-1] - np.uint32(head.text_at) + np.uint32(text_end)
        parts["text"].append(np.frombuffer(data[at:], np.uint8))
        rows += count
        text_end += len(data) - at
    return Chunk.of(first, base, {name: np.concatenate(some) for name, some in parts.items()}) if rows else None


def read_pieces(reader: Reader, blocks: Blocks) -> Iterator[Piece]:
    """All counts of a file."""
    for head, data in blocks:
        reader.learn(head)
        count = len(data) // (4 + 8)
        codes = np.frombuffer(data[: 4 * count], np.int32)
        series = reader.numbers(codes >> BITS)
        codes = series << BITS | codes & BUCKETS - 1
        order = np.argsort(codes)
        yield Piece(head.at, codes[order], np.frombuffer(data[4 * count :], np.int64)[order])


def own(folder: Path) -> int:
    """Make it, and take it for ourselves: a descriptor that holds the lock. UsageError: others can write there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = folder.stat()
        if told.st_uid not in (0, os.geteuid()) or told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UsageError(f"--ui-store {folder}: others may write there; choose a folder of autoinstr's own")
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--ui-store {folder}: can't be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise UsageError(f"--ui-store {folder}: another agent uses it; choose another") from None
    return lock
