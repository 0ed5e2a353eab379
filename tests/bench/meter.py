"""What processes cost, read from /proc: CPU, memory, and the kernel's memory for eBPF maps.

In: pids. Out: numbers of the kernel. Processes that have ended count nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def read(path: str) -> str:
    """A file of /proc; empty if the process is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*"):
            pids += [int(child) for child in read(f"{task}/children").split()]
    return pids


def cpu_seconds(pids: Collection[int]) -> float:
    """User and system time of all threads, also of those that have ended."""
    total = 0.0
    for pid in pids:
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if fields:
            total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def running_seconds(pids: Collection[int]) -> float:
    """Time on a CPU of all threads, to the nanosecond: for processes whose threads stay."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            total += int((read(f"{task}/schedstat") or "0").split()[0])
    return total / 1e9


def pss_bytes(pids: Collection[int]) -> int:
    """Resident memory, what is shared counted by its share."""
    found = (re.search(r"^Pss:\s+(\d+) kB", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE) for pid in pids)
    return sum(int(match[1]) * 1024 for match in found if match)


def map_bytes(pids: Collection[int]) -> int:
    """The kernel's memory for all eBPF maps that these processes hold, each counted once."""
    sizes: dict[str, int] = {}
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fdinfo").glob("*"):
            text = read(str(entry))
            number, size = re.search(r"^map_id:\s+(\d+)", text, re.M), re.search(r"^memlock:\s+(\d+)", text, re.M)
            if number and size:
                sizes[number[1]] = int(size[1])
    return sum(sizes.values())
