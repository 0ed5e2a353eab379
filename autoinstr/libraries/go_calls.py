"""Is a function called as itself anywhere in a program, and not only by an interface?

In: a descriptor of an ELF file, the function's address. Must never say no where there is a call; bytes that only look
like one make for a yes that costs little.
"""

from __future__ import annotations

import os

import numpy as np

from autoinstr.elf import X86_64, Segment

PART = 1 << 20  # bytes of the file that are looked at at once
_CALL, _SIZE = 0xE8, 5  # amd64: call, distance from behind the instruction


def is_called(descriptor: int, segments: list[Segment], address: int, machine: int) -> bool:
    """OSError if the file can't be read."""
    calls = _calls_amd64 if machine == X86_64 else _calls_arm64
    for segment in segments:
        for begin in range(0, segment.size if segment.is_code else 0, PART):
            part = os.pread(descriptor, min(PART + _SIZE - 1, segment.size - begin), segment.offset + begin)
            if calls(part, address - segment.address - begin):
                return True
    return False


def _calls_amd64(part: bytes, target: int) -> bool:
    """`target`: from the beginning of the part."""
    data = np.frombuffer(part, np.uint8)
    at = np.flatnonzero(data[: max(len(data) - _SIZE + 1, 0)] == _CALL)
    distances = np.zeros(len(at), np.uint32)
    for n in range(4):
        distances |= data[at + 1 + n].astype(np.uint32) << np.uint32(8 * n)
    return bool((distances.view(np.int32) + at + _SIZE == target).any())


def _calls_arm64(part: bytes, target: int) -> bool:
    words = np.frombuffer(part, np.uint32, len(part) // 4)
    at = np.flatnonzero(words >> 26 == 0b100101)  # bl, distance in words
    distances = (words[at] << np.uint32(6)).view(np.int32) >> 6
    return bool((4 * (distances.astype(np.int64) + at) == target).any())
