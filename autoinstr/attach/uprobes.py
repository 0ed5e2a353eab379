"""A program on a function of a file: uprobes, by perf_event_open(2).

In: a file, an offset in it, a program. Out: a descriptor; closing it detaches. The probe is on the file, so it is there
in every process that has it mapped, now and later, children and workers too; in others than targets it ends at once.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import re
import struct
from pathlib import Path

SYSCALL = {"x86_64": 298, "aarch64": 241}
PMU = Path("/sys/bus/event_source/devices/uprobe")
SET_PROGRAM = 0x40042408  # PERF_EVENT_IOC_SET_BPF
CLOSE_ON_EXEC = 8  # PERF_FLAG_FD_CLOEXEC
ATTRIBUTES = 112  # PERF_ATTR_SIZE_VER5: enough for every kernel from 4.4

_libc = ctypes.CDLL(None, use_errno=True)


def pmu() -> tuple[int, int]:
    """The kernel's number for uprobes, and the bit that asks for the return. OSError if it has none."""
    kind = int((PMU / "type").read_text())
    found = re.search(r"config:(\d+)", (PMU / "format" / "retprobe").read_text())
    return kind, int(found[1]) if found else 0


def attach_uprobe(path: str, offset: int, program: int, *, on_return: bool) -> int:
    """Descriptor of the event; OSError if the kernel refuses."""
    kind, bit = pmu()
    name = ctypes.create_string_buffer(os.fsencode(path))
    attributes = bytearray(ATTRIBUTES)
    struct.pack_into("<IIQ", attributes, 0, kind, ATTRIBUTES, (1 << bit) if on_return else 0)
    struct.pack_into("<QQ", attributes, 56, ctypes.addressof(name), offset)
    buffer = ctypes.create_string_buffer(bytes(attributes), ATTRIBUTES)
    # of every process; the CPU does not matter to a program on it
    fd = int(_libc.syscall(SYSCALL[platform.machine()], buffer, -1, 0, -1, CLOSE_ON_EXEC))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    try:
        fcntl.ioctl(fd, SET_PROGRAM, program)
    except OSError:
        os.close(fd)
        raise
    return fd
