"""W3C trace context: the values of `traceparent` header fields, many at once.

In: bytes and where in them each value lies. Out: ids and flags, and whether they are valid. Never trusts a byte.
https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 55  # 00-<32 hex>-<16 hex>-<2 hex>
_DASHES = (2, 35, 52)


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

    `followed`: the byte after it is the next one of the same head. `data` must hold that byte in any case.
    Versions above 00 are read as far as they are like it, as the recommendation asks (section 4.3).
    """
    parents = no_parents(count)
    if not len(rows):
        return parents
    # One element is a whole value: numpy copies each with one memcpy.
    values = np.ndarray((len(data) - SIZE,), np.dtype(("V", SIZE + 1)), data, strides=(1,))
    raw = values[at].view(np.uint8).reshape(len(at), SIZE + 1)
    nibble, fine = _hexadecimal(raw[:, :SIZE])
    for column in _DASHES:
        fine[:, column] = raw[:, column] == ord("-")
    octet = (nibble[:, :-1] << 4) | nibble[:, 1:]
    version, trace, span, flags = octet[:, 0], octet[:, 3:35:2], octet[:, 36:52:2], octet[:, 53]
    after = raw[:, SIZE]
    ends = ~followed | (after < 33) | ((after == ord("-")) & (version > 0))
    valid = fine.all(axis=1) & (version != 0xFF) & trace.any(axis=1) & span.any(axis=1) & ends
    kept = rows[valid]
    parents.valid[kept] = True
    parents.trace[kept] = trace[valid]
    parents.span[kept] = span[valid]
    # Of a later version only the sampled flag has a meaning that we know.
    parents.flags[kept] = np.where(version == 0, flags, flags & 1)[valid]
    return parents


def _hexadecimal(raw: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Value of each byte as a lower-case hexadecimal digit, and whether it is one."""
    digit, letter = raw - np.uint8(ord("0")), raw - np.uint8(ord("a"))
    is_letter = letter < 6
    return np.where(is_letter, letter + np.uint8(10), digit), is_letter | (digit < 10)
