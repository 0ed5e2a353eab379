"""Messages in Protocol Buffers' wire format as rows of one array: the same layout, other values.

In: columns of values. Out: the bytes of each row. Work per row is array work; work per layout is Python's.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoinstr.spans import wire
from autoinstr.turns import step

Integers: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]


class Rows:
    """Rows of bytes of equal length: constant parts, and columns that differ from row to row."""

    def __init__(self, count: int, attribute: int = wire.ATTRIBUTE) -> None:
        """`attribute`: number of the field that attributes are in."""
        self._count = count
        self._attribute = attribute
        self._template = bytearray()
        self._columns: list[tuple[int, Bytes]] = []  # where, and what
        self._varints: list[tuple[int, int, Integers]] = []  # where, how wide, and what

    def __len__(self) -> int:
        """Bytes of a row."""
        return len(self._template)

    def constant(self, data: bytes) -> None:
        self._template += data

    def column(self, values: Bytes) -> None:
        """(count, width)"""
        self._columns.append((len(self._template), values))
        self._template += bytes(values.shape[1])

    def varint(self, values: Integers, width: int) -> None:
        """Numbers that need at most `width` bytes each, and take as many."""
        self._varints.append((len(self._template), width, values))
        self._template += bytes(width)

    def field(self, number: int, values: Bytes) -> None:
        """A field with the bytes of a column: an id."""
        self.constant(tag(number, wire.LENGTH) + bytes([values.shape[1]]))
        self.column(values)

    def fixed32(self, number: int, values: NDArray[np.uint32]) -> None:
        self.constant(tag(number, wire.FIXED32))
        self.column(values.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4))

    def time(self, number: int, values: Integers) -> None:
        self.constant(tag(number, wire.FIXED64))
        self.column(values.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8))

    def integer(self, key: str, values: Integers) -> None:
        """An attribute with an integer."""
        width = wire.varint_width(int(values.max()))
        self.constant(_before_value(self._attribute, key, wire.tag(3, wire.VARINT), width))
        self.varint(values, width)

    def double(self, key: str, values: NDArray[np.float64]) -> None:
        """An attribute with a floating-point number."""
        self.constant(_before_value(self._attribute, key, wire.tag(4, wire.FIXED64), 8))
        self.column(values.astype("<f8", copy=False).view(np.uint8).reshape(-1, 8))

    def text(self, key: str, size: Integers) -> None:
        """An attribute with a text, up to the text itself, which has to follow the row."""
        name = _name(key)
        # Both lengths around the text's own are at most 32 bytes more than it and its name.
        width = wire.varint_width(int(size.max()) + len(name) + 32)
        self.constant(tag(self._attribute, wire.LENGTH))
        self.varint(size + (len(name) + 2 + 2 * width), width)
        self.constant(name + tag(2, wire.LENGTH))
        self.varint(size + (1 + width), width)
        self.constant(tag(1, wire.LENGTH))
        self.varint(size, width)

    def before(self, first: bytes, rest: Integers) -> Rows:
        """The rows as the beginning of a field with the tag `first`; `rest` bytes of it are to follow."""
        size = rest + len(self)
        framed = Rows(self._count, self._attribute)
        framed.constant(first)
        framed.varint(size, wire.varint_width(int(size.max())))
        moved = len(framed)
        framed._template += self._template
        framed._columns += [(at + moved, values) for at, values in self._columns]
        framed._varints += [(at + moved, width, values) for at, width, values in self._varints]
        return framed

    @step
    def pieces(self) -> list[bytes]:
        at, widths, values = zip(*self._varints, strict=True)
        columns = [*self._columns, *zip(at, wire.padded_varints(values, widths), strict=True)]
        matrix = np.empty((self._count, len(self)), np.uint8)
        matrix[:] = np.frombuffer(self._template, np.uint8)
        for start, column in columns:
            # As one element a row: copying runs of a few bytes is slow.
            element = f"V{column.shape[1]}"
            matrix[:, start : start + column.shape[1]].view(element)[:] = column.view(element)
        pieces: list[bytes] = matrix.view(f"V{len(self)}").ravel().tolist()
        return pieces


@cache
def tag(field: int, kind: int) -> bytes:
    return wire.tag(field, kind)


@cache
def _name(key: str) -> bytes:
    """Of an attribute, as part of a KeyValue. There are a few keys in all."""
    return wire.message(1, wire.text(key))


@cache
def _before_value(attribute: int, key: str, kind: bytes, width: int) -> bytes:
    """An attribute with a number of that kind which takes `width` bytes, up to the number."""
    inner = _name(key) + wire.tag(2, wire.LENGTH) + wire.varint(1 + width) + kind
    return wire.tag(attribute, wire.LENGTH) + wire.varint(len(inner) + width) + inner
