"""From requests to traced requests: trace id, span id, parent, and whether the span is kept.

In: `Requests` and the groups they refer to. Out: `Traced`, of the same rows in the same order.
A request that came with a valid traceparent continues that trace; any other one begins a new trace. Ids are random and
never all zero. Must never drop a row: what is not sampled still counts in the metrics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoinstr.correlate.samplers import Candidates, Sampler
from autoinstr.model import Group, Requests, Traced


class Correlator:
    """Holds the source of random ids and the sampler. `seed` is for tests; without it the system's entropy is used."""

    def __init__(self, sampler: Sampler, *, seed: int | None = None) -> None:
        self._sampler = sampler
        self._random = np.random.SFC64(seed)
        self._failed = np.zeros(0, np.bool_)  # by group

    def correlate(self, requests: Requests, groups: list[Group]) -> Traced:
        """Add ids and the sampling decision. `groups` is always the same list, which only grows."""
        trace_id, span_id = self._new_ids(len(requests))
        child = requests.has_parent
        parent_id = np.zeros_like(span_id)
        if child.any():
            trace_id[child] = requests.parent_trace[child]
            parent_id[child] = requests.parent_span[child]
        candidates = Candidates(
            trace_id,
            child,
            requests.parent_flags,
            self._failed_groups(groups)[requests.group],
            requests.end - requests.start,
        )
        return Traced(requests, trace_id, span_id, parent_id, self._sampler(candidates))

    def _new_ids(self, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        words = self._random.random_raw(3 * count)
        words[words == 0] = 1  # all zero means "no id"
        raw = words.view(np.uint8)
        return raw[: 16 * count].reshape(count, 16), raw[16 * count :].reshape(count, 8)

    def _failed_groups(self, groups: list[Group]) -> NDArray[np.bool_]:
        known = len(self._failed)
        if len(groups) > known:
            new = np.fromiter((group.failed for group in groups[known:]), np.bool_, len(groups) - known)
            self._failed = np.concatenate((self._failed, new))
        return self._failed
