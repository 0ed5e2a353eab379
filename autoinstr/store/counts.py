"""How many requests, by series and duration and interval: fine ones for a quarter of an hour, coarse ones for a day.

In: for each batch the interval, series and duration bucket of its requests. Out: these counts, for a span of time.
An interval is kept as the codes (series and bucket) that occurred in it and their counts: idle series cost nothing.
What is handed out never changes afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.store.durations import BITS, BUCKETS

FINE, FINE_KEPT = 5, 15 * 60  # seconds: an interval, and how long it is kept
COARSE, COARSE_KEPT = 60, 24 * 3600
WAITING = 16_384  # requests that wait until they are counted


@dataclass(frozen=True, slots=True)
class Piece:
    at: int  # number of the interval since the epoch
    codes: NDArray[np.int32]  # series * BUCKETS + bucket, each once
    counts: NDArray[np.int64]

    @property
    def size(self) -> int:
        return self.codes.nbytes + self.counts.nbytes + 200  # the objects themselves


def joined(at: int, pieces: list[Piece]) -> Piece:
    """All of one interval."""
    codes, where = np.unique(np.concatenate([piece.codes for piece in pieces]), return_inverse=True)
    counts = np.bincount(where, np.concatenate([piece.counts for piece in pieces]))
    return Piece(at, codes, counts.astype(np.int64))


class Level:
    """Intervals of one width."""

    def __init__(self, width: int, kept: int) -> None:
        self.width = width
        self.size = 0
        self._kept = kept
        self._pieces: deque[Piece] = deque()
        self.first = 0  # number of the oldest piece
        self._frozen = 0  # pieces with a lower number do not change any more

    @property
    def next(self) -> int:
        """Number of the next piece."""
        return self.first + len(self._pieces)

    def freeze(self, number: int | None = None) -> None:
        """Pieces below this number, else all that there are, have been told, and do not change any more."""
        self._frozen = self.next if number is None else number

    def add(self, piece: Piece) -> None:
        """Intervals come in their order, or nearly; what comes to the last one is joined with it."""
        if self._pieces and self._pieces[-1].at == piece.at and self._frozen < self.next:
            last = self._pieces.pop()
            self.size -= last.size
            piece = joined(piece.at, [last, piece])
        self._pieces.append(piece)
        self.size += piece.size

    def forget(self, now: int, limit: int) -> None:
        """Drop what is too old, at `now` s since the epoch, and the oldest of what takes more than `limit` bytes."""
        oldest = (now - self._kept) // self.width
        while self._pieces and (self._pieces[0].at < oldest or self.size > limit):
            self.size -= self._pieces.popleft().size
            self.first += 1

    def closed(self, number: int, before: int) -> list[tuple[int, Piece]]:
        """From a number on, pieces of intervals before one, with their numbers: these do not change any more."""
        begin = max(number, self.first)
        found = []
        for place in range(begin, self.next):
            piece = self._pieces[place - self.first]
            if piece.at >= before:
                break
            found.append((place, piece))
        self.freeze(begin + len(found))
        return found

    @property
    def since(self) -> int:
        """Begin of the oldest interval, seconds since the epoch; 0 if there is none."""
        return self._pieces[0].at * self.width if self._pieces else 0

    def pieces(self, begin: int, end: int) -> list[Piece]:
        """Those of some intervals."""
        return [piece for piece in self._pieces if begin <= piece.at < end]


class Counts:
    """All intervals. Requests wait until there are enough of them, or until somebody asks."""

    def __init__(self) -> None:
        self.fine, self.coarse = Level(FINE, FINE_KEPT), Level(COARSE, COARSE_KEPT)
        self._waiting: list[tuple[int, NDArray[np.int32]]] = []
        self._rows = 0

    @property
    def size(self) -> int:
        return self.fine.size + self.coarse.size + 4 * self._rows

    def add(self, at: int, codes: NDArray[np.int32]) -> None:
        """Requests of a fine interval."""
        if self._waiting and (self._waiting[0][0] != at or self._rows > WAITING):
            self.settle()
        self._waiting.append((at, codes))
        self._rows += len(codes)

    def add_counted(self, at: int, codes: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
        """The same, of which each code stands for many; each code is there once."""
        order = np.argsort(codes)
        piece = Piece(at, codes[order], counts[order])
        self.fine.add(piece)
        self.coarse.add(Piece(at * FINE // COARSE, piece.codes, piece.counts))

    def settle(self) -> None:
        """Count what waits."""
        if self._waiting:
            codes, counts = np.unique(np.concatenate([codes for _, codes in self._waiting]), return_counts=True)
            self.add_counted(self._waiting[0][0], codes, counts.astype(np.int64))
            self._waiting, self._rows = [], 0


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of a span of time, by interval."""

    width: int  # seconds of an interval
    begin: int  # seconds since the epoch
    end: int
    pieces: list[Piece]

    def active(self) -> NDArray[np.intp]:
        """Numbers of the series that something was counted in."""
        seen = np.zeros(1 << 16, np.bool_)
        for piece in self.pieces:
            seen[piece.codes >> BITS] = True
        return np.flatnonzero(seen)

    def only(self, series: NDArray[np.bool_]) -> Counted:
        """The counts of some series, by number."""
        some = []
        for piece in self.pieces:
            wanted = series.take(piece.codes >> BITS)
            some.append(Piece(piece.at, piece.codes[wanted], piece.counts[wanted]))
        return Counted(self.width, self.begin, self.end, some)

    def tallies(self, step: int, label: NDArray[np.int32], labels: int) -> Iterator[NDArray[np.float64]]:
        """For each `step` seconds (labels, BUCKETS): counts by the label of their series; those of -1 are left out.

        One step at a time: a day of thousands of series takes no more room than its busiest step.
        """
        steps: list[list[Piece]] = [[] for _ in range(-(-(self.end - self.begin) // step))]
        for piece in self.pieces:
            steps[(piece.at * self.width - self.begin) // step].append(piece)
        for some in steps:
            yield tally(some, label, labels)


def tally(pieces: list[Piece], label: NDArray[np.int32], labels: int) -> NDArray[Any]:
    """(labels, BUCKETS)"""
    if not pieces:
        return np.zeros((labels, BUCKETS))
    codes = np.concatenate([piece.codes for piece in pieces])
    counts = np.concatenate([piece.counts for piece in pieces])
    mine = label.take(codes >> BITS)
    wanted = mine >= 0
    if not wanted.all():
        mine, codes, counts = mine[wanted], codes[wanted], counts[wanted]
    place = mine << BITS | codes & BUCKETS - 1
    return np.bincount(place, counts, labels * BUCKETS).reshape(labels, BUCKETS)
