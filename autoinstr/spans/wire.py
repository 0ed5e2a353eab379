"""Protocol Buffers' wire format, as much of it as spans need: bytes of fields, attributes and resources.

In: Python values. Out: bytes. Field numbers are those of opentelemetry/proto/{common,resource,trace}/v1.
A varint may be longer than it has to be (protobuf.dev, "Base 128 Varints"; every decoder reads up to ten bytes): with a
fixed number of bytes, a field has a fixed place in a row of an array.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Attributes, AttributeValue

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
ATTRIBUTE = 9  # Span.attributes
_RESOURCE_ATTRIBUTE = 1
CONTINUED = np.uint8(0x80)  # another byte of the varint follows


def varint(value: int) -> bytes:
    """A varint as short as it can be; negative numbers as 64-bit two's complement."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_width(largest: int) -> int:
    """How many bytes the varint of a number needs that is not negative."""
    return max(1, -(-largest.bit_length() // 7))


def padded_varints(values: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """(n, width): varints of `width` bytes each, whatever their value, which is less than 2 ** (7 * width)."""
    if width > 8:
        return np.hstack((padded_varints(values, 8) | CONTINUED, padded_varints(values >> 56, width - 8)))
    # Whole columns are shifted into place in 8-byte words: arrays that are a few bytes wide are slow to work on.
    words = values.astype("<u8")
    packed = words & 0x7F
    for i in range(1, width):
        packed |= (words >> np.uint64(7 * i) & np.uint64(0x7F)) << np.uint64(8 * i) | np.uint64(0x80 << 8 * (i - 1))
    return packed.view(np.uint8).reshape(-1, 8)[:, :width]


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
