"""Quantities of requests over all series: sums and buckets, or counts alone.

In: rows of series and values. Out: what was `Seen` of each at one time. Knows no name and no reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autoinstr.red.histograms import Explicit, Exponentials, ExponentialState, Integers, grown, moved
from autoinstr.red.table import SeriesTable
from autoinstr.turns import step


@dataclass(frozen=True, slots=True)
class Seen:
    """A measure at one time, or what was added between two."""

    counts: Integers
    sums: Integers
    exponential: ExponentialState | None

    def moved(self, kept: NDArray[np.intp]) -> Seen:
        """The rows that stay, at their new places."""
        state = self.exponential.moved(kept) if self.exponential else None
        return Seen(moved(self.counts, kept), moved(self.sums, kept), state)

    def minus(self, earlier: Seen) -> Seen:
        """What was added since."""
        known = len(earlier.sums)
        counts, sums = self.counts.copy(), self.sums.copy()
        counts[:known] -= earlier.counts
        sums[:known] -= earlier.sums
        state = self.exponential.minus(earlier.exponential) if self.exponential and earlier.exponential else None
        return Seen(counts, sums, state)


class Measure:
    """One quantity of requests, over all series: sums and buckets. Rows are those of the series table."""

    def __init__(
        self,
        table: SeriesTable,
        names: Mapping[str, str],
        description: str,
        *,
        unit: str,
        per_unit: int,
        bounds: tuple[float, ...],
        exponential: bool,
    ) -> None:
        self.table = table
        self.names = names  # by prefix; without one it is not told
        self.description = description
        self.unit = unit
        self.per_unit = per_unit  # values are integers: nanoseconds a second, bytes a byte
        self.bounds = bounds
        self.explicit = Explicit(bounds, per_unit)
        self.exponential = Exponentials(per_unit) if exponential else None
        self.sums: Integers = np.zeros(0, np.int64)

    @step
    def add(self, row: NDArray[np.int32], values: Integers, rows: int) -> Integers:
        """Count a batch; where each of its values was counted."""
        values = np.maximum(values, 0)
        slots = self.explicit.slots(row, values)
        self.explicit.add(slots, rows)
        self.sums = grown(self.sums, rows)
        np.add.at(self.sums, row, values)
        if self.exponential is not None:
            self.exponential.add(row, values, rows)
        return slots

    def add_buckets(self, row: int, total: int, bounds: list[int], counts: NDArray[np.int64], rows: int) -> None:
        """Add values that were counted in buckets elsewhere. Count and sum stay exact; in buckets of other bounds than
        those they came in, and in exponential ones, each counts as the middle of the bucket that it came in."""
        used = np.flatnonzero(counts)
        values, weights = _middles(bounds)[used], counts[used].astype(np.int64)
        series = np.full(len(used), row, np.int32)
        self.explicit.add(self.explicit.slots(series, values), rows, weights)
        self.sums = grown(self.sums, rows)
        self.sums[row] += total
        if self.exponential is not None:
            self.exponential.add(series, values, rows, weights)

    def keep(self, kept: NDArray[np.intp]) -> None:
        """Other rows than these go, and these move up."""
        self.explicit.counts = moved(self.explicit.counts, kept)
        self.sums = moved(self.sums, kept)
        if self.exponential is not None:
            self.exponential.state = self.exponential.state.moved(kept)

    def seen(self, rows: int, *, exponential: bool) -> Seen:
        """A copy of the first rows."""
        state = self.exponential.state.copy(rows) if exponential and self.exponential is not None else None
        return Seen(self.explicit.counts[:rows].copy(), self.sums[:rows].copy(), state)


class Count:
    """How many, over all series: no histogram. As far as a reader is concerned like a `Measure`."""

    unit = ""
    per_unit = 1
    bounds: tuple[float, ...] = ()

    def __init__(self, table: SeriesTable, names: Mapping[str, str], description: str) -> None:
        self.table = table
        self.names = names
        self.description = description
        self._counts: Integers = np.zeros(0, np.int64)

    def add(self, row: NDArray[np.int32], rows: int) -> None:
        self._counts = grown(self._counts, rows)
        np.add.at(self._counts, row, 1)

    def keep(self, kept: NDArray[np.intp]) -> None:
        """Other rows than these go, and these move up."""
        self._counts = moved(self._counts, kept)

    def seen(self, rows: int, *, exponential: bool) -> Seen:
        """A copy of the first rows."""
        counts = grown(self._counts, rows)[:rows].copy()
        return Seen(counts.reshape(-1, 1), np.zeros(rows, np.int64), None)


def _middles(bounds: list[int]) -> Integers:
    """A value for each bucket (bounds[i-1], bounds[i]], inside of it; for the open one beyond, twice its bound."""
    inside = [(low + high + 1) // 2 for low, high in pairwise(bounds)]
    return np.array([bounds[0], *inside, 2 * bounds[-1]], np.int64)
