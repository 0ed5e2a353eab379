"""Libraries and modules that are there, but of a version whose structures are not known: said once a file, and counted.

What only they know is not told then; nothing is guessed.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

_met = 0


def not_known(what: str, *arguments: object) -> None:
    """Say it, as a line of the log, and count it."""
    global _met  # noqa: PLW0603 - files are looked at where there is nobody to hand it to
    _met += 1
    log.warning(what, *arguments)


def met() -> int:
    """So many were there so far."""
    return _met
