"""HPACK (RFC 7541) for one who only listens, and perhaps came late: fields of header blocks get their meaning.

In: fields of blocks (`hpack_fields.py`), those of each direction of a connection in order. Out: name and value of
those that we use, UNKNOWN in place of what lies in a part of the table that was never seen. Values of other fields are
neither decoded nor kept. All of it is array work, whatever the blocks do to the tables.

An entry of a table is known by how many were added before it, so what is learned from any time on is found where it is
asked for, and nothing has to be evicted: what the other side has evicted it never refers to. The newest are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable as PackageTable
from numpy.typing import NDArray

from autoinstr.parse import huffman
from autoinstr.parse import texts as tx
from autoinstr.parse.hpack_fields import Fields, Strings
from autoinstr.parse.table import Table
from autoinstr.parse.texts import MAX_HASHED, Texts

# Names of the fields that we use. A value is a number that `Meaning` gives, or, of those in TEXTS, where its text is.
NAMES = (
    b":method", b":scheme", b":authority", b":path", b":status", b"host", b"content-type", b"content-length",
    b"grpc-status", b"traceparent",
)  # fmt: skip
NO_NAME = 0
METHOD, SCHEME, AUTHORITY, PATH, STATUS, HOST, CONTENT_TYPE, CONTENT_LENGTH, GRPC_STATUS, TRACEPARENT = range(1, 11)
UNKNOWN = 255  # a field of which name or value is not known
TEXTS = (PATH, TRACEPARENT)
MAX_TEXT = 320  # bytes of a text that are kept: more than is told of one

Meaning = Callable[[int, bytes], int]  # of a value of this name; never raises

# Entries that are kept of a table: a larger one than that has room for counts as unknown beyond them.
_OVERHEAD = 32  # bytes that an entry counts beside its texts (RFC 7541, 4.1)
_ENTRIES = PackageTable.DEFAULT_SIZE // _OVERHEAD
MAX_ENTRIES = (64 << 10) // _OVERHEAD
# Entries of all tables, nine bytes each: tables of 4 KB for as many connections as there can be, and some room more.
# Where it is used up larger tables do not get what they ask for.
MAX_ALL_ENTRIES = 3 << 19
# Bytes of all texts in tables. Where more would be needed all are forgotten, and learned anew.
MAX_ALL_TEXTS = 8 << 20
# Values whose meaning is remembered, 60 bytes each. When it is full all are forgotten.
MAX_MEANINGS = 16384
_MAX_CODED = 512  # bytes of a coded text that are decoded

_DYNAMIC = len(PackageTable.STATIC_TABLE) + 1  # the first index that is not of the static table
_STATIC_NAME = np.array(
    [NO_NAME, *(NAMES.index(name) + 1 if name in NAMES else NO_NAME for name, _ in PackageTable.STATIC_TABLE)], np.uint8
)
_IS_TEXT = np.isin(np.arange(256), TEXTS)
_SIZE = 10  # bits of a text's size in a value; above them its place
_MASK = (1 << _SIZE) - 1
_FIRST_TEXTS = 16 << 10
_WRONG = -1 << 62  # the meaning of what can't be decoded, or is too long
assert MAX_TEXT < 1 << _SIZE


class HeaderTable:
    """The dynamic table of one direction, as far as it was seen; its entries are in `HeaderTables`."""

    __slots__ = ("added", "at", "known", "room")

    def __init__(self) -> None:
        self.added = 0  # entries so far
        self.known = 0  # of those: the first that is known
        self.at = -1  # where its entries are, -1: nowhere yet
        self.room = _ENTRIES  # a power of two


@dataclass(slots=True)
class Blocks:
    """n blocks of several directions; those of each lie together and in order."""

    tables: Sequence[HeaderTable]  # of each direction
    first: NDArray[np.intp]  # its first block, ascending
    lost: NDArray[np.bool_]  # by block: what the table held before is not known; so it is after a block that is wrong


@dataclass(slots=True)
class Read:
    """Fields that we use, in order, and what was found of n blocks."""

    block: NDArray[np.intp]
    name: NDArray[np.uint8]  # never NO_NAME
    value: NDArray[np.int64]
    unknown: NDArray[np.bool_]  # by block: there is a field of which something is not known
    wrong: NDArray[np.bool_]  # by block: it holds a text that can't be decoded
    before: NDArray[np.int64]  # by block: entries that the table had got since it is known
    adds: NDArray[np.bool_]  # by block: it adds entries


@dataclass(slots=True)
class _Counts:
    """How far the tables are, in entries."""

    owner: NDArray[np.intp]  # by field: its direction
    before: NDArray[np.int64]  # by field: entries so far
    known: NDArray[np.int64]  # by field: the first that is known
    since: NDArray[np.int64]  # by block: entries so far that are known
    start: NDArray[np.int64]  # by direction: entries before its first field
    end: NDArray[np.int64]  # by direction: entries in the end


class HeaderTables:
    """What is in all tables."""

    def __init__(self, meaning: Meaning) -> None:
        self._meaning = meaning
        self._names = np.zeros(1024, np.uint8)
        self._values = np.zeros(1024, np.int64)
        self._used = 0
        self._free: dict[int, list[int]] = {}
        self._texts = np.zeros(_FIRST_TEXTS, np.uint8)
        self._kept = 0  # bytes of those that tables refer to; what follows is of the batch
        self._known = Table()
        self._meanings = np.empty(MAX_MEANINGS, np.int64)
        self._name_of = Table()
        encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode
        for number, name in enumerate(NAMES, 1):
            for text, coded in ((name, False), (encode(name), True)):
                data = np.frombuffer(text + bytes(8), np.uint8)
                one = Strings(np.zeros(1, np.int64), np.array([len(text)]), np.array([coded]))
                self._name_of.add(int(_keys(data, one, np.zeros(1, np.uint8))[0]), number)
        self._static_values = np.zeros(_DYNAMIC, np.int64)
        for index, (_, text) in enumerate(PackageTable.STATIC_TABLE, 1):
            number = int(_STATIC_NAME[index])
            if number:
                self._static_values[index] = self._keep(text) if number in TEXTS else meaning(number, text)
        self._always = self._kept

    @property
    def texts(self) -> NDArray[np.uint8]:
        """The data of texts, valid until the next `read`."""
        return self._texts

    def read(self, data: NDArray[np.uint8], blocks: Blocks, fields: Fields) -> Read:
        """Give fields their meaning, and do to the tables what they do. Eight bytes must follow the last block."""
        counts = _count(blocks, fields)
        for block, size in fields.resizes.items():
            self._resize(blocks.tables[int(np.searchsorted(blocks.first, block, "right")) - 1], size)
        for table, end in zip(blocks.tables, counts.end.tolist(), strict=True):
            if table.at < 0 and end > table.added:
                table.at = self._place(table.room)
        name, value, wrong = self._read(data, blocks, fields, counts)
        self._store(blocks.tables, tx.marked(fields.adds), counts, name, value)
        for table, end in zip(blocks.tables, counts.end.tolist(), strict=True):
            table.added = end
        used = tx.marked(name != NO_NAME)
        adds, unknown, is_wrong = (np.zeros(len(fields.wrong), np.bool_) for _ in range(3))
        adds[fields.block[fields.adds]] = True
        unknown[fields.block[name == UNKNOWN]] = True
        is_wrong[fields.block[wrong]] = True
        return Read(fields.block[used], name[used], value[used], unknown, fields.wrong | is_wrong, counts.since, adds)

    def release(self, table: HeaderTable) -> None:
        """Nobody asks for this table any more."""
        if table.at >= 0:
            self._names[table.at : table.at + table.room] = NO_NAME
            self._free.setdefault(table.room, []).append(table.at)
            table.at = -1

    # --- fields

    def _read(
        self, data: NDArray[np.uint8], blocks: Blocks, fields: Fields, counts: _Counts
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.intp]]:
        """Name and value of each field, and those whose value can't be decoded."""
        index, is_literal = fields.index, fields.literal >= 0
        name = _STATIC_NAME.take(index, mode="clip")
        own = tx.marked(is_literal & (index == 0))
        if len(own):
            named = fields.name.take(fields.literal[own])
            name[own] = np.maximum(self._name_of.find(_keys(data, named, np.zeros(len(own), np.uint8))), NO_NAME)
        # What refers to a table refers to one of these fields, or to an entry that was there before.
        refers = tx.marked(index >= _DYNAMIC)
        owner = counts.owner[refers]
        number = counts.before[refers] - 1 - (index[refers] - _DYNAMIC)
        known = number >= counts.known[refers]
        new = known & (number >= counts.start[owner])
        room, place = (np.array([getattr(one, of) for one in blocks.tables], np.int64)[owner] for of in ("room", "at"))
        old = known & ~new & (number >= counts.start[owner] - room)
        name[refers] = UNKNOWN
        kept, slot = refers[old], (place + (number & (room - 1)))[old]
        name[kept] = self._names[slot]
        added = tx.marked(fields.adds)
        new_rows = refers[new]
        nth = np.searchsorted(counts.owner[added], np.arange(len(blocks.tables))) - counts.start
        entry = nth[owner[new]] + number[new]  # which of those added
        adds = fields.adds[new_rows]
        name[new_rows] = name[added[_followed(np.searchsorted(added, new_rows[adds]), entry[adds], len(added))[entry]]]

        value = self._static_values.take(index, mode="clip")
        literals = tx.marked(is_literal & (name != NO_NAME) & (name != UNKNOWN))
        is_text = _IS_TEXT.take(name[literals])
        strings = fields.value.take(fields.literal[literals])
        rows = literals[is_text]
        value[rows], right = self._read_texts(data, strings.take(tx.marked(is_text)), fields.adds[rows])
        wrong = rows[~right]
        rows = literals[~is_text]
        value[rows], right = self._read_numbers(data, strings.take(tx.marked(~is_text)), name[rows])
        wrong = np.append(wrong, rows[~right])
        name[wrong] = UNKNOWN
        # Texts may have been moved, or forgotten, to make room for these.
        whole = ~is_literal[kept]
        kept, slot = kept[whole], slot[whole]
        name[kept], value[kept] = self._names[slot], self._values[slot]
        whole = ~is_literal[new_rows]
        rows, same = new_rows[whole], added[entry[whole]]
        name[rows], value[rows] = name[same], value[same]
        return name, value, wrong

    def _read_texts(
        self, data: NDArray[np.uint8], strings: Strings, kept: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Values of texts, and whether they are right. `kept`: a table may refer to it."""
        right = np.ones(len(kept), np.bool_)
        if not len(kept):
            return np.empty(0, np.int64), right
        at, size = strings.at, np.minimum(strings.size, MAX_TEXT)
        rows = tx.marked(strings.coded)
        if len(rows):
            some = strings.take(rows)
            cut = some.size > _MAX_CODED
            said, right[rows] = huffman.decode(Texts(data, some.at, np.minimum(some.size, _MAX_CODED)), cut=cut)
            at = at + len(said.data)
            at[rows], size[rows] = said.at, np.minimum(said.size, MAX_TEXT)
            data = np.concatenate([said.data, data])
        order = np.argsort(~kept, kind="stable")
        said = tx.gather(data, at[order], size[order])
        self._reserve(len(said.data))
        self._texts[self._kept : self._kept + len(said.data)] = said.data
        value = np.empty(len(kept), np.int64)
        value[order] = self._kept + said.at << _SIZE | said.size
        self._kept += int(size[kept].sum())
        return value, right

    def _read_numbers(
        self, data: NDArray[np.uint8], strings: Strings, name: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Values that are numbers, and whether they are right."""
        if not len(name):
            return np.empty(0, np.int64), np.empty(0, np.bool_)
        keys = _keys(data, strings, name)
        found = self._known.find(keys)
        new = tx.marked(found < 0)
        if len(new):
            new = new[np.unique(keys[new], return_index=True)[1]]
            if len(self._known) + len(new) > len(self._meanings):
                new = np.unique(keys, return_index=True)[1]
                self._known, self._meanings = Table(), np.empty(max(MAX_MEANINGS, len(new)), np.int64)
            self._learn(data, strings.take(new), name[new], keys[new])
            found = self._known.find(keys)
        value = self._meanings.take(found)
        return value, value != _WRONG

    def _learn(
        self, data: NDArray[np.uint8], strings: Strings, name: NDArray[np.uint8], keys: NDArray[np.uint64]
    ) -> None:
        """Remember what these values mean, each another one."""
        whole = strings.size <= MAX_HASHED  # its key would not tell it from others
        rows = tx.marked(strings.coded & whole)
        some = strings.take(rows)
        said, right = huffman.decode(Texts(data, some.at, some.size), cut=np.zeros(len(rows), np.bool_))
        decoded = {row: said.text(index) if right[index] else None for index, row in enumerate(rows.tolist())}
        plain = Texts(data, strings.at, strings.size)
        for row, (number, key) in enumerate(zip(name.tolist(), keys.tolist(), strict=True)):
            text = decoded[row] if row in decoded else plain.text(row) if whole[row] else None
            self._meanings[len(self._known)] = _WRONG if text is None else self._meaning(number, text)
            self._known.add(key, len(self._known))

    # --- entries

    def _store(
        self,
        tables: Sequence[HeaderTable],
        added: NDArray[np.intp],
        counts: _Counts,
        name: NDArray[np.uint8],
        value: NDArray[np.int64],
    ) -> None:
        """Put new entries into their tables, of each the newest."""
        owner, number = counts.owner[added], counts.before[added]
        room, place = (np.array([getattr(one, of) for one in tables], np.int64)[owner] for of in ("room", "at"))
        newest = number >= counts.end[owner] - room
        slot = (place + (number & (room - 1)))[newest]
        self._names[slot], self._values[slot] = name[added[newest]], value[added[newest]]

    def _resize(self, table: HeaderTable, size: int) -> None:
        """A table was made larger; that it was made smaller is no loss."""
        room = table.room
        while room < MAX_ENTRIES and room * _OVERHEAD < size:
            room *= 2
        if room > table.room and self._used + room <= MAX_ALL_ENTRIES:
            place = self._place(room)
            if table.at >= 0:
                number = np.arange(max(table.added - table.room, 0), table.added)
                old, new = table.at + (number & (table.room - 1)), place + (number & (room - 1))
                self._names[new], self._values[new] = self._names[old], self._values[old]
                self.release(table)
            table.at, table.room = place, room

    def _place(self, room: int) -> int:
        free = self._free.get(room)
        if free:
            return free.pop()
        place, self._used = self._used, self._used + room
        while self._used > len(self._names):
            self._names = np.append(self._names, np.zeros_like(self._names))
            self._values = np.append(self._values, np.zeros_like(self._values))
        return place

    # --- texts

    def _keep(self, text: bytes) -> int:
        """The value of a text that is always there."""
        at = self._kept
        self._kept += len(text)
        self._texts[at : self._kept] = np.frombuffer(text, np.uint8)
        return at << _SIZE | len(text)

    def _reserve(self, size: int) -> None:
        """Make room for so many bytes of texts; what no table refers to makes way."""
        if self._kept + size <= len(self._texts):
            return
        slots = tx.marked(_IS_TEXT.take(self._names[: self._used]))
        slots = slots[self._values[slots] >> _SIZE >= self._always]
        value = self._values[slots]
        if int((value & _MASK).sum()) > MAX_ALL_TEXTS:
            self._names[slots] = UNKNOWN
            slots, value = slots[:0], value[:0]
        kept = tx.gather(self._texts, value >> _SIZE, value & _MASK)
        self._values[slots] = self._always + kept.at << _SIZE | kept.size
        self._kept = self._always + len(kept.data)
        wanted = len(self._texts)
        while wanted < 2 * (self._kept + size):
            wanted *= 2
        while wanted > 8 * (self._kept + size) and wanted > _FIRST_TEXTS:
            wanted //= 2
        texts = np.empty(wanted, np.uint8)
        texts[: self._always] = self._texts[: self._always]
        texts[self._always : self._kept] = kept.data
        self._texts = texts


def texts_of(data: NDArray[np.uint8], values: NDArray[np.int64]) -> Texts:
    """The texts that values of TEXTS stand for; 0 is an empty one."""
    return Texts(data, values >> _SIZE, values & _MASK)


def _count(blocks: Blocks, fields: Fields) -> _Counts:
    """Count entries. Where a table's past is not known it is so from there on."""
    count = len(fields.wrong)
    bounds = np.append(blocks.first, count)
    owner = np.repeat(np.arange(len(blocks.tables)), np.diff(bounds))  # by block
    start = np.array([one.added for one in blocks.tables], np.int64)
    first = np.searchsorted(fields.block, np.arange(count + 1))  # by block: its first field
    sums = np.append(0, np.cumsum(fields.adds))
    offset = start - sums[first[bounds[:-1]]]  # by direction
    before = sums[first[:-1]] + offset[owner]  # by block
    known = np.array([one.known for one in blocks.tables], np.int64)[owner]
    for block in tx.marked(blocks.lost | fields.wrong).tolist():
        known[block : bounds[owner[block] + 1]] = blocks.tables[owner[block]].known = int(before[block])
    of_field = owner[fields.block]
    return _Counts(
        owner=of_field,
        before=sums[:-1] + offset[of_field],
        known=known[fields.block],
        since=before - known,
        start=start,
        end=offset + sums[first[bounds[1:]]],
    )


def _followed(entry: NDArray[np.intp], called_as: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Of `count` entries some are called as another one is, which may be called as yet another: the last of those."""
    last = np.arange(count)
    last[entry] = called_as
    while len(entry):
        further = last[last[entry]]
        goes_on = further != last[entry]
        last[entry] = further
        entry = entry[goes_on]
    return last


def _keys(data: NDArray[np.uint8], strings: Strings, name: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One key for the same string under the same name."""
    hashes = tx.hashes(tx.sliding(data, len(data) - 7), strings.at, strings.size)
    return tx.mix(hashes + (2 * name.astype(np.uint64) + strings.coded))
