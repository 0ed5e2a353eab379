"""What the kernel side knows of a request's place in a trace, what headers say, and who has spans of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from unit.spans.batches import Row, make_group, make_requests

from autoinstr.correlate import Correlator, make_sampler
from autoinstr.correlate.instrumented import MIN_CALLS
from autoinstr.correlate.renames import MAX_RENAMED, Renames
from autoinstr.health import ORPHANS, Health, Orphan
from autoinstr.model import Group, Kind, Places, Renamed, Requests, Traced

GROUPS = [make_group(0), make_group(1, Kind.CLIENT), make_group(2, Kind.CLIENT)]
SERVER, CLIENT, OTHER_CLIENT = 0, 1, 2


def places(rows: list[Row], **columns: object) -> Places:
    count = len(rows)
    given = Places(
        trace_id=np.tile(np.frombuffer(b"K" * 16, np.uint8), (count, 1)),
        span_id=np.arange(1, count + 1, dtype=np.uint64).view(np.uint8).reshape(-1, 8),
        parent_id=np.tile(np.frombuffer(b"P" * 8, np.uint8), (count, 1)),
        decided=np.zeros(count, np.bool_),
        sampled=np.zeros(count, np.bool_),
        own=np.zeros(count, np.bool_),
        orphan=np.zeros(count, np.uint8),
        peer_pid=np.zeros(count, np.uint32),
    )
    return replace(given, **columns)  # type: ignore[arg-type]


def placed(rows: list[Row], **columns: object) -> Requests:
    return replace(make_requests(rows), places=places(rows, **columns))


def correlate(requests: Requests, sampler: str = "always_on", groups: list[Group] = GROUPS) -> Traced:
    return Correlator(make_sampler(sampler, ""), Health()).correlate(requests, groups)


def test_a_place_is_kept() -> None:
    traced = correlate(placed([Row(), Row()]))
    assert [one.tobytes() for one in traced.trace_id] == [b"K" * 16] * 2
    assert traced.span_id.view(np.uint64).ravel().tolist() == [1, 2]
    assert [one.tobytes() for one in traced.parent_id] == [b"P" * 8] * 2


def test_a_header_wins() -> None:
    traced = correlate(placed([Row(trace=b"T" * 16, parent=b"H" * 8)]))
    assert (traced.trace_id[0].tobytes(), traced.parent_id[0].tobytes()) == (b"T" * 16, b"H" * 8)
    assert traced.span_id.view(np.uint64).ravel().tolist() == [1]


@pytest.mark.parametrize("sampled", [True, False])
def test_what_was_decided_at_the_beginning_of_a_trace_is_carried_along(sampled: bool) -> None:
    requests = placed([Row()], decided=np.array([True]), sampled=np.array([sampled]))
    assert correlate(requests, "parentbased_always_on").sampled.tolist() == [sampled]
    assert correlate(requests, "parentbased_always_off").sampled.tolist() == [sampled]


def test_a_trace_is_sampled_whole_or_not_at_all() -> None:
    rows = [Row() for _ in range(64)]
    ids = np.repeat(np.random.default_rng(1).integers(0, 256, (16, 16)).astype(np.uint8), 4, axis=0)
    correlator = Correlator(make_sampler("parentbased_traceidratio", "0.5"), Health())
    chosen = correlator.correlate(placed(rows, trace_id=ids), GROUPS).sampled.reshape(16, 4)
    assert (chosen.all(axis=1) | ~chosen.any(axis=1)).all()
    assert 0 < chosen.any(axis=1).sum() < 16


def renamed(known_as: bytes, trace: bytes, flags: int = 1) -> Renamed:
    return Renamed(
        np.frombuffer(known_as, np.uint8).reshape(1, 16),
        np.frombuffer(trace, np.uint8).reshape(1, 16),
        np.array([flags], np.uint8),
    )


def test_what_was_called_before_the_header_was_read_goes_on_with_the_header_s_trace() -> None:
    correlator = Correlator(make_sampler("parentbased_always_on"), Health())
    nothing = replace(placed([]), places=places([], renamed=renamed(b"K" * 16, b"T" * 16, 0)))
    correlator.correlate(nothing, GROUPS)
    traced = correlator.correlate(placed([Row(group=CLIENT)]), GROUPS)
    assert traced.trace_id[0].tobytes() == b"T" * 16
    assert traced.parent_id[0].tobytes() == b"P" * 8
    assert traced.sampled.tolist() == [False]


def test_renames_are_bounded_and_the_newest_stay() -> None:
    renames = Renames()
    ids = np.arange(2 * (MAX_RENAMED + 10), dtype=np.uint64).view(np.uint8).reshape(-1, 16)
    for start in range(0, len(ids), 1000):
        part = ids[start : start + 1000]
        renames.add(Renamed(part, part[:, ::-1].copy(), np.ones(len(part), np.uint8)))
    trace = ids.copy()
    renames.apply(trace, np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.uint8))
    assert (trace[10:] == ids[10:, ::-1]).all()
    assert (trace[:10] == ids[:10]).all()


def test_what_has_no_parent_is_counted_by_the_reason() -> None:
    health, rows = Health(), [Row(), Row(), Row(), Row(trace=b"T" * 16, parent=b"H" * 8), Row()]
    why = np.array(
        [ORPHANS.index(one) for one in (Orphan.NOBODY, Orphan.TURN, Orphan.TURN, Orphan.NOBODY, Orphan.TURN)]
    )
    parents = np.zeros((5, 8), np.uint8)
    parents[4, 3] = 1
    Correlator(make_sampler("always_off"), health).correlate(
        placed(rows, orphan=why.astype(np.uint8), parent_id=parents), GROUPS
    )
    assert +health.orphans == {Orphan.NOBODY: 1, Orphan.TURN: 2}


# --- programs with spans of their own


def calls(count: int, own: int) -> Requests:
    return placed([Row(group=CLIENT)] * count, own=np.arange(count) < own)


def test_who_makes_trace_context_for_all_its_calls_has_no_second_set_of_spans() -> None:
    correlator = Correlator(make_sampler("always_on"), Health())
    assert correlator.correlate(calls(MIN_CALLS - 1, MIN_CALLS - 1), GROUPS).sampled.all()
    assert not correlator.correlate(calls(2, 2), GROUPS).sampled.any()
    others = correlator.correlate(placed([Row(group=SERVER), Row(group=OTHER_CLIENT)]), GROUPS)
    assert others.sampled.all()


def test_a_header_by_hand_now_and_then_is_none_of_its_own() -> None:
    correlator = Correlator(make_sampler("always_on"), Health())
    for _ in range(20):
        assert correlator.correlate(calls(10, 8), GROUPS).sampled.all()


@pytest.mark.parametrize(("path", "quiet"), [("/v1/traces", True), ("/otlp/v1/traces", True), ("/v1/tracesx", False)])
def test_who_sends_spans_has_spans(path: str, quiet: bool) -> None:
    correlator = Correlator(make_sampler("always_on"), Health())
    correlator.correlate(placed([Row(group=CLIENT, text=path)]), GROUPS)
    assert correlator.correlate(placed([Row(group=CLIENT)]), GROUPS).sampled.tolist() == [not quiet]


def test_who_receives_spans_is_watched_as_ever() -> None:
    correlator = Correlator(make_sampler("always_on"), Health())
    correlator.correlate(placed([Row(group=SERVER, text="/v1/traces")]), GROUPS)
    assert correlator.correlate(placed([Row(group=SERVER)]), GROUPS).sampled.all()


def test_spans_over_grpc() -> None:
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    group = replace(GROUPS[CLIENT], metric_attributes={"rpc.system": "grpc", "rpc.service": service})
    correlator = Correlator(make_sampler("always_on"), Health())
    assert not correlator.correlate(placed([Row(group=0)]), [group]).sampled.any()
