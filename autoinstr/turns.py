"""Taking turns with those that are watched, where CPUs are short.

Who works at arrays for milliseconds holds up everyone else on that CPU for as long, however low his priority is: the
kernel asks whether he has had his turn at its tick (every 4 ms with 250 Hz) and when he makes a system call. So that
work is cut into steps, and before a step the others may go first.
"""

from __future__ import annotations

import contextlib
import os
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

P = ParamSpec("P")
T = TypeVar("T")


class _Turn:
    """Of the pipeline's thread, which has nearly all to do; who answers the page has a clock of its own."""

    began = 0.0  # by the thread's CPU clock
    behind: Callable[[], bool] = staticmethod(lambda: False)


def stand_back() -> None:
    """Have all threads of this process come after those that are watched."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            nice = os.getpriority(os.PRIO_PROCESS, int(task.name))  # we may have been started with more
            os.setpriority(os.PRIO_PROCESS, int(task.name), max(nice, NICE))


def hurry_while(behind: Callable[[], bool]) -> None:
    """While that is so, more waits than can wait, and nobody is let go first."""
    _Turn.behind = staticmethod(behind)


def give_way() -> None:
    """Let others on this CPU go first, if it has been ours for a turn."""
    now = time.thread_time()
    if not 0 <= now - _Turn.began < TURN:
        _Turn.began = now
        if not _Turn.behind():
            os.sched_yield()


def step(function: Callable[P, T]) -> Callable[P, T]:
    """A step of array work, before which others may go first: a tenth of a millisecond with a full batch, or so."""

    @wraps(function)
    def in_turn(*args: P.args, **kwargs: P.kwargs) -> T:
        give_way()
        return function(*args, **kwargs)

    return in_turn
