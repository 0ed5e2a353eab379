"""Tables of header fields as a library has them, told entry by entry (`struct http2_entry`), as HPACK writes them.

In: the fragments of one table, in order; of several at a time. Out: a block that makes an empty table into it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hpack.hpack import encode_integer

from autoinstr.capture.abi import HTTP2_ENTRY

MAX_ENTRIES = 128  # of a table of 4096 bytes; more are not told
MAX_UNFINISHED = 64  # tables; one that lost an entry in a full ring never ends
_UNKNOWN = b"\x7f\xff\xff\x7f\0"  # an entry whose name is one that no table holds

Key = tuple[int, int, int]


class ToldTables:
    def __init__(self) -> None:
        self._unfinished: dict[Key, list[bytes]] = {}

    def add(self, key: Key, fragment: bytes) -> bytes | None:
        """An entry of the table with this key, the next one. The block, if it is the last; None: there are more."""
        size = HTTP2_ENTRY.itemsize
        entry: Any = np.frombuffer(fragment[:size].ljust(size, b"\0"), HTTP2_ENTRY)[0]
        left, of = int(entry["left"]), int(entry["of"])
        if of > MAX_ENTRIES:
            return None
        if of == left + 1:
            if len(self._unfinished) >= MAX_UNFINISHED:
                self._unfinished.clear()
            self._unfinished[key] = []
        if of:
            if len(self._unfinished.get(key, ())) != of - left - 1 or key not in self._unfinished:
                self._unfinished.pop(key, None)
                return None  # one was lost
            self._unfinished[key].append(_added(entry))
        return None if left else b"".join(self._unfinished.pop(key, ()))


def _added(entry: Any) -> bytes:
    """A field that is not in the table, to be added (RFC 7541, 6.2.1)."""
    if not entry["name_size"]:
        return _UNKNOWN
    name = entry["name"][: entry["name_size"]].tobytes()
    value = entry["value"][: entry["value_size"]].tobytes()
    return b"\x40" + b"".join(bytes(encode_integer(len(one), 7)) + one for one in (name, value))
