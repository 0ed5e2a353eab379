"""Delta snapshots that wait are added up: exact, and bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoinstr.export.otlp import merge as merging
from autoinstr.export.otlp.merge import MAX_EXEMPLARS, MAX_EXPONENTIAL_BUCKETS, add_exponential, at_scale, merge
from autoinstr.model import Exemplar, Exponential, Series, Snapshot


def series(path: str = "/a", count: int = 1, service: int = 0, name: str = "http.server.request.duration") -> Series:
    return Series(
        name=name,
        unit="s",
        description="",
        service=service,
        attributes={"http.route": path},
        start=10,
        count=count,
        sum=0.5 * count,
        bounds=(0.1, 1.0),
        buckets=np.array([0, count, 0]),
        exemplars=[Exemplar(0.5, 15, b"t" * 16, b"s" * 8)],
    )


def snapshot(start: int, *many: Series) -> Snapshot:
    return Snapshot(start, start + 10, True, list(many))


def test_equal_series_are_added_and_others_kept() -> None:
    both = merge(
        snapshot(10, series("/a", 2), series("/b", 3)), snapshot(20, series("/a", 5), series("/a", 7, service=1))
    )
    assert (both.start, both.end, both.delta) == (10, 30, True)
    assert [(s.attributes["http.route"], s.service, s.count, s.sum) for s in both.series] == [
        ("/a", 0, 7, 3.5),
        ("/b", 0, 3, 1.5),
        ("/a", 1, 7, 3.5),
    ]
    assert both.series[0].buckets is not None
    assert both.series[0].buckets.tolist() == [0, 7, 0]
    assert both.series[0].start == 10


def test_values_of_different_types_are_different_series() -> None:
    one, other = series(), series()
    one.attributes, other.attributes = {"x": 1}, {"x": True}
    assert len(merge(snapshot(0, one), snapshot(10, other)).series) == 2


def test_own_figures_are_the_newest_since_they_count_from_the_start() -> None:
    older, newer = snapshot(0), snapshot(10)
    assert merge(older, newer).own is newer.own


def test_exemplars_stay_bounded_and_new() -> None:
    total = snapshot(0, series())
    for number in range(1, 40):
        total = merge(total, snapshot(number * 10, series()))
    assert len(total.series[0].exemplars) == MAX_EXEMPLARS
    assert total.series[0].count == 40


def test_a_long_outage_is_bounded_and_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MAX_SERIES", 50)
    total = snapshot(0)
    for number in range(40):
        total = merge(total, snapshot(number * 10, *(series(f"/{number}/{i}", 2) for i in range(10))))
    assert len(total.series) == 51
    assert sum(s.count for s in total.series) == 40 * 10 * 2
    overflow = [s for s in total.series if s.attributes == {"otel.metric.overflow": True}]
    assert [s.count for s in overflow] == [35 * 10 * 2]


exponentials = st.builds(
    Exponential,
    scale=st.integers(-4, 8),
    zero_count=st.integers(0, 5),
    offset=st.integers(-500, 500),
    counts=st.lists(st.integers(0, 9), max_size=MAX_EXPONENTIAL_BUCKETS).map(lambda c: np.array(c, np.int64)),
)


@given(exponentials, exponentials)
def test_exponential_sums_lose_nothing_and_stay_small(one: Exponential, other: Exponential) -> None:
    total = add_exponential(one, other)
    assert total.counts.sum() == one.counts.sum() + other.counts.sum()
    assert total.zero_count == one.zero_count + other.zero_count
    assert len(total.counts) <= MAX_EXPONENTIAL_BUCKETS


@given(exponentials, st.integers(0, 6))
def test_coarser_buckets_hold_the_same_values(histogram: Exponential, steps: int) -> None:
    coarse = at_scale(histogram, histogram.scale - steps)
    for number, count in enumerate(histogram.counts.tolist()):
        if count:
            where = (histogram.offset + number) >> steps
            assert coarse.counts[where - coarse.offset] >= count
    assert coarse.counts.sum() == histogram.counts.sum()
