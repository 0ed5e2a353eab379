"""A BPF ring buffer whose records all have one size, as numpy arrays.

Layout of the mapping (kernel/bpf/ringbuf.c): one page with the consumer's position, one with the producer's, then the
data. (It may be mapped twice in a row, for batches that wrap, and would count twice as our memory.) Each record: u32
length (bit 31: still being written, bit 30: discarded), u32 page offset, payload; all padded to 8 bytes.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

BUSY = np.uint32(1 << 31)
DISCARDED = np.uint32(1 << 30)


class Ring:
    """`take` moves what is there into an array of ours."""

    def __init__(self, fd: int, size: int, record: np.dtype[np.void]) -> None:
        self.fd = fd
        self.size = size
        self._record = np.dtype([("length", "<u4"), ("page", "<u4"), ("payload", record)])
        page = mmap.PAGESIZE
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._map = mmap.mmap(fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_map, np.uint64, 1)
        self._producer = np.frombuffer(self._map, np.uint64, 1)
        self._data = np.frombuffer(self._map, np.uint8, offset=page)

    def filled(self) -> float:
        """Share of the ring that waits to be read, 0 to 1."""
        return (int(self._producer[0]) - int(self._consumer[0])) / self.size

    def take(self, limit: int) -> NDArray[np.void]:
        """At most `limit` records, in order; their room goes back to the kernel at once."""
        position = int(self._consumer[0])
        size = self._record.itemsize
        n = min((int(self._producer[0]) - position) // size, limit)
        at = position % self.size
        # as bytes: copying records as such goes field by field
        raw = np.empty(n * size, np.uint8)
        before_end = min(len(raw), self.size - at)
        raw[:before_end] = self._data[at : at + before_end]
        raw[before_end:] = self._data[: len(raw) - before_end]
        batch = raw.view(self._record)
        busy = batch["length"] & BUSY
        if busy.any():
            batch = batch[: int(busy.argmax())]
        self._consumer[0] = position + len(batch) * size
        payload: NDArray[np.void] = batch["payload"]
        return payload
