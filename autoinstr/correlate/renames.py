"""Traces that have two ids: the one that the kernel side gave, and the one that came in a header that it can't read.

The kernel side does not read compressed headers (HTTP/2), so what is called meanwhile has the id that it gave. In:
pairs of ids, learned before whatever is called has ended. Out: trace ids, put right in place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Renamed

# Requests in flight, and those that were called for them and are told a moment later.
MAX_RENAMED = 16384


class Renames:
    """The newest renames, by the second half of the id that they were known as: the kernel side's are random."""

    def __init__(self) -> None:
        self._key = np.zeros(0, np.uint64)  # sorted
        self._age = np.zeros(0, np.int64)
        self._trace = np.zeros((0, 16), np.uint8)
        self._flags = np.zeros(0, np.uint8)
        self._count = 0

    def add(self, new: Renamed) -> None:
        key = np.concatenate((self._key, _half(new.known_as)))
        age = np.concatenate((self._age, np.arange(len(new.flags)) + self._count))
        self._count += len(new.flags)
        kept = np.flatnonzero(age >= self._count - MAX_RENAMED)
        kept = kept[np.argsort(key[kept], kind="stable")]
        self._key, self._age = key[kept], age[kept]
        self._trace = np.concatenate((self._trace, new.trace_id))[kept]
        self._flags = np.concatenate((self._flags, new.flags))[kept]

    def apply(self, trace_id: NDArray[np.uint8], decided: NDArray[np.bool_], flags: NDArray[np.uint8]) -> None:
        """Put trace ids right, and what was decided on sampling."""
        if not len(self._key) or not len(trace_id):
            return
        half = _half(trace_id)
        at = np.minimum(np.searchsorted(self._key, half), len(self._key) - 1)
        row = np.flatnonzero(self._key[at] == half)
        trace_id[row] = self._trace[at[row]]
        decided[row] = True
        flags[row] = self._flags[at[row]]


def _half(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(ids).view(np.uint64)[:, 1]
