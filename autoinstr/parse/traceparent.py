"""W3C trace context: the values of `traceparent` header fields, many at once.

In: bytes and where in them each value lies. Out: ids and flags, and whether they are valid. Never trusts a byte.
https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 55  # 00-<32 hex>-<16 hex>-<2 hex>
ROOM = 64  # bytes of data that must lie behind the start of a value: each is looked at as one row of 64 marks
_DASHES = np.uint64(1 << 2 | 1 << 35 | 1 << 52)
_DIGITS = np.uint64((1 << SIZE) - 1) ^ _DASHES


@dataclass(slots=True)
class Parents:
    """Trace context that came with n requests."""

    valid: NDArray[np.bool_]  # (n,)
    trace: NDArray[np.uint8]  # (n, 16)
    span: NDArray[np.uint8]  # (n, 8)
    flags: NDArray[np.uint8]  # (n,)


def no_parents(count: int) -> Parents:
    """`count` requests without trace context."""
    return Parents(
        np.zeros(count, np.bool_),
        np.zeros((count, 16), np.uint8),
        np.zeros((count, 8), np.uint8),
        np.zeros(count, np.uint8),
    )


def parse(
    data: NDArray[np.uint8], at: NDArray[np.int64], followed: NDArray[np.bool_], rows: NDArray[np.intp], count: int
) -> Parents:
    """Parse the value at `data[at[i] : at[i] + 55]` for request `rows[i]` of `count`.

    `followed`: the byte after it is the next one of the same head. Versions above 00 are read as far as they are like
    it, as the recommendation asks (section 4.3).
    """
    parents = no_parents(count)
    if not len(rows):
        return parents
    # One element is a whole value: numpy copies each with one memcpy. All further work is on bytes end to end.
    values = np.ndarray((len(data) - ROOM + 1,), np.dtype(("V", ROOM)), data, strides=(1,))
    raw = values[at].view(np.uint8)
    fine = (_digits(raw) & _DIGITS == _DIGITS) & (_marks(raw == ord("-")) & _DASHES == _DASHES)
    nibble = (raw & np.uint8(15)) + (raw >> np.uint8(6)) * np.uint8(9)  # letters have bit 6
    octet = nibble << np.uint8(4)
    octet[:-1] |= nibble[1:]
    octet = octet.reshape(len(at), ROOM)
    version, trace, span, flags = octet[:, 0], octet[:, 3:35:2].copy(), octet[:, 36:52:2].copy(), octet[:, 53]
    after = raw[SIZE::ROOM]
    fine &= ~followed | (after < 33) | ((after == ord("-")) & (version > 0))
    high, low = trace.view(np.uint64).T
    fine &= (version != 0xFF) & ((high | low) != 0) & (span.view(np.uint64)[:, 0] != 0)
    # Of a later version only the sampled flag has a meaning that we know.
    flags = np.where(version == 0, flags, flags & 1)
    if fine.all() and len(rows) == count:
        return Parents(fine, trace, span, flags)
    kept = rows[fine]
    parents.valid[kept] = True
    parents.trace[kept] = trace[fine]
    parents.span[kept] = span[fine]
    parents.flags[kept] = flags[fine]
    return parents


def _digits(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Marks of lower-case hexadecimal digits."""
    return _marks((raw - np.uint8(ord("0")) < 10) | (raw - np.uint8(ord("a")) < 6))


def _marks(marks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Each row of ROOM marks as one word."""
    return np.packbits(marks, bitorder="little").view("<u8")
