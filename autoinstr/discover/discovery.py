"""Which processes are watched, at any moment.

In: /proc (at the start and once in a while), and the births, executions, listens and ends that the kernel tells.
Out: `Changes` of the set of targets, and the service of each pid of a batch, by array.
Must never watch the agent itself or what it started, and never look at /proc as a whole for one event.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import ProcessKind
from autoinstr.discover.listeners import Listeners
from autoinstr.discover.naming import name_service
from autoinstr.discover.process import (
    Process,
    Stat,
    all_pids,
    from_monotonic,
    may_look_at_others,
    read_children,
    read_stat,
)
from autoinstr.discover.resource import make_service
from autoinstr.discover.runtime import Runtimes
from autoinstr.health import Health
from autoinstr.model import Attributes, Service, Target
from autoinstr.selection import Selection, Selector, wanted

log = logging.getLogger(__name__)

MAX_SERVICES = 2000  # resources told apart; beyond it a process shares the resource of an earlier one of its name
MAX_PID = 1 << 22  # PID_MAX_LIMIT of 64-bit kernels
MAX_TARGETS = 65536  # a fork bomb inside a target must not eat the agent's memory
REMEMBER = 30.0  # seconds that an ended process's records may come late
SAME_START = 0.5  # seconds by which two readings of one process's start differ at most; pids are not reused that fast

_NOT_A_TARGET = 0
_UNNUMBERED = -1  # a target that had no request yet: services get their index with the first


@dataclass(frozen=True, slots=True)
class Changes:
    """What to tell the kernel side: `added` also holds targets that execute something else now."""

    added: list[Target] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Looked:
    """A process that was looked at and is no target: as long as it stays the same it need not be looked at again."""

    start: float
    name: str
    network: str


class _View(Process):
    """A process with its listening ports: what selectors are asked about."""

    def __init__(self, pid: int, listeners: Listeners | None, ports: Iterable[int] = ()) -> None:
        super().__init__(pid)
        self._listeners = listeners
        self._ports: tuple[int, ...] | None = None if listeners else tuple(ports)

    @property
    def ports(self) -> tuple[int, ...]:
        if self._ports is None:
            self._ports = self._listeners.ports(self) if self._listeners else ()
        return self._ports


class _Gone(_View):
    """A process that ended before it could be looked at: what the kernel told about its execution."""

    def __init__(self, pid: int, exe: str, command: tuple[str, ...], start: float) -> None:
        super().__init__(pid, None)
        self.exe = exe
        self.command = command
        self.environment = {}
        self.directory = "/"
        self.stat = Stat(0, start, exe.rpartition("/")[2][:15], False)


class Discovery:
    """Targets and their services. Used by one thread."""

    def __init__(
        self,
        selection: Selection,
        health: Health,
        *,
        service_name: str = "",  # the operator's name for all targets
        resource: Attributes | None = None,  # on every resource
        quiet: bool = False,  # what is not seen is shown elsewhere, not logged
    ) -> None:
        self.selection = selection
        self.services: list[Service] = []
        self.targets: dict[int, Target] = {}
        self._health = health
        self._service_name = service_name
        self._resource = resource or {}
        self._quiet = quiet
        self._runtimes = Runtimes()
        self._own = {own_pid()}
        self._starters = _ancestors(own_pid())
        self._looked: dict[int, _Looked] = {}
        self._wanted_before: dict[str, set[int]] = {}
        self._ended: dict[int, float] = {}
        self._numbers: dict[int, int] = {}  # id of a Service in self.services -> index
        self._service: dict[int, Service] = {}  # pid -> service, ended ones too
        self._slots = _slots()  # pid -> index + 1, or one of the marks above
        self._pinned = self._pin(pid for selector in selection.selectors for pid in selector.pid)
        self._said: set[tuple[str, str]] = set()
        self._denied: dict[int, str] = {}

    # --- questions

    def service_of(self, pids: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Index into `services` of each pid; -1: not a target. Ended ones are remembered for a while."""
        found: NDArray[np.int32] = self._slots[np.minimum(pids, len(self._slots) - 1)]
        unclear = found <= 0
        if unclear.any():
            for pid in np.unique(pids[unclear]).tolist():
                self._number(pid)
            found = self._slots[np.minimum(pids, len(self._slots) - 1)]
        return np.maximum(found, 0) - np.int32(1)

    # --- the whole of /proc

    def scan(self) -> Changes:
        """Look at every process; cheap for those that were looked at before."""
        self._forget()
        stats = {pid: stat for pid in all_pids() if (stat := read_stat(pid)) and not stat.kernel_thread}
        removed = [pid for pid, target in self.targets.items() if not _same(target, stats.get(pid))]
        for pid in removed:
            self._remove(pid)
        self._own = _descendants(own_pid(), stats)
        self._looked = {pid: looked for pid, looked in self._looked.items() if pid in stats}
        listeners = Listeners()
        wanted_now: dict[str, set[int]] = {}
        added: list[Target] = []
        for pid in _parents_first(stats):
            if pid in self._own:
                continue
            if pid in self.targets:
                self._refresh(pid, listeners)
            elif target := self._meet(pid, stats[pid], listeners, wanted_now):
                added.append(target)
        self._wanted_before = wanted_now
        self._warn_denied()
        return Changes(added, removed)

    def _meet(self, pid: int, stat: Stat, listeners: Listeners, wanted_now: dict[str, set[int]]) -> Target | None:
        """A process that is no target yet, in a scan."""
        view = _View(pid, listeners)
        view.stat = stat
        parent = self.targets.get(stat.parent)
        looked = self._looked.get(pid)
        known = looked is not None and (looked.start, looked.name) == (stat.start, stat.name)
        if known and looked is not None:
            view.network = looked.network
        fresh = self._wanted(view, listeners, wanted_now) - self._wanted_before.get(view.network, set())
        if known and not fresh and parent is None:
            return None
        target = self._consider(view, parent)
        if target is None:
            self._looked[pid] = _Looked(stat.start, stat.name, view.network)
        return target

    def _wanted(self, view: _View, listeners: Listeners, wanted_now: dict[str, set[int]]) -> set[int]:
        """Inodes of the listening sockets, in the process's network namespace, on ports that are asked for."""
        if not self.selection.ports:
            return set()
        if view.network not in wanted_now:
            table = listeners.table(view)
            wanted_now[view.network] = {i for i, port in table.items() if wanted(self.selection.ports, port)}
        return wanted_now[view.network]

    def _refresh(self, pid: int, listeners: Listeners) -> None:
        """Ports, libraries and obstacles change while a process runs."""
        target = self.targets[pid]
        view = _View(pid, listeners)
        runtime = self._runtimes.look(view)
        ports = tuple(sorted({*view.ports}))
        now = replace(target, ports=ports, libraries=runtime.libraries, unseen=runtime.unseen)
        if now != target:
            self.targets[pid] = now
            self._say_unseen(now)

    # --- events

    def on_process(self, events: NDArray[np.void]) -> Changes:
        """Births, executions, listens and ends (`abi.PROCESS`), in their order."""
        changes = Changes()
        for event in events:
            pid, kind = int(event["pid"]), int(event["kind"])
            if kind == ProcessKind.FORK:
                self._on_fork(pid, int(event["parent"]), int(event["time"]), changes)
            elif pid in self._own:
                if kind == ProcessKind.EXIT and pid != own_pid():
                    self._own.discard(pid)
            elif kind == ProcessKind.EXEC:
                self._on_exec(pid, event, changes)
            elif kind == ProcessKind.LISTEN:
                self._on_listen(pid, int(event["port"]), changes)
            elif kind == ProcessKind.EXIT:
                self._looked.pop(pid, None)
                if pid in self.targets:
                    self._remove(pid)
                    changes.removed.append(pid)
        return changes

    def _on_fork(self, pid: int, parent: int, at: int, changes: Changes) -> None:
        if parent in self._own:
            self._own.add(pid)
            return
        self._own.discard(pid)
        if (target := self.targets.get(parent)) is not None:
            child = replace(target, pid=pid, start_time=from_monotonic(at), selected_by=f"child of {parent}")
            self._add(child)
            changes.added.append(child)

    def _on_exec(self, pid: int, event: np.void, changes: Changes) -> None:
        before = self.targets.get(pid)
        view: _View = _View(pid, None)
        if not view.exe and not view.denied:
            view = _gone(pid, event, from_monotonic(int(event["time"])))
        target = self._consider(view, before, again=True)
        if target is not None:
            changes.added.append(target)
        elif before is not None:
            self._remove(pid)
            changes.removed.append(pid)

    def _on_listen(self, pid: int, port: int, changes: Changes) -> None:
        if (target := self.targets.get(pid)) is not None:
            self.targets[pid] = replace(target, ports=tuple(sorted({*target.ports, port})))
        elif (found := self._consider(_View(pid, None, (port,)), None)) is not None:
            changes.added.append(found)
            self._adopt_children(found, changes)

    def _adopt_children(self, parent: Target, changes: Changes) -> None:
        """The processes that a new target had started before it became one."""
        waiting = [(pid, parent) for pid in read_children(parent.pid)]
        while waiting and len(self.targets) < MAX_TARGETS:
            pid, above = waiting.pop()
            if pid in self.targets or pid in self._own:
                continue
            if (child := self._consider(_View(pid, None), above)) is not None:
                changes.added.append(child)
                waiting += [(below, child) for below in read_children(pid)]

    # --- one process

    def _consider(self, view: _View, parent: Target | None, *, again: bool = False) -> Target | None:
        """Make it a target if a selector matches or its parent is one. `again`: `parent` is what it was before."""
        selector = self._select(view)
        if selector is None and (parent is None or self.selection.excludes(view)):
            if view.denied and len(self._denied) < MAX_SERVICES:
                self._denied[view.pid] = view.exe or (view.stat.name if view.stat else "")
            return None
        stat = view.stat
        if stat is None or len(self.targets) >= MAX_TARGETS:
            return None
        runtime = self._runtimes.look(view)
        name = name_service(view, selector, override=self._service_name, go_path=runtime.go_path)
        service = make_service(view, name, runtime.language, self._resource)
        if parent is not None and not again and (view.exe, name.name) == (parent.exe, parent.service.name):
            service = parent.service  # a worker: the same program doing the same work
        if selector is None and parent is not None:
            above = parent.selected_by if again else f"child of {parent.pid}"
        target = Target(
            pid=view.pid,
            start_time=stat.start,
            service=service,
            name_source=name.source,
            selected_by=str(selector) if selector else above,
            exe=view.exe,
            command=view.command,
            language=runtime.language,
            ports=view.ports,
            libraries=runtime.libraries,
            unseen=runtime.unseen,
        )
        self._add(target)
        return target

    def _select(self, view: _View) -> Selector | None:
        selector = self.selection.select(view)
        if selector is None:
            return None
        if selector.pid and not (view.stat and abs(self._pinned.get(view.pid, 0) - view.stat.start) < SAME_START):
            return None  # another process has got the pid that was meant
        if view.pid in self._starters and "cmd" in selector.keys:
            return None  # sudo autoinstr run --cmd 'x': sudo's own command line has the glob in it
        return selector

    def _add(self, target: Target) -> None:
        self.targets[target.pid] = target
        self._looked.pop(target.pid, None)
        self._ended.pop(target.pid, None)
        self._service[target.pid] = target.service
        number = self._numbers.get(id(target.service))
        self._set_slot(target.pid, _UNNUMBERED if number is None else number + 1)
        self._health.gauges["targets"] = len(self.targets)
        self._say_unseen(target)

    def _remove(self, pid: int) -> None:
        del self.targets[pid]
        self._ended[pid] = time.monotonic() + REMEMBER
        self._health.gauges["targets"] = len(self.targets)

    def _forget(self) -> None:
        """Drop processes that ended long ago."""
        now = time.monotonic()
        for pid in [pid for pid, until in self._ended.items() if until < now]:
            del self._ended[pid]
            del self._service[pid]
            self._set_slot(pid, _NOT_A_TARGET)

    # --- services

    def _number(self, pid: int) -> None:
        """Give the pid's service an index; a target's child whose birth was missed is found by its parents."""
        service = self._service.get(pid)
        if service is None:
            parent = self._find_parent(pid)
            if parent is None or self._consider(_View(pid, None), parent) is None:
                return
            service = self._service[pid]
        number = self._numbers.get(id(service))
        if number is None:
            if len(self.services) >= MAX_SERVICES:
                number = self._fold(service)
            else:
                number = len(self.services)
                self.services.append(service)
                self._numbers[id(service)] = number
        self._set_slot(pid, number + 1)

    def _fold(self, service: Service) -> int:
        """Too many: the last one of that name, else the last of all."""
        log.warning("more than %d processes with requests: %s shares a resource", MAX_SERVICES, service.name)
        for number in range(MAX_SERVICES - 1, -1, -1):
            if self.services[number].name == service.name:
                return number
        return MAX_SERVICES - 1

    def _find_parent(self, pid: int) -> Target | None:
        if pid in self._own:
            return None
        stat = read_stat(pid)
        return self.targets.get(stat.parent) if stat else None

    def _set_slot(self, pid: int, value: int) -> None:
        if 0 <= pid < len(self._slots) - 1:  # the last slot stays empty: pids beyond the table are looked up there
            self._slots[pid] = value

    # --- words

    def _pin(self, pids: Iterable[int]) -> dict[int, float]:
        """The processes that are meant by --pid: those that run now."""
        pinned: dict[int, float] = {}
        for pid in pids:
            if (stat := read_stat(pid)) is None:
                log.warning("there is no process %d in this PID namespace: nothing is selected by that pid", pid)
            else:
                pinned[pid] = stat.start
        return pinned

    def _say_unseen(self, target: Target) -> None:
        """Once per service and obstacle."""
        for reason in target.unseen:
            key = (target.service.name, reason.partition(":")[0])
            if not self._quiet and key not in self._said and len(self._said) < MAX_SERVICES:
                self._said.add(key)
                level = logging.INFO if key[1] == "tls" else logging.WARNING
                log.log(level, "%s (pid %d) is not seen in full: %s", target.service.name, target.pid, reason)

    def _warn_denied(self) -> None:
        if self._denied and ("", "denied") not in self._said:
            self._said.add(("", "denied"))
            some = ", ".join(f"{pid} {name}" for pid, name in list(self._denied.items())[:5])
            log.log(
                logging.INFO if may_look_at_others() else logging.WARNING,
                "%d process(es) could not be looked at (%s%s), so no port or exe selector matches them:"
                " this needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
                len(self._denied),
                some,
                " ..." if len(self._denied) > 5 else "",
            )


def own_pid() -> int:
    """The agent's: replaced by tests, which start what they look at."""
    return os.getpid()


def _same(target: Target, stat: Stat | None) -> bool:
    return stat is not None and abs(target.start_time - stat.start) < SAME_START


def _gone(pid: int, event: np.void, start: float) -> _Gone:
    size = int(event["args_size"])
    arguments = event["args"].tobytes()[:size].rstrip(b"\0").decode(errors="replace").split("\0")
    return _Gone(pid, bytes(event["filename"]).decode(errors="replace"), tuple(arguments), start)


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while (stat := read_stat(pid)) and stat.parent > 1 and stat.parent not in found:
        pid = stat.parent
        found.add(pid)
    return found


def _descendants(pid: int, stats: dict[int, Stat]) -> set[int]:
    """The process and everything below it."""
    found = {pid}
    for below in _parents_first(stats):
        if stats[below].parent in found:
            found.add(below)
    return found


def _parents_first(stats: dict[int, Stat]) -> list[int]:
    """All pids, each behind its parent: a parent starts before its child, if perhaps in the same tick."""
    ordered = sorted(stats, key=lambda pid: (stats[pid].start, pid))
    done: set[int] = set()
    result: list[int] = []
    for pid in ordered:
        line: list[int] = []
        above = pid
        while above in stats and above not in done:
            done.add(above)
            line.append(above)
            above = stats[above].parent
        result += reversed(line)
    return result


def _slots() -> NDArray[np.int32]:
    """One for every pid that there can be. Untouched pages cost no memory, if the kernel makes them no huge ones."""
    memory = mmap.mmap(-1, (MAX_PID + 2) * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.int32)
