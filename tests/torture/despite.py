"""autoinstr, where a socket whose messages may be changed only tells wrongly how much can be read (FIONREAD).

Such a kernel is refused, rightly. But what is done to messages can be tried there, by programs that do not ask.
"""

from __future__ import annotations

import sys
from pathlib import Path

from autoinstr.attach import propagation
from autoinstr.cli.main import main


def overlook() -> None:
    """In this process, from now on."""
    propagation.TRIALS = tuple(trial for trial in propagation.TRIALS if trial is not propagation.wrong_inq)


if __name__ == "__main__":
    Path("/proc/self/comm").write_text("autoinstr")  # as the command is called
    overlook()
    sys.exit(main())
