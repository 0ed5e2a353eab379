"""A process as selectors ask about it: with its listening ports, or as the kernel told of it after it ended."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from autoinstr.discover.listeners import Listeners
from autoinstr.discover.process import Process, Stat, from_monotonic


class View(Process):
    """Ports are looked up in `listeners` when they are asked for; without it they are those that are given."""

    def __init__(self, pid: int, listeners: Listeners | None = None, ports: Iterable[int] = ()) -> None:
        super().__init__(pid)
        self._listeners = listeners
        self._ports: tuple[int, ...] | None = None if listeners else tuple(ports)

    @property
    def ports(self) -> tuple[int, ...]:
        if self._ports is None:
            self._ports = self._listeners.ports(self) if self._listeners else ()
        return self._ports


class Gone(View):
    """A process that ended before it could be looked at: what the event of its execution, or of its beginning to listen
    (`abi.PROCESS`), says.
    """

    def __init__(self, pid: int, event: np.void, ports: Iterable[int] = ()) -> None:
        super().__init__(pid, None, ports)
        arguments = event["args"].tobytes()[: int(event["args_size"])]
        self.command = tuple(arguments.rstrip(b"\0").decode(errors="replace").split("\0"))
        # what follows the end of the text is of an earlier event
        self.exe = bytes(event["filename"]).split(b"\0", 1)[0].decode(errors="replace") or self.command[0]
        self.environment = {}
        self.directory = "/"
        self.stat = Stat(0, from_monotonic(int(event["time"])), self.exe.rpartition("/")[2][:15], False)


def look_at(pid: int, event: np.void, ports: Iterable[int] = ()) -> View:
    """The process that an event tells of: as it is, or, if it has ended meanwhile, as it was told."""
    view = View(pid, None, ports)
    # its state is asked last: one that runs now ran when the rest was read
    if view.denied or (view.exe and view.command and view.environment is not None and view.stat):
        return view
    return Gone(pid, event, ports)
