"""pid -> service, for whole batches at a time: a table with a slot for every pid that there can be.

In: targets as they come and go. Out: an index into `services` for each pid of an array. An index never changes its
meaning, though more may come to be known of its service, until `retire` takes it from those that ended long ago, and
makes another list. Services get theirs with their first request, so that thousands of short-lived processes that serve
nothing take no room.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import NOBODY, Service
from autoinstr.semconv import SERVICE_NAME

log = logging.getLogger(__name__)

MAX_PID = 1 << 22  # PID_MAX_LIMIT of 64-bit kernels
MAX_SERVICES = 2000  # resources told apart; beyond it a process shares the resource of an earlier one of its name
MAX_NAMES = 200  # of these another one each, if there is no earlier one of that name
RETIRE_AFTER = 3600.0  # seconds that series of ended processes are told
CROWDED, SOONER = MAX_SERVICES // 2, 120.0  # and where so many services have had requests
REMEMBER = 30.0  # seconds that an ended process's records may come late
MAX_ENDED = 16384  # ended processes remembered: one that starts thousands a second must not eat the memory

UNKNOWN = Service("unknown_service", {SERVICE_NAME: "unknown_service"})  # as resources without a name are called

_NOT_A_TARGET = 0
_UNNUMBERED = -1


class Services:
    """Services of targets, and of those that ended a moment ago."""

    def __init__(self) -> None:
        self.services: list[Service] = []
        self._of_pid: dict[int, Service] = {}  # of ended processes, too
        self._ended: dict[int, float] = {}  # pid -> when to forget it
        self._numbers: dict[int, int] = {}  # id of a service that is in `services` -> its index
        self._slots = _make_slots()  # pid -> index + 1, or one of the marks above
        self._free: list[int] = []  # indices for others
        self._idle: dict[int, float] = {}  # index -> since when no process has it
        self._folded = False

    def add(self, pid: int, service: Service) -> None:
        """The pid belongs to this service from now on."""
        self._of_pid[pid] = service
        self._ended.pop(pid, None)
        number = self._numbers.get(id(service))
        self._set(pid, _UNNUMBERED if number is None else number + 1)

    def rename(self, old: Service, new: Service) -> None:
        """More is known of a service: under the same index, so that its series go on."""
        self._of_pid = {pid: new if service is old else service for pid, service in self._of_pid.items()}
        number = self._numbers.pop(id(old), None)
        if number is not None:
            self._numbers[id(new)] = number
            self.services[number] = new

    def all(self) -> list[Service]:
        """Of targets, of those that ended a moment ago, and of those whose series are still told."""
        return list({id(service): service for service in (*self._of_pid.values(), *self.services)}.values())

    def end(self, pid: int) -> None:
        """The process ended: what it did may still be on its way."""
        self._ended.pop(pid, None)
        self._ended[pid] = time.monotonic() + REMEMBER
        if len(self._ended) > MAX_ENDED:
            self._drop(next(iter(self._ended)))

    def forget(self) -> None:
        """Drop processes that ended long ago."""
        now = time.monotonic()
        for pid in [pid for pid, until in self._ended.items() if until < now]:
            self._drop(pid)

    def retire(self, least: float) -> set[int]:
        """Free the indices that no process has had for long, and for `least` seconds. What they are; if there are any,
        `services` is another list from now on.
        """
        pids = np.fromiter(self._of_pid, np.int64, len(self._of_pid))
        used = set((self._slots[pids[pids <= MAX_PID]] - 1).tolist())
        used |= {self._numbers.get(id(service), -1) for service in self._of_pid.values()}
        now = time.monotonic()
        idle = {
            number: self._idle.get(number, now)
            for number, service in enumerate(self.services)
            if service is not NOBODY and number not in used
        }
        oldest = now - max(least, SOONER if self._taken > CROWDED else RETIRE_AFTER)
        gone = {number for number, since in idle.items() if since <= oldest}
        self._idle = {number: since for number, since in idle.items() if number not in gone}
        if gone:
            self._numbers = {one: number for one, number in self._numbers.items() if number not in gone}
            self.services = [NOBODY if number in gone else one for number, one in enumerate(self.services)]
            self._free += sorted(gone, reverse=True)
        return gone

    def of(self, pids: NDArray[np.uint32], adopt: Callable[[int], bool]) -> NDArray[np.int32]:
        """Index of each pid's service; -1: none. `adopt` is asked whether an unknown pid can be made known."""
        at = np.minimum(pids, MAX_PID + 1)  # the last slot stays empty: it is for pids beyond all
        found: NDArray[np.int32] = self._slots[at]
        unclear = found <= 0
        if unclear.any():
            for pid in set(pids[unclear].tolist()):
                if pid in self._of_pid or adopt(pid):
                    self._set(pid, self._number(self._of_pid[pid]) + 1)
            found = self._slots[at]
        return np.maximum(found, 0) - np.int32(1)

    def _number(self, service: Service) -> int:
        if id(service) not in self._numbers and self._taken >= MAX_SERVICES:
            service = self._alike(service)
        if id(service) not in self._numbers:
            if self._free:
                number = self._free.pop()
                self.services[number] = service
            else:
                number = len(self.services)
                self.services.append(service)  # which keeps it alive: its id stays its own
            self._numbers[id(service)] = number
        return self._numbers[id(service)]

    @property
    def _taken(self) -> int:
        return len(self.services) - len(self._free)

    def _alike(self, service: Service) -> Service:
        """Too many: the last one of that name; if there is none, itself, as long as there are not too many names."""
        if not self._folded:
            self._folded = True
            log.warning("more than %d processes had requests: later ones share a resource by name", MAX_SERVICES)
        own = UNKNOWN if self._taken >= MAX_SERVICES + MAX_NAMES else service
        return next((one for one in reversed(self.services) if one.name == service.name), own)

    def _drop(self, pid: int) -> None:
        del self._ended[pid]
        del self._of_pid[pid]
        self._set(pid, _NOT_A_TARGET)

    def _set(self, pid: int, value: int) -> None:
        if 0 <= pid <= MAX_PID:
            self._slots[pid] = value


def _make_slots() -> NDArray[np.int32]:
    """All empty. Untouched pages cost no memory, if the kernel makes them no huge ones."""
    memory = mmap.mmap(-1, (MAX_PID + 2) * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.int32)
