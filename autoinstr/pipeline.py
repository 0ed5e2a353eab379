"""Wires the stages together and runs them: the only module that knows all of them.

discover -> attach -> capture (`watcher.py`) -> parse -> correlate -> red, spans -> export; one thread, woken by the
clock, by a ring that fills, or by a signal. Exporters have threads of their own and never hold it up.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoinstr import __version__
from autoinstr.attach import Attached, Limits
from autoinstr.capture.names import MAX_NAMES
from autoinstr.clock import wall_offset
from autoinstr.config import Config, logged_from, settings_record
from autoinstr.correlate import Correlator, make_sampler
from autoinstr.discover import Discovery, target_record
from autoinstr.errors import AutoinstrError
from autoinstr.export.base import Context, Exporter, create
from autoinstr.health import Health, Loss
from autoinstr.model import Attributes, Name, Service, Snapshot, Traced
from autoinstr.parse import Groups, Parser, RouteOptions
from autoinstr.red import Red
from autoinstr.spans import RequestLogEncoder, SpanEncoder, encode_metrics, span_records
from autoinstr.turns import hurry_while, stand_back
from autoinstr.watcher import Watcher

if TYPE_CHECKING:
    from autoinstr.discover.kubernetes import Kubernetes

log = logging.getLogger(__name__)

# Seconds between two looks at the ring when nothing wakes us: half of what a request may take to be told.
LOOK_EVERY = 0.5
# Seconds between two looks at all of /proc; the kernel's events tell of everything else at once.
SCAN_EVERY = 60.0
# Seconds after which nothing is left of the start.
SETTLED_AFTER = 5.0
# Seconds to flush at the end: the user was promised five.
CLOSE_WITHIN = 4.0
# One and the same message about an error of our own at most once in so many seconds.
COMPLAIN_EVERY = 20.0

# Share of the ring that may wait while others go first.
BEHIND = 0.5

# Seconds that names of pods may take at the start; after that they come when they come.
PODS_WITHIN = 1.0

ANNOUNCED = 10  # services, by name

CUMULATIVE = "cumulative"
EXPONENTIAL = "base2_exponential_bucket_histogram"


class Pipeline:
    """All stages of one run. `lock` guards what a scrape reads from another thread."""

    def __init__(self, config: Config, health: Health) -> None:
        self.config = config
        self.health = health
        self.lock = threading.Lock()
        self.stopping = False
        self._complained = -COMPLAIN_EVERY
        self.pods = pods_of(config)
        self.discovery = Discovery(
            config.selection,
            health,
            service_name=config.service_name,
            resource=config.resource,
            pods=self.pods.table if self.pods else None,
        )
        self.names: dict[int, Name] = {}  # that programs give to requests, by key
        self.groups = Groups(health)
        routes = RouteOptions(**{name: getattr(config.routes, name) for name in config.routes.__slots__})
        self.parser = Parser(
            self.groups, routes, health, services=self.discovery.services, names=self.names, queries=config.queries
        )
        self.correlator = Correlator(make_sampler(config.sampler, config.sampler_arg), health)
        exponential = config.histogram == EXPONENTIAL
        self.red = Red(
            health,
            start=time.time_ns(),
            exponential=exponential,
            cardinality_limit=config.cardinality_limit,
            old_rpc_names=config.old_rpc_names,
        )
        self.pushed = self.red.reader(config.temporality, exponential=exponential)
        self.pulled = self.red.reader(CUMULATIVE)
        self.watcher: Watcher | None = None  # once attached
        self.exporters = [create(name, self._context()) for name in config.exports]

    def _context(self) -> Context:
        resource = own_resource(self.config)
        logged = self.config.request_logs
        return Context(
            health=self.health,
            environ=self.config.environment,
            version=__version__,
            encode_spans=SpanEncoder(__version__).encode,
            encode_metrics=partial(encode_metrics, version=__version__, own_resource=resource),
            span_records=span_records,
            own_resource=resource,
            encode_request_logs=RequestLogEncoder(__version__, logged_from(logged)).encode if logged != "off" else None,
            collect=self.collect_pulled,
            inside=self.inside,
            measure=self.measure,
            stop=self.stop,
            output=sys.stdout,
            console_format=self.config.format,
            prometheus_host=self.config.prometheus_host,
            prometheus_port=self.config.prometheus_port,
            ui=self.config.ui,
            ui_memory=self.config.ui_memory,
            ui_token=self.config.ui_token,
            ui_store=self.config.ui_store,
        )

    def stop(self) -> None:
        """Ask the run to end; from any thread."""
        self.stopping = True
        os.kill(os.getpid(), signal.SIGTERM)

    # --- per batch

    def look(self, watcher: Watcher, *, last: bool = False) -> None:
        """Take what waits through all stages; `last`: all of it, and there will be no other look."""
        fill = watcher.fill()
        self.health.gauges["ring_fill_ratio"] = max(fill, self.health.gauges.get("ring_fill_ratio", 0) * 0.9)
        for batch, service in watcher.batches(last=last):
            count = len(batch)
            try:
                with self.lock:
                    requests = self.parser.parse(batch, service, wall_offset())
                    del batch  # what follows takes as much memory
                    traced = self.correlator.correlate(requests, self.groups.groups)
                    self.red.add(traced, self.groups.groups)
                    self.red.graph.add(traced, self.groups.groups, self.discovery.services, self._peers(traced))
                self.health.did("requests", len(requests))
                for exporter in self.spans_to:
                    exporter.spans(traced, self.groups.groups, self.discovery.services)
            except Exception as error:  # one batch, not the program: counted, and said once in a while
                self.health.lose(Loss.INTERNAL, count)
                self._complain(error)
        with self.lock:
            for overflow, service_index in watcher.counted():
                self.red.add_overflow(overflow, service_index)
                self.health.did("requests", overflow.count)
                for exporter in self.spans_to:
                    exporter.counted(overflow, service_index, self.discovery.services)

    def forget(self) -> None:
        """Series of processes that ended long ago go, and what is about their requests; their room is for others."""
        with self.lock:
            gone = self.discovery.retire(2 * self.config.metric_interval)
            if gone:
                self.red.forget(gone)
                self.correlator.forget(gone)
                self.parser.begin_anew(self.discovery.services)
                if len(self.names) > MAX_NAMES // 2:
                    self.names.clear()  # those that are still used are read once more

    def _peers(self, traced: Traced) -> NDArray[np.int32]:
        """The service at the other end of each request; -1: none is known."""
        places = traced.requests.places
        if places is None:
            return np.full(len(traced.requests), -1, np.int32)
        return self.discovery.service_of(places.peer_pid)

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.error("a batch was given up; please report this", exc_info=error)

    @property
    def spans_to(self) -> list[Exporter]:
        """Exporters that take spans."""
        return [exporter for exporter in self.exporters if exporter.wants_spans]

    # --- metrics

    def collect_pulled(self) -> tuple[Snapshot, list[Service]]:
        """All series since the start, for a scrape; from any thread."""
        with self.lock:
            self.health.measure()
            return self.pulled.collect(time.time_ns()), list(self.discovery.services)

    def inside(self) -> dict[str, Any]:
        """What the page says of the agent itself; from any thread."""
        self.health.measure()
        watcher = self.watcher
        return {
            "version": __version__,
            "targets": [shown(target_record(target)) for target in list(self.discovery.targets.values())],
            "work": dict(self.health.work),
            "gauges": dict(self.health.gauges),
            "lost": [
                {"loss": loss.label, "meaning": loss.meaning, "count": count}
                for loss, count in list(self.health.lost.items())
            ],
            "orphans": [
                {"reason": why.label, "meaning": why.meaning, "count": count}
                for why, count in list(self.health.orphans.items())
            ],
            "probes": watcher.probes() if watcher else [],
            "files": watcher.files() if watcher else [],
            "settings": settings_record(self.config),
        }

    def measure(self) -> dict[str, Any]:
        """What probes are hit and take just now: see `Watcher.measure`; empty if that can't be told."""
        watcher = self.watcher
        try:
            return watcher.measure() if watcher else {}
        except (OSError, KeyError, AutoinstrError) as error:  # not allowed, or we are about to end
            log.debug("hits of probes can't be measured: %s", error)
            return {}

    def push_metrics(self, watcher: Watcher) -> None:
        """Collect, and hand to every exporter that takes metrics."""
        takers = [exporter for exporter in self.exporters if exporter.wants_metrics]
        watcher.ask_programs()
        if not takers:
            return
        with self.lock:
            self.health.measure()
            snapshot = self.pushed.collect(time.time_ns())
        for exporter in takers:
            exporter.metrics(snapshot, self.discovery.services)

    def close(self) -> None:
        """Flush all exporters at the same time."""
        deadline = time.monotonic() + CLOSE_WITHIN
        with ThreadPoolExecutor(max(1, len(self.exporters))) as pool:
            list(pool.map(lambda exporter: exporter.close(deadline), self.exporters))


def pods_of(config: Config) -> Kubernetes | None:
    """Who knows the names of this node's pods, if they are asked for."""
    if not config.kubernetes_node:
        return None
    from autoinstr.discover.kubernetes import from_pod  # noqa: PLC0415 - TLS: 5 MB that other runs need not have

    return from_pod(os.environ, config.kubernetes_node, config.kubernetes_labels)


def own_resource(config: Config) -> Attributes:
    """The resource of the agent's own metrics."""
    return config.resource | {
        "service.name": "autoinstr",
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "host.name": socket.gethostname(),
    }


def shown(target: dict[str, Any]) -> dict[str, Any]:
    """Without what may hold secrets: the command line."""
    return {name: value for name, value in target.items() if name != "command"}


class Signals:
    """SIGTERM and SIGINT as something that can be waited for."""

    def __init__(self) -> None:
        self.received = False
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def ignore(self) -> None:
        """All is done: a second signal must not turn success into failure while the interpreter shuts down."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True


def watch(pipeline: Pipeline, attaching: Future[Attached], limits: Limits, started: float) -> int:
    """Watch until a signal; exit status. `started`: when, on the monotonic clock. AutoinstrError if it can't attach."""
    health, config = pipeline.health, pipeline.config
    signals = Signals()
    attached = attaching.result()
    watcher = pipeline.watcher = Watcher(
        attached,
        limits,
        pipeline.discovery,
        health,
        names=pipeline.names,
        probes=(*config.probes, *(f"propagate {way}" for way in config.propagate)),
    )
    if pipeline.pods:
        pipeline.pods.wait(PODS_WITHIN)
    watcher.start()
    stand_back()
    hurry_while(lambda: signals.received or watcher.fill() > BEHIND)
    health.looked = time.monotonic()
    announce(pipeline.discovery, time.monotonic() - started)
    attached.load_rest()
    loop(pipeline, watcher, signals)
    finish(pipeline, watcher, attached)
    signals.ignore()
    return 0


def give_back_memory() -> None:
    """What the start, or load that is over, took and left is given back to the system."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def announce(discovery: Discovery, seconds: float) -> None:
    """The line that scripts wait for."""
    names = sorted({target.service.name for target in discovery.targets.values()})
    if len(names) > ANNOUNCED:
        names[ANNOUNCED:] = [f"{len(names) - ANNOUNCED} more"]
    count = len(discovery.targets)
    who = f"{count} process{'' if count == 1 else 'es'} ({', '.join(names)})" if count else "nothing yet"
    print(f"ready in {seconds:.1f} s: watching {who}", file=sys.stderr, flush=True)


def loop(pipeline: Pipeline, watcher: Watcher, signals: Signals) -> None:
    """Look, collect, scan; each in its own rhythm."""
    poll = select.epoll()
    poll.register(signals.reader, select.EPOLLIN)
    watcher.wake_on(poll)
    now = time.monotonic()
    settled_at = now + SETTLED_AFTER
    collect_at, scan_at = now + pipeline.config.metric_interval, now + SCAN_EVERY
    while not signals.received and not pipeline.stopping:
        poll.poll(min(LOOK_EVERY, max(0.0, collect_at - time.monotonic())))
        pipeline.health.did("wakeups")
        pipeline.health.looked = time.monotonic()
        pipeline.look(watcher)
        now = time.monotonic()
        if now >= collect_at:
            collect_at = max(collect_at + pipeline.config.metric_interval, now)
            pipeline.push_metrics(watcher)
        if now >= settled_at:
            gc.collect()
            give_back_memory()
            settled_at = math.inf
        if now >= scan_at:
            scan_at = now + SCAN_EVERY
            watcher.rescan()
            pipeline.forget()
            give_back_memory()
    poll.close()


def finish(pipeline: Pipeline, watcher: Watcher, attached: Attached) -> None:
    """Detach, then take what is left through all stages and out."""
    pipeline.watcher = None
    attached.detach()
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(watcher.close)
        pipeline.look(watcher, last=True)
        pipeline.push_metrics(watcher)
        pipeline.close()
        closing.result()
