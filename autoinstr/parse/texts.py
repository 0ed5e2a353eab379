"""Many byte strings as one array: lying end to end, and operations on all of them at once.

In: arrays of bytes, offsets and sizes. Out: the same kinds of arrays. Never a loop over the strings: the cost of a
request must not depend on whether its path was seen before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.turns import step

U64 = np.uint64
MAX_HASHED = 256  # bytes of a string that its hash covers: those who need longer ones exact must refuse them

_WORDS = MAX_HASHED // 8
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], U64)  # the first 0..8 bytes of a little-endian word
_HEX = np.frombuffer(b"0123456789ABCDEF", np.uint8)
# Whoever sends requests picks what is hashed: without knowing these he can't make two strings collide.
_ADDED = np.frombuffer(os.urandom(8 * _WORDS), U64)
_FIRST = np.frombuffer(os.urandom(8 * _WORDS), U64) | U64(1)
_SECOND = np.frombuffer(os.urandom(8 * _WORDS), U64) | U64(1)
_FEW = 256  # strings: with fewer, an array's fixed cost for each of their words counts more than the words do
_SIZE, _MIX = (np.frombuffer(os.urandom(16), U64) | U64(1)).tolist()


@dataclass(slots=True)
class Texts:
    """n byte strings: the ith is `data[at[i] : at[i] + size[i]]`."""

    data: NDArray[np.uint8]
    at: NDArray[np.int64]  # (n,)
    size: NDArray[np.int64]  # (n,)

    def __len__(self) -> int:
        return len(self.at)

    def text(self, index: int) -> bytes:
        at = int(self.at[index])
        return self.data[at : at + int(self.size[index])].tobytes()


@step
def marked(marks: NDArray[Any]) -> NDArray[np.intp]:
    """Indices of the marks: np.flatnonzero without the layers around it, which small batches pay for."""
    return marks.nonzero()[0]


def copied(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of a column of short rows, each with one move: numpy copies by rows, at a fixed cost, else."""
    count, width = rows.shape
    return rows.view(np.dtype(("V", width))).copy().view(np.uint8).reshape(count, width)


def no_texts(count: int) -> Texts:
    """`count` empty strings."""
    return Texts(np.empty(0, np.uint8), np.zeros(count, np.int64), np.zeros(count, np.int64))


@step
def gather(data: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.int64]) -> Texts:
    """Copy pieces of `data` so that they lie end to end, in order."""
    end = np.cumsum(size)
    offset = end - size
    index = np.repeat(at - offset, size)
    index += numbers(len(index))
    return Texts(data.take(index), offset, size)


_counted = np.empty(0, np.int32)


def numbers(count: int) -> NDArray[np.int32]:
    """0, 1, 2 ...; kept, since memory that is new for each batch costs page faults."""
    global _counted  # noqa: PLW0603 - a constant that grows
    if len(_counted) < count:
        _counted = np.arange(count + count // 4, dtype=np.int32)
    return _counted[:count]


def concatenate(parts: list[Texts]) -> Texts:
    """The strings of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    base = np.cumsum([0] + [len(part.data) for part in parts[:-1]])
    return Texts(
        np.concatenate([part.data for part in parts]),
        np.concatenate([part.at + start for part, start in zip(parts, base, strict=True)]),
        np.concatenate([part.size for part in parts]),
    )


@step
def escape(texts: Texts) -> Texts:
    """Percent-encode what is no printable ASCII, so that the result is valid UTF-8 and safe to print.

    Such bytes are not allowed in a request target (RFC 3986, 2), but come all the same.
    """
    data = texts.data
    if not len(data) or (data.min() > 32 and data.max() < 127):
        return texts
    odd = (data < 33) | (data > 126)
    width = np.where(odd, 3, 1)
    end = np.cumsum(width)
    place = end - width
    out = np.empty(int(end[-1]), np.uint8)
    out[place] = np.where(odd, ord("%"), data)
    bad, where = data[odd], place[odd]
    out[where + 1] = _HEX[bad >> 4]
    out[where + 2] = _HEX[bad & 15]
    stop = np.append(place, len(out))  # new place of each old offset, the end included
    at = stop[texts.at]
    return Texts(out, at, stop[texts.at + texts.size] - at)


def cut_before(texts: Texts, byte: int) -> tuple[Texts, NDArray[np.intp]]:
    """Cut each of the texts, which lie end to end, before the first such byte; also tells which have one."""
    place = marked(texts.data == byte)
    if not len(place):
        return texts, place
    rows, first = np.unique(np.searchsorted(texts.at, place, "right") - 1, return_index=True)
    size = texts.size.copy()
    size[rows] = place[first] - texts.at[rows]
    return gather(texts.data, texts.at, size), rows


def windows(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The eight bytes from each offset of `data` on, its end included, as little-endian words; zeros follow."""
    padded = np.zeros(len(data) + 8, np.uint8)
    padded[:-8] = data
    return sliding(padded, len(data) + 1)


def sliding(data: NDArray[np.uint8], count: int) -> NDArray[np.uint64]:
    """The same as a view, for few look-ups: `data` must hold eight more bytes than `count - 1`."""
    return np.ndarray((count,), np.dtype("<u8"), data, strides=(1,))


@step
def hashes(words: NDArray[np.uint64], at: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64-bit hash of each string's first MAX_HASHED bytes and size; `words` are `windows` of its data, or `sliding`."""
    value = _hashed(words[at] & _MASKS.take(np.minimum(size, 8)), _ADDED[0], _FIRST[0], _SECOND[0])
    done = 8
    rows = marked(size > done)
    while len(rows) > _FEW and done < MAX_HASHED:
        word = words[at.take(rows) + done] & _MASKS.take(np.minimum(size.take(rows) - done, 8))
        nth = done >> 3
        value[rows] += _hashed(word, _ADDED[nth], _FIRST[nth], _SECOND[nth])
        done += 8
        rows = rows.compress(size.take(rows) > done)
    if len(rows) and done < MAX_HASHED:
        value[rows] += _hashed_rest(words, at.take(rows), np.minimum(size.take(rows), MAX_HASHED), done)
    return mix(value + size.astype(U64) * U64(_SIZE))


def _hashed_rest(
    words: NDArray[np.uint64], at: NDArray[np.int64], size: NDArray[np.int64], done: int
) -> NDArray[np.uint64]:
    """The same of few long strings, whose first `done` bytes are: all their words at once."""
    count = (size - done + 7) >> 3
    end = np.cumsum(count)
    nth = numbers(int(end[-1])) - np.repeat(end - count, count) + (done >> 3)
    place = nth << 3
    word = words[np.repeat(at, count) + place] & _MASKS.take(np.repeat(size, count) - place, mode="clip")
    return np.add.reduceat(_hashed(word, _ADDED.take(nth), _FIRST.take(nth), _SECOND.take(nth)), end - count)


def _hashed(
    word: NDArray[np.uint64],
    added: NDArray[np.uint64] | np.uint64,
    first: NDArray[np.uint64] | np.uint64,
    second: NDArray[np.uint64] | np.uint64,
) -> NDArray[np.uint64]:
    """Words of strings; by other secrets at each place, else differences in two words could cancel out."""
    value: NDArray[np.uint64] = (word ^ added) * first
    value ^= value >> U64(32)
    value *= second
    return value


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over the whole word; one to one."""
    value = (value ^ (value >> U64(32))) * U64(_MIX)
    value ^= value >> U64(29)
    return value


def combine(parts: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One hash of several columns."""
    value = mix(parts[0] ^ _ADDED[0])
    for index, part in enumerate(parts[1:], 1):
        value = mix((value ^ part) + _ADDED[index])
    return value


@step
def pack(marks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(n, w) marks as (n, w / 64) words, the first mark in the lowest bit; w is a multiple of 64."""
    return np.packbits(marks.ravel(), bitorder="little").view("<u8").reshape(len(marks), marks.shape[1] // 64)


def first_mark(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Index of the first bit set in each row of packed words; 64 * width if there is none."""
    position = np.full(len(words), 64 * words.shape[1])
    for column in range(words.shape[1] - 1, -1, -1):
        word = words[:, column]
        lowest = word & (U64(0) - word)
        # A power of two is exact as a float: its exponent is the index.
        index = (lowest.astype(np.float64).view(np.int64) >> 52) - 1023 + 64 * column
        position = np.where(word != 0, index, position)
    return position
