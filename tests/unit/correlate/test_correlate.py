"""Trace ids continue those that came with requests, and samplers choose as the SDKs do."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from unit.spans.batches import GROUPS, Row, batches, make_requests

from autoinstr.correlate import SAMPLERS, Correlator, make_sampler
from autoinstr.errors import UsageError
from autoinstr.health import Health
from autoinstr.model import Traced

MS = 1_000_000
FAILED = 1  # a group in GROUPS


def correlated(rows: list[Row], sampler: str = "parentbased_always_on", argument: str = "") -> Traced:
    return Correlator(make_sampler(sampler, argument), Health()).correlate(make_requests(rows), GROUPS)


def sampled(rows: list[Row], sampler: str, argument: str = "") -> list[bool]:
    return correlated(rows, sampler, argument).sampled.tolist()


@given(batches)
def test_a_traceparent_is_continued_and_everything_else_begins_a_trace(batch: list[Row]) -> None:
    traced = correlated(batch)
    new = [i for i, row in enumerate(batch) if not row.parent]
    for i, row in enumerate(batch):
        if row.parent:
            assert traced.trace_id[i].tobytes() == row.trace
            assert traced.parent_id[i].tobytes() == row.parent
            assert traced.sampled[i] == bool(row.flags & 1)
        else:
            assert not traced.parent_id[i].any()
            assert traced.sampled[i]
    assert len({traced.trace_id[i].tobytes() for i in new}) == len(new)
    assert len({one.tobytes() for one in traced.span_id}) == len(batch)


def test_ids_are_never_zero_and_differ_from_run_to_run() -> None:
    one, other = correlated([Row()] * 1000), correlated([Row()] * 1000)
    for traced in (one, other):
        assert traced.trace_id.view(np.uint64).all()
        assert traced.span_id.view(np.uint64).all()
    assert not set(map(bytes, one.trace_id)) & set(map(bytes, other.trace_id))


def test_a_source_of_zeros_still_gives_ids() -> None:
    correlator = Correlator(make_sampler(), Health(), random=bytes)
    traced = correlator.correlate(make_requests([Row()]), GROUPS)
    assert traced.trace_id.any()
    assert traced.span_id.any()


def test_a_batch_without_requests() -> None:
    for name in SAMPLERS:
        assert sampled([], name) == []


SDK: dict[str, Sampler] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased(0.3),
    "parentbased_always_on": ParentBased(ALWAYS_ON),
    "parentbased_always_off": ParentBased(ALWAYS_OFF),
    "parentbased_traceidratio": ParentBased(TraceIdRatioBased(0.3)),
}


@pytest.mark.parametrize("name", SDK)
@given(batch=batches)
def test_decisions_are_those_of_the_sdk(name: str, batch: list[Row]) -> None:
    traced = correlated(batch, name, "0.3")
    for i, row in enumerate(batch):
        trace_id = int.from_bytes(traced.trace_id[i].tobytes(), "big")
        context = None
        if row.parent:
            parent = SpanContext(trace_id, int.from_bytes(row.parent, "big"), True, TraceFlags(row.flags))
            context = set_span_in_context(NonRecordingSpan(parent))
        decision = SDK[name].should_sample(context, trace_id, "GET").decision
        assert traced.sampled[i] == decision.is_sampled()


@pytest.mark.parametrize("ratio", ["0", "1e-9", "0.01", "0.5", "0.999999999999", "1", "1.0"])
def test_ratio(ratio: str) -> None:
    bound = round(float(ratio) * 2**64)
    near = [max(0, min(2**64 - 1, bound + i)) for i in (-1, 0, 1)] + [1, 2**64 - 1]
    batch = [Row(trace=b"\xff" * 8 + low.to_bytes(8, "big"), parent=b"P" * 8, flags=0) for low in near]
    assert sampled(batch, "traceidratio", ratio) == [low < bound for low in near]


def test_who_keeps_more_keeps_what_others_keep() -> None:
    batch = make_requests([Row()] * 2000)
    decisions = [
        Correlator(make_sampler("traceidratio", ratio), Health(), random=Random(7).randbytes)
        .correlate(batch, GROUPS)
        .sampled
        for ratio in ("0.01", "0.1", "0.5", "0.9", "")
    ]
    for fewer, more in pairwise(decisions):
        assert not (fewer & ~more).any()
        assert fewer.sum() < more.sum()
    assert 850 < decisions[2].sum() < 1150


def test_errors_and_slow_ones_are_kept() -> None:
    batch = [
        Row(),
        Row(group=FAILED),
        Row(duration=200 * MS),
        Row(duration=200 * MS + 1),
        Row(parent=b"P" * 8, flags=1),
        Row(group=FAILED, parent=b"P" * 8, flags=0),
    ]
    assert sampled(batch, "keep_errors_slow", "slow=200ms,ratio=0") == [False, True, False, True, False, True]
    assert sampled(batch, "keep_errors_slow", " ratio = 1 ") == [True] * 6


def test_keep_errors_slow_has_defaults() -> None:
    batch = [Row(duration=499 * MS)] * 1000 + [Row(duration=501 * MS)] * 10
    kept = sampled(batch, "keep_errors_slow")
    assert all(kept[1000:])
    assert 0 < sum(kept[:1000]) < 60


def test_groups_that_come_later_are_known() -> None:
    correlator, groups = Correlator(make_sampler("keep_errors_slow", "ratio=0"), Health()), GROUPS[:1]
    assert not correlator.correlate(make_requests([Row()]), groups).sampled.any()
    groups.append(GROUPS[FAILED])
    assert correlator.correlate(make_requests([Row(group=1)]), groups).sampled.all()


@pytest.mark.parametrize("name", ["", "jaeger_remote", "always", "traceidratio,"])
def test_an_unknown_sampler_is_told_what_is_known(name: str) -> None:
    with pytest.raises(UsageError, match=r"known are always_on.*keep_errors_slow"):
        make_sampler(name)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("traceidratio", "1.1", "from 0 to 1"),
        ("traceidratio", "-0.1", "from 0 to 1"),
        ("parentbased_traceidratio", "nan", "from 0 to 1"),
        ("parentbased_traceidratio", "many", "'many' is not a ratio"),
        ("keep_errors_slow", "slow=fast", "units ns, us, ms, s, m"),
        ("keep_errors_slow", "slow=500", "units ns, us, ms, s, m"),
        ("keep_errors_slow", "ratio=2", "from 0 to 1"),
        ("keep_errors_slow", "0.1", "slow=500ms,ratio=0.01"),
        ("keep_errors_slow", "slow=1s;ratio=0.1", "is not a duration"),
    ],
)
def test_a_wrong_argument_is_told_what_is_allowed(name: str, argument: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_sampler(name, argument)
    assert name in str(caught.value)


@given(st.sampled_from(sorted(SAMPLERS)), st.text(max_size=20))
def test_any_argument_makes_a_sampler_or_a_usage_error(name: str, argument: str) -> None:
    try:
        sampler = make_sampler(name, argument)
    except UsageError:
        return
    assert len(Correlator(sampler, Health()).correlate(make_requests([Row()]), GROUPS).sampled) == 1
