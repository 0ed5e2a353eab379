"""RED metrics: how many requests, how many failed, how long they took, how large they were.

In: batches of traced requests, and what the kernel counted while its ring was full. Out: a `Snapshot` for each reader.
What is counted is counted once, since the start, whatever the number of readers; a reader of deltas remembers what it
saw last. Counts and sums are exact, sampled or not. One thread at a time: who collects from another one holds a lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autoinstr.health import Health, Loss
from autoinstr.model import (
    DURATION_BOUNDS,
    SIZE_BOUNDS,
    Exemplar,
    Group,
    Overflow,
    Series,
    Snapshot,
    Traced,
)
from autoinstr.red import names
from autoinstr.red.exemplars import Exemplars
from autoinstr.red.histograms import Explicit, Exponentials, ExponentialState, Integers, grown
from autoinstr.red.own import own_metrics
from autoinstr.red.table import Row, SeriesTable
from autoinstr.semconv import OTEL_METRIC_OVERFLOW

CARDINALITY_LIMIT = 2000
NANOSECONDS = 10**9
# The bounds of the buckets that the kernel counts in; ours may be others.
KERNEL_DURATIONS = [round(bound * NANOSECONDS) for bound in DURATION_BOUNDS]
KERNEL_SIZES = [int(bound) for bound in SIZE_BOUNDS]


@dataclass(frozen=True, slots=True)
class Seen:
    """A measure at one time, or what was added between two."""

    counts: Integers
    sums: Integers
    exponential: ExponentialState | None

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
        names: Mapping[str, str],
        description: str,
        unit: str,
        per_unit: int,
        bounds: tuple[float, ...],
        *,
        exponential: bool,
    ) -> None:
        self.names = names  # by prefix; without one it is not told
        self.description = description
        self.unit = unit
        self.per_unit = per_unit  # values are integers: nanoseconds a second, bytes a byte
        self.bounds = bounds
        self.explicit = Explicit(bounds, per_unit)
        self.exponential = Exponentials(per_unit) if exponential else None
        self.sums: Integers = np.zeros(0, np.int64)

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

    def seen(self, rows: int, *, exponential: bool) -> Seen:
        """A copy of the first rows."""
        state = self.exponential.state.copy(rows) if exponential and self.exponential is not None else None
        return Seen(self.explicit.counts[:rows].copy(), self.sums[:rows].copy(), state)


def _middles(bounds: list[int]) -> Integers:
    """A value for each bucket (bounds[i-1], bounds[i]], inside of it; for the open one beyond, twice its bound."""
    inside = [(low + high + 1) // 2 for low, high in pairwise(bounds)]
    return np.array([bounds[0], *inside, 2 * bounds[-1]], np.int64)


class Red:
    """All series. `exponential`: count in exponential buckets as well, for readers that want those. `old_rpc_names`: as
    conventions before 1.38 had them.

    `start`: ns since the Unix epoch, from when on we count.
    """

    def __init__(
        self,
        health: Health,
        *,
        start: int,
        duration_bounds: tuple[float, ...] = DURATION_BOUNDS,
        size_bounds: tuple[float, ...] = SIZE_BOUNDS,
        exponential: bool = False,
        cardinality_limit: int = CARDINALITY_LIMIT,
        old_rpc_names: bool = False,
    ) -> None:
        self.health = health
        self.start = start
        self.table = SeriesTable(cardinality_limit)
        durations = names.DURATIONS | (names.OLD_RPC_DURATIONS if old_rpc_names else {})
        self.duration = Measure(
            durations, "Duration of requests", "s", NANOSECONDS, duration_bounds, exponential=exponential
        )
        self.request_size, self.response_size = (
            Measure(sizes, f"Size of {what} bodies", "By", 1, size_bounds, exponential=exponential)
            for what, sizes in (("request", names.REQUEST_SIZES), ("response", names.RESPONSE_SIZES))
        )
        self.measures = (self.duration, self.request_size, self.response_size)
        self.exemplars = Exemplars(self.duration.explicit.width, NANOSECONDS)

    def add(self, traced: Traced, groups: list[Group]) -> None:
        """Count a batch. `groups` is always the same list, which only grows."""
        requests = traced.requests
        row = self.table.of(requests.group, groups)
        self.health.lose(Loss.CARDINALITY, self.table.folded(requests.group))
        rows = len(self.table.rows)
        durations = requests.end - requests.start
        slots = self.duration.add(row, durations, rows)
        self.request_size.add(row, requests.request_size, rows)
        self.response_size.add(row, requests.response_size, rows)
        self.exemplars.add(slots, durations, traced, rows)

    def add_overflow(self, overflow: Overflow, service: int) -> None:
        """Count what the kernel counted, in a series that says so."""
        attributes = overflow.attributes | {OTEL_METRIC_OVERFLOW: True}
        row, folded = self.table.find(Row(service, overflow.metric, attributes))
        self.health.lose(Loss.CARDINALITY, overflow.count if folded else 0)
        rows = len(self.table.rows)
        self.duration.add_buckets(row, overflow.duration_sum, KERNEL_DURATIONS, overflow.duration_buckets, rows)
        self.request_size.add_buckets(row, overflow.request_size_sum, KERNEL_SIZES, overflow.request_size_buckets, rows)
        self.response_size.add_buckets(
            row, overflow.response_size_sum, KERNEL_SIZES, overflow.response_size_buckets, rows
        )

    def reader(self, temporality: str = "cumulative", *, exponential: bool = False) -> Reader:
        """Someone who collects. `temporality` is a value of OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE:
        "cumulative", "delta" or "lowmemory"; those two are one here, since the agent's own sums are cumulative always.
        """
        if exponential and self.duration.exponential is None:
            raise ValueError("exponential buckets are not counted: say so when Red is made")
        return Reader(self, delta=temporality != "cumulative", exponential=exponential)


class Reader:
    """One who collects, with its own temporality and kind of buckets."""

    def __init__(self, red: Red, *, delta: bool, exponential: bool) -> None:
        self._red = red
        self._delta = delta
        self._exponential = exponential
        self._since = red.start
        self._turn = 0
        self._seen: dict[Measure, Seen] = {}

    def collect(self, now: int) -> Snapshot:
        """All series that something was added to: since the start, or with delta since the last call."""
        red = self._red
        exemplars = red.exemplars.since(self._turn)
        self._turn = red.exemplars.turn
        series = [one for measure in red.measures for one in self._measure(measure, exemplars)]
        snapshot = Snapshot(self._since, now, self._delta, series, own_metrics(red.health, red.start))
        if self._delta:
            self._since = now
        return snapshot

    def _measure(self, measure: Measure, exemplars: dict[int, list[Exemplar]]) -> Iterator[Series]:
        rows = self._red.table.rows
        change = self._change(measure, len(rows))
        exponential, totals = change.exponential, change.counts.sum(axis=1)
        with_exemplars = measure is self._red.duration
        for number in np.flatnonzero(totals).tolist():
            row = rows[number]
            if row.metric not in measure.names:
                continue
            yield Series(
                name=measure.names[row.metric],
                unit=measure.unit,
                description=measure.description,
                service=row.service,
                attributes=row.attributes,
                start=self._since,
                count=int(totals[number]),
                sum=int(change.sums[number]) / measure.per_unit,
                bounds=measure.bounds,
                buckets=change.counts[number] if exponential is None else None,
                exponential=exponential.buckets(number) if exponential is not None else None,
                exemplars=exemplars.get(number, []) if with_exemplars else [],
            )

    def _change(self, measure: Measure, rows: int) -> Seen:
        """What to report of a measure, and with delta the note that it was reported."""
        now = measure.seen(rows, exponential=self._exponential)
        if not self._delta:
            return now
        before, self._seen[measure] = self._seen.get(measure), now
        return now if before is None else now.minus(before)
