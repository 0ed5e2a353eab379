"""What the kernel side is told: who is a target, which ports make one. Through mapped memory.

But for what is rare not by bpf(2): while a task is inside that call on a CPU, the kernel skips other programs there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable

import numpy as np

from autoinstr.bpf_call import update
from autoinstr.capture.abi import COUNTERS, GO_FIELDS, GO_LAYOUT, Counter

WATCHED = 1
KEPT = 2 | 4 | 16 | 32 | 64  # flags that the kernel side sets by itself
TLS = 16
MAPPED = 32
SELF = 128

# RUNTIME_* in bpf/maps.h: how what a process does is told apart
RUNTIME_GO = 1
RUNTIME_IN_ORDER = 2
RUNTIME_PYTHON = 4
RUNTIME_UVLOOP = 8
RUNTIME_LOOPS = 16
_DISTANCES = 0xFFFFF << 8 | 0x3FF << 32
MAX_DISTANCE = 8 << 10  # bytes; each has ten bits, and counts words

MAX_PIDS = 4 << 20  # PID_MAX_LIMIT of the kernel
PORTS = 65536


class Control:
    """Targets, ports and switches; and the kernel side's counters."""

    def __init__(self, maps: dict[str, int]) -> None:
        self._targets = maps["targets"]
        self._runtimes = maps["runtimes"]
        self._runtime_of: dict[int, int] = {}
        self._told_runtimes = 0
        self._of_go = [(maps["go_layouts"], GO_LAYOUT)]
        if "go_fields" in maps:
            self._of_go.append((maps["go_fields"], GO_FIELDS))
        self._layouts: dict[int, dict[str, int]] = {}  # as told
        self._ports = mmap.mmap(maps["ports"], 2 * mmap.PAGESIZE)
        self._control = mmap.mmap(maps["control"], mmap.PAGESIZE)
        self._counters_map = mmap.mmap(maps["counters"], mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        self._counters = np.frombuffer(self._counters_map, np.uint64, COUNTERS)

    def _flags(self, pid: int, flags: int, keep: int) -> None:
        # one page at a time: the whole map is 4 MB, and a mapping counts as this process's memory
        page, at = divmod(pid, mmap.PAGESIZE)
        with mmap.mmap(self._targets, mmap.PAGESIZE, offset=page * mmap.PAGESIZE) as window:
            window[at] = window[at] & keep | flags

    def watch(self, pid: int) -> None:
        """From now on the process is a target; its children will be, too."""
        if 0 < pid < MAX_PIDS:
            self._flags(pid, WATCHED, KEPT)

    def runtime(self, pid: int, flags: int) -> None:
        """How the process works, RUNTIME_*: whom its calls are made for depends on it."""
        if flags or pid in self._runtime_of:
            update(self._runtimes, struct.pack("<I", pid), struct.pack("<Q", flags))
            self._runtime_of[pid] = flags
            # programs that remember that there was none look again
            self._told_runtimes = (self._told_runtimes + 1) % (1 << 32)
            self._control[24:28] = struct.pack("<I", self._told_runtimes)

    def add_runtime(self, pid: int, flags: int) -> None:
        """The same, beside what is known already."""
        self.runtime(pid, self._runtime_of.get(pid, 0) | flags)

    def python(self, pid: int, state: int, context: int, stack: int) -> None:
        """The process is a Python that keeps a thread's context there, and greenlet: distances in bytes."""
        if max(state, context, stack) < MAX_DISTANCE:
            before = self._runtime_of.get(pid, 0) & ~_DISTANCES
            self.runtime(pid, before | RUNTIME_PYTHON | state // 8 << 8 | context // 8 << 18 | stack // 8 << 32)

    def looked(self, pid: int) -> None:
        """What the process has mapped is about to be looked at: what it maps from now on is to be told."""
        if 0 < pid < MAX_PIDS:
            self._flags(pid, 0, 0xFF & ~MAPPED)

    def mark(self, pid: int, flags: int, layout: dict[str, int]) -> None:
        """The process has libraries that are probed: those with these flags. `layout`: where fields lie in them."""
        if 0 < pid < MAX_PIDS:
            if layout != self._layouts.get(pid, {}):
                self._layouts[pid] = layout
                for table, kind in self._of_go:
                    row = np.zeros(1, kind)
                    for name in layout.keys() & set(kind.names or ()):
                        row[name] = layout[name]
                    update(table, struct.pack("<I", pid), row.tobytes())
            self._flags(pid, flags, 0xFF)

    def ignore(self, pid: int) -> None:
        """The process is no target, or no longer."""
        self._runtime_of.pop(pid, None)
        self._layouts.pop(pid, None)
        if 0 < pid < MAX_PIDS:
            self._flags(pid, 0, 0)

    def exclude_self(self, pid: int) -> None:
        """The process is the agent: never a target, and nor is the other end of its connections told of them."""
        self._flags(pid, SELF, 0)

    def watch_ports(self, ports: Iterable[int]) -> None:
        """Who begins to listen on one of these TCP ports is a target at once."""
        bits = np.zeros(PORTS, np.uint8)
        bits[list(ports)] = 1
        self._ports[: PORTS // 8] = np.packbits(bits, bitorder="little").tobytes()

    def watch_programs(self, wanted: bool) -> None:
        """Every process that executes a new program is watched until `ignore` says otherwise."""
        self._control[:4] = struct.pack("<I", wanted)

    def in_namespace(self) -> bool:
        """Has the kernel side learnt in which PID namespace this process is? Only asked when it is not the first."""
        return any(self._control[8:16])

    def counters(self) -> dict[Counter, int]:
        """What the kernel side has counted since it was loaded."""
        return {counter: int(self._counters[counter]) for counter in Counter}
