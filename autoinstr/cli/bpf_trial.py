"""Tries bpf(2) itself: whether this kernel, with these privileges, gives what the capture needs. Nothing stays.

In: the wish. Out: nothing, or OSError with the kernel's reason. Needs neither bcc nor headers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from autoinstr.bpf_call import SYSCALL

_MAP_CREATE = 0
_PROG_LOAD = 5
_RAW_TRACEPOINT_OPEN = 17
_MAP_ARRAY = 2
_MAP_RINGBUF = 27
_PROG_RAW_TRACEPOINT = 17
# r0 = 0; exit
_EMPTY_PROGRAM = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))


def _bpf(command: int, attributes: bytes) -> int:
    """A new file descriptor."""
    number = SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) on {platform.machine()} is not known to autoinstr")
    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, 128)  # the kernel wants what it does not know to be zero
    result = int(library.syscall(number, command, ctypes.byref(buffer), 128))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def try_map() -> None:
    """A small array: bpf(2) is there and allowed."""
    os.close(_bpf(_MAP_CREATE, struct.pack("<IIII", _MAP_ARRAY, 4, 8, 1)))


def try_ring() -> None:
    """A ring buffer of one page (Linux 5.8)."""
    os.close(_bpf(_MAP_CREATE, struct.pack("<IIII", _MAP_RINGBUF, 0, 0, os.sysconf("SC_PAGE_SIZE"))))


def try_raw_tracepoint(name: str) -> None:
    """Load an empty program and attach it to the tracepoint, for an instant."""
    code = ctypes.create_string_buffer(_EMPTY_PROGRAM)
    license_ = ctypes.create_string_buffer(b"GPL")
    count = len(_EMPTY_PROGRAM) // 8
    program = _bpf(
        _PROG_LOAD,
        struct.pack("<IIQQ", _PROG_RAW_TRACEPOINT, count, ctypes.addressof(code), ctypes.addressof(license_)),
    )
    try:
        text = ctypes.create_string_buffer(name.encode())
        os.close(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(text), program)))
    finally:
        os.close(program)
