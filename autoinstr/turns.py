"""Taking turns with those that are watched, where CPUs are short.

Who works at arrays for milliseconds holds up everyone else on that CPU for as long, however low his priority is: the
kernel asks whether he has had his turn at its tick (every 4 ms with 250 Hz) and when he makes a system call. So that
work is cut into steps, and before a step the others may go first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

# A quarter of a contended core, which 100,000 requests/s need (and if that is too little, spans are shed; metrics stay
# exact).
NICE = 5
# Seconds of CPU after which others may go first.
TURN = 0.0002
# Nanoseconds after which the kernel may let others go first; the least that it takes. By default it is 1.4 ms and more,
# and what is left of it is lost to who gives way.
SLICE = 100_000

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
SCHED_ATTR = struct.Struct("<IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
SCHED_FLAG_KEEP_POLICY = 8

P = ParamSpec("P")
T = TypeVar("T")


class _Turn:
    """Of the pipeline's thread, the only one with so much to do."""

    began = 0.0  # by the thread's CPU clock
    hurried = False


def stand_back() -> None:
    """Have all threads of this process come after those that are watched, and take short turns."""
    libc = ctypes.CDLL(None)
    for task in [int(entry.name) for entry in Path("/proc/self/task").iterdir()]:
        with contextlib.suppress(ProcessLookupError):
            nice = max(NICE, os.getpriority(os.PRIO_PROCESS, task))  # we may have been started with more
            os.setpriority(os.PRIO_PROCESS, task, nice)
            # before Linux 6.12 this says nothing more; a sandbox may refuse it
            attributes = SCHED_ATTR.pack(SCHED_ATTR.size, 0, SCHED_FLAG_KEEP_POLICY, nice, 0, SLICE, 0, 0)
            libc.syscall(SCHED_SETATTR[platform.machine()], task, attributes, 0)


def hurry(*, behind: bool) -> None:
    """While more waits than can wait, nobody is let go first."""
    _Turn.hurried = behind


def give_way() -> None:
    """Let others on this CPU go first, if it has been ours for a turn."""
    now = time.thread_time()
    if now - _Turn.began >= TURN:
        _Turn.began = now
        if not _Turn.hurried:
            os.sched_yield()


def step(function: Callable[P, T]) -> Callable[P, T]:
    """A step of array work, before which others may go first: a tenth of a millisecond with a full batch, or so."""

    @wraps(function)
    def in_turn(*args: P.args, **kwargs: P.kwargs) -> T:
        give_way()
        return function(*args, **kwargs)

    return in_turn
