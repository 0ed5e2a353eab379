"""A log that says the same thing at most once in 20 s, so that a dead backend does not fill the disk.

In: lines with a key that is the same for the same trouble. Out: the first of each key, then one in 20 s with the number
of those left out. Must never keep more than MAX_KEYS keys.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

INTERVAL = 20.0
MAX_KEYS = 64  # keys come from backends (status codes, reasons): a strange one must not fill the memory


class LimitedLog:
    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # key -> when it was last written, left out since
        self._lock = threading.Lock()

    def warning(self, key: str, text: str) -> None:
        """Write `text`, unless a line with the same key was written less than 20 s ago."""
        with self._lock:
            now = self._clock()
            last, left_out = self._seen.get(key, (-INTERVAL, 0))
            if now - last < INTERVAL:
                self._seen[key] = (last, left_out + 1)
                return
            if len(self._seen) >= MAX_KEYS:
                self._seen.clear()
            self._seen[key] = (now, 0)
        self._logger.warning("%s%s", text, f" ({left_out} times more since the last such line)" if left_out else "")
