"""The one place that relates the kernel's clock to the calendar.

Records carry CLOCK_MONOTONIC; what leaves carries Unix time. The difference is taken anew for each batch, so that a
clock that is set does not leave times behind for long.
"""

from __future__ import annotations

import time


def wall_offset() -> int:
    """Nanoseconds to add to CLOCK_MONOTONIC to get Unix time."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    return wall - (before + time.monotonic_ns()) // 2
