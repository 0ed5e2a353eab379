"""bpf(2): the system call, and the few uses of it that stages share.

Beside maps that are mapped into memory, it is how the kernel side is loaded and looked at.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from enum import IntEnum

ATTRIBUTES = 72  # bytes of union bpf_attr that every kernel from 5.10 knows
SYSCALL = {"x86_64": 321, "aarch64": 280}


class BpfCommand(IntEnum):
    """enum bpf_cmd, as far as it is used."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    PROG_ATTACH = 8
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    LINK_CREATE = 28
    ENABLE_STATS = 32


_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2); OSError if it fails."""
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), ATTRIBUTES))
    result: int = _libc.syscall(SYSCALL[platform.machine()], command, buffer, len(buffer))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def instructions(*each: tuple[int, int, int, int]) -> bytes:
    """A small program: of each instruction its code, registers (destination in the low half), offset and constant."""
    return b"".join(struct.pack("<BBhi", *one) for one in each)


def items(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) of a hash map. Entries that come or go meanwhile may be missed."""
    key, following = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(key_size)
    value = ctypes.create_string_buffer(value_size)
    previous = 0
    while True:
        try:
            bpf(BpfCommand.MAP_GET_NEXT_KEY, struct.pack("<IxxxxQQ", fd, previous, ctypes.addressof(following)))
        except FileNotFoundError:
            return
        ctypes.memmove(key, following, key_size)
        previous = ctypes.addressof(key)
        try:
            bpf(BpfCommand.MAP_LOOKUP_ELEM, struct.pack("<IxxxxQQ", fd, previous, ctypes.addressof(value)))
        except FileNotFoundError:
            continue
        yield key.raw, value.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set one element of a map."""
    buffers = [ctypes.create_string_buffer(part, len(part)) for part in (key, value)]
    attributes = struct.pack("<IxxxxQQQ", fd, *map(ctypes.addressof, buffers), 0)
    bpf(BpfCommand.MAP_UPDATE_ELEM, attributes)


def program_info(fd: int) -> tuple[int, int, int]:
    """(ns run, runs, runs skipped) of a program; the first two are 0 unless kernel.bpf_stats_enabled is set.

    Offsets are those of struct bpf_prog_info (include/uapi/linux/bpf.h); older kernels fill in less.
    """
    info = ctypes.create_string_buffer(224)
    bpf(BpfCommand.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)))
    run_time, runs, missed = struct.unpack_from("<QQQ", info, 192)
    return run_time, runs, missed
