"""A map from 64-bit hashes to small numbers that is asked for thousands of keys at once.

In: arrays of keys, which must be well mixed (`texts.mix`). Out: arrays of values. Never forgets or changes a key;
whoever adds keys bounds their number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoinstr.parse.texts import marked

_FIRST_CAPACITY = 256
_SPARSE = 4  # slots a key: nearly every look-up ends at its first slot


class Table:
    """Open addressing with linear probing, two arrays."""

    def __init__(self) -> None:
        self._count = 0
        self._reserve(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return self._count

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The value of each key, -1 for unknown ones."""
        slot = (keys & self._mask).view(np.intp)
        values = self._values.take(slot)
        other = marked((self._keys.take(slot) != keys) & (values >= 0))
        while len(other):
            slot[other] = next_slot = (slot[other] + 1) & int(self._mask)
            found = self._values[next_slot]
            values[other] = found
            other = other[(self._keys[next_slot] != keys[other]) & (found >= 0)]
        return values

    def get(self, key: int) -> int:
        """The value of one key, -1 if it is unknown."""
        slot = key & int(self._mask)
        while (value := int(self._values[slot])) >= 0 and int(self._keys[slot]) != key:
            slot = (slot + 1) & int(self._mask)
        return value

    def add(self, key: int, value: int) -> None:
        """Add a key that is not there yet; `value` is at least 0."""
        if (self._count + 1) * _SPARSE > len(self._keys):
            keys, values = self._keys, self._values
            self._reserve(2 * len(keys))
            for slot in marked(values >= 0).tolist():
                self._place(int(keys[slot]), int(values[slot]))
        self._place(key, value)
        self._count += 1

    def _place(self, key: int, value: int) -> None:
        slot = key & int(self._mask)
        while self._values[slot] >= 0:
            slot = (slot + 1) & int(self._mask)
        self._keys[slot] = key
        self._values[slot] = value

    def _reserve(self, capacity: int) -> None:
        self._mask = np.uint64(capacity - 1)
        self._keys = np.zeros(capacity, np.uint64)
        self._values = np.full(capacity, -1, np.int32)
