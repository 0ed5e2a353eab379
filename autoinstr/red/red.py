"""RED metrics: how many requests, how many failed, how long they took, how large they were.

In: batches of traced requests, and what the kernel counted while its ring was full. Out: a `Snapshot` for each reader.
What is counted is counted once, since the start, whatever the number of readers; a reader of deltas remembers what it
saw last. Counts and sums are exact, sampled or not. One thread at a time: who collects from another one holds a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

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
from autoinstr.red.graph import ServiceGraph
from autoinstr.red.measure import Count, Measure, Seen
from autoinstr.red.own import own_metrics
from autoinstr.red.table import Row, SeriesTable
from autoinstr.semconv import OTEL_METRIC_OVERFLOW

CARDINALITY_LIMIT = 2000
NANOSECONDS = 10**9
# The bounds of the buckets that the kernel counts in; ours may be others.
KERNEL_DURATIONS = [round(bound * NANOSECONDS) for bound in DURATION_BOUNDS]
KERNEL_SIZES = [int(bound) for bound in SIZE_BOUNDS]


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
            self.table,
            durations,
            "Duration of requests",
            unit="s",
            per_unit=NANOSECONDS,
            bounds=duration_bounds,
            exponential=exponential,
        )
        self.request_size, self.response_size = (
            Measure(
                self.table,
                sizes,
                f"Size of {what} bodies",
                unit="By",
                per_unit=1,
                bounds=size_bounds,
                exponential=exponential,
            )
            for what, sizes in (("request", names.REQUEST_SIZES), ("response", names.RESPONSE_SIZES))
        )
        self.measures = (self.duration, self.request_size, self.response_size)
        self.graph = ServiceGraph(health, cardinality_limit, duration_bounds, exponential=exponential)
        self.exemplars = Exemplars(self.duration.explicit.width, NANOSECONDS)
        self._readers: list[Reader] = []

    def forget(self, gone: Collection[int]) -> None:
        """The series of these services go, and what readers of deltas have not been told of them."""
        kept = self.table.forget(gone)
        self.exemplars.keep(kept)
        self._keep(self.measures, kept)
        self._keep(self.graph.measures, self.graph.forget(gone))

    def _keep(self, measures: Sequence[Measure | Count], kept: NDArray[np.intp]) -> None:
        for measure in measures:
            measure.keep(kept)
            for reader in self._readers:
                reader.keep(measure, kept)

    def add(self, traced: Traced, groups: list[Group]) -> None:
        """Count a batch. `groups`: see `model.Follower`."""
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
        self._readers.append(Reader(self, delta=temporality != "cumulative", exponential=exponential))
        return self._readers[-1]


class Reader:
    """One who collects, with its own temporality and kind of buckets."""

    def __init__(self, red: Red, *, delta: bool, exponential: bool) -> None:
        self._red = red
        self._delta = delta
        self._exponential = exponential
        self._since = red.start
        self._turn = 0
        self._seen: dict[Measure | Count, Seen] = {}

    def keep(self, measure: Measure | Count, kept: NDArray[np.intp]) -> None:
        """Other rows than these are no more, and these have moved up."""
        if (seen := self._seen.get(measure)) is not None:
            self._seen[measure] = seen.moved(kept)

    def collect(self, now: int) -> Snapshot:
        """All series that something was added to: since the start, or with delta since the last call."""
        red = self._red
        exemplars = red.exemplars.since(self._turn)
        self._turn = red.exemplars.turn
        measures = (*red.measures, *red.graph.measures)
        series = [one for measure in measures for one in self._measure(measure, exemplars)]
        snapshot = Snapshot(self._since, now, self._delta, series, own_metrics(red.health, red.start))
        if self._delta:
            self._since = now
        return snapshot

    def _measure(self, measure: Measure | Count, exemplars: dict[int, list[Exemplar]]) -> Iterator[Series]:
        rows, is_counter = measure.table.rows, isinstance(measure, Count)
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
                buckets=change.counts[number] if exponential is None and not is_counter else None,
                exponential=exponential.buckets(number) if exponential is not None else None,
                exemplars=exemplars.get(number, []) if with_exemplars else [],
                is_counter=is_counter,
            )

    def _change(self, measure: Measure | Count, rows: int) -> Seen:
        """What to report of a measure, and with delta the note that it was reported."""
        now = measure.seen(rows, exponential=self._exponential)
        if not self._delta:
            return now
        before, self._seen[measure] = self._seen.get(measure), now
        return now if before is None else now.minus(before)
