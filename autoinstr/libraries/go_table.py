"""Where the functions of a Go program are, stripped or not: its own function table, which stack traces are made from.

In: a descriptor of an ELF file, names. Out: addresses. The table (`pclntab` in Go's src/runtime/symtab.go) is found by
its first bytes, since linkers put it into sections of many names; the address that its distances count from by what
refers to it (`moduledata`). The file may be anything, hostile too. Must never hold more than a part of it in memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.elf import Segment

PART = 4 << 20  # bytes of the file that are looked at at once
MAX_FUNCTIONS = 4 << 20
FUNCTIONS_A_PART = 16384
MAX_PART = 64 << 20  # bytes that describe so many functions
NAME_BEFORE = b"\0"  # names are parted by it

# First bytes; Go 1.16 and 1.17 have addresses where later ones have distances from the beginning of the code.
_ABSOLUTE = 0xFFFFFFFA
_MAGICS = (_ABSOLUTE, 0xFFFFFFF0, 0xFFFFFFF1)
_POINTER = 8
_MINPC = 20 * _POINTER  # in moduledata: the first function's address
_RELATIVE = (8, 1027)  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE


@dataclass(frozen=True, slots=True)
class GoFunction:
    """Where it begins and ends, as addresses; `before_118`: built by Go 1.16 or 1.17, which share a table."""

    begin: int
    end: int
    before_118: bool


@dataclass(frozen=True, slots=True)
class _Table:
    address: int
    offset: int  # in the file
    absolute: bool
    count: int
    names: int  # where names begin, from the beginning of the table
    names_end: int
    functions: int  # where the functions' list and descriptions are, likewise


def go_functions(descriptor: int, segments: list[Segment], names: list[str]) -> dict[str, GoFunction]:
    """Those of these functions that are there; OSError if the file can't be read."""
    for table in _tables(descriptor, segments):
        places = _places(descriptor, table, names)
        if not places:
            continue
        pairs = np.dtype(
            [("at", "<u8" if table.absolute else "<u4"), ("description", "<u8" if table.absolute else "<u4")]
        )
        listed = np.frombuffer(
            os.pread(descriptor, pairs.itemsize * table.count + 8, table.offset + table.functions), pairs, table.count
        )
        base = 0 if table.absolute else _code(descriptor, segments, table, int(listed["at"][0]))
        if base is None:
            continue
        found = {}
        for index, name in _described(descriptor, table, listed["description"], places):
            if index + 1 < table.count:
                begin, end = int(listed["at"][index]), int(listed["at"][index + 1])
                found[name] = GoFunction(base + begin, base + end, table.absolute)
        return found
    return {}


def _tables(descriptor: int, segments: list[Segment]) -> Iterator[_Table]:
    """What may be one. Each value in it is checked, for its first bytes may stand anywhere."""
    for segment, offset in _occurrences(descriptor, segments, b"\xff\xff\xff\0\0"):
        start = offset - 1
        head = os.pread(descriptor, 72, start)
        if len(head) < 72:
            continue
        magic, quantum, pointer = struct.unpack_from("<IxxBB", head)
        if magic not in _MAGICS or quantum not in (1, 4) or pointer != _POINTER:
            continue
        if magic == _ABSOLUTE:
            count, _, names, names_end, _, _, functions = struct.unpack_from("<7Q", head, 8)
        else:
            count, _, _, names, names_end, _, _, functions = struct.unpack_from("<8Q", head, 8)
        if 0 < count < MAX_FUNCTIONS and names < names_end < functions < segment.size:
            address = start - segment.offset + segment.address
            yield _Table(address, start, magic == _ABSOLUTE, count, names, names_end, functions)


def _occurrences(descriptor: int, segments: list[Segment], pattern: bytes) -> Iterator[tuple[Segment, int]]:
    """Where in the file it stands; it may lie across two parts."""
    for segment in segments:
        for begin in range(segment.offset, segment.offset + segment.size, PART):
            size = min(PART + len(pattern) - 1, segment.offset + segment.size - begin)
            part = os.pread(descriptor, size, begin)
            at = -1
            while (at := part.find(pattern, at + 1)) >= 0:
                yield segment, begin + at


def _code(descriptor: int, segments: list[Segment], table: _Table, first: int) -> int | None:
    """Address that distances count from: moduledata has the table's, its names' and the first function's."""
    pattern = struct.pack("<QQ", table.address, table.address + table.names)
    for _, offset in _occurrences(descriptor, segments, pattern):
        (begin,) = struct.unpack("<Q", os.pread(descriptor, _POINTER, offset + _MINPC))
        return int(begin) - first
    # in a position-independent program the linker may have left it to the loader to write all addresses
    for kind in _RELATIVE:
        for _, offset in _occurrences(descriptor, segments, struct.pack("<QQ", kind, table.address)):
            module = os.pread(descriptor, _POINTER, offset - _POINTER)
            (place,) = struct.unpack("<Q", module)
            for _, entry in _occurrences(descriptor, segments, struct.pack("<QQ", place + _MINPC, kind)):
                (begin,) = struct.unpack("<Q", os.pread(descriptor, _POINTER, entry + 2 * _POINTER))
                return int(begin) - first
    return None


def _places(descriptor: int, table: _Table, names: list[str]) -> dict[int, str]:
    """Distance of each name from the beginning of all."""
    wanted = {name: NAME_BEFORE + name.encode() + b"\0" for name in names}
    found: dict[int, str] = {}
    overlap = max(map(len, wanted.values()))
    for begin in range(0, table.names_end - table.names, PART):
        size = min(PART + overlap, table.names_end - table.names - begin)
        part = os.pread(descriptor, size, table.offset + table.names + begin)
        for name, text in wanted.items():
            at = part.find(text)
            if at >= 0:
                found[begin + at + 1] = name
    return found


def _described(
    descriptor: int, table: _Table, descriptions: NDArray[Any], places: dict[int, str]
) -> Iterator[tuple[int, str]]:
    """Which function has which of the names: a description holds its address, then its name's place."""
    field = 8 if table.absolute else 4
    wanted = np.array(sorted(places), np.uint32)
    for first in range(0, len(descriptions), FUNCTIONS_A_PART):
        some = descriptions[first : first + FUNCTIONS_A_PART].astype(np.int64)
        low, high = int(some.min()), int(some.max()) + field + 4
        if high - low > MAX_PART:
            return
        part = os.pread(descriptor, high - low, table.offset + table.functions + low)
        if len(part) < high - low:
            return
        words = np.frombuffer(part, np.uint32, len(part) // 4)
        names = words[np.minimum((some - low + field) // 4, len(words) - 1)]
        for index in np.flatnonzero(np.isin(names, wanted)).tolist():
            yield first + index, places[int(names[index])]
