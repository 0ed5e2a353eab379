"""Buckets of many series at once, against exact arithmetic and the SDK."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from autoinstr.red.histograms import MAX_BUCKETS, MAX_SCALE, Explicit, Exponentials, index_of

values = st.lists(st.integers(0, 100) | st.integers(0, 2**40) | st.sampled_from([2**i for i in range(40)]), max_size=50)


def exponential(batches: list[list[int]], row: int = 0) -> Exponentials:
    found = Exponentials(1)
    for batch in batches:
        found.add(np.full(len(batch), row, np.int32), np.array(batch, np.int64), row + 1)
    return found


@given(values)
def test_every_value_is_in_its_bucket(batch: list[int]) -> None:
    """base ** i < v <= base ** (i + 1), raised to the power of 2 ** scale: exact with whole numbers."""
    found = exponential([batch]).state
    if not batch:
        return
    buckets = found.buckets(0)
    if buckets.scale > 8:  # the powers become too large
        return
    expected = np.zeros(len(buckets.counts), np.int64)
    for value in filter(None, batch):
        for i in range(len(expected)):
            index = buckets.offset + i
            if buckets.scale >= 0:
                power = value ** (2**buckets.scale)
                inside = (index < 0 or 2**index < power) and (index + 1 >= 0 and power <= 2 ** (index + 1))
            else:
                width = 2**-buckets.scale
                inside = 2 ** (index * width) < value <= 2 ** ((index + 1) * width)
            expected[i] += inside
    assert buckets.counts.tolist() == expected.tolist()


@given(st.lists(values, min_size=1, max_size=4))
def test_batches_add_up(batches: list[list[int]]) -> None:
    """The same values at once or bit by bit: the same scale, the same counts."""
    apart, together = exponential(batches), exponential([[value for batch in batches for value in batch]])
    one, other = apart.state.buckets(0), together.state.buckets(0)
    assert (one.scale, one.zero_count, one.offset) == (other.scale, other.zero_count, other.offset)
    assert one.counts.tolist() == other.counts.tolist()


@given(st.lists(values.filter(any), min_size=1, max_size=3), values)
def test_a_difference_is_what_came_between(before: list[list[int]], after: list[int]) -> None:
    found = exponential(before)
    earlier = found.state.copy(1)
    found.add(np.zeros(len(after), np.int32), np.array(after, np.int64), 1)
    change = found.state.minus(earlier).buckets(0)
    assert change.zero_count == after.count(0)
    indices = index_of(np.array([value for value in after if value], np.float64)) >> (MAX_SCALE - change.scale)
    expected = np.bincount(indices - change.offset, minlength=1) if len(indices) else np.zeros(0)
    assert np.trim_zeros(change.counts).tolist() == np.trim_zeros(expected).tolist()


def sdk_buckets(batch: list[float]) -> tuple[int, int, int, list[int]]:
    reader = InMemoryMetricReader()
    view = View(instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation())
    histogram = MeterProvider([reader], views=[view]).get_meter("test").create_histogram("test")
    for value in batch:
        histogram.record(value)
    data = reader.get_metrics_data()
    assert data is not None
    point = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    counts = list(point.positive.bucket_counts)
    used = [i for i, count in enumerate(counts) if count]
    first, last = (used[0], used[-1] + 1) if used else (0, 0)
    offset = point.positive.offset + first if used else 0
    return point.scale, point.zero_count, offset, counts[first:last]


@pytest.mark.parametrize("spread", [0.01, 0.1, 1, 4])
def test_scale_and_buckets_are_the_sdks(spread: float) -> None:
    random = np.random.default_rng(5)
    batch = random.lognormal(15, spread, 500).astype(np.int64)
    found = Exponentials(10**9)
    found.add(np.zeros(500, np.int32), batch, 1)
    ours = found.state.buckets(0)
    assert (ours.scale, ours.zero_count, ours.offset, ours.counts.tolist()) == sdk_buckets((batch / 10**9).tolist())


def test_series_keep_their_own_scales() -> None:
    random = np.random.default_rng(5)
    found, alone = Exponentials(1), [Exponentials(1) for _ in range(5)]
    for _ in range(10):
        row = random.integers(0, 5, 200).astype(np.int32)
        batch = (random.lognormal(10, 1, 200) * 10.0 ** (row - 2)).astype(np.int64)
        found.add(row, batch, 5)
        for i, one in enumerate(alone):
            mine = batch[row == i]
            one.add(np.zeros(len(mine), np.int32), mine, 1)
    for i, one in enumerate(alone):
        ours, theirs = found.state.buckets(i), one.state.buckets(0)
        assert (ours.scale, ours.offset, ours.counts.tolist()) == (theirs.scale, theirs.offset, theirs.counts.tolist())
        assert len(ours.counts) <= MAX_BUCKETS


def test_bounds_belong_to_the_bucket_below() -> None:
    explicit = Explicit((0, 0.005, 0.29, 10), 10**9)
    nanoseconds = np.array([0, 1, 5_000_000, 5_000_001, 290_000_000, 290_000_001, 10**10, 10**10 + 1])
    assert explicit.slots(np.zeros(8, np.int32), nanoseconds).tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
