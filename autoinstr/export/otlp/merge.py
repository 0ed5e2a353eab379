"""Two delta snapshots in, one that covers both times out: nothing that was counted is lost while a backend is away.

Pure. The result has at most MAX_SERIES series and one overflow series a service and metric: what is beyond is counted
there, so that an outage of any length costs a bounded amount of memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from autoinstr.model import Attributes, Exponential, Series, Snapshot
from autoinstr.semconv import OTEL_METRIC_OVERFLOW

# Several full collections of the default cardinality limit (2000 a metric); a series takes about 1 KB.
MAX_SERIES = 12_000
MAX_EXEMPLARS = 16  # of one series; the newest are kept
# As in the SDKs: more buckets of an exponential histogram than this are halved in resolution.
MAX_EXPONENTIAL_BUCKETS = 160

Key = tuple[object, ...]


def merge(older: Snapshot, newer: Snapshot) -> Snapshot:
    """Sum of two delta snapshots; takes over the objects of both."""
    table: dict[Key, Series] = {}
    _add(table, older.series)
    _add(table, newer.series)
    return Snapshot(older.start, newer.end, True, list(table.values()), newer.own)


def _add(table: dict[Key, Series], series: Iterable[Series]) -> None:
    for one in series:
        key = _key(one)
        if key not in table and len(table) >= MAX_SERIES:
            one.attributes = {OTEL_METRIC_OVERFLOW: True}
            key = _key(one)
        known = table.get(key)
        table[key] = one if known is None else _sum(known, one)


def _key(series: Series) -> Key:
    return (series.name, series.service, _items(series.attributes))


def _items(attributes: Attributes) -> Key:
    pairs = sorted(attributes.items())
    return tuple((key, type(value), tuple(value) if isinstance(value, list) else value) for key, value in pairs)


def _sum(older: Series, newer: Series) -> Series:
    exponential = buckets = None
    if older.exponential and newer.exponential:
        exponential = add_exponential(older.exponential, newer.exponential)
    elif older.buckets is not None and newer.buckets is not None:
        buckets = older.buckets + newer.buckets
    return replace(
        newer,
        start=min(older.start, newer.start),
        count=older.count + newer.count,
        sum=older.sum + newer.sum,
        buckets=buckets,
        exponential=exponential,
        exemplars=(older.exemplars + newer.exemplars)[-MAX_EXEMPLARS:],
    )


def add_exponential(one: Exponential, other: Exponential) -> Exponential:
    """Sum of two exponential histograms, at the finest scale that both fit in."""
    scale = min(one.scale, other.scale)
    one, other = at_scale(one, scale), at_scale(other, scale)
    low = min(one.offset, other.offset)
    high = max(one.offset + len(one.counts), other.offset + len(other.counts))
    counts = np.zeros(high - low, np.int64)
    for part in (one, other):
        counts[part.offset - low : part.offset - low + len(part.counts)] += part.counts
    total = Exponential(scale, one.zero_count + other.zero_count, low, counts)
    while len(total.counts) > MAX_EXPONENTIAL_BUCKETS:
        total = at_scale(total, total.scale - 1)
    return total


def at_scale(histogram: Exponential, scale: int) -> Exponential:
    """The same counts in coarser buckets: each step of the scale joins two neighbours."""
    shift = histogram.scale - scale
    if shift == 0 or not len(histogram.counts):
        return replace(histogram, scale=scale, offset=histogram.offset >> shift)
    index = (np.arange(len(histogram.counts)) + histogram.offset) >> shift
    low = int(index[0])
    counts = np.bincount(index - low, weights=histogram.counts).astype(np.int64)
    return Exponential(scale, histogram.zero_count, low, counts)
