"""The start of a run: the kernel takes its time to check programs, and meanwhile everything else is imported.

In: `Config`. Out: the exit status of the pipeline.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from autoinstr.attach import Limits, attach
from autoinstr.config import Config

M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # of mallopt(3)
LARGE, KEPT = 2 << 20, 8 << 20  # bytes


def run(config: Config) -> int:
    """Watch until a signal; exit status. AutoinstrError or UsageError if it can't start."""
    started = time.monotonic()
    share_memory()
    limits = replace(Limits(), exchange_ring=config.ring_size)
    pool = ThreadPoolExecutor(1)
    attaching = pool.submit(attach, limits, propagate=config.propagate)
    pool.shutdown(wait=False)
    try:
        from autoinstr.health import Health  # noqa: PLC0415 - in the time that attaching takes
        from autoinstr.pipeline import Pipeline, watch  # noqa: PLC0415

        pipeline = Pipeline(config, Health())
    except BaseException:
        if not attaching.exception():
            attaching.result().close()
        raise
    return watch(pipeline, attaching, limits, started)


def share_memory() -> None:
    """One place that all threads take memory from: glibc would give each its own, and they run one at a time anyway.

    What a batch takes is kept for the next one, since memory from the system costs a fault a page. What is larger comes
    and goes: else glibc would keep as much as it ever gave, and a program's symbols may be that.
    """
    with contextlib.suppress(AttributeError):  # another libc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, KEPT)
