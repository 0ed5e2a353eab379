"""What a Go program says of itself: Go's version, its modules' versions, its functions. Stripped ones say it, too.

In: a descriptor of an ELF file. Out: `GoProgram`; remembered while it is the one that is asked about, since several
libraries may be looked for in it. The file may be anything, hostile too. Must never hold more than a part of it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from autoinstr.elf import Segment, go_build_info, in_file, read_binary, segments_of
from autoinstr.libraries.go_code import GoCode
from autoinstr.libraries.go_table import GoFunction, go_functions

MAX_CODE = 64 << 10  # bytes of one function


_last: list[Any] = []  # the identity of a file, and what is known of it


@dataclass(slots=True)
class GoProgram:
    """A program built by Go."""

    descriptor: int
    machine: int
    segments: list[Segment]
    version: tuple[int, ...]  # of Go: (1, 26, 8); empty: not told
    modules: dict[str, str]  # path -> "v1.2.3", as built: replaced ones have their own paths
    _functions: dict[str, GoFunction | None] = field(default_factory=dict)
    _codes: dict[int, GoCode] = field(default_factory=dict)  # by where they begin

    def look_for(self, names: Iterable[str]) -> None:
        """Find several functions in one go. ValueError: the table of functions is damaged."""
        new = [name for name in names if name not in self._functions]
        if not new:
            return
        try:
            found = go_functions(self.descriptor, self.segments, new)
        except (struct.error, IndexError, OverflowError) as error:
            raise ValueError("a Go program with a damaged table of functions") from error
        self._functions |= {name: found.get(name) for name in new}

    def function(self, name: str) -> GoFunction | None:
        """Where it is; None: not there."""
        self.look_for((name,))
        return self._functions[name]

    def code_of(self, name: str) -> GoCode | None:
        """The instructions of this function; None: it is not there, or not in the file."""
        where = self.function(name)
        return self.code(where) if where else None

    def code(self, function: GoFunction) -> GoCode | None:
        """Its instructions, read once; None: it is not in the file."""
        if function.begin not in self._codes:
            if (offset := in_file(self.segments, function.begin)) is None:
                return None
            size = min(function.end - function.begin, MAX_CODE)
            code = os.pread(self.descriptor, size, offset)
            self._codes[function.begin] = GoCode(code, function.begin, self.machine)
        return self._codes[function.begin]

    def offset(self, function: GoFunction, address: int) -> int:
        """Of an instruction of the function, in the file; ValueError: it is not there."""
        if (offset := in_file(self.segments, function.begin)) is None:
            raise ValueError("a Go program whose code is not in its file")
        return address - function.begin + offset


def go_program(descriptor: int) -> GoProgram | None:
    """None: it was not built by Go. OSError: it can't be read."""
    status = os.fstat(descriptor)
    key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    if not _last or _last[0] != key:
        _last[:] = [key, _open(descriptor)]
    program: GoProgram | None = _last[1]
    if program:
        program.descriptor = descriptor
    return program


def rest() -> None:
    """Forget what is remembered: to be called when no file is asked about for a while."""
    _last.clear()


def _open(descriptor: int) -> GoProgram | None:
    if read_binary(descriptor).language != "go":
        return None
    head = os.pread(descriptor, 64, 0)
    segments = segments_of(descriptor, head)
    version, modules = go_build_info(descriptor, segments)
    return GoProgram(descriptor, int.from_bytes(head[18:20], "little"), segments, go_version(version), modules)


def go_version(text: str) -> tuple[int, ...]:
    """(1, 26, 8) for "go1.26.8 X:nocoverageredesign"; of development versions nothing."""
    numbers = text.partition(" ")[0].partition("-")[0].removeprefix("go")
    for mark in ("rc", "beta"):
        numbers = numbers.partition(mark)[0]
    parts = numbers.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()
