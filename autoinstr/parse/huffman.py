"""Huffman codes of HPACK (RFC 7541, 5.2): many strings at once, a byte of each at a time.

In: coded strings. Out: what they say, and which are right. The code itself is the package `hpack`'s; its decoder takes
a quarter of a microsecond for each byte.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from numpy.typing import NDArray

from autoinstr.parse.texts import Texts

# Strings worked on at a time, those of like sizes: a long one costs its neighbours nothing.
_CHUNK = 512
_END = 256  # the code that no string may hold
# An entry of the machine, by the node of the code's tree where a byte begins, and that byte: the node where it ends, in
# the second byte, and the symbols that end in it, at most two as none is shorter than five bits, in those behind.
_COUNT, _WRONG, _NODE = 3, 4, 0xFF00


@cache
def _machine() -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The entries, and the nodes (times 256) where a string may end."""
    children = np.zeros((256, 2), np.int16)  # a node, or -1 - symbol
    nodes = 1
    for symbol, (code, size) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        at = 0
        for bit in range(size - 1, 0, -1):
            side = code >> bit & 1
            if not children[at, side]:
                children[at, side] = nodes
                nodes += 1
            at = int(children[at, side])
        children[at, code & 1] = -1 - symbol
    node, byte = np.indices((256, 256), np.int16).reshape(2, -1)
    entry: NDArray[np.uint32] = np.zeros(256 * 256, np.uint32)
    for bit in range(7, -1, -1):
        node = children[node, byte >> bit & 1]
        ends = node < 0
        symbols = np.where(ends, -1 - node, 0).astype(np.uint32)
        places = np.where(entry & _COUNT, np.uint32(24), np.uint32(16))
        entry |= np.where(symbols == _END, np.uint32(_WRONG), (symbols & 0xFF) << places)
        entry += ends
        node[ends] = 0
    may_end = np.zeros(1 << 16, np.bool_)
    last = 0
    for _ in range(8):  # fewer than eight bits of padding, all ones
        may_end[last << 8] = True
        last = max(int(children[last, 1]), 0)
    entry |= node.astype(np.uint32) << 8
    return entry, may_end


def decode(coded: Texts, *, cut: NDArray[np.bool_]) -> tuple[Texts, NDArray[np.bool_]]:
    """What each string says, and whether it is right. `cut`: it goes on, so that it may end within a code."""
    count = len(coded)
    order = np.argsort(-coded.size, kind="stable")
    at, size = np.empty(count, np.int64), np.zeros(count, np.int64)
    right = np.zeros(count, np.bool_)
    parts = [np.empty(0, np.uint8)]
    done = 0
    for start in range(0, count, _CHUNK):
        rows = order[start : start + _CHUNK]
        text, size[rows], right[rows] = _decode(coded.data, coded.at[rows], coded.size[rows], cut[rows])
        ends = np.cumsum(size[rows])
        at[rows] = done + ends - size[rows]
        done += len(text)
        parts.append(text)
    return Texts(np.concatenate(parts), at, size), right


def _decode(
    data: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.int64], cut: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """The same of some strings, the longest first; what they say lies end to end."""
    machine, may_end = _machine()
    steps = int(size[0])
    entries = np.zeros((steps, len(at)), np.uint32)
    going_on = np.searchsorted(-size, -np.arange(steps), "left").tolist()  # at each step: strings that are longer
    state = np.zeros(len(at), np.uint32)
    for step, many in enumerate(going_on):
        index = state[:many] & _NODE
        index |= data.take(at[:many] + step)
        state[:many] = entries[step, :many] = machine.take(index)
    entries = np.ascontiguousarray(entries.T)
    ends = entries & _COUNT
    symbols = entries.view(np.uint8).reshape(len(at), steps, 4)[:, :, 2:]
    text = symbols[np.stack([ends > 0, ends > 1], axis=2)]
    right = (entries & _WRONG == 0).all(axis=1) & (cut | may_end.take(state & _NODE))
    return text, ends.sum(axis=1, dtype=np.int64), right
