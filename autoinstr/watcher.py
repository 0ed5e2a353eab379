"""The kernel side and the set of targets, held together: what one tells, the other follows.

In:  `Config`. Out: batches of exchanges with their services, what was only counted, and kernel losses in `Health`.
Never interprets an exchange. Used by the pipeline's thread only.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoinstr.attach import Attached, Functions, Limits, price, tally, way
from autoinstr.bpf_call import program_info
from autoinstr.capture import Aggregate, Control, Names, Ring
from autoinstr.capture.abi import EXCHANGE, PROCESS, Counter, ProcessKind
from autoinstr.capture.control import RUNTIME_GO, RUNTIME_IN_ORDER, RUNTIME_LOOPS, RUNTIME_UVLOOP
from autoinstr.discover import Changes, Discovery, Process
from autoinstr.health import Health, Loss
from autoinstr.libraries import HAS_NODE, HAS_PYTHON, HAS_UVLOOP, Layout, find_layout, has_greenlets, met
from autoinstr.model import Name, Overflow, Target

# Records handled at once: enough to make array work cheap (three times as many save 0.1 us a request), few enough to
# stay in a few MB.
BATCH = 3072
# Fewer records than that are left for the next look by one that had a full batch: few cost as much as many.
WORTH_IT = BATCH // 2
PROCESS_BATCH = 1024
# Seconds without news of a process, after which it is let go if it is no target.
DECIDED_AFTER = 0.3
# Seconds that hits of probes are counted when somebody asks.
MEASURED_FOR = 1.0
ENDS_AT_ONCE = "event_loop_turns"  # a program for functions: in a process that is no target

LOSSES: dict[Counter, Loss] = {
    Counter.RING_FULL: Loss.RING_FULL,
    Counter.AGGREGATE_FULL: Loss.AGGREGATE_FULL,
    Counter.PROCESS_RING_FULL: Loss.PROCESS_RING_FULL,
    Counter.ORPHAN_RESPONSE: Loss.ORPHAN_RESPONSE,
    Counter.LOST_SYNC: Loss.LOST_SYNC,
    Counter.PIPELINE_FULL: Loss.PIPELINE_FULL,
    Counter.UNREADABLE: Loss.UNREADABLE,
    Counter.STEPS_EXHAUSTED: Loss.STEPS_EXHAUSTED,
    Counter.TLS_CALL_LOST: Loss.TLS_CALL_LOST,
    Counter.STREAM_LOST: Loss.STREAM_LOST,
}


# Programs whose event loop acts on each request or response at once, before it reads the next.
IN_ORDER = frozenset({"nginx", "lighttpd", "nghttpx", "h2o"})
# Those whose event loops put off what there is to do, and read more meanwhile. What each has read it does itself.
LOOPS = frozenset({"haproxy", "envoy", "squid"})


def runtime_flags(target: Target) -> int:
    """RUNTIME_* of a process."""
    if target.language == "go":
        return RUNTIME_GO
    program = Path(target.exe).name
    return RUNTIME_IN_ORDER if program in IN_ORDER else RUNTIME_LOOPS if program in LOOPS else 0


class Watcher:
    """Keeps the kernel side told of who is a target, and reads what it has."""

    def __init__(
        self,
        attached: Attached,
        limits: Limits,
        discovery: Discovery,
        health: Health,
        *,
        names: dict[int, Name],
        probes: Collection[str],
    ) -> None:
        """`probes`: groups of probes on functions that are wanted. `names` grows with the names that batches bring."""
        self._attached = attached
        self._discovery = discovery
        self._health = health
        self._control = Control(attached.maps)
        self._exchanges = Ring(attached.maps["exchanges"], limits.exchange_ring, EXCHANGE)
        self._processes = Ring(attached.maps["processes"], limits.process_ring, PROCESS)
        self._aggregate = Aggregate(attached.maps["aggregate"])
        self._functions = Functions(attached.function_program, self._mark, probes)
        self._counted = self._control.counters()
        self._missed = 0
        self._unknown = 0  # files with something of an unknown version
        self._began = time.time()
        self._way: tuple[float, float] | None = None  # see `measure`
        self._layouts: dict[int, Layout] = {}  # of Pythons
        self._names = Names(attached.maps["names"], health, names)
        self._undecided: dict[int, float] = {}  # pid -> when it was last told of

    def _mark(self, pid: int, flags: int, go_layout: dict[str, int]) -> None:
        """A target has libraries that are probed."""
        self._control.mark(pid, flags & 0xFF, go_layout)
        if flags & HAS_NODE:
            self._control.add_runtime(pid, RUNTIME_IN_ORDER)
        if flags & HAS_UVLOOP:
            self._control.add_runtime(pid, RUNTIME_UVLOOP)
        if flags & HAS_PYTHON:
            with contextlib.suppress(OSError):  # it has ended
                self._know_python(pid)

    def _know_python(self, pid: int) -> None:
        """Where it keeps contexts, or greenlets; these may have come since it was looked at."""
        known = self._layouts.get(pid)
        if known and (known.stack or not has_greenlets(Process(pid).maps)):
            return
        if layout := find_layout(pid, Process(pid).maps):
            self._layouts[pid] = layout
            self._control.python(pid, layout.state, layout.context, layout.stack)

    def start(self) -> None:
        """Begin to watch: rules for newcomers first, then everyone that is there, so that nobody slips through."""
        selection = self._discovery.selection
        self._control.exclude_self(os.getpid())
        self._control.watch_ports(port for low, high in selection.ports for port in range(low, high + 1))
        self._control.watch_programs(selection.asks_by_exec)
        if selection.asks_by_exec:
            self._functions.prepare()
        self.rescan()

    def close(self) -> None:
        """Detach from functions; what the kernel side has told can still be read."""
        self._functions.close()

    def rescan(self) -> None:
        """Look at all processes, for what no event tells: a descriptor that was passed on, a renamed program."""
        changes = self._discovery.scan()
        for pid in changes.removed:
            self._control.ignore(pid)
            self._layouts.pop(pid, None)
        self._follow(changes)
        older = {pid: self._is_older(target) for pid, target in self._discovery.targets.items()}
        self._functions.release(older, lambda pid: Process(pid).maps)

    def wake_on(self, poll: select.epoll) -> None:
        """Register what tells that the ring fills, or that a target has a new library.

        Edge-triggered, since a ring with anything in it is readable.
        """
        for ring in (self._exchanges, self._processes):
            poll.register(ring.fd, select.EPOLLIN | select.EPOLLET)

    def fill(self) -> float:
        """Share of the ring that waits, 0 to 1."""
        return self._exchanges.filled()

    def batches(self, *, last: bool = False) -> Iterator[tuple[NDArray[Any], NDArray[np.int32]]]:
        """Exchanges that wait, as (EXCHANGE records, index of each one's service); the caller owns the arrays. `last`:
        really all of them, for there will be no other look.

        -1: it turned out not to be of a target (a program that was watched until it was looked at), or is part of one
        whose process is not known yet.
        """
        full = True
        while full:  # what comes meanwhile is left for the next look
            batch = self._exchanges.take(BATCH)
            full = len(batch) == BATCH and (last or self._exchanges.waiting() >= WORTH_IT)
            # what is told of processes now is at least as new as these exchanges
            self._follow_events()
            self._discovery.name_pods()
            if len(batch):
                self._names.learn(batch["name"])
                told = [(batch, self._discovery.service_of(batch["pid"]))]
                del batch  # megabytes, which go as soon as the caller needs them no more
                yield told.pop()

    def counted(self) -> list[tuple[Overflow, int]]:
        """What the kernel side only counted since the last call, with the index of its service; losses into health."""
        now, before = self._control.counters(), self._counted
        self._counted = now
        for counter, loss in LOSSES.items():
            self._health.lose(loss, now[counter] - before[counter])
        self._health.did("connections", now[Counter.CONNECTIONS] - before[Counter.CONNECTIONS])
        if now[Counter.RING_FULL] == before[Counter.RING_FULL]:
            return []
        found = []
        for overflow in self._aggregate.read():
            service = int(self._discovery.service_of(np.array([overflow.pid], np.uint32))[0])
            if service >= 0:
                found.append((overflow, service))
            elif overflow.pid == 0:
                self._health.lose(Loss.UNKNOWN_PROCESS, overflow.count)
        return found

    def ask_programs(self) -> None:
        """Ask the kernel how our programs do: runs that every copy of a probe was skipped for; runs and time if it
        counts those (kernel.bpf_stats_enabled). Costs a system call a program.
        """
        nanoseconds = runs = missed = 0
        for copies in self._attached.by_probe():
            infos = [program_info(fd) for fd in copies]
            nanoseconds += sum(info[0] for info in infos)
            runs += sum(info[1] for info in infos)
            missed += min(info[2] for info in infos)
        self._health.lose(Loss.PROBE_MISSED, missed - self._missed)
        self._missed = missed
        unknown = met()
        self._health.lose(Loss.VERSION_UNKNOWN, unknown - self._unknown)
        self._unknown = unknown
        self._health.gauges["probe_runs"] = runs
        self._health.gauges["probe_seconds"] = nanoseconds / 1e9

    def probes(self) -> list[dict[str, Any]]:
        """What is attached, a probe each; from any thread. Runs and seconds as for `ask_programs`."""
        found = []
        for name, copies in self._attached.named_probes().items():
            infos = [program_info(fd) for fd in copies]
            found.append(
                {
                    "name": name,
                    "runs": sum(info[1] for info in infos),
                    "seconds": sum(info[0] for info in infos) / 1e9,
                    "missed": min(info[2] for info in infos),
                }
            )
        return found

    def measure(self) -> dict[str, Any]:
        """What probes are hit and take within a second, and which targets hit them; from any thread. OSError: the
        kernel won't tell.
        """
        targets = dict(self._discovery.targets)
        told = tally(self._attached, targets, partial(time.sleep, MEASURED_FOR))
        if self._way is None and self._functions.files() and (program := self._attached.function_program(ENDS_AT_ONCE)):
            self._way = way(program)
        emulated, stepped = self._way or (0.0, 0.0)
        there_and_back = emulated + self._functions.stepped * (stepped - emulated)
        costs = price(told, there_and_back)
        return {
            "seconds": round(told.seconds, 3),
            "timed": bool(told.probes),
            "watched": costs.watched,
            "others": costs.others,
            "least": round(told.least),
            "way": round(there_and_back),
            "probes": [
                {"name": name, "rate": runs / told.seconds, "nanoseconds": spent / runs if runs else 0.0}
                for name, (runs, spent) in told.probes.items()
            ],
            "targets": [
                {
                    "pid": pid,
                    "service": targets[pid].service.name,
                    "calls": calls / told.seconds,
                    "functions": functions / told.seconds,
                    "cores": costs.targets[pid],
                }
                for pid, (calls, functions) in told.hits.items()
            ],
        }

    def files(self) -> list[dict[str, Any]]:
        """Files whose functions are probed; from any thread."""
        return self._functions.files()

    def _follow_events(self) -> None:
        while True:
            events = self._processes.take(PROCESS_BATCH)
            if not len(events):
                self._ignore_others()
                return
            self._follow(self._discovery.on_process(events))
            self._look_at_code(events)
            self._undecided |= dict.fromkeys(events["pid"].tolist(), time.monotonic())

    def _look_at_code(self, events: NDArray[Any]) -> None:
        """Functions that are worth a probe, in what targets execute or have mapped."""
        new = np.isin(events["kind"], (ProcessKind.EXEC, ProcessKind.LISTEN, ProcessKind.MAP))
        for pid in set(events["pid"][new].tolist()) & self._discovery.targets.keys():
            self._control.looked(pid)
            older = self._is_older(self._discovery.targets[pid])
            self._functions.follow(pid, Process(pid).maps, older=older)

    def _is_older(self, target: Target) -> bool:
        """Than the agent."""
        return target.start_time < self._began

    def _ignore_others(self) -> None:
        """Let go of processes that were only watched until they had been looked at.

        Not at once: a process may execute one program after the other (a shell, then curl), and what was said of the
        first must not undo what the kernel side has just begun with the second.
        """
        before = time.monotonic() - DECIDED_AFTER
        for pid in [pid for pid, told in self._undecided.items() if told < before]:
            del self._undecided[pid]
            if pid not in self._discovery.targets:
                self._control.ignore(pid)

    def _follow(self, changes: Changes) -> None:
        for target in changes.added:
            if target.pid in self._discovery.targets:
                self._layouts.pop(target.pid, None)
                self._control.runtime(target.pid, runtime_flags(target))
                self._control.watch(target.pid)
