"""What would be probed of a process, and what that would take: for people who decide whether they want it.

In: what a process has mapped. Out: a line for each library in each file. Attaches nothing to anybody; what a hit takes
is measured on a function of our own.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from autoinstr import elf
from autoinstr.attach.image import Program
from autoinstr.attach.loader import load_program
from autoinstr.attach.tally import way
from autoinstr.attach.uprobes import KPROBE, UPROBE_MULTI, FunctionProgram
from autoinstr.bpf_call import instructions
from autoinstr.errors import AutoinstrError
from autoinstr.libraries import GONE, LIBRARIES, OF_OLDER, Found, find, mapped_files

NOTHING = instructions((0xB7, 0, 0, 0), (0x95, 0, 0, 0))  # r0 = 0; exit


@dataclass(frozen=True, slots=True)
class Hit:
    """Nanoseconds of a hit of a program that does nothing: there and back."""

    emulated: float  # where the kernel emulates the instruction that is probed
    stepped: float  # where it makes a single step


@dataclass(frozen=True, slots=True)
class Planned:
    """Probes on one library's functions in one file."""

    group: str
    library: str
    path: str
    wanted: bool  # its group is not switched off
    probes: int
    stepped: float  # share of those that are hit for each request, at which the kernel makes a single step
    hits: float
    per: str

    def nanoseconds(self, hit: Hit) -> float:
        """What its hits take."""
        return self.hits * (hit.emulated + self.stepped * (hit.stepped - hit.emulated))


def planned(pid: int, maps: bytes, groups: Collection[str]) -> list[Planned]:
    """All that there is in a process. `groups`: those that are not switched off."""
    lines = []
    for file in mapped_files(pid, maps):
        for path in file.opened:
            try:
                found = find(path, (*LIBRARIES, *OF_OLDER))
            except GONE:
                continue
            except (OSError, ValueError):
                break
            lines += [_planned(path, file.path, one, groups) for one in found]
            break
    return lines


def _planned(path: str, shown: str, found: Found, groups: Collection[str]) -> Planned:
    library = found.library
    often = [place for place in found.places if place.program not in library.rare]
    with Path(path).open("rb") as file:
        stepped = sum(not place.on_return and not elf.is_emulated(file.fileno(), place.offset) for place in often)
    return Planned(
        group=library.group,
        library=library.name,
        path=shown,
        wanted=library.group in groups,
        probes=len(found.places),
        stepped=stepped / max(1, len(often)),
        hits=library.hits,
        per=library.per,
    )


def measure_hit() -> Hit:
    """On this machine, now. OSError, AutoinstrError: it can't be measured, for want of privileges mostly."""
    program = load_program(Program("nothing", NOTHING, ()), {}, KPROBE, UPROBE_MULTI)
    try:
        return Hit(*way(FunctionProgram(program)))
    finally:
        os.close(program)


def hit() -> Hit | None:
    """The same; None: it can't be measured here."""
    try:
        return measure_hit()
    except (OSError, AutoinstrError):
        return None
