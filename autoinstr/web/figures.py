"""Rate, errors and durations, from counts: the figures that every page shows.

In: counts of a span of time. Out: plain objects for JSON. Durations are milliseconds, rates requests a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoinstr.store import Counted
from autoinstr.store.durations import BUCKETS, quantiles, upper_bound

POINTS = 60  # of a trend, at most
SHARES = (0.5, 0.95, 0.99)
NAMES = ("p50", "p95", "p99")
Mask: TypeAlias = NDArray[np.bool_]
HEAT_FOLD = 4  # buckets of the store in one of the heat map: two an octave


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in steps: seconds since the epoch, whole intervals of the store."""

    begin: int
    end: int
    step: int

    @property
    def seconds(self) -> int:
        return max(1, self.end - self.begin)

    @property
    def points(self) -> int:
        return -(-self.seconds // self.step)

    def told(self) -> dict[str, int]:
        return {"begin": self.begin, "end": self.end, "step": self.step}


def make_window(begin: int, end: int, width: int) -> Window:
    """With steps of whole intervals of `width` seconds, POINTS of them at most."""
    return Window(begin, end, max(1, -(-(end - begin) // (width * POINTS))) * width)


def figures(counts: NDArray[Any], errors: NDArray[Any], seconds: int) -> list[dict[str, Any]]:
    """Of each row of (rows, BUCKETS) counts."""
    if not len(counts):
        return []
    columns = [values.tolist() for values in (counts.sum(axis=1), errors, *quantiles(counts, SHARES))]
    return [
        {
            "count": int(total),
            "rate": rounded(total / seconds),
            "errors": int(bad),
            "errorRate": rounded(bad / total) if total else 0.0,
            **{name: rounded(value) for name, value in zip(NAMES, values, strict=True)},
        }
        for total, bad, *values in zip(*columns, strict=True)
    ]


class Tables:
    """Counts of some labels: in all, and step by step."""

    def __init__(self, counted: Counted, window: Window, label: NDArray[np.int32], labels: int, failed: Mask) -> None:
        """`label`, `failed`: of each series; those labelled -1 are left out."""
        self._window = window
        doubled = np.where(label < 0, -1, label * 2 + failed).astype(np.int32)
        self.total = np.zeros((labels, BUCKETS))
        self.errors = np.zeros(labels)
        self._steps: list[dict[str, NDArray[np.float64]]] = []
        self.cells: list[NDArray[np.float64]] = []  # of each step (labels, cells of the heat map)
        for number, pair in enumerate(counted.tallies(window.step, doubled, labels * 2)):
            both = pair.reshape(labels, 2, BUCKETS)
            counts, errors = both.sum(axis=1), both[:, 1].sum(axis=1)
            self.total += counts
            self.errors += errors
            length = min(window.step, window.seconds - number * window.step)
            found = dict(zip(NAMES, quantiles(counts, SHARES), strict=True))
            self._steps.append({"rate": counts.sum(axis=1) / length, "errors": errors / length, **found})
            self.cells.append(np.add.reduceat(counts, np.arange(0, BUCKETS, HEAT_FOLD), axis=1))

    def figures(self) -> list[dict[str, Any]]:
        """Of each label."""
        return figures(self.total, self.errors, self._window.seconds)

    def trend(self, label: int) -> dict[str, list[Any]]:
        """Rate, errors and percentiles, step by step."""
        names = ("rate", "errors", *NAMES)
        return {name: [rounded(float(step[name][label])) for step in self._steps] for name in names}

    def heat(self, label: int) -> dict[str, Any]:
        """How many requests took how long, step by step: `counts[step][i]` took up to `bounds[i]` ms, and no less than
        the bound before; only as many as are needed.
        """
        cells = np.array([step[label] for step in self.cells])
        used = np.flatnonzero(cells.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        bounds = [rounded(upper_bound(HEAT_FOLD * (i + 1) - 1)) for i in range(low, high)]
        return {"bounds": bounds, "counts": cells[:, low:high].astype(int).tolist()}


def rounded(value: float) -> float | None:
    """Five digits, which is more than is known; None if there is no value."""
    return None if math.isnan(value) else float(f"{value:.5g}")
