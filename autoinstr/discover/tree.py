"""Parents and children among all processes. In: what /proc/<pid>/stat says of each. Pure, but for `ancestors`."""

from __future__ import annotations

from autoinstr.discover.process import Stat, read_stat


def parents_first(stats: dict[int, Stat]) -> list[int]:
    """All pids, each behind its parent: a parent starts before its child, if perhaps in the same tick."""
    done: set[int] = set()
    result: list[int] = []
    for pid in sorted(stats, key=lambda pid: (stats[pid].start, pid)):
        line: list[int] = []
        above = pid
        while above in stats and above not in done:
            done.add(above)
            line.append(above)
            above = stats[above].parent
        result += reversed(line)
    return result


def descendants(pid: int, stats: dict[int, Stat], ordered: list[int]) -> set[int]:
    """The process and everything below it; `ordered` by `parents_first`."""
    found = {pid}
    for below in ordered:
        if stats[below].parent in found:
            found.add(below)
    return found


def ancestors(pid: int) -> set[int]:
    """Everything above the process, but for the first of all."""
    found: set[int] = set()
    while (stat := read_stat(pid)) and stat.parent > 1 and stat.parent not in found:
        pid = stat.parent
        found.add(pid)
    return found
