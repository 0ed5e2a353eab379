"""Which processes are watched, at any moment.

In: /proc (at the start and once in a while), and the births, executions, listens and ends that the kernel tells.
Out: `Changes` of the set of targets, and the service of each pid of a batch, by array.
Must never watch the agent itself or what it started, and never look at /proc as a whole for one event.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import ProcessKind
from autoinstr.discover.listeners import Listeners
from autoinstr.discover.naming import GIVEN, name_service
from autoinstr.discover.pods import Table
from autoinstr.discover.process import (
    Stat,
    all_pids,
    from_monotonic,
    read_children,
    read_stat,
)
from autoinstr.discover.resource import lacks_names, make_service, with_names
from autoinstr.discover.runtime import Runtimes
from autoinstr.discover.services import Services
from autoinstr.discover.told import Told
from autoinstr.discover.tree import ancestors, descendants, parents_first
from autoinstr.discover.view import View, look_at
from autoinstr.health import Health
from autoinstr.model import Attributes, Service, Target
from autoinstr.selection import Selection, Selector, wanted

log = logging.getLogger(__name__)

MAX_TARGETS = 65536  # a fork bomb inside a target must not eat the agent's memory
# They only start the program that is meant.
SHELLS = ("sh", "ash", "bash", "dash", "zsh", "busybox", "tini", "dumb-init", "catatonit", "s6-supervise", "runsv")
SAME_START = 0.5  # seconds by which two readings of one process's start differ at most; pids are not reused that fast


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


class Discovery:
    """Targets and their services. Used by one thread."""

    def __init__(
        self,
        selection: Selection,
        health: Health,
        *,
        service_name: str = "",  # the operator's name for all targets
        resource: Attributes | None = None,  # on every resource
        pods: Table | None = None,  # names of pods and their containers
        quiet: bool = False,  # what is not seen is shown elsewhere, not logged
    ) -> None:
        self.selection = selection
        self.targets: dict[int, Target] = {}
        self._services = Services()
        self._selectors: dict[int, Selector] = {}  # the configuration's entry that each target is named by
        self._health = health
        self._service_name = service_name
        self._resource = resource or {}
        self._pods = pods
        self._pods_known = 0  # generation of `_pods` up to which services have their names
        self._runtimes = Runtimes()
        self._own = {own_pid()}
        self._starters = ancestors(own_pid())
        self._looked: dict[int, _Looked] = {}
        self._wanted_before: dict[str, set[int]] = {}
        self._pinned = self._pin(pid for selector in selection.selectors for pid in selector.pid)
        self._told = Told(quiet=quiet)

    # --- questions

    @property
    def services(self) -> list[Service]:
        """By index. See `model.Follower`."""
        return self._services.services

    def retire(self, least: float) -> set[int]:
        """Free the indices of services whose processes ended long ago, at least so many seconds; what they are."""
        return self._services.retire(least)

    def service_of(self, pids: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Index into `services` of each pid; -1: not a target. Ended ones are remembered for a while."""
        return self._services.of(pids, self._adopt)

    def name_pods(self) -> None:
        """Give services the names of their pods that have become known since the last call."""
        if self._pods is None or self._pods.generation == self._pods_known:
            return
        self._pods_known = self._pods.generation
        guessed = {id(target.service) for target in self.targets.values() if target.name_source not in GIVEN}
        named: dict[int, Service] = {}
        for service in filter(lacks_names, self._services.all()):
            new = self._named(service, guessed=id(service) in guessed)
            if new != service:
                self._services.rename(service, new)
                named[id(service)] = new
        for pid, target in list(self.targets.items()):
            if (found := named.get(id(target.service))) is not None:
                self.targets[pid] = replace(target, service=found)

    def _named(self, service: Service, *, guessed: bool) -> Service:
        """With the names of its pod and container, as far as they are known."""
        if self._pods is None or not lacks_names(service):
            return service
        known = service.attributes
        names = self._pods.find(str(known["container.id"]), str(known.get("k8s.pod.uid", "")))
        return with_names(service, names, rename=guessed) if names else service

    # --- the whole of /proc

    def scan(self) -> Changes:
        """Look at every process; cheap for those that were looked at before."""
        self._services.forget()
        stats = {pid: stat for pid in all_pids() if (stat := read_stat(pid)) and not stat.kernel_thread}
        removed = [pid for pid, target in self.targets.items() if not _same(target, stats.get(pid))]
        for pid in removed:
            self._remove(pid)
        ordered = parents_first(stats)
        self._own = descendants(own_pid(), stats, ordered)
        self._looked = {pid: looked for pid, looked in self._looked.items() if pid in stats}
        listeners = Listeners()
        wanted_now: dict[str, set[int]] = {}
        added: list[Target] = []
        for pid in ordered:
            if pid in self._own:
                continue
            if pid in self.targets:
                self._refresh(pid, listeners)
            elif target := self._meet(pid, stats[pid], listeners, wanted_now):
                added.append(target)
        self._wanted_before = wanted_now
        self._told.warn_denied()
        return Changes(added, removed)

    def _meet(self, pid: int, stat: Stat, listeners: Listeners, wanted_now: dict[str, set[int]]) -> Target | None:
        """A process that is no target yet, in a scan."""
        view = View(pid, listeners)
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

    def _wanted(self, view: View, listeners: Listeners, wanted_now: dict[str, set[int]]) -> set[int]:
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
        view = View(pid, listeners)
        runtime = self._runtimes.look(view)
        ports = tuple(sorted({*view.ports}))
        now = replace(target, ports=ports, libraries=runtime.libraries, unseen=runtime.unseen)
        if now != target:
            self.targets[pid] = now
            self._told.unseen(now)

    # --- events

    def on_process(self, events: NDArray[np.void]) -> Changes:
        """Births, executions, listens and ends (`abi.PROCESS`), in their order."""
        changes = Changes()
        columns = [events[name].tolist() for name in ("kind", "pid", "parent", "port", "time")]
        for index, (kind, pid, parent, port, at) in enumerate(zip(*columns, strict=True)):
            if kind == ProcessKind.FORK:
                self._on_fork(pid, parent, at, changes)
            elif kind == ProcessKind.EXIT:
                self._on_exit(pid, changes)
            elif pid in self._own:
                continue
            elif kind == ProcessKind.EXEC:
                self._on_exec(pid, events[index], changes)
            elif kind == ProcessKind.LISTEN:
                self._on_listen(pid, port, events[index], changes)
        return changes

    def _on_exit(self, pid: int, changes: Changes) -> None:
        self._looked.pop(pid, None)
        if pid != own_pid():
            self._own.discard(pid)
        if pid in self.targets:
            self._remove(pid)
            changes.removed.append(pid)

    def _on_fork(self, pid: int, parent: int, at: int, changes: Changes) -> None:
        if parent in self._own:
            self._own.add(pid)
            return
        self._own.discard(pid)
        if (target := self.targets.get(parent)) is not None and len(self.targets) < MAX_TARGETS:
            child = replace(target, pid=pid, start_time=from_monotonic(at), selected_by=f"child of {parent}")
            self._add(child, self._selectors.get(parent))
            changes.added.append(child)

    def _on_exec(self, pid: int, event: np.void, changes: Changes) -> None:
        before = self.targets.get(pid)
        view = look_at(pid, event)
        target = self._consider(view, before, again=True)
        if target is not None:
            changes.added.append(target)
        elif before is not None:
            self._remove(pid)
            changes.removed.append(pid)

    def _on_listen(self, pid: int, port: int, event: np.void, changes: Changes) -> None:
        if (target := self.targets.get(pid)) is not None:
            self.targets[pid] = replace(target, ports=tuple(sorted({*target.ports, port})))
            return
        if (found := self._consider(look_at(pid, event, (port,)), None)) is not None:
            changes.added.append(found)
            self._adopt_children(found, changes)

    def _adopt_children(self, parent: Target, changes: Changes) -> None:
        """The processes that a new target had started before it became one."""
        waiting = [(pid, parent) for pid in read_children(parent.pid)]
        while waiting and len(self.targets) < MAX_TARGETS:
            pid, above = waiting.pop()
            if pid in self.targets or pid in self._own:
                continue
            if (child := self._consider(View(pid), above)) is not None:
                changes.added.append(child)
                waiting += [(below, child) for below in read_children(pid)]

    # --- one process

    def _consider(self, view: View, parent: Target | None, *, again: bool = False) -> Target | None:
        """Make it a target if a selector matches or its parent is one. `again`: `parent` is what it was before."""
        selector = self._select(view)
        if selector is None and (parent is None or self.selection.excludes(view)):
            if view.denied:
                self._told.denied(view)
            return None
        stat = view.stat
        if stat is None or len(self.targets) >= MAX_TARGETS:
            return None
        runtime = self._runtimes.look(view)
        entry = selector or self._inherited(view, parent)
        name = name_service(view, entry, override=self._service_name, go_path=runtime.go_path)
        service = make_service(view, name, runtime.language, self._resource)
        service = self._named(service, guessed=name.source not in GIVEN)
        if parent is not None and not again and (view.exe, service.name) == (parent.exe, parent.service.name):
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
        self._add(target, entry)
        return target

    def _inherited(self, view: View, parent: Target | None) -> Selector | None:
        """The entry that names a target names its workers too, and what a shell starts."""
        if parent is None or not (parent.exe == view.exe or parent.exe.rpartition("/")[2] in SHELLS):
            return None
        return self._selectors.get(parent.pid)

    def _select(self, view: View) -> Selector | None:
        for selector in self.selection.matching(view):
            if selector.pid and not (view.stat and abs(self._pinned.get(view.pid, 0) - view.stat.start) < SAME_START):
                continue  # another process has got the pid that was meant
            if view.pid in self._starters and "cmd" in selector.keys:
                continue  # sudo autoinstr run --cmd 'x': sudo's own command line has the glob in it
            return selector
        return None

    def _add(self, target: Target, entry: Selector | None) -> None:
        self.targets[target.pid] = target
        if entry is not None:
            self._selectors[target.pid] = entry
        self._looked.pop(target.pid, None)
        self._services.add(target.pid, target.service)
        self._health.gauges["targets"] = len(self.targets)
        self._told.unseen(target)

    def _remove(self, pid: int) -> None:
        del self.targets[pid]
        self._selectors.pop(pid, None)
        self._services.end(pid)
        self._health.gauges["targets"] = len(self.targets)

    def _adopt(self, pid: int) -> bool:
        """A pid nobody told of, in a record: the child of a target whose birth was missed?"""
        stat = None if pid in self._own else read_stat(pid)
        parent = self.targets.get(stat.parent) if stat else None
        return parent is not None and self._consider(View(pid), parent) is not None

    def _pin(self, pids: Iterable[int]) -> dict[int, float]:
        """The processes that are meant by --pid: those that run now."""
        pinned: dict[int, float] = {}
        for pid in pids:
            if (stat := read_stat(pid)) is None:
                log.warning("there is no process %d in this PID namespace: nothing is selected by that pid", pid)
            else:
                pinned[pid] = stat.start
        return pinned


def own_pid() -> int:
    """The agent's: replaced by tests, which start what they look at."""
    return os.getpid()


def _same(target: Target, stat: Stat | None) -> bool:
    return stat is not None and abs(target.start_time - stat.start) < SAME_START
