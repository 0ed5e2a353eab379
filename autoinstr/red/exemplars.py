"""Exemplars: for each bucket of each series the newest sampled request that fell into it.

In: the slots of a batch (row * width + bucket, of the duration histogram) and its ids. Out: a few `Exemplar`s a series.
Nothing here loops over requests in Python.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Exemplar, Traced
from autoinstr.red.histograms import Integers, grown, moved
from autoinstr.turns import step

_SLOT = np.dtype([("turn", "<i8"), ("time", "<i8"), ("value", "<i8"), ("trace", "u1", 16), ("span", "u1", 8)])


class Exemplars:
    def __init__(self, width: int, per_unit: int) -> None:
        self.turn = 0  # increases with each batch: a reader takes what is newer than its last look
        self._width = width
        self._per_unit = per_unit
        self._kept = np.zeros(0, _SLOT)
        self._winner: Integers = np.zeros(0, np.int64)  # by slot; says something only just after it was written

    @step
    def add(self, slots: Integers, values: Integers, traced: Traced, rows: int) -> None:
        """Keep the last sampled request of each slot."""
        self.turn += 1
        row = np.flatnonzero(traced.sampled)
        if not len(row):
            return
        self._grow(rows * self._width)
        slot = slots[row]
        self._winner[slot] = row  # of equal slots the last one stays
        won = self._winner[slot] == row
        row, slot = row[won], slot[won]
        kept = self._kept
        kept["turn"][slot] = self.turn
        kept["time"][slot] = traced.requests.end[row]
        kept["value"][slot] = values[row]
        kept["trace"][slot] = traced.trace_id[row]
        kept["span"][slot] = traced.span_id[row]

    def since(self, turn: int) -> dict[int, list[Exemplar]]:
        """By series, what was kept after that turn."""
        found: dict[int, list[Exemplar]] = {}
        slots: NDArray[np.intp] = np.flatnonzero(self._kept["turn"] > turn)
        for slot, one in zip(slots.tolist(), self._kept[slots], strict=True):
            exemplar = Exemplar(
                value=int(one["value"]) / self._per_unit,
                time=int(one["time"]),
                trace_id=one["trace"].tobytes(),
                span_id=one["span"].tobytes(),
            )
            found.setdefault(slot // self._width, []).append(exemplar)
        return found

    def keep(self, kept: NDArray[np.intp]) -> None:
        """Other series than these go, and these move up."""
        self._kept = moved(self._kept.reshape(-1, self._width), kept).reshape(-1)
        self._winner = np.zeros(len(self._kept), np.int64)

    def _grow(self, slots: int) -> None:
        self._winner = grown(self._winner, slots)
        if slots > len(self._kept):
            larger = np.zeros(len(self._winner), _SLOT)
            larger[: len(self._kept)] = self._kept
            self._kept = larger
