"""Paths cut at their slashes, so that all of them can be walked at once, one segment at a time.

In: paths as texts. Out: segments with their hashes. Never looks at what a segment means (`words.py`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse import texts as tx
from autoinstr.parse.texts import Texts

_SLASH = ord("/")
_EDGE = np.uint64(int.from_bytes(os.urandom(8), "little") | 1)


@dataclass(slots=True)
class Paths:
    """n paths: the segments of path i are segments[first[i] : first[i] + count[i]]."""

    segments: Texts
    hashes: NDArray[np.uint64]  # one a segment
    first: NDArray[np.intp]  # (n,)
    count: NDArray[np.intp]  # (n,) at least 1


def cut(texts: Texts) -> Paths:
    """Cut paths that all begin with a slash and lie end to end."""
    slash = tx.marked(texts.data == _SLASH)
    end = np.append(slash[1:], len(texts.data))
    size = end - slash - 1
    begins = np.zeros(len(texts.data), np.bool_)
    begins[texts.at] = True
    first = tx.marked(begins.take(slash))
    segments = Texts(texts.data, slash + 1, size)
    return Paths(
        segments,
        tx.hashes(tx.windows(texts.data), segments.at, size),
        first,
        np.append(first[1:], len(slash)) - first,
    )


def hash_of(segment: str) -> int:
    """Hash of one segment, the same as `cut` finds."""
    data = np.frombuffer(segment.encode(), np.uint8)
    return int(tx.hashes(tx.windows(data), np.zeros(1, np.int64), np.array([len(data)]))[0])


def edges(node: NDArray[np.int32], segment: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Key of the way from a node along a segment."""
    return segment ^ (node.astype(np.uint64) * _EDGE)


def edge(node: int, segment: int) -> int:
    """The same for one."""
    return segment ^ (node * int(_EDGE) & 0xFFFF_FFFF_FFFF_FFFF)
