"""A BPF ring buffer whose records all have one size, as numpy arrays.

Layout of the mapping (kernel/bpf/ringbuf.c): one page with the consumer's position, one with the producer's, then the
data, twice in a row, for batches that wrap. Each record: u32 length (bit 31: still being written, bit 30: discarded),
u32 page offset, payload; all padded to 8 bytes.

What is mapped counts as our memory, so the data is only while it is read: a part of what it takes to copy it.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from autoinstr.turns import step

BUSY = np.uint32(1 << 31)
DISCARDED = np.uint32(1 << 30)


class Ring:
    """`take` moves what is there into an array of ours."""

    def __init__(self, fd: int, size: int, record: np.dtype[np.void]) -> None:
        self.fd = fd
        self.size = size
        self._record = np.dtype([("length", "<u4"), ("page", "<u4"), ("payload", record)])
        page = mmap.PAGESIZE
        consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        producer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(consumer, np.uint64, 1)
        self._producer = np.frombuffer(producer, np.uint64, 1)

    def filled(self) -> float:
        """Share of the ring that waits to be read, 0 to 1."""
        return (int(self._producer[0]) - int(self._consumer[0])) / self.size

    def waiting(self) -> int:
        """Records that wait to be read."""
        return (int(self._producer[0]) - int(self._consumer[0])) // self._record.itemsize

    @step
    def take(self, limit: int) -> NDArray[np.void]:
        """At most `limit` records, in order; their room goes back to the kernel at once."""
        position = int(self._consumer[0])
        size = self._record.itemsize
        n = min((int(self._producer[0]) - position) // size, limit)
        # as bytes: copying records as such goes field by field
        batch = self._bytes(position % self.size, n * size).view(self._record)
        busy = batch["length"] & BUSY
        if busy.any():
            batch = batch[: int(busy.argmax())]
        self._consumer[0] = position + len(batch) * size
        payload: NDArray[np.void] = batch["payload"]
        return payload

    @step
    def _bytes(self, at: int, size: int) -> NDArray[np.uint8]:
        """A copy of what is there."""
        raw = np.empty(size, np.uint8)
        if size:
            page, within = divmod(at, mmap.PAGESIZE)
            offset = (2 + page) * mmap.PAGESIZE
            with mmap.mmap(self.fd, within + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset) as data:
                raw[:] = np.frombuffer(data, np.uint8, size, within)
        return raw
