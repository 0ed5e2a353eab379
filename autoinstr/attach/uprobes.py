"""A program on functions of a file: uprobes.

In: a file, offsets in it, a program. Out: descriptors; closing them detaches. The probe is on the file, so it is there
in every process that has it mapped, now and later, children and workers too; in others than targets it ends at once.

Linux 6.6 and newer take many offsets at once. Before that each is an event of perf_event_open(2), and each of them lets
whoever closes it wait for a tenth of a second.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoinstr.bpf_call import BpfCommand, bpf

SYSCALL = {"x86_64": 298, "aarch64": 241}
PMU = Path("/sys/bus/event_source/devices/uprobe")
SET_PROGRAM = 0x40042408  # PERF_EVENT_IOC_SET_BPF
CLOSE_ON_EXEC = 8  # PERF_FLAG_FD_CLOEXEC
KPROBE = 2  # BPF_PROG_TYPE_KPROBE, which programs for functions are of
# BPF_TRACE_UPROBE_MULTI, _SESSION; older kernels do not look at what a program is loaded for
UPROBE_MULTI, UPROBE_SESSION = 48, 57
MULTI_RETURN = 1  # BPF_F_UPROBE_MULTI_RETURN
ATTRIBUTES = 112  # PERF_ATTR_SIZE_VER5: enough for every kernel from 4.4

_libc = ctypes.CDLL(None, use_errno=True)


def pmu() -> tuple[int, int]:
    """The kernel's number for uprobes, and the bit that asks for the return. OSError if it has none."""
    kind = int((PMU / "type").read_text())
    found = re.search(r"config:(\d+)", (PMU / "format" / "retprobe").read_text())
    return kind, int(found[1]) if found else 0


@dataclass(frozen=True, slots=True)
class FunctionProgram:
    """A loaded program. `session`: it runs on entry, and on return if it asked for that."""

    descriptor: int
    session: bool = False


def attach_uprobes(path: str, offsets: Sequence[int], program: FunctionProgram, *, on_return: bool) -> list[int]:
    """Descriptors; OSError if the kernel refuses."""
    try:
        return [attach_at_once(path, offsets, program, on_return=on_return)]
    except OSError:
        if program.session:
            raise
        # not known to this kernel; if it is something else, we will hear of it again
    events: list[int] = []
    try:
        for offset in offsets:
            events.append(attach_event(path, offset, program.descriptor, on_return=on_return))
    except BaseException:
        for event in events:
            os.close(event)
        raise
    return events


def attach_at_once(path: str, offsets: Sequence[int], program: FunctionProgram, *, on_return: bool) -> int:
    """Descriptor of the link."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    places = (ctypes.c_uint64 * len(offsets))(*offsets)
    addresses = (ctypes.addressof(name), ctypes.addressof(places), 0, 0)
    flags = MULTI_RETURN if on_return else 0
    purpose = UPROBE_SESSION if program.session else UPROBE_MULTI
    head = struct.pack("<IIII", program.descriptor, 0, purpose, 0)
    return bpf(BpfCommand.LINK_CREATE, head + struct.pack("<QQQQIII", *addresses, len(offsets), flags, 0))


def attach_event(path: str, offset: int, program: int, *, on_return: bool) -> int:
    """Descriptor of the event."""
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
