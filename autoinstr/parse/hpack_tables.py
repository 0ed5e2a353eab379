"""HPACK (RFC 7541) for one who only listens, and perhaps came late: header blocks become the fields that we use.

In: header blocks of one direction of a connection, in order. Out: (name, value) of those fields in `WANTED`, UNKNOWN in
place of what lies in a part of the table that was never seen. Values of other fields are neither decoded nor kept.
Huffman codes, integers and the static table are those of the package `hpack`. Its own decoder ends at an unknown index,
keeps and decodes every value, and costs several times as much.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import lru_cache
from typing import TypeAlias

from hpack import HPACKError
from hpack.exceptions import HPACKDecodingError
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable as PackageTable

Field: TypeAlias = tuple[bytes, bytes]
Entry: TypeAlias = tuple[Field | None, int]  # None: it is not wanted; its size as RFC 7541, 4.1 counts it, or less
Change: TypeAlias = Entry | int  # what a block does to the table: an entry more, or another size

# Bytes of entries, as RFC 7541 counts them, that are kept of one table, however large its owners agreed to make it:
# what is older counts as unknown. Values that are not wanted cost nothing here, so it is much less in fact.
MAX_TABLE = 64 << 10
# Bytes of a coded value that is decoded: one byte takes a quarter of a microsecond. Of a longer one so many bytes are
# kept from its beginning, more than of a path is told.
MAX_VALUE = 2048
BEGINNING = 512
MAX_REMEMBERED = 128  # bytes of a coded string whose meaning is remembered: a megabyte for all of them
DEFAULT_TABLE = PackageTable.DEFAULT_SIZE
WANTED = frozenset(
    (b":method", b":scheme", b":authority", b":path", b":status", b"host", b"content-type", b"content-length",
     b"grpc-status", b"traceparent")
)  # fmt: skip
UNKNOWN: Field = (b"", b"")  # no field has an empty name (RFC 9110, 5.1)

_STATIC = (None, *(field if field[0] in WANTED else None for field in PackageTable.STATIC_TABLE))  # from index 1 on
_OVERHEAD = 32  # bytes that an entry counts beside its texts
_INTEGER = 16  # bytes in which any integer ends that the package accepts
_BITS = {0x7F: 7, 0x3F: 6, 0x1F: 5, 0x0F: 4}
_huffman = lru_cache(4096)(decode_huffman)


class HeaderTable:
    """The dynamic table of one direction, as far as it was seen.

    Entries are counted from the newest, so what is learned from any time on is found where it is asked for. To evict
    too late is harmless: what the other side has evicted it never refers to. To evict too early makes it unknown.
    """

    def __init__(self, *, whole: bool) -> None:
        """`whole`: its beginning was seen; else its size, too, is unknown."""
        self._entries: deque[Entry] = deque()
        self._size = 0
        self._maximum = DEFAULT_TABLE if whole else MAX_TABLE

    def decode(self, block: bytes) -> tuple[list[Field], list[Change]]:
        """The wanted fields of a block in order, and what it has changed. Raises HPACKError."""
        try:
            return self._decode(block)
        except IndexError:
            raise HPACKDecodingError("a header block ends too early") from None

    def change(self, changes: list[Change]) -> None:
        """Do what another table's block did to it, when both were alike before."""
        for one in changes:
            if isinstance(one, int):
                self._resize(one)
            else:
                self._add(one)

    def _decode(self, block: bytes) -> tuple[list[Field], list[Change]]:
        fields: list[Field] = []
        changes: list[Change] = []
        at, end = 0, len(block)
        while at < end:
            first = block[at]
            if first > 0x80:  # indexed (6.1)
                if first < 0xFF:
                    index, at = first & 0x7F, at + 1
                else:
                    index, at = _integer(block, at, 0x7F)
                field = self._get(index)
            elif first & 0xE0 == 0x20:  # another size (6.3)
                size, at = _integer(block, at, 0x1F)
                changes.append(size)
                self._resize(size)
                continue
            elif first == 0x80:
                raise HPACKDecodingError("index 0")
            else:  # literal (6.2)
                field, size, at = self._literal(block, at, first)
                if first & 0x40:
                    entry = (field, size)
                    changes.append(entry)
                    self._add(entry)
            if field is not None:
                fields.append(field)
        return fields, changes

    def _literal(self, block: bytes, at: int, first: int) -> tuple[Field | None, int, int]:
        """A field, the size of its entry, and where it ends."""
        size = _OVERHEAD
        index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
        if index:
            known = self._get(index)
            name = known[0] if known is not None else None
        else:
            name, size, at = _text(block, at, wanted=True)
            size += _OVERHEAD
            name = b"" if name is None else name if name in WANTED else None
        value, more, at = _text(block, at, wanted=bool(name))
        if name is None:
            return None, size + more, at
        return (name, value) if name and value is not None else UNKNOWN, size + more, at

    def _get(self, index: int) -> Field | None:
        if index < len(_STATIC):
            return _STATIC[index]
        index -= len(_STATIC)
        return self._entries[index][0] if index < len(self._entries) else UNKNOWN

    def _add(self, entry: Entry) -> None:
        if entry[1] > self._maximum:
            self._entries.clear()
            self._size = 0
            return
        self._entries.appendleft(entry)
        self._size += entry[1]
        self._shrink()

    def _resize(self, size: int) -> None:
        self._maximum = min(size, MAX_TABLE)
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._maximum:
            self._size -= self._entries.pop()[1]


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer whose first bits lie under `mask`, and where it ends (5.1)."""
    value = block[at] & mask
    if value < mask:
        return value, at + 1
    value, size = decode_integer(block[at : at + _INTEGER], _BITS[mask])
    return value, at + size


def _text(block: bytes, at: int, *, wanted: bool) -> tuple[bytes | None, int, int]:
    """A string (5.2), its size as it came, and where it ends; b"" if it is not wanted, None if it can't be had."""
    coded = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise HPACKDecodingError("a string ends too late")
    if not wanted:
        return b"", size, end
    if size > MAX_VALUE:
        return _beginning(block[at : at + BEGINNING], coded), size, end
    text = block[at:end]
    if coded:
        text = _huffman(text) if size <= MAX_REMEMBERED else decode_huffman(text)
    return text, size, end


def _beginning(text: bytes, coded: int) -> bytes | None:
    """Of a string that goes on. A code ends at a byte's end, or may seem to, nearly always within a few bytes."""
    if not coded:
        return text
    for size in range(len(text), len(text) - 64, -1):
        with suppress(HPACKError):
            return decode_huffman(text[:size])
    return None


__all__ = ["DEFAULT_TABLE", "MAX_TABLE", "UNKNOWN", "Change", "Field", "HPACKError", "HeaderTable"]
