"""How often probes are hit, and what that takes: measured for a moment, when somebody asks.

In: what is attached, pids of targets. Out: runs and time of each probe in the whole machine, by the kernel's own
statistics, which are on for that moment only; hits by process; and what the way into a probe on a function and back
takes here. At all other times nothing of this costs anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import statistics
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from autoinstr.attach.loader import COUNTING, FUNCTION_PROBES, Attached, attach_raw
from autoinstr.attach.uprobes import FunctionProgram, attach_uprobes
from autoinstr.bpf_call import BpfCommand, bpf, items, program_info, update

HITS = struct.Struct("<QQ")  # struct hits in bpf/maps.h
MOST = 1024  # processes: MAX_COUNTED
CALLS, ROUNDS = 500, 5
ON_CALLS = ("sys_enter", "sys_exit")  # probes that run for each system call of the machine
# A function that begins with an instruction that the kernel emulates under a probe, and one where it does not.
CODE = {
    "x86_64": (b"\x55\x5d\xc3", b"\x31\xc0\xc3"),  # push %rbp; pop %rbp; ret - xor %eax, %eax; ret
    "aarch64": (b"\x1f\x20\x03\xd5\xc0\x03\x5f\xd6", b"\x00\x00\x80\x52\xc0\x03\x5f\xd6"),  # nop - mov w0, #0
}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Tally:
    seconds: float = 0.0
    probes: dict[str, tuple[int, int]] = field(default_factory=dict)  # runs, ns; empty: the kernel would not tell
    hits: dict[int, tuple[int, int]] = field(default_factory=dict)  # by pid: system calls, hits of functions
    least: float = 0.0  # ns of a run that finds that the process is not asked for


def tally(attached: Attached, pids: Iterable[int], wait: Callable[[], object]) -> Tally:
    """What happens while `wait` waits. OSError: the kernel refuses."""
    counted = [*pids][:MOST]
    where = attached.maps["hits"]
    for pid in counted:
        update(where, struct.pack("<I", pid), bytes(HITS.size))
    statistics_on, counting = -1, -1
    try:
        with contextlib.suppress(OSError):  # needs CAP_SYS_ADMIN
            statistics_on = bpf(BpfCommand.ENABLE_STATS, bytes(4))
        counting = attach_raw("sys_exit", attached.programs[COUNTING])
        before, began = _runs(attached), time.monotonic()
        wait()
        after, seconds = _runs(attached), time.monotonic() - began
        counted_ns, counted_runs, _ = program_info(attached.programs[COUNTING])
    finally:
        for descriptor in (statistics_on, counting):
            if descriptor >= 0:
                os.close(descriptor)
    told = Tally(seconds)
    if statistics_on >= 0:
        told.least = counted_ns / max(1, counted_runs)
        # programs for functions may have been loaded meanwhile
        told.probes = {
            name: (runs - before[name][0], ns - before[name][1]) for name, (runs, ns) in after.items() if name in before
        }
    for key, value in list(items(where, 4, HITS.size)):
        (pid,), (calls, functions) = struct.unpack("<I", key), HITS.unpack(value)
        told.hits[pid] = calls, functions
        _delete(where, key)
    return told


@dataclass(frozen=True, slots=True)
class Price:
    """What probes take, in shares of a core: of all that was watched, of everybody else, of each target by its pid."""

    targets: dict[int, float]
    watched: float
    others: float


def price(told: Tally, way_and_back: float) -> Price:
    """By the hits of each target, and what a hit takes on average: in a program as the kernel tells, where that of a
    process that is not watched takes no more than `least`; on functions also `way_and_back`, ns.
    """
    runs, spent = (sum(told.probes.get(name, (0, 0))[part] for name in ON_CALLS) for part in (0, 1))
    calls = sum(len(ON_CALLS) * count for count, _ in told.hits.values())
    others = told.least * max(0, runs - calls)
    of_call = max(told.least, (spent - others) / max(1, calls))
    runs, spent = (sum(told.probes.get(name, (0, 0))[part] for name in FUNCTION_PROBES) for part in (0, 1))
    of_function = spent / max(1, runs) + way_and_back
    whole = told.seconds * 1e9
    targets = {
        pid: (len(ON_CALLS) * count * of_call + functions * of_function) / whole
        for pid, (count, functions) in told.hits.items()
    }
    return Price(targets, sum(targets.values()), others / whole)


def _runs(attached: Attached) -> dict[str, tuple[int, int]]:
    found = {}
    for name, copies in attached.named_probes().items():
        infos = [program_info(fd) for fd in copies]
        found[name] = sum(info[1] for info in infos), sum(info[0] for info in infos)
    return found


def _delete(where: int, key: bytes) -> None:
    buffer = ctypes.create_string_buffer(key, len(key))
    bpf(BpfCommand.MAP_DELETE_ELEM, struct.pack("<IxxxxQ", where, ctypes.addressof(buffer)))


def way(program: FunctionProgram) -> tuple[float, float]:
    """Nanoseconds into a probe on a function and back, where the kernel emulates the instruction, and where it makes a
    single step. `program` ends at once in this process. OSError: it can't be measured here.
    """
    code = CODE.get(platform.machine())
    if code is None:
        raise OSError(f"not on {platform.machine()}")
    file = os.memfd_create("autoinstr", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, mmap.PAGESIZE)
        offsets = [64 * number for number in range(len(code))]
        for offset, instructions in zip(offsets, code, strict=True):
            os.pwrite(file, instructions, offset)
        begin = _map(file)
        functions = [ctypes.CFUNCTYPE(None)(begin + offset) for offset in offsets]
        plain = [_time_of(function) for function in functions]
        links = attach_uprobes(f"/proc/self/fd/{file}", offsets, program, on_return=False)
        probed = [_time_of(function) for function in functions]
        for link in links:
            os.close(link)
        _libc.munmap(ctypes.c_void_p(begin), mmap.PAGESIZE)
    finally:
        os.close(file)
    emulated, stepped = (max(0.0, after - before) for before, after in zip(plain, probed, strict=True))
    return emulated, stepped


def _map(file: int) -> int:
    """Its first page, as code; of a shared mapping the kernel would see no probes."""
    _libc.mmap.restype = ctypes.c_void_p
    access = mmap.PROT_READ | mmap.PROT_EXEC
    begin = _libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), access, mmap.MAP_PRIVATE, file, ctypes.c_long(0))
    if begin in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "no memory for code")
    return int(begin)


def _time_of(function: Callable[[], None]) -> float:
    """Nanoseconds of one call."""
    took = []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for _ in range(CALLS):
            function()
        took.append((time.thread_time_ns() - began) / CALLS)
    return statistics.median(took)
