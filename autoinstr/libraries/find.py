"""Finds libraries in what a process has mapped.

In: /proc/<pid>/maps. Out: each mapped file once, and the functions in it. A path belongs to the process's own root; the
file is opened by its mapping, so that it is the right one in another mount namespace and when it was deleted, too.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoinstr import elf
from autoinstr.libraries.base import Library, Place

MAX_FILES = 4096  # remembered
LARGE = 1 << 20  # bytes of a file
PART = 1 << 20  # that are read at once
MAX_NOTE = 256  # bytes of a build id; Go's has 116
GONE = (FileNotFoundError, ProcessLookupError)  # a process has ended, or unmapped the file, since its maps were read
Identity = tuple[int, ...]
Content = tuple[int, bytes] | tuple[()]

_MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f:]+) ([1-9]\d*) +(/.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class File:
    """A file that a process has mapped as code."""

    key: tuple[str, int]  # device and inode, as the kernel shows them
    path: str  # where the process found it
    opened: tuple[str, ...]  # where the agent can open it, best first


@dataclass(frozen=True, slots=True)
class Found:
    """A library in a file."""

    library: Library
    places: tuple[Place, ...]
    layout: dict[str, int] = field(default_factory=dict)  # where fields lie, by the names of `go_layouts.py`


def mapped_files(pid: int, maps: bytes) -> Iterator[File]:
    """Each file that is mapped as code, once."""
    seen = set()
    for begin, end, device, inode, path in _MAPPING.findall(maps):
        key = (device.decode(), int(inode))
        if key in seen:
            continue
        seen.add(key)
        name = os.fsdecode(path)
        mapping = f"{int(begin, 16):x}-{int(end, 16):x}"
        yield File(key, name, (f"/proc/{pid}/map_files/{mapping}", f"/proc/{pid}/root{name}"))


def open_file(path: str) -> int:
    """Descriptor of a file that may be anything, for reading; OSError if that can't be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for a writer
    os.set_blocking(descriptor, True)  # and 9p gives less than was asked for
    return descriptor


def identity(status: os.stat_result) -> Identity:
    """What changes with a file: a new one gets the inode of one that is gone."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def identity_of(file: File) -> Identity:
    """Empty: it can't be looked at."""
    for path in file.opened:
        with suppress(OSError):
            return identity(Path(path).stat())
    return ()


def _look(descriptor: int, library: Library) -> Found:
    places = tuple(library.places(descriptor, library.functions))
    return Found(library, places, library.layout(descriptor) if places and library.layout else {})


_known: OrderedDict[tuple[Identity, tuple[str, ...]], list[Found]] = OrderedDict()
_copies: OrderedDict[tuple[Content, tuple[str, ...]], list[Found]] = OrderedDict()


def find(path: str, libraries: Iterable[Library]) -> list[Found]:
    """The libraries whose functions this file has; OSError if it can't be read, ValueError if they can't be probed.

    Remembered by the file's identity, and large Go programs by what is in them, too: many containers have copies.
    """
    descriptor = open_file(path)
    try:
        libraries = tuple(libraries)
        names = tuple(library.name for library in libraries)
        key = identity(os.fstat(descriptor)), names
        if key not in _known:
            _keep(_known, key, _find_in_copy(descriptor, names, libraries))
        return _known[key]
    finally:
        os.close(descriptor)


def _find_in_copy(descriptor: int, names: tuple[str, ...], libraries: tuple[Library, ...]) -> list[Found]:
    content = _content(descriptor)
    key = content, names
    if not content or key not in _copies:
        found = [one for one in (_look(descriptor, library) for library in libraries) if one.places]
        if not content:
            return found
        _keep(_copies, key, found)
    return _copies[key]


def _content(descriptor: int) -> Content:
    """The same for copies of a large Go program, and for nothing else; empty: what it is takes no time to find out.

    A build id is only what a file says of itself, and a probe that is put in the middle of an instruction breaks
    a program: so all of it is read as well, which takes a small part of the time that its functions take.
    """
    size = os.fstat(descriptor).st_size
    if size < LARGE or not (build_id := elf.read_section(descriptor, ".note.go.buildid", MAX_NOTE)):
        return ()
    digest = hashlib.blake2b(build_id)
    for at in range(0, size, PART):
        digest.update(os.pread(descriptor, min(PART, size - at), at))
    return size, digest.digest()


def _keep(known: OrderedDict[Any, list[Found]], key: object, found: list[Found]) -> None:
    known[key] = found
    if len(known) > MAX_FILES:
        known.popitem(last=False)
