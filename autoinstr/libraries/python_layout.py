"""Where a running Python keeps the execution context (PEP 567) of a thread, learned from the process itself.

In: its pid and mappings. Out: distances. From a thread's own structure in the C library (`fs` on x86-64) to the slot
where the interpreter keeps the address of its PyThreadState, as thread-specific data; in that to the address of the
current PyContext; and where threads take turns at gevent's greenlets, to that of the data stack, of which each of them
has its own. They differ by version and build of both, and no table could have them all; but each of the structures can
be told by what is in it: a thread's begins with its own address, twice; a PyThreadState holds that address, as
thread_id; a PyContext points to a type of that name; a chunk of a data stack begins with that before it, and its size.
So whatever is found is right, and where it can't be found (another C library, no context yet) nothing is. The memory
may hold anything: what is read is bounded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

MAX_MAPPINGS = 1024
MAX_THREADS = 64  # that are looked at; there may be many more words that look like one
STRUCTURE = 64 << 10  # bytes at the end of a thread's stack, or of what is mapped for the main thread's
SLOTS = 0x900  # bytes of glibc's struct pthread, at most
STATE = 0x400  # bytes of a PyThreadState in which its context is found
ADDRESSES = range(0x10000, 1 << 47, 8)

_ANONYMOUS = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw.p [0-9a-f]+ 00:00 0 *$", re.MULTILINE)
_GEVENT = re.compile(rb"/gevent/lib[eu]v/[^/\n]*\.so")
_TYPE, _NAME = 1, 3  # words of an object, and of a type
_NAMES = (b"Context", b"_contextvars.Context", b"contextvars.Context")


@dataclass(frozen=True, slots=True)
class Layout:
    """Distances in bytes."""

    state: int  # from a thread's structure to the slot with its PyThreadState
    context: int  # in a PyThreadState; 0: there is none yet
    stack: int = 0  # and to the data stack (CPython 3.11 and newer); 0: it needs not be known


class _Memory:
    def __init__(self, pid: int) -> None:
        self._descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, address: int, size: int) -> bytes:
        """What can be read there."""
        try:
            return os.pread(self._descriptor, size, address)
        except OSError:
            return b""

    def words(self, address: int, size: int) -> NDArray[np.uint64]:
        data = self.read(address, size)
        return np.frombuffer(data, np.uint64, len(data) // 8)


def has_greenlets(maps: bytes) -> bool:
    """May it run gevent? Its event loop is mapped."""
    return _GEVENT.search(maps) is not None


def find_layout(pid: int, maps: bytes) -> Layout | None:
    """None: not now. OSError: its memory can't be read."""
    greenlets = has_greenlets(maps)
    with _Memory(pid) as memory:
        for thread, slots in islice(_threads(memory, maps), MAX_THREADS):
            for at, state in enumerate(slots.tolist()):
                if state not in ADDRESSES or not (words := _state(memory, state, thread)):
                    continue
                context, stack = _context_in(memory, words), _stack_in(memory, words) if greenlets else 0
                if stack or (context and not greenlets):
                    return Layout(8 * at, context, stack)
    return None


def _threads(memory: _Memory, maps: bytes) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The address of each thread's structure, and what is in it: at the end of its mapping, of which each has one."""
    for low, high in _ANONYMOUS.findall(maps)[:MAX_MAPPINGS]:
        begin, end = max(int(low, 16), int(high, 16) - STRUCTURE), int(high, 16)
        words = memory.words(begin, end - begin)
        own = begin + 8 * np.arange(len(words), dtype=np.uint64)
        for at in np.flatnonzero((words[:-2] == own[:-2]) & (words[2:] == own[:-2]))[-1:].tolist():
            yield begin + 8 * at, words[at : at + SLOTS // 8]


def _state(memory: _Memory, state: int, thread: int) -> list[int]:
    """The words of that thread's PyThreadState, if this is one; else none."""
    words = memory.words(state, STATE)
    return words.tolist() if (words == thread).any() else []


def _context_in(memory: _Memory, words: list[int]) -> int:
    """Distance of the current context; 0: there is none."""
    for at, value in enumerate(words):
        if value in ADDRESSES and _is_context(memory, value):
            return 8 * at
    return 0


def _stack_in(memory: _Memory, words: list[int]) -> int:
    """Distance of the data stack: the address of its last chunk, of what is free there, and of its end. 0: none."""
    for at, (chunk, free, end) in enumerate(zip(words, words[1:], words[2:], strict=False)):
        if chunk in ADDRESSES and chunk < free <= end and memory.words(chunk, 16).tolist()[1:] == [end - chunk]:
            return 8 * at
    return 0


def _is_context(memory: _Memory, address: int) -> bool:
    words = memory.words(address, 8 * (_TYPE + 1)).tolist()
    if len(words) <= _TYPE or words[_TYPE] not in ADDRESSES:
        return False
    of_type = memory.words(words[_TYPE], 8 * (_NAME + 1)).tolist()
    if len(of_type) <= _NAME or of_type[_NAME] not in range(1 << 47):
        return False
    return memory.read(of_type[_NAME], 32).partition(b"\0")[0] in _NAMES
