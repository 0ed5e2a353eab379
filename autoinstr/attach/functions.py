"""Which files have probes on their functions: those that targets have mapped, each once.

In: pids of targets. Out: uprobes. A file's probes stay for a while after its last target, since programs come back
(curl in a loop), and detaching waits for the kernel.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from autoinstr import elf
from autoinstr.attach.uprobes import FunctionProgram, attach_uprobes
from autoinstr.errors import AutoinstrError
from autoinstr.libraries import (
    GONE,
    IF_ASKED,
    LIBRARIES,
    OF_OLDER,
    File,
    Found,
    Identity,
    Library,
    find,
    go_program,
    identity_of,
    instructions,
    mapped_files,
)
from autoinstr.probes import GROUPS

log = logging.getLogger(__name__)

LINGER = 120.0  # seconds without a target, after which a file's probes go
OLDER = 600.0  # seconds from the start on in which connections older than the agent are asked what they have come to
CLOSERS = 32  # threads
MAX_FILES = 4096  # files that are remembered to hold nothing of interest
FOLDERS = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib")


@dataclass(slots=True)
class Probed:
    """A file with probes on it."""

    path: str
    libraries: list[str]
    flags: int  # of these
    layout: dict[str, int] = field(default_factory=dict)
    events: list[int] = field(default_factory=list)
    places: int = 0  # that are probed
    stepped: int = 0  # those where the kernel makes a single step
    used: float = 0.0  # when a target had it last


@dataclass(slots=True)
class Shelf:
    """Files that were looked at for some libraries."""

    all: tuple[Library, ...]  # that are looked for
    wanted: tuple[Library, ...]  # of those
    probed: dict[tuple[str, int], Probed] = field(default_factory=dict)  # the kernel keeps the inode of what is probed
    plain: set[Identity] = field(default_factory=set)  # of no interest, or that can't be probed


class Functions:
    """Uprobes of all files. Used by one thread. `programs`: gives a program by its name, or nothing where it is not
    needed. `tell`: is called with each process that has such a file, the flags of the libraries in it, and where
    fields lie in their structures. `groups`: of libraries, those that are wanted.
    """

    def __init__(
        self,
        programs: Callable[[str], FunctionProgram | None],
        tell: Callable[[int, int, dict[str, int]], None],
        groups: Collection[str],
    ) -> None:
        self._programs = programs
        self._tell = tell
        always = *LIBRARIES, *(library for library in IF_ASKED if library.group in groups)
        self._always, self._older = (
            Shelf(some, tuple(library for library in some if library.group in groups)) for some in (always, OF_OLDER)
        )
        self._until = time.monotonic() + OLDER

    def follow(self, pid: int, maps: bytes, *, older: bool = False) -> None:
        """See to it that what this process has mapped is probed. `older`: than the agent."""
        now = time.monotonic()
        flags, layout, told = 0, dict[str, int](), False
        for number, file in enumerate(mapped_files(pid, maps)):
            shelves = [self._always]
            if older and now < self._until and self._may_be_old(number, file):
                shelves.append(self._older)
            for shelf in shelves:
                self._consider(shelf, file, now)
                if (probed := shelf.probed.get(file.key)) is not None:
                    probed.used = max(now, probed.used)
                    flags, layout, told = flags | probed.flags, layout | probed.layout, True
        if told:
            self._tell(pid, flags, layout)

    def _may_be_old(self, number: int, file: File) -> bool:
        """The program itself, or one of such libraries by its name: for all that is mapped it would take too long."""
        base = file.path.rpartition("/")[2]
        return bool(self._older.wanted) and (number == 0 or any(one.name in base for one in self._older.wanted))

    def _files(self) -> Iterator[Probed]:
        for shelf in (self._always, self._older):
            yield from list(shelf.probed.values())

    def files(self) -> list[dict[str, Any]]:
        """What is probed, for people; from any thread."""
        return [
            {"path": probed.path, "libraries": probed.libraries, "probes": len(probed.events)}
            for probed in self._files()
        ]

    def prepare(self) -> None:
        """Probe the system's own copies of all libraries: for programs that are over before they could be looked at."""
        wanted = self._always.wanted
        patterns = [f"{folder}/{name}" for folder in FOLDERS for library in wanted for name in library.shared]
        paths = [path for pattern in patterns for path in Path("/").glob(pattern)]
        paths += [Path(found) for library in wanted for name in library.programs if (found := shutil.which(name))]
        for path in {path.resolve() for path in paths}:
            status = path.stat()
            device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
            self._consider(self._always, File((device, status.st_ino), str(path), (str(path),)), float("inf"))

    def release(self, pids: Mapping[int, bool], maps_of: Callable[[int], bytes]) -> None:
        """Detach from files that no target has had for a while. `pids`: all targets, and whether they are older."""
        for pid, older in pids.items():
            self.follow(pid, maps_of(pid), older=older)
        instructions.rest()
        go_program.rest()
        now = time.monotonic()
        for shelf, linger in ((self._always, LINGER), (self._older, 0.0 if now > self._until else LINGER)):
            for key in [key for key, probed in shelf.probed.items() if probed.used < now - linger]:
                self._detach(shelf.probed.pop(key))

    def close(self) -> None:
        """Detach all: at once, since each waits for the kernel."""
        events = [event for probed in self._files() for event in probed.events]
        with ThreadPoolExecutor(CLOSERS) as pool:
            list(pool.map(os.close, events))
        self._always.probed.clear()
        self._older.probed.clear()

    def _consider(self, shelf: Shelf, file: File, now: float) -> None:
        if file.key in shelf.probed or (identity := identity_of(file)) in shelf.plain:
            return
        for path in file.opened:
            try:
                found = [one for one in find(path, shelf.all) if one.library in shelf.wanted]
                if not found:
                    break
                shelf.probed[file.key] = self._attach(path, file, found, now)
                return
            except GONE:
                continue  # the mapping is gone, or the path leads elsewhere
            except PermissionError as error:
                if path == file.opened[-1]:
                    log.warning(
                        "%s can't be probed (%s): its TLS is not seen, nor what only it knows",
                        file.path,
                        error.strerror,
                    )
                    break
            except (OSError, ValueError, AutoinstrError) as error:
                log.warning("%s can't be probed (%s): its TLS is not seen, nor what only it knows", file.path, error)
                break
        else:
            return  # nobody has looked: its next process may live longer
        if len(shelf.plain) >= MAX_FILES:
            shelf.plain.clear()
        if identity:
            shelf.plain.add(identity)

    def _attach(self, path: str, file: File, found: list[Found], now: float) -> Probed:
        libraries = [one.library.name for one in found]
        probed = Probed(file.path, libraries, reduce(or_, (one.library.flag for one in found)), used=now)
        for one in found:
            probed.layout |= one.layout
        try:
            for one in found:
                try:
                    self._attach_library(path, one, probed)
                except AutoinstrError as error:
                    if one.library.group == "tls":
                        raise
                    said = GROUPS.get(one.library.group, one.library.group)
                    log.warning("%s: no %s (%s)", file.path, said, error)
        except BaseException:
            self._detach(probed)
            raise
        log.info("%s: %s is probed", file.path, " and ".join(libraries))
        return probed

    @property
    def stepped(self) -> float:
        """Share of all probes where the kernel makes a single step; from any thread."""
        files = list(self._files())
        return sum(file.stepped for file in files) / max(1, sum(file.places for file in files))

    def _attach_library(self, path: str, found: Found, probed: Probed) -> None:
        places: defaultdict[tuple[str, bool], list[int]] = defaultdict(list)
        for place in found.places:
            places[place.program, place.on_return].append(place.offset)
        probed.places += len(found.places)
        probed.stepped += _stepped(path, places)
        for (name, on_return), offsets in places.items():
            if program := self._programs(name):
                probed.events += attach_uprobes(path, offsets, program, on_return=on_return)

    @staticmethod
    def _detach(probed: Probed) -> None:
        for event in probed.events:
            os.close(event)
        probed.events.clear()


def _stepped(path: str, places: dict[tuple[str, bool], list[int]]) -> int:
    """Places, but for those of returns, at which the kernel does not emulate what is there."""
    offsets = [offset for (_, on_return), some in places.items() for offset in some if not on_return]
    with Path(path).open("rb") as file:
        return sum(not elf.is_emulated(file.fileno(), offset) for offset in offsets)
