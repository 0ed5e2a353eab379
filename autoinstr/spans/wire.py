"""Protocol Buffers' wire format, as much of it as spans need: bytes of fields, attributes and resources.

In: Python values. Out: bytes. Field numbers are those of opentelemetry/proto/{common,resource,trace}/v1.
A varint may be longer than it has to be (protobuf.dev, "Base 128 Varints"; every decoder reads up to ten bytes): with a
fixed number of bytes, a field has a fixed place in a row of an array.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Attributes, AttributeValue

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
ATTRIBUTE = 9  # Span.attributes
_RESOURCE_ATTRIBUTE = 1
_ALL = (1 << 64) - 1
_CONTINUED = 0x8080808080808080  # bits that say: another byte of the varint follows


def varint(value: int) -> bytes:
    """A varint as short as it can be; negative numbers as 64-bit two's complement."""
    value &= _ALL
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_width(largest: int) -> int:
    """How many bytes the varint of a number needs that is not negative."""
    return max(1, -(-largest.bit_length() // 7))


def padded_varints(columns: Sequence[NDArray[np.int64]], widths: Sequence[int]) -> list[NDArray[np.uint8]]:
    """(n, width) for each column: varints of `width` bytes each, whatever their value, which is less than
    2 ** (7 * width).

    All columns at once, shifted into place in 8-byte words: work on arrays that are a few bytes wide is slow, and so
    are many calls on short ones.
    """
    words = np.array(columns).view(np.uint64)
    packed = words & np.uint64(0x7F)
    for i in range(1, min(8, max(widths))):
        packed |= (words << np.uint64(i)) & np.uint64(0x7F << 8 * i)
    packed |= np.array([_CONTINUED & (1 << 8 * (width - 1)) - 1 for width in widths], np.uint64)[:, None]
    low = packed.astype("<u8", copy=False).view(np.uint8).reshape(*packed.shape, 8)
    return [low[i, :, :width] if width <= 8 else _wide(low[i], words[i], width) for i, width in enumerate(widths)]


def _wide(low: NDArray[np.uint8], words: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    """Varints of more than 8 bytes: `low` and the rest."""
    shifts = np.arange(56, 7 * width, 7, dtype=np.uint64)
    high = (words[:, None] >> shifts & np.uint64(0x7F)).astype(np.uint8)
    high[:, :-1] |= 0x80
    return np.hstack((low, high))


def tag(field: int, wire: int) -> bytes:
    return varint(field << 3 | wire)


def message(field: int, payload: bytes) -> bytes:
    """A length-delimited field: a message, a string, bytes."""
    return tag(field, LENGTH) + varint(len(payload)) + payload


def text(value: str) -> bytes:
    """UTF-8; what is not text (surrogates that stand for odd bytes of a command line) becomes a question mark."""
    return value.encode(errors="replace")


def any_value(value: AttributeValue) -> bytes:
    """The content of an AnyValue."""
    match value:
        case bool():
            return tag(2, VARINT) + varint(value)
        case int():
            return tag(3, VARINT) + varint(value)
        case float():
            return tag(4, FIXED64) + struct.pack("<d", value)
        case str():
            return message(1, text(value))
        case _:
            return message(5, b"".join(message(1, any_value(one)) for one in value))


def attribute(field: int, key: str, value: AttributeValue) -> bytes:
    """A KeyValue as a field of its owner."""
    return message(field, message(1, text(key)) + message(2, any_value(value)))


def attributes(field: int, values: Attributes) -> bytes:
    return b"".join(attribute(field, key, value) for key, value in values.items())


def resource(values: Attributes) -> bytes:
    """The content of a Resource."""
    return attributes(_RESOURCE_ATTRIBUTE, values)
