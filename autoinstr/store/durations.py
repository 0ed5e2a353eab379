"""Durations in buckets that are fine enough for percentiles: eight an octave, 9 % wide each.

In: nanoseconds. Out: bucket numbers, and from counts by bucket the durations that a share of requests stayed below.
Interpolated within its bucket, a percentile is off by a few percent at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

AN_OCTAVE = 8
LOWEST = 9  # power of two: 0.5 us; what is below is in bucket 0
BITS = 8
BUCKETS = 1 << BITS  # the last one holds what takes more than half an hour


def bucket_of(nanoseconds: NDArray[np.int64]) -> NDArray[np.int32]:
    """Bucket i > 0 holds 2**(LOWEST + (i-1)/8) <= ns < 2**(LOWEST + i/8)."""
    power = np.log2(np.maximum(nanoseconds, 1).astype(np.float32))
    bucket = np.floor((power - LOWEST) * AN_OCTAVE).astype(np.int32) + 1
    found: NDArray[np.int32] = np.clip(bucket, 0, BUCKETS - 1)
    return found


def upper_bound(bucket: float) -> float:
    """Milliseconds."""
    return float(2 ** (LOWEST + bucket / AN_OCTAVE) / 1e6)


def quantiles(counts: NDArray[Any], shares: Sequence[float]) -> list[NDArray[np.float64]]:
    """Milliseconds for each share, along the last axis (of buckets); NaN where nothing was counted."""
    below = np.cumsum(counts, axis=-1, dtype=np.float64)
    total = below[..., -1:]
    found = []
    for share in shares:
        rank = share * total
        bucket = np.argmax(below >= np.maximum(rank, 1e-9), axis=-1)[..., None]
        inside = np.take_along_axis(counts, bucket, -1)
        before = np.take_along_axis(below, bucket, -1) - inside
        part = (rank - before) / np.maximum(inside, 1)
        value = 2 ** (LOWEST + (bucket - 1 + np.clip(part, 0, 1)) / AN_OCTAVE) / 1e6
        found.append(np.where(total > 0, value, np.nan)[..., 0])
    return found
