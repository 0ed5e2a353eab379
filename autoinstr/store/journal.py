"""Files that only grow at their end, in blocks with a checksum: the form in which a store is kept on disk.

In: blocks, plain objects and arrays. Out: the same, as many as are whole: a kill costs the block that was being
written, and never one before it; a power cut what the kernel had not put on disk yet. Files are for their owner alone.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

SUFFIX, UNFINISHED = ".journal", ".new"
MAX_BLOCK = 64 << 20  # bytes: more than a chunk of spans can take
_FRAME = struct.Struct("<III")  # size of the head, size of the arrays, checksum of both


@dataclass(slots=True)
class File:
    path: Path
    last: int  # number of the last thing in it
    size: int = 0


class Journal:
    """Files of one kind in a folder, named by kind and number. Used by one thread."""

    def __init__(self, folder: Path, kind: str, mark: bytes, head: type[Any]) -> None:
        """`head`: what blocks begin with. `mark`: what files begin with; those with another one are of another version,
        and go.
        """
        self._folder, self._kind, self._mark = folder, kind, mark
        self._decoder = msgspec.json.Decoder(head)
        self._next = 0
        self._files: deque[File] = deque()
        self._open = -1  # descriptor of the last file
        for left in folder.glob(f"{kind}-*{UNFINISHED}"):
            left.unlink()

    # --- what was there before

    def read(self) -> Iterator[tuple[File, list[tuple[Any, memoryview]]]]:
        """Each file's blocks, the oldest file first; `last` of the file is the reader's to set."""
        for path in sorted(self._folder.glob(f"{self._kind}-*{SUFFIX}")):
            data = path.read_bytes()
            if not data.startswith(self._mark):
                path.unlink()
                continue
            file = File(path, -1, len(data))
            self._next = int(path.stem.rpartition("-")[2]) + 1
            self._files.append(file)
            yield (
                file,
                [(self._decoder.decode(head), arrays) for head, arrays in _blocks(memoryview(data)[len(self._mark) :])],
            )

    # --- what comes

    @property
    def size(self) -> int:
        """Of the file that is being written; 0: there is none."""
        return self._files[-1].size if self._open >= 0 else 0

    def append(self, head: Any, arrays: Sequence[NDArray[Any]], last: int) -> None:
        """One block. OSError: it is not kept, and what comes goes into another file."""
        try:
            if self._open < 0:
                path = self._path()
                self._open = self._create(path)
                self._files.append(File(path, last, len(self._mark)))
            file = self._files[-1]
            file.size += _write(self._open, head, arrays)
            file.last = last
        except OSError:
            self.roll()
            raise

    def whole(self, head: Any, arrays: Sequence[NDArray[Any]], first: int, last: int) -> None:
        """One block, in a file of its own, in place of the last file if that goes on beyond `first`: whoever is killed
        leaves one of both.
        """
        self.roll()
        old = self._files[-1] if self._files and self._files[-1].last >= first else None
        path = old.path if old else self._path()
        fresh = path.with_suffix(UNFINISHED)
        file = self._create(fresh)
        try:
            size = len(self._mark) + _write(file, head, arrays)
            if old:
                os.fdatasync(file)  # what it takes the place of may have been there for hours
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        if old:
            self._files.pop()
        self._files.append(File(path, last, size))

    def roll(self) -> None:
        """What comes goes into another file."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def forget(self, before: int) -> None:
        """Remove files in which everything has a number below that."""
        while self._files and self._files[0].last < before and not (self._open >= 0 and len(self._files) == 1):
            self._files.popleft().path.unlink(missing_ok=True)

    def _path(self) -> Path:
        """Of a file that there was not yet."""
        self._next += 1
        return self._folder / f"{self._kind}-{self._next - 1:012d}{SUFFIX}"

    def _create(self, path: Path) -> int:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, self._mark)
        except OSError:
            os.close(file)
            path.unlink()
            raise
        return file


def _write(file: int, head: Any, arrays: Sequence[NDArray[Any]]) -> int:
    """Bytes written: all of the block, or OSError."""
    start = msgspec.json.encode(head)
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays]
    check = zlib.crc32(start)
    for part in parts:
        check = zlib.crc32(part, check)
    size = sum(len(part) for part in parts)
    wanted = _FRAME.size + len(start) + size
    written = os.writev(file, [_FRAME.pack(len(start), size, check), start, *parts])
    if written < wanted:
        raise OSError(f"{written:,} of {wanted:,} bytes could be written")
    return wanted


def _blocks(data: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    """Those from the beginning on that are whole."""
    while len(data) >= _FRAME.size:
        head_size, size, check = _FRAME.unpack(data[: _FRAME.size])
        end = _FRAME.size + head_size + size
        if size > MAX_BLOCK or head_size > MAX_BLOCK or end > len(data):
            return
        body = data[_FRAME.size : end]
        if zlib.crc32(body) != check:
            return
        yield body[:head_size], body[head_size:]
        data = data[end:]
