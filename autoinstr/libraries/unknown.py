"""Libraries and modules of a version whose structures are not known: said once, and counted by files.

What only they know is not told then; nothing is guessed.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

_met = 0
_said: set[str] = set()


def not_known(what: str, *arguments: object) -> None:
    """Say it, as a line of the log, if it was not said before, and count it."""
    global _met  # noqa: PLW0603 - files are looked at where there is nobody to hand it to
    _met += 1
    line = what % arguments
    if line not in _said:
        _said.add(line)
        log.warning("%s", line)


def met() -> int:
    """So many were there so far."""
    return _met
