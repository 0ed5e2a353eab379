"""Histograms of many series at once: explicit and base-2 exponential buckets as rows of arrays.

In: for each value the row of its series, and the value as an integer (nanoseconds, bytes). Out: bucket counts a row.
Nothing here loops over requests or series in Python. Counts are exact; values are never negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Exponential

Integers: TypeAlias = NDArray[np.int64]

# The most buckets of an exponential histogram, and its finest scale: those of the SDKs.
MAX_BUCKETS = 160
MAX_SCALE = 20
_NEVER = np.int64(1) << 40  # beyond any index at MAX_SCALE
_FIRST_ROWS = 64


def grown(array: NDArray[np.int64], rows: int, fill: int = 0) -> NDArray[np.int64]:
    """The array with at least that many rows, doubled so that growing is seldom."""
    if rows <= len(array):
        return array
    larger = np.full((max(rows, 2 * len(array), _FIRST_ROWS), *array.shape[1:]), fill, array.dtype)
    larger[: len(array)] = array
    return larger


def moved(array: NDArray[Any], kept: NDArray[np.intp]) -> NDArray[Any]:
    """The rows that stay, at their new places. Some may not be there yet: nothing was added to them."""
    return array[kept[: np.searchsorted(kept, len(array))]]


class Explicit:
    """Buckets by bounds; `counts[row, i]` is the number of values in (bounds[i-1], bounds[i]]."""

    def __init__(self, bounds: tuple[float, ...], per_unit: int) -> None:
        # v > bound is v > floor(bound) for whole v; by Decimal, since 0.29 * 1e9 is less than 290000000 as floats.
        self._bounds = np.array([int(Decimal(str(bound)) * per_unit) for bound in bounds], np.int64)
        self.width = len(bounds) + 1
        self.counts: Integers = np.zeros((0, self.width), np.int64)

    def slots(self, row: NDArray[np.int32], values: Integers) -> Integers:
        """Where each value is counted: row * width + bucket."""
        return row * np.int64(self.width) + np.searchsorted(self._bounds, values)

    def add(self, slots: Integers, rows: int, weights: Integers | int = 1) -> None:
        """Count values by their slots; `rows`: how many series there are."""
        self.counts = grown(self.counts, rows)
        np.add.at(self.counts.reshape(-1), slots, weights)


@dataclass(slots=True)
class ExponentialState:
    """The rows of exponential histograms. The bucket with index i is at counts[row, i % MAX_BUCKETS]."""

    counts: Integers  # (rows, MAX_BUCKETS)
    zeros: Integers  # (rows,)
    low: Integers  # (rows,) smallest and largest index so far, at MAX_SCALE
    high: Integers
    shift: Integers  # (rows,) MAX_SCALE - scale

    def moved(self, kept: NDArray[np.intp]) -> ExponentialState:
        """The rows that stay, at their new places."""
        parts = (self.counts, self.zeros, self.low, self.high, self.shift)
        return ExponentialState(*(moved(part, kept) for part in parts))

    @classmethod
    def empty(cls) -> ExponentialState:
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, MAX_BUCKETS), np.int64), none, none, none, none)

    def grow(self, rows: int) -> None:
        self.counts, self.zeros, self.shift = (grown(a, rows) for a in (self.counts, self.zeros, self.shift))
        self.low, self.high = grown(self.low, rows, int(_NEVER)), grown(self.high, rows, -int(_NEVER))

    def copy(self, rows: int) -> ExponentialState:
        parts = (self.counts, self.zeros, self.low, self.high, self.shift)
        return ExponentialState(*(part[:rows].copy() for part in parts))

    def coarsen(self, rows: NDArray[np.intp], shift: Integers, low: Integers) -> None:
        """Join neighbouring buckets of these rows until they are at `shift`; `low` is as it was for the old counts."""
        base = (low >> self.shift[rows])[:, None]
        index = base + (np.arange(MAX_BUCKETS) - base) % MAX_BUCKETS
        slot = (index >> (shift - self.shift[rows])[:, None]) % MAX_BUCKETS
        joined = np.zeros((len(rows), MAX_BUCKETS), np.int64)
        np.add.at(joined, (np.arange(len(rows))[:, None], slot), self.counts[rows])
        self.counts[rows] = joined
        self.shift[rows] = shift

    def minus(self, earlier: ExponentialState) -> ExponentialState:
        """What was added since an earlier copy, at the present scales."""
        known = len(earlier.zeros)
        change, before = self.copy(len(self.zeros)), earlier.copy(known)
        coarser = np.flatnonzero(before.shift != self.shift[:known])
        before.coarsen(coarser, self.shift[coarser], before.low[coarser])
        change.counts[:known] -= before.counts
        change.zeros[:known] -= before.zeros
        return change

    def buckets(self, row: int) -> Exponential:
        """One row as OTLP has it."""
        shift = int(self.shift[row])
        base = int(self.low[row]) >> shift
        counts = np.roll(self.counts[row], -(base % MAX_BUCKETS))
        used = np.flatnonzero(counts)
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        offset = base + first if len(used) else 0
        return Exponential(MAX_SCALE - shift, int(self.zeros[row]), offset, counts[first:last])


class Exponentials:
    """Base-2 exponential histograms that choose their scale: the finest at which all values fit MAX_BUCKETS buckets."""

    def __init__(self, per_unit: int) -> None:
        self._per_unit = per_unit
        self.state = ExponentialState.empty()

    def add(self, row: NDArray[np.int32], values: Integers, rows: int, weights: Integers | None = None) -> None:
        """Count values; `rows`: how many series there are."""
        state = self.state
        state.grow(rows)
        weights = np.ones(len(values), np.int64) if weights is None else weights
        zero = values == 0
        np.add.at(state.zeros, row[zero], weights[zero])
        row, values, weights = row[~zero], values[~zero], weights[~zero]
        index = index_of(values / self._per_unit)
        old_low = state.low.copy()
        np.minimum.at(state.low, row, index)
        np.maximum.at(state.high, row, index)
        self._fit(old_low)
        slot = (index >> state.shift[row]) % MAX_BUCKETS
        np.add.at(state.counts.reshape(-1), row * np.int64(MAX_BUCKETS) + slot, weights)

    def _fit(self, old_low: Integers) -> None:
        state = self.state
        shift = state.shift.copy()
        while (wide := (state.high >> shift) - (state.low >> shift) >= MAX_BUCKETS).any():
            shift[wide] += 1
        rows = np.flatnonzero(shift != state.shift)
        if len(rows):
            state.coarsen(rows, shift[rows], old_low[rows])


def index_of(values: NDArray[np.float64]) -> Integers:
    """Bucket indices at MAX_SCALE of positive values; a bucket includes its upper bound.

    Coarser scales are this, shifted right.
    """
    fraction, exponent = np.frexp(values)
    index = np.ceil(np.log2(values) * (1 << MAX_SCALE)).astype(np.int64) - 1
    # Exact powers of two are upper bounds of buckets: there a logarithm that is off by a bit must not decide.
    power = (exponent.astype(np.int64) - 1 << MAX_SCALE) - 1
    return np.where(fraction == 0.5, power, index)
