"""Which series a group counts in: the rows of all arrays of this stage.

In: groups. Out: a row number for each. Groups that look alike in the metrics, and differ in what only spans tell, share
a row. Never grows without bound: a service has at most `limit` rows a metric, the last of which is the overflow series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Attributes, Follower, Group
from autoinstr.semconv import OTEL_METRIC_OVERFLOW

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """The identity of a series."""

    service: int
    metric: str  # prefix, as in Group
    attributes: Attributes


class SeriesTable:
    def __init__(self, limit: int) -> None:
        self.rows: list[Row] = []
        self._groups = Follower[Group]()
        self._limit = max(1, limit)
        self._row_of: dict[Key, int] = {}
        self._used: Counter[tuple[int, str]] = Counter()
        self._of_group = np.zeros(0, np.int32)  # by group
        self._folded = np.zeros(0, np.bool_)  # by group: counts in an overflow series, for want of a row

    def of(self, group: NDArray[np.int32], groups: list[Group]) -> NDArray[np.int32]:
        """The row of each request, by its group."""
        new, anew = self._groups.more(groups)
        if anew:
            self._of_group, self._folded = np.zeros(0, np.int32), np.zeros(0, np.bool_)
        if new:
            self._learn(new)
        return self._of_group[group]

    def folded(self, group: NDArray[np.int32]) -> int:
        """How many of these requests count in an overflow series, for want of a row."""
        return int(np.count_nonzero(self._folded[group])) if self._folded.any() else 0

    def find(self, row: Row) -> tuple[int, bool]:
        """The number of a series, made if need be; True: there was no place for it, so it is the overflow series."""
        key = _key(row)
        if (number := self._row_of.get(key)) is not None:
            return number, False
        family = (row.service, row.metric)
        is_overflow = row.attributes == {OTEL_METRIC_OVERFLOW: True}
        if self._used[family] >= self._limit - 1 and not is_overflow:
            return self.find(Row(row.service, row.metric, {OTEL_METRIC_OVERFLOW: True}))[0], True
        if not is_overflow:
            self._used[family] += 1
        self._row_of[key] = len(self.rows)
        self.rows.append(row)
        return len(self.rows) - 1, False

    def forget(self, gone: Collection[int]) -> NDArray[np.intp]:
        """The rows of these services go; those that stay move up, in their order: where they were before."""
        kept = [number for number, row in enumerate(self.rows) if row.service not in gone]
        self.rows = [self.rows[number] for number in kept]
        self._row_of = {_key(row): number for number, row in enumerate(self.rows)}
        self._used = Counter({family: count for family, count in self._used.items() if family[0] not in gone})
        self._groups = Follower()
        return np.array(kept, np.intp)

    def _learn(self, new: Sequence[Group]) -> None:
        found = [self.find(Row(group.service, group.metric, group.metric_attributes)) for group in new]
        self._of_group = np.append(self._of_group, np.array([number for number, _ in found], np.int32))
        self._folded = np.append(self._folded, np.array([folded for _, folded in found], np.bool_))


def _key(row: Row) -> Key:
    """Equal for equal series; types count, since True == 1 == 1.0 in Python."""
    items = sorted(row.attributes.items())
    values = ((key, type(value), tuple(value) if isinstance(value, list) else value) for key, value in items)
    return (row.service, row.metric, *values)
