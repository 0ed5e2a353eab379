"""A table holds half of what it says at least, whichever processors fill it."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

import pytest

from autoinstr.attach.image import Map
from autoinstr.attach.loader import LRU_HASH, create_map, entries
from autoinstr.bpf_call import BpfCommand, bpf, update

LIVE = 128
TURNS = 4000


def table(size: int, kind: int = LRU_HASH) -> Map:
    return Map("tried", kind, 4, 4, size, 0)


@pytest.mark.parametrize(
    ("size", "processors", "release", "expected"),
    [
        (8192, 2, "6.1.0-56-amd64", 8192),
        (8192, 64, "6.1.0-56-amd64", 4096 + 65 * 128),
        (256, 2, "5.10.0", 512),
        (256, 64, "6.16.0", 256),
        (256, 64, "7.3.1", 256),
    ],
)
def test_tables_grow_with_processors(size: int, processors: int, release: str, expected: int) -> None:
    assert entries(table(size), processors, release) == expected
    assert entries(table(size, kind=1), processors, release) == size


@pytest.fixture
def affinity() -> Iterator[list[int]]:
    """The processors that this thread may use."""
    processors = sorted(os.sched_getaffinity(0))
    yield processors
    os.sched_setaffinity(0, processors)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_in_use_stays(affinity: list[int]) -> None:
    """Entries come and go, on all processors in turn, and never more than half of what the table is to hold."""
    one = table(2 * LIVE)
    fd = create_map(one, entries(one))
    try:
        for number in range(TURNS):
            os.sched_setaffinity(0, {affinity[number * 7 // 5 % len(affinity)]})
            update(fd, struct.pack("<I", number), bytes(4))
            if number >= LIVE - 1:
                delete(fd, struct.pack("<I", number - LIVE + 1))  # OSError: it was pushed out
    finally:
        os.close(fd)


def delete(fd: int, key: bytes) -> None:
    buffer = ctypes.create_string_buffer(key, len(key))
    bpf(BpfCommand.MAP_DELETE_ELEM, struct.pack("<IxxxxQ", fd, ctypes.addressof(buffer)))
