"""What discovery says in the log: each obstacle once, never once a process."""

from __future__ import annotations

import logging

from autoinstr.discover.process import Process, may_look_at_others
from autoinstr.model import Target

log = logging.getLogger(__name__)

MAX_TOLD = 2000  # what was told of is remembered: bounded, as services are named by those who start them
MAX_NAMED = 5  # processes listed in one line


class Told:
    """Says things once."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._unseen: set[tuple[str, str]] = set()  # (service, kind of obstacle)
        self._denied: dict[int, str] = {}
        self._warned = False

    def unseen(self, target: Target) -> None:
        """What of this target can't be captured."""
        for reason in target.unseen:
            key = (target.service.name, reason.partition(":")[0])
            if self._quiet or key in self._unseen or len(self._unseen) >= MAX_TOLD:
                continue
            self._unseen.add(key)
            level = logging.INFO if key[1] == "tls" else logging.WARNING
            log.log(level, "%s (pid %d) is not seen in full: %s", target.service.name, target.pid, reason)

    def denied(self, process: Process) -> None:
        """It could not be looked at, and so matched nothing."""
        if len(self._denied) < MAX_TOLD:
            self._denied[process.pid] = process.exe or (process.stat.name if process.stat else "")

    def warn_denied(self) -> None:
        """Say so, when a scan is over."""
        if not self._denied or self._warned:
            return
        self._warned = True
        some = ", ".join(f"{pid} {name}" for pid, name in list(self._denied.items())[:MAX_NAMED])
        log.log(
            logging.INFO if may_look_at_others() else logging.WARNING,
            "%d process(es) could not be looked at (%s%s), so no port or exe selector matches them:"
            " this needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
            len(self._denied),
            some,
            " ..." if len(self._denied) > MAX_NAMED else "",
        )
