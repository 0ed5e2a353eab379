"""RED metrics: exact counts, for any reader, within bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.spans.batches import GROUPS, START, Row, batches, make_group, make_traced

from autoinstr.health import Health, Loss, Orphan
from autoinstr.model import DURATION_BOUNDS, SIZE_BOUNDS, Group, Overflow, Series, Snapshot
from autoinstr.red import Red

MS = 1_000_000
Truth = dict[tuple[Any, ...], list[int]]


def make_red(**settings: Any) -> Red:
    return Red(settings.pop("health", Health()), start=START, **settings)


def identity(name: str, service: int, attributes: dict[str, Any]) -> tuple[Any, ...]:
    return (name, service, *sorted(attributes.items()))


def counted(snapshot: Snapshot) -> dict[tuple[Any, ...], Series]:
    found = {identity(one.name, one.service, one.attributes): one for one in snapshot.series}
    assert len(found) == len(snapshot.series), "a series twice"
    return found


def one_series(snapshot: Snapshot, name: str = "http.server.request.duration") -> Series:
    (series,) = [series for series in snapshot.series if series.name == name]
    return series


def truth(batch: list[Row], groups: list[Group] = GROUPS) -> Truth:
    """Values by series."""
    found: Truth = defaultdict(list)
    for row in batch:
        group = groups[row.group]
        for suffix, value in (
            ("request.duration", row.duration),
            ("request.body.size", row.request_size),
            ("response.body.size", row.response_size),
        ):
            found[identity(f"{group.metric}.{suffix}", group.service, group.metric_attributes)].append(value)
    return found


def unit_of(series: Series) -> int:
    return 10**9 if series.unit == "s" else 1


def small(batch: list[Row]) -> list[Row]:
    """Sums of a few of these stay within 64 bits, as those of bytes and nanoseconds do."""
    return [
        replace(
            row,
            duration=row.duration % 10**12,
            request_size=row.request_size % 10**12,
            response_size=row.response_size % 10**6,
        )
        for row in batch
    ]


@given(st.lists(batches.map(small), max_size=3))
def test_counts_sums_and_buckets_are_exact(several: list[list[Row]]) -> None:
    red = make_red()
    for batch in several:
        red.add(make_traced(batch), GROUPS)
    snapshot = red.reader().collect(START + 5)
    expected = truth([row for batch in several for row in batch])
    found = counted(snapshot)
    assert found.keys() == expected.keys()
    for key, series in found.items():
        values = expected[key]
        buckets = [0] * (len(series.bounds) + 1)
        for value in values:
            buckets[bisect_left(series.bounds, value / unit_of(series))] += 1
        assert series.count == len(values)
        assert series.sum == sum(values) / unit_of(series)
        assert series.buckets is not None
        assert series.buckets.tolist() == buckets
        assert series.start == START
    assert (snapshot.start, snapshot.end, snapshot.delta) == (START, START + 5, False)


@settings(max_examples=60)
@given(st.lists(batches.map(small), max_size=4), st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_readers_of_deltas_see_everything_once(several: list[list[Row]], when: list[bool], exponential: bool) -> None:
    red = make_red(exponential=exponential)
    delta, cumulative = red.reader("delta", exponential=exponential), red.reader()
    since, waiting = START, []
    for i, batch in enumerate(several):
        red.add(make_traced(batch), GROUPS)
        waiting += batch
        if not when[i]:
            continue
        snapshot = delta.collect(START + i + 1)
        assert (snapshot.start, snapshot.end, snapshot.delta) == (since, START + i + 1, True)
        found, expected = counted(snapshot), truth(waiting)
        assert {key: series.count for key, series in found.items()} == {k: len(v) for k, v in expected.items()}
        for key, series in found.items():
            assert series.sum == sum(expected[key]) / unit_of(series)
            assert series.start == since
            if exponential:
                assert series.buckets is None
                check_exponential(series, expected[key])
            else:
                assert series.buckets is not None
                assert series.buckets.sum() == series.count
        since, waiting = START + i + 1, []
        cumulative.collect(START + i + 1)  # takes nothing away from others
    everything = truth([row for batch in several for row in batch])
    assert {key: one.count for key, one in counted(cumulative.collect(START)).items()} == {
        key: len(values) for key, values in everything.items()
    }


def check_exponential(series: Series, values: list[int]) -> None:
    """Each value in its bucket, no more buckets than allowed; a delta's scale may be coarser than need be."""
    found = series.exponential
    assert found is not None
    assert found.zero_count == values.count(0)
    assert found.zero_count + found.counts.sum() == len(values) == series.count
    assert len(found.counts) <= 160
    factor = 2.0**found.scale
    expected: dict[int, int] = defaultdict(int)
    for value in filter(None, values):
        expected[int(np.ceil(np.log2(value / unit_of(series)) * factor)) - 1] += 1
    got = {found.offset + i: int(count) for i, count in enumerate(found.counts) if count}
    if found.scale < 16:  # beyond, rounding of the logarithm decides
        assert got == expected


def test_groups_that_look_alike_in_metrics_are_one_series() -> None:
    groups = [make_group(), replace(make_group(), span_attributes={"url.full": "x"}), make_group(status=201)]
    red = make_red()
    red.add(make_traced([Row(0), Row(1), Row(2), Row(0)]), groups)
    assert sorted(one.count for one in red.reader().collect(1).series if one.unit == "s") == [1, 3]


def test_true_and_one_are_different_values() -> None:
    groups = [replace(make_group(), metric_attributes={"a": value}) for value in (True, 1, 1.0, "1", ["1"])]
    red = make_red()
    red.add(make_traced([Row(i) for i in range(5)]), groups)
    assert len([one for one in red.reader().collect(1).series if one.unit == "s"]) == 5


def test_a_clock_that_goes_back_counts_as_no_time() -> None:
    red = make_red(exponential=True)
    red.add(make_traced([Row(duration=-5)]), GROUPS)
    series = one_series(red.reader().collect(1))
    assert (series.count, series.sum) == (1, 0)


def test_beyond_the_limit_requests_count_in_one_series_a_service() -> None:
    health = Health()
    groups = [
        replace(make_group(service), metric_attributes={"http.route": f"/{i}"}) for service in (0, 1) for i in range(5)
    ]
    red = make_red(health=health, cardinality_limit=3)
    red.add(make_traced([Row(i) for i in range(7)] + [Row(4)]), groups)
    found = counted(red.reader().collect(1))
    durations = {key[1:]: one.count for key, one in found.items() if one.unit == "s"}
    assert durations == {
        (0, ("http.route", "/0")): 1,
        (0, ("http.route", "/1")): 1,
        (0, ("otel.metric.overflow", True)): 4,
        (1, ("http.route", "/0")): 1,
        (1, ("http.route", "/1")): 1,
    }
    assert health.lost[Loss.CARDINALITY] == 4


def test_a_group_that_is_an_overflow_already_is_not_counted_again() -> None:
    health = Health()
    red = make_red(health=health, cardinality_limit=1)
    red.add(make_traced([Row(0)]), [replace(make_group(), metric_attributes={"otel.metric.overflow": True})])
    assert health.lost[Loss.CARDINALITY] == 0
    assert one_series(red.reader().collect(1)).attributes == {"otel.metric.overflow": True}


def make_overflow(metric: str = "http.server", **values: Any) -> Overflow:
    defaults: dict[str, Any] = {
        "attributes": {"http.request.method": "GET"},
        "duration_buckets": np.arange(16, dtype=np.int64),
        "request_size_buckets": np.array([120, *[0] * 10], np.int64),
        "response_size_buckets": np.array([0] * 10 + [120], np.int64),
    }
    return Overflow(
        pid=4711,
        metric=metric,
        count=120,
        duration_sum=77 * 10**9 + 1,
        request_size_sum=0,
        response_size_sum=10**7,
        **defaults | values,
    )


def test_what_the_kernel_counted_is_exact_in_all_three_histograms() -> None:
    red = make_red(exponential=True)
    overflow = make_overflow()
    red.add_overflow(overflow, 1)
    red.add_overflow(overflow, 1)
    for exponential in (False, True):
        found = red.reader(exponential=exponential).collect(1)
        assert len(found.series) == 3
        for series, total, buckets in zip(
            found.series,
            (77 * 10**9 + 1, 0, 10**7),
            (overflow.duration_buckets, overflow.request_size_buckets, overflow.response_size_buckets),
            strict=True,
        ):
            assert series.service == 1
            assert series.count == 240
            assert series.sum == 2 * total / unit_of(series)
            if exponential:
                assert series.exponential is not None
                assert series.exponential.counts.sum() + series.exponential.zero_count == 240
            else:
                assert series.buckets is not None
                assert series.buckets.tolist() == (2 * buckets).tolist()


def test_attributes_of_what_the_kernel_counted() -> None:
    red = make_red()
    red.add_overflow(make_overflow("http.client"), 0)
    series = one_series(red.reader().collect(1), "http.client.request.duration")
    assert series.attributes == {"http.request.method": "GET", "otel.metric.overflow": True}


@pytest.mark.parametrize(("old", "name"), [(False, "rpc.server.call.duration"), (True, "rpc.server.duration")])
def test_calls_have_a_duration_and_no_sizes(old: bool, name: str) -> None:
    red = make_red(old_rpc_names=old)
    red.add(
        make_traced([Row(0)]), [replace(make_group(), metric="rpc.server", metric_attributes={"rpc.system": "grpc"})]
    )
    red.add_overflow(make_overflow("rpc.server"), 0)
    assert [(one.name, one.unit, one.count) for one in red.reader().collect(1).series] == [
        (name, "s", 1),
        (name, "s", 120),
    ]


def test_what_the_kernel_counted_fits_other_bounds_too() -> None:
    red = make_red(duration_bounds=(1.0, 100.0), size_bounds=(10,))
    red.add_overflow(make_overflow(), 0)
    duration, request, response = red.reader().collect(1).series
    assert [one.buckets.tolist() for one in (duration, request, response) if one.buckets is not None] == [
        [sum(range(11)), sum(range(11, 16)), 0],
        [120, 0],
        [0, 120],
    ]


def test_the_kernel_may_bring_more_methods_than_there_is_room_for() -> None:
    health = Health()
    red = make_red(health=health, cardinality_limit=2)
    for status in (200, 201, 202):
        red.add_overflow(make_overflow(attributes={"http.response.status_code": status}), 0)
    series = [one for one in red.reader().collect(1).series if one.unit == "s"]
    assert [one.count for one in series] == [120, 240]
    assert health.lost[Loss.CARDINALITY] == 240


def test_exemplars_are_the_newest_sampled_requests_of_a_bucket() -> None:
    red = make_red()
    batch = [
        Row(duration=1 * MS, span=b"a" * 8),
        Row(duration=2 * MS, span=b"b" * 8, start=START + 1),
        Row(duration=3 * MS, span=b"c" * 8, sampled=False),
        Row(duration=30 * MS, span=b"d" * 8),
    ]
    red.add(make_traced(batch), GROUPS)
    reader = red.reader()
    snapshot = reader.collect(1)
    fast, slow = one_series(snapshot).exemplars
    assert (fast.span_id, fast.trace_id, fast.value, fast.time) == (b"b" * 8, b"T" * 16, 0.002, START + 1 + 2 * MS)
    assert (slow.span_id, slow.value) == (b"d" * 8, 0.03)
    assert not one_series(snapshot, "http.server.request.body.size").exemplars
    assert not one_series(reader.collect(2)).exemplars, "told already"
    assert len(one_series(red.reader().collect(2)).exemplars) == 2, "others have not seen them"
    red.add(make_traced([Row(duration=1 * MS, span=b"e" * 8)]), GROUPS)
    assert [one.span_id for one in one_series(reader.collect(3)).exemplars] == [b"e" * 8]


def test_exemplars_of_many_series_do_not_mix() -> None:
    groups = [replace(make_group(), metric_attributes={"n": i}) for i in range(300)]
    red = make_red()
    for first in (0, 100, 200):
        rows = [Row(first + i, span=(first + i).to_bytes(8, "big"), duration=i * 20 * MS) for i in range(100)]
        red.add(make_traced(rows), groups[: first + 100])
    for series in red.reader().collect(1).series:
        for exemplar in series.exemplars:
            assert int.from_bytes(exemplar.span_id, "big") == series.attributes["n"]
            assert series.buckets is not None
            assert series.buckets[bisect_left(series.bounds, exemplar.value)] == 1


def test_own_metrics_tell_every_loss_from_the_start() -> None:
    health = Health()
    health.lose(Loss.RING_FULL, 3)
    health.found_orphans(range(len(Orphan)))
    health.did("spans_exported", 7)
    health.gauges["ring_fill_ratio"] = 0.25
    health.gauges["queue_bytes"] = 4096.0
    own = make_red(health=health).reader("delta").collect(1).own
    lost = {one.attributes["loss"]: one.value for one in own if one.name == "autoinstr.lost"}
    assert lost == {loss.label: 3 if loss is Loss.RING_FULL else 0 for loss in Loss}
    orphans = {one.attributes["reason"]: one.value for one in own if one.name == "autoinstr.without_parent"}
    assert orphans == {why.label: number for number, why in enumerate(Orphan)}
    rest = {one.name: (one.value, one.unit, one.monotonic, one.start) for one in own if not one.attributes}
    assert rest == {
        "autoinstr.spans_exported": (7, "", True, START),
        "autoinstr.ring_fill_ratio": (0.25, "1", False, 0),
        "autoinstr.queue_bytes": (4096.0, "By", False, 0),
    }


def test_names_units_and_bounds() -> None:
    red = make_red()
    red.add(make_traced([Row(0), Row(2)]), GROUPS)
    found = {(one.name, one.unit, one.bounds) for one in red.reader("lowmemory").collect(1).series}
    assert found == {
        (f"http.{side}.{name}", unit, bounds)
        for side in ("server", "client")
        for name, unit, bounds in (
            ("request.duration", "s", DURATION_BOUNDS),
            ("request.body.size", "By", SIZE_BOUNDS),
            ("response.body.size", "By", SIZE_BOUNDS),
        )
    }


def test_exponential_buckets_must_be_asked_for_in_time() -> None:
    with pytest.raises(ValueError, match="when Red is made"):
        make_red().reader(exponential=True)


def test_a_snapshot_stays_as_it_is() -> None:
    red = make_red(exponential=True)
    red.add(make_traced([Row()]), GROUPS)
    snapshots = [red.reader().collect(1), red.reader(exponential=True).collect(1)]
    red.add(make_traced([Row()] * 5), GROUPS)
    for snapshot in snapshots:
        series = one_series(snapshot)
        assert series.count == 1
        if series.buckets is not None:
            assert series.buckets.sum() == 1
        if series.exponential is not None:
            assert series.exponential.counts.sum() == 1
