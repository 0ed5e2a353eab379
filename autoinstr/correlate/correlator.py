"""From requests to traced requests: trace id, span id, parent, and whether the span is kept.

In: `Requests` and the groups they refer to. Out: `Traced`, of the same rows in the same order.
A request that came with a valid traceparent of others continues that trace; else it has the place that the kernel side
has given it; where that has given none, it begins a new trace. Ids are never all zero. Must never drop a row: what is
not sampled still counts in the metrics. What has no parent is counted by the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from autoinstr.correlate.instrumented import Instrumented
from autoinstr.correlate.renames import Renames
from autoinstr.correlate.samplers import Candidates, Sampler
from autoinstr.health import ORPHANS, Health
from autoinstr.model import Follower, Group, Places, Requests, Traced
from autoinstr.turns import step


class Correlator:
    """Holds the sampler. `random` gives so many bytes; numpy's own sources would cost 2 MB of memory."""

    def __init__(self, sampler: Sampler, health: Health, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._sampler = sampler
        self._health = health
        self._random = random
        self._groups = Follower[Group]()
        self._failed = np.zeros(0, np.bool_)  # by group
        self._renames = Renames()
        self.instrumented = Instrumented()

    @step
    def correlate(self, requests: Requests, groups: list[Group]) -> Traced:
        """Add ids and the sampling decision. `groups`: see `model.Follower`."""
        places = requests.places or _nowhere(len(requests))
        if places.renamed:
            self._renames.add(places.renamed)
        trace_id, span_id, parent_id = places.trace_id, places.span_id, places.parent_id
        decided, flags = places.decided, places.sampled.astype(np.uint8)
        self._renames.apply(trace_id, decided, flags)
        self._fill(trace_id, span_id)
        child = requests.has_parent
        if child.any():
            trace_id[child] = requests.parent_trace[child]
            parent_id[child] = requests.parent_span[child]
            flags[child] = requests.parent_flags[child]
            decided = decided | child
        orphans = places.orphan[parent_id.view(np.uint64)[:, 0] == 0]
        if len(orphans):
            self._health.found_orphans(np.bincount(orphans, minlength=len(ORPHANS))[: len(ORPHANS)].tolist())
        candidates = Candidates(
            trace_id, decided, flags, self._failed_groups(groups)[requests.group], requests.end - requests.start
        )
        sampled = self._sampler(candidates)
        self.instrumented.learn(requests, places.own, groups)
        return Traced(requests, trace_id, span_id, parent_id, self.instrumented.without(sampled, requests.group))

    def forget(self, gone: Collection[int]) -> None:
        """These services are no more, and their indices are for others."""
        self.instrumented.forget(gone)

    def _fill(self, trace_id: NDArray[np.uint8], span_id: NDArray[np.uint8]) -> None:
        """Ids for those that have none."""
        new = np.flatnonzero(span_id.view(np.uint64)[:, 0] == 0)
        if not len(new):
            return
        words = np.frombuffer(bytearray(self._random(24 * len(new))), np.uint64)
        words[words == 0] = 1  # all zero means "no id"
        raw = words.view(np.uint8)
        trace_id[new] = raw[: 16 * len(new)].reshape(-1, 16)
        span_id[new] = raw[16 * len(new) :].reshape(-1, 8)

    def _failed_groups(self, groups: list[Group]) -> NDArray[np.bool_]:
        new, anew = self._groups.more(groups)
        if new or anew:
            failed = np.fromiter((group.failed for group in new), np.bool_, len(new))
            self._failed = failed if anew else np.concatenate((self._failed, failed))
        return self._failed


def _nowhere(count: int) -> Places:
    return Places(
        trace_id=np.zeros((count, 16), np.uint8),
        span_id=np.zeros((count, 8), np.uint8),
        parent_id=np.zeros((count, 8), np.uint8),
        decided=np.zeros(count, np.bool_),
        sampled=np.zeros(count, np.bool_),
        own=np.zeros(count, np.bool_),
        orphan=np.zeros(count, np.uint8),
        peer_pid=np.zeros(count, np.uint32),
    )
