"""How header blocks of HPACK are built (RFC 7541, 6): fields of many blocks at once, without what they mean.

In: blocks. Out: their fields in order, as numbers and places in the data; blocks that can't be right have none. What a
field means depends on the table of its direction (`hpack_tables.py`); where it ends does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse.texts import marked, numbers, sliding

SLACK = 16  # bytes that must follow the last block: an integer may seem to go on behind its end
_MAX_SHIFT = 28  # of the last seven bits of an integer that goes on; a longer one is none of ours (5.1)
# With so few blocks left they are walked through one by one: an array's fixed cost is that of about so many fields.
_FEW = 12
_FAR = 1 << 40  # behind the end of everything

# By the first byte of a field
_BYTES = np.arange(256)
_INDEXED = _BYTES >= 0x80
_ADDS = (_BYTES & 0xC0) == 0x40
_RESIZES = (_BYTES & 0xE0) == 0x20
_MASK = np.select([_INDEXED, _ADDS, _RESIZES], [0x7F, 0x3F, 0x1F], 0x0F)
_mask = _MASK.tolist()
# Of each byte of a word
_ONES, _LOW, _ONE = np.uint64(0x0101010101010101), np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(1)


@dataclass(slots=True)
class Strings:
    """n strings as they came."""

    at: NDArray[np.int64]
    size: NDArray[np.int64]
    coded: NDArray[np.bool_]  # by Huffman

    def take(self, rows: NDArray[np.intp]) -> Strings:
        return Strings(self.at[rows], self.size[rows], self.coded[rows])


@dataclass(slots=True)
class Fields:
    """The fields of n blocks, in order."""

    block: NDArray[np.intp]
    index: NDArray[np.int64]  # of the entry that has its name, or all of it; 0: the name is its own
    literal: NDArray[np.int64]  # which of the literals it is; -1: none, the entry is all
    adds: NDArray[np.bool_]  # it is an entry more
    # by literal
    name: Strings  # empty where it has an index
    value: Strings
    # by block
    wrong: NDArray[np.bool_]
    resizes: dict[int, int]  # block: the largest size that it gives the table


class _Found(NamedTuple):
    """Fields, as they are found: the nth of each of some blocks."""

    block: NDArray[np.intp]
    nth: NDArray[np.int64]
    index_: NDArray[np.int64]
    adds: NDArray[np.bool_]
    is_literal: NDArray[np.bool_]
    literals: NDArray[np.int64]  # (literals, 6): place, size and whether it is coded, of the name and of the value


def read(data: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.int64]) -> Fields:
    """The fields of all blocks `data[at[i] : at[i] + size[i]]`; SLACK bytes must follow the last."""
    reader = _Reader(data, at.copy(), at + size, np.zeros(len(at), np.int64), {})
    found: list[_Found] = []
    blocks = marked(size > 0)
    while len(blocks) > _FEW:
        found.append(reader.run(blocks))
        blocks = blocks[reader.at[blocks] < reader.end[blocks]]
        if len(blocks):
            found.append(reader.step(blocks))
            blocks = blocks[reader.at[blocks] < reader.end[blocks]]
    if len(blocks):
        found.append(reader.walk(blocks.tolist()))
    return _in_order(found, reader.at > reader.end, reader.resizes)


def _in_order(found: list[_Found], wrong: NDArray[np.bool_], resizes: dict[int, int]) -> Fields:
    """Bring together the fields of each block."""
    if not found:
        found = [_NONE]
    block, nth, index, adds, is_literal, literals = (
        np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*found, strict=True)
    )
    literal = np.where(is_literal, np.cumsum(is_literal) - 1, -1)
    if wrong.any():
        right = ~wrong[block]
        block, nth, index, adds, literal = (one[right] for one in (block, nth, index, adds, literal))
        for one in marked(wrong).tolist():
            resizes.pop(one, None)
    count = np.bincount(block, minlength=len(wrong))
    place = (np.cumsum(count) - count)[block] + nth
    order = np.empty(len(place), np.intp)
    order[place] = np.arange(len(place))
    columns = literals.T
    return Fields(
        block=np.repeat(np.arange(len(wrong)), count),
        index=index[order],
        literal=literal[order],
        adds=adds[order],
        name=Strings(columns[0], columns[1], columns[2] != 0),
        value=Strings(columns[3], columns[4], columns[5] != 0),
        wrong=wrong,
        resizes=resizes,
    )


@dataclass(slots=True)
class _Reader:
    """Where in each block it is."""

    data: NDArray[np.uint8]
    at: NDArray[np.int64]  # behind `end`: the block is wrong
    end: NDArray[np.int64]
    count: NDArray[np.int64]  # of fields so far
    resizes: dict[int, int]

    def run(self, blocks: NDArray[np.intp]) -> _Found:
        """The next fields of each of these blocks, up to eight, as far as each is the index of an entry in one byte."""
        at = self.at[blocks]
        word = sliding(self.data, len(self.data) - 7)[at]
        low = word & _LOW
        ones = (low + _LOW) & word & ~(low + _ONES) | _LOW  # in bytes from 0x81 to 0xfe, all bits
        count = np.minimum(np.bitwise_count(ones & ~(ones + _ONE)) >> 3, self.end[blocks] - at)
        end = np.cumsum(count)
        nth = numbers(int(end[-1])) - np.repeat(end - count, count)
        index = (self.data.take(np.repeat(at, count) + nth) & 0x7F).astype(np.int64)
        nth += np.repeat(self.count[blocks], count)
        self.at[blocks] = at + count
        self.count[blocks] += count
        no = np.zeros(len(nth), np.bool_)
        return _Found(np.repeat(blocks, count), nth, index, no, no, np.empty((0, 6), np.int64))

    def step(self, blocks: NDArray[np.intp]) -> _Found:
        """The next field of each of these blocks."""
        at = self.at[blocks]
        first = self.data.take(at)
        index = _integers(self.data, at, first, _MASK.take(first))
        indexed, sized = _INDEXED.take(first), _RESIZES.take(first)
        at[indexed & (index == 0)] = _FAR
        is_literal = ~(indexed | sized)
        rows = marked(is_literal)
        literals = np.zeros((len(rows), 6), np.int64)
        if len(rows):
            where, end = at[rows], self.end[blocks[rows]]
            own = marked(index[rows] == 0)
            if len(own):
                where[own] = _strings(self.data, where[own], end[own], literals[:, :3], own)
            at[rows] = _strings(self.data, where, end, literals[:, 3:], slice(None))
        self.at[blocks] = at
        adds, nth = _ADDS.take(first), self.count[blocks]
        if sized.any():
            for block, size in zip(blocks[sized].tolist(), index[sized].tolist(), strict=True):
                self.resizes[block] = max(size, self.resizes.get(block, 0))
            some = marked(~sized)
            blocks, nth, index, adds, is_literal = (one[some] for one in (blocks, nth, index, adds, is_literal))
        self.count[blocks] += 1
        return _Found(blocks, nth, index, adds, is_literal, literals)

    def walk(self, blocks: list[int]) -> _Found:
        """All further fields of some blocks, one by one."""
        fields: list[tuple[int, bool, bool]] = []
        literals: list[tuple[int, int, bool, int, int, bool]] = []
        count = [self._walk(block, fields, literals) for block in blocks]
        index_, adds, is_literal = np.array(fields, np.int64).reshape(-1, 3).T
        nth = [number for block, many in zip(blocks, count, strict=True) for number in range(many)]
        block = np.repeat(np.array(blocks), count)
        columns = np.array(literals, np.int64).reshape(-1, 6)
        return _Found(block, self.count[block] + np.array(nth, np.int64), index_, adds != 0, is_literal != 0, columns)

    def _walk(
        self,
        block: int,
        fields: list[tuple[int, bool, bool]],
        literals: list[tuple[int, int, bool, int, int, bool]],
    ) -> int:
        """Add all further fields of one block; how many there are."""
        start, size = int(self.at[block]), int(self.end[block] - self.at[block])
        text = self.data[start : start + size + SLACK].tobytes()
        at, before = 0, len(fields)
        while at < size:
            first = text[at]
            index, at = _integer(text, at, _mask[first])
            if first >= 0x80:
                fields.append((index, False, False))
                at = at if index else _FAR
            elif first & 0xE0 == 0x20:
                self.resizes[block] = max(index, self.resizes.get(block, 0))
            else:
                name_at, name_size, name_coded = 0, 0, False
                if not index:
                    name_at, name_size, name_coded = _string(text, min(at, size))
                    at = name_at + name_size
                value_at, value_size, value_coded = _string(text, min(at, size))
                at = value_at + value_size
                fields.append((index, first >= 0x40, True))
                literals.append((start + name_at, name_size, name_coded, start + value_at, value_size, value_coded))
        self.at[block] += at
        return len(fields) - before


def _integers(
    data: NDArray[np.uint8], at: NDArray[np.int64], first: NDArray[np.uint8], mask: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """An integer at each place (5.1), whose first bits lie under `mask`; `at` goes on behind it."""
    value = first.astype(np.int64) & mask
    at += 1
    rows = marked(value == mask)
    shift = 0
    while len(rows):
        if shift > _MAX_SHIFT:
            at[rows] = _FAR
            break
        byte = data.take(at[rows], mode="clip")
        value[rows] += (byte & 0x7F).astype(np.int64) << shift
        at[rows] += 1
        shift += 7
        rows = rows[byte >= 0x80]
    return value


def _strings(
    data: NDArray[np.uint8],
    at: NDArray[np.int64],
    end: NDArray[np.int64],
    out: NDArray[np.int64],
    rows: NDArray[np.intp] | slice,
) -> NDArray[np.int64]:
    """Note the string at each place (5.2) as place, size and whether it is coded; where it ends, or behind `end`."""
    at = np.minimum(at, end)  # a block that has ended already goes on behind its end by a byte or more
    first = data.take(at)
    size = _integers(data, at, first, 0x7F)
    out[rows, 0], out[rows, 1], out[rows, 2] = at, size, first >= 0x80
    at += size
    return at


def _integer(text: bytes, at: int, mask: int) -> tuple[int, int]:
    value = text[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, _MAX_SHIFT + 1, 7):
        byte = text[at]
        value += (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    return value, _FAR


def _string(text: bytes, at: int) -> tuple[int, int, bool]:
    """Place and size of a string, and whether it is coded."""
    size, place = _integer(text, at, 0x7F)
    return place, size, text[at] >= 0x80


_NOTHING = np.empty(0, np.int64)
_NONE = _Found(_NOTHING, _NOTHING, _NOTHING, _NOTHING > 0, _NOTHING > 0, np.empty((0, 6), np.int64))
