"""What programs themselves call their requests: texts that the kernel side keeps under keys, read when a key is new.

In: keys of a batch. Out: texts by key, which are only ever added to. Must not ask the kernel for anything twice.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.bpf_call import BpfCommand, bpf
from autoinstr.capture.abi import NAME
from autoinstr.health import Health, Loss
from autoinstr.model import Name

MAX_NAMES = 16384  # about 200 bytes each: more than one machine's programs have routes
TRIES = 3  # another CPU may be just about to write it


class Names:
    """Reads the `names` map."""

    def __init__(self, fd: int, health: Health, texts: dict[int, Name]) -> None:
        self._fd = fd
        self._health = health
        self._texts = texts

    def learn(self, keys: NDArray[np.uint64]) -> None:
        """Know these keys, where that is possible; 0 is none."""
        if not keys.any():
            return
        for key in set(keys.tolist()):
            if key and key not in self._texts:
                name = self._read(key) if len(self._texts) < MAX_NAMES else None
                if name is None:
                    self._health.lose(Loss.NAME_LOST, int(np.count_nonzero(keys == key)))
                else:
                    self._texts[key] = name

    def _read(self, key: int) -> Name | None:
        number, value = ctypes.c_uint64(key), ctypes.create_string_buffer(NAME.itemsize)
        asked = struct.pack("<IxxxxQQ", self._fd, ctypes.addressof(number), ctypes.addressof(value))
        for _ in range(TRIES):
            try:
                bpf(BpfCommand.MAP_LOOKUP_ELEM, asked)
            except FileNotFoundError:
                return None
            found: Any = np.frombuffer(value.raw, NAME)[0]
            if found["cut"]:
                return None
            if found["size"]:
                return Name(int(found["kind"]), found["text"][: found["size"]].tobytes())
        return None
