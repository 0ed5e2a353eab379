"""What processes cost, read from /proc: CPU, memory, the kernel's memory for eBPF maps, runs of eBPF programs.

In: pids. Out: numbers of the kernel. Processes that have ended count nothing.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoinstr.bpf_call import bpf

BPF_ENABLE_STATS = 32  # of enum bpf_cmd
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


def cpu_seconds(pids: Collection[int]) -> tuple[float, float]:
    """User and system time of all threads, also of those that have ended."""
    user = system = 0
    for pid in pids:
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if fields:
            user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICK, system / TICK


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


def pss_by_mapping(pids: Collection[int]) -> dict[str, int]:
    """The same by what is mapped: a path, `[heap]`, `[stack]`; empty: memory without a name."""
    found: dict[str, int] = {}
    for pid in pids:
        # of `address permissions offset device inode path`, or `name: size kB`
        parts = re.findall(
            r"^[0-9a-f]+-[0-9a-f]+ (?:\S+ +){4}(.*)$|^Pss: +(\d+) kB", read(f"/proc/{pid}/smaps"), re.MULTILINE
        )
        name = ""
        for path, size in parts:
            if size:
                found[name] = found.get(name, 0) + int(size) * 1024
            else:
                name = path
    return found


def bpf_objects(pids: Collection[int], kind: str) -> Iterable[dict[str, int]]:
    """What /proc tells of all eBPF objects (`map`, `prog`) that these processes hold, each once."""
    found: dict[int, dict[str, int]] = {}
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fdinfo").glob("*"):
            fields = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)$", read(str(entry)), re.M)}
            if f"{kind}_type" in fields:  # links have prog_id, too
                found[fields[f"{kind}_id"]] = fields
    return found.values()


def map_bytes(pids: Collection[int]) -> int:
    """The kernel's memory for all eBPF maps that these processes hold."""
    return sum(one["memlock"] for one in bpf_objects(pids, "map"))


def program_runs(pids: Collection[int]) -> dict[int, tuple[int, int]]:
    """Type of eBPF programs -> runs, and nanoseconds in them. Counted while `bpf_stats` is on."""
    runs: dict[int, tuple[int, int]] = {}
    for one in bpf_objects(pids, "prog"):
        count, time = runs.get(one["prog_type"], (0, 0))
        runs[one["prog_type"]] = count + one["run_cnt"], time + one["run_time_ns"]
    return runs


@contextmanager
def bpf_stats() -> Iterator[None]:
    """The kernel counts runs of eBPF programs, which costs some time in each, until the end."""
    held = bpf(BPF_ENABLE_STATS, struct.pack("<I", 0))
    try:
        yield
    finally:
        os.close(held)
