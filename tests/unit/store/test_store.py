"""What goes into the store comes out again: counts exactly, spans as they were, within limits of memory and time."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.spans import batches
from unit.spans.batches import GROUPS, SERVICES, START, Row, make_traced

from autoinstr.model import Kind, Overflow
from autoinstr.spans import span_records
from autoinstr.store import Series, Store, Wanted
from autoinstr.store.chunks import ROWS
from autoinstr.store.counts import FINE, tally
from autoinstr.store.durations import AN_OCTAVE, BUCKETS, bucket_of, quantiles
from autoinstr.store.series import MAX_CALLED

MB = 1 << 20
SECOND = 10**9
NOW = START // SECOND


def never() -> bool:
    return False


def make_store(rows: list[Row], limit: int = 64 * MB) -> Store:
    store = Store(limit)
    store.add(make_traced(rows), GROUPS, SERVICES)
    return store


def texts(store: Store, wanted: Wanted, most: int = 1000) -> list[str]:
    rows = store.search(wanted, most, never).rows
    if not rows:
        return []
    requests = store.traced(rows)[0].requests
    return [
        requests.text[at : at + size].tobytes().decode()
        for at, size in zip(requests.text_at, requests.text_size, strict=True)
    ]


def total(store: Store, begin: int = NOW - 60, end: int = NOW + 60) -> dict[int, int]:
    """Requests by the number of their series."""
    counted = store.counted(begin, end)
    label = np.arange(len(store.series), dtype=np.int32)
    sums = tally(counted.pieces, label, len(label)).sum(axis=1)
    return {number: int(count) for number, count in enumerate(sums) if count}


class TestDurations:
    @given(st.integers(1 << 9, 1 << 40))
    def test_a_bucket_is_nine_percent_wide(self, nanoseconds: int) -> None:
        bucket = int(bucket_of(np.array([nanoseconds]))[0])
        low, high = (2 ** (9 + (bucket + edge) / AN_OCTAVE) for edge in (-1, 0))
        assert low * 0.999999 <= nanoseconds <= high * 1.000001

    def test_extremes_are_counted(self) -> None:
        assert bucket_of(np.array([0, 1, -5, 1 << 62])).tolist() == [0, 0, 0, BUCKETS - 1]

    @given(st.lists(st.integers(10_000, 10**10), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
    def test_percentiles_are_within_a_bucket_of_the_truth(self, values: list[int], share: float) -> None:
        counts = np.bincount(bucket_of(np.array(values)), minlength=BUCKETS)
        (told,) = quantiles(counts, [share])
        exact = sorted(values)[max(0, int(np.ceil(share * len(values))) - 1)] / 1e6
        assert exact / 1.1 <= float(told) <= exact * 1.1

    def test_nothing_has_no_percentile(self) -> None:
        assert np.isnan(quantiles(np.zeros(BUCKETS), [0.5])[0])


class TestCounts:
    @settings(deadline=None, max_examples=20)
    @given(st.lists(batches.batches, max_size=4))
    def test_every_request_is_counted_sampled_or_not(self, given_batches: list[list[Row]]) -> None:
        """In batches that are as close in time as batches are."""
        store = Store(64 * MB)
        rows = 0
        for number, batch in enumerate(given_batches):
            near = [replace(row, start=START + number * 4 * SECOND, duration=row.duration % SECOND) for row in batch]
            rows += len(near)
            if near:
                store.add(make_traced(near), GROUPS, SERVICES)
        assert sum(total(store).values()) == rows

    def test_by_interval(self) -> None:
        rows = [Row(start=START + second * SECOND, duration=0) for second in (0, 1, 7, 7, 12)]
        store = make_store(rows)
        begin = NOW // FINE * FINE
        counted = store.counted(begin, begin + 4 * FINE)
        label = np.zeros(1, np.int32)
        assert [int(step.sum()) for step in counted.tallies(FINE, label, 1)] == [2, 2, 1, 0]

    def test_late_ones_are_counted_where_they_belong(self) -> None:
        store = make_store([Row(start=START + 20 * SECOND, duration=0)])
        store.add(make_traced([Row(start=START, duration=0)]), GROUPS, SERVICES)
        store.add(make_traced([Row(start=START + 21 * SECOND, duration=0)]), GROUPS, SERVICES)
        assert sum(total(store, NOW, NOW + FINE).values()) == 1
        assert sum(total(store).values()) == 3

    def test_a_day_is_kept_in_minutes(self) -> None:
        store = Store(64 * MB)
        for hour in range(30):
            store.add(make_traced([Row(start=START + hour * 3600 * SECOND, duration=0)]), GROUPS, SERVICES)
        end = NOW + 29 * 3600
        assert sum(total(store, end - 3600 * 12, end + 60).values()) == 13
        assert sum(total(store, end - 3600 * 48, end + 60).values()) == 25, "older ones are forgotten"
        assert sum(total(store, end - 600, end + 60).values()) == 1

    def test_only_counted_by_the_kernel(self) -> None:
        store = make_store([Row()])
        none = np.zeros(16, np.int64)
        buckets = none.copy()
        buckets[[1, 15]] = 70, 30
        attributes = {"http.request.method": "GET", "http.response.status_code": 503, "error.type": "503"}
        overflow = Overflow(4711, "http.server", attributes, 100, 0, buckets, 0, none, 0, none)
        store.add_counted(overflow, 1, SERVICES, START)
        store.add_counted(overflow, 1, SERVICES, START + SECOND)
        assert total(store) == {0: 1, 1: 200}
        group = store.series[1].group
        assert (group.service, group.failed, group.kind) == (1, True, Kind.SERVER)

    def test_clients_are_told_apart_by_whom_they_call(self) -> None:
        rows = [Row(group=2, peer=IPv4Address(f"10.0.0.{end}"), port=80) for end in (1, 2, 2)]
        store = make_store(
            [*rows, Row(group=2, peer=IPv4Address("10.0.0.1"), port=81), Row(group=2, peer=None, port=0)]
        )
        assert sorted(total(store).values()) == [1, 1, 1, 2]
        assert {one.port for one in store.series} == {0, 80, 81}

    def test_whoever_calls_the_whole_world_is_one(self) -> None:
        store = Store(64 * MB)
        for begin in range(0, MAX_CALLED + 5000, 1000):
            rows = [Row(group=2, peer=IPv4Address(begin + i + 1), port=80) for i in range(1000)]
            store.add(make_traced(rows), GROUPS, SERVICES)
        assert len(store.series) == MAX_CALLED + 1
        assert sum(total(store).values()) == (MAX_CALLED + 5000 + 999) // 1000 * 1000
        assert store.series[-1] == Series(GROUPS[2], 2)


class TestSpans:
    @settings(deadline=None, max_examples=20)
    @given(st.lists(batches.batches, min_size=1, max_size=4))
    def test_they_are_told_as_they_were(self, given_batches: list[list[Row]]) -> None:
        """By the same records as elsewhere, but for what the store rounds or cuts."""
        store, expected = Store(1 << 30), []
        for batch in given_batches:
            near = [
                replace(
                    row,
                    start=START + row.start % SECOND // 1000 * 1000,
                    duration=row.duration % SECOND // 1000 * 1000,
                    request_size=row.request_size % (1 << 32),
                    response_size=row.response_size % (1 << 32),
                )
                for row in batch
            ]
            if near:
                traced = make_traced(near)
                store.add(traced, GROUPS, SERVICES)
                expected += list(span_records(traced, GROUPS, SERVICES))
        found = store.search(Wanted(), 1000, never).rows
        told = list(span_records(*store.traced(found))) if found else []
        assert told[::-1] == expected

    def test_more_than_a_chunk_and_not_all_sampled(self) -> None:
        store = Store(64 * MB)
        for begin in range(0, 2 * ROWS + 100, 1000):
            rows = [Row(text=f"/n/{begin + i}", sampled=i % 2 == 0) for i in range(1000)]
            store.add(make_traced(rows), GROUPS, SERVICES)
        assert texts(store, Wanted(), 3) == ["/n/16998", "/n/16996", "/n/16994"]
        assert store.size()[1] == 8500
        expected = [f"/n/{n}" for n in range(16998, -1, -2) if str(n).startswith("42")]
        assert texts(store, Wanted(text=b"/n/42")) == expected

    def test_wishes(self) -> None:
        rows = [
            Row(group=0, text="/a", duration=1_000_000),
            Row(group=1, text="/b", duration=9_000_000, trace=b"U" * 16),
            Row(group=3, text="/ab", duration=5_000_000, start=START + 60 * SECOND),
        ]
        store = make_store(rows)
        only = np.array([one.number == 1 for one in store.series])
        assert texts(store, Wanted(series=only)) == ["/b"]
        assert texts(store, Wanted(shortest=5000)) == ["/ab", "/b"]
        assert texts(store, Wanted(longest=5000)) == ["/a"]
        assert texts(store, Wanted(trace=b"U" * 16)) == ["/b"]
        assert texts(store, Wanted(text=b"a")) == ["/ab", "/a"]
        assert texts(store, Wanted(slowest=True), 2) == ["/b", "/ab"]
        assert texts(store, Wanted(slowest=True, text=b"a")) == ["/ab", "/a"]
        assert texts(store, Wanted(begin=(NOW + 30) * 10**6)) == ["/ab"]
        assert texts(store, Wanted(end=(NOW + 30) * 10**6)) == ["/b", "/a"]
        assert texts(store, Wanted(after=1)) == ["/ab"]
        assert texts(store, Wanted(before=1)) == ["/a"]
        assert texts(store, Wanted(text=b"nowhere")) == []

    @settings(deadline=None, max_examples=8)
    @given(
        st.lists(st.sampled_from(["", "a", "ab", "ba", "aab", "bbb"]), min_size=600, max_size=700),
        st.sampled_from(["a", "ab", "bb", "ba"]),
    )
    def test_a_text_is_found_within_texts_only(self, given_texts: list[str], sought: str) -> None:
        """Never across two of them, though they lie end to end."""
        store = make_store([Row(text=text, query="a?b") for text in given_texts])
        assert texts(store, Wanted(text=sought.encode())) == [text for text in given_texts[::-1] if sought in text]

    def test_a_search_ends_when_it_is_enough(self) -> None:
        store = Store(64 * MB)
        for _ in range(3):
            store.add(make_traced([Row()] * ROWS), GROUPS, SERVICES)
        found = store.search(Wanted(text=b"nowhere"), 10, lambda: True)
        assert (found.rows, found.searched) == ([], 2 * ROWS)

    def test_a_clock_that_is_set(self) -> None:
        store = Store(64 * MB)
        for hours in (0, 5, -7, 1000):
            store.add(make_traced([Row(start=START + hours * 3600 * SECOND, duration=2000)]), GROUPS, SERVICES)
        rows = store.search(Wanted(), 10, never).rows
        starts = store.traced(rows)[0].requests.start
        assert ((starts - START) // SECOND // 3600).tolist()[0] == 1000


class TestLimits:
    @pytest.mark.parametrize("limit", [2 * MB, 8 * MB])
    def test_memory(self, limit: int) -> None:
        """The oldest make way; what is left is not more than was allowed, but for the chunk that is being filled."""
        store = Store(limit)
        traced = make_traced([Row(group=i % 5, text=f"/some/path/{i}") for i in range(2000)])
        for number in range(100):
            end = traced.requests.end + number * 2 * SECOND
            store.add(replace(traced, requests=replace(traced.requests, end=end)), GROUPS, SERVICES)
            assert store.size()[0] <= limit * 1.05 + 900_000
        assert store.size()[1] > limit / 200
        rows = store.search(Wanted(), 1, never).rows
        assert store.traced(rows)[0].requests.end[0] == end[-1] // 1000 * 1000

    def test_time(self) -> None:
        store = Store(64 * MB)
        for hour in range(50):
            store.add(make_traced([Row(start=START + hour * 3600 * SECOND, text=f"/{hour}")]), GROUPS, SERVICES)
        kept = texts(store, Wanted())
        assert kept[0] == "/49" and kept[-1] == "/26"

    def test_reading_while_it_is_written(self) -> None:
        """A view is of one moment: what comes later changes nothing of it."""
        store = make_store([Row(text=f"/{i}") for i in range(10)])
        found = store.search(Wanted(), 100, never).rows
        for _ in range(5):
            store.add(make_traced([Row(text="/later" * 9)] * ROWS), GROUPS, SERVICES)
        requests = store.traced(found)[0].requests
        assert requests.text.tobytes() == b"".join(f"/{i}".encode() for i in range(9, -1, -1))

    def test_it_costs_little(self) -> None:
        """Far from the figure that is told, but a loop over requests in Python would not pass."""
        traced = make_traced([Row(text=f"/users/{i}") for i in range(4000)])
        store = Store(64 * MB)
        began = time.process_time()
        for _ in range(25):
            store.add(traced, GROUPS, SERVICES)
        assert (time.process_time() - began) / 100_000 < 5e-6
