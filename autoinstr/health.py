"""What was lost, and what it costs: every stage counts here, every exporter and command shows it.

Counters only ever increase. Nothing that a request goes through may drop it without a line in `Loss`.
"""

from __future__ import annotations

import resource
import threading
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from pathlib import Path


class Told(Enum):
    """Something that is counted: its label, and what it means to a reader."""

    def __init__(self, label: str, meaning: str) -> None:
        self.label = label
        self.meaning = meaning


class Loss(Told):
    """Everything that can go missing: name in the self-metrics, and what it means to a user."""

    RING_FULL = ("ring_full", "requests without a span: the ring was full, their metrics are exact, without the route")
    AGGREGATE_FULL = ("aggregate_full", "of those, requests told without method and status")
    PROCESS_RING_FULL = ("process_ring_full", "process births and ends that were noticed late")
    ORPHAN_RESPONSE = ("orphan_response", "responses whose request began before the agent did")
    LOST_SYNC = ("lost_sync", "connections on which the boundaries of messages were lost")
    PIPELINE_FULL = ("pipeline_full", "pipelined requests beyond what is kept in the kernel")
    UNREADABLE = ("unreadable", "system calls whose buffer could not be read")
    STEPS_EXHAUSTED = ("steps_exhausted", "system calls with more messages or chunks than one run may look at")
    TLS_CALL_LOST = ("tls_call_lost", "calls of a TLS library that ended and whose beginning was not seen")
    STREAM_LOST = ("stream_lost", "HTTP/2 streams that found no room in the kernel, or lost it")
    NAME_LOST = ("name_lost", "requests whose route is a guess, since what the program calls it was lost or too long")
    VERSION_UNKNOWN = ("version_unknown", "files with a library or module of a version whose structures are not known")
    PROBE_MISSED = ("probe_missed", "runs of a probe that the kernel skipped")
    HEAD_CUT = ("head_cut", "requests whose path was longer than what is kept")
    PARSE_ERROR = ("parse_error", "exchanges that are not what they looked like")
    UNKNOWN_PROCESS = ("unknown_process", "exchanges of processes that ended before they could be matched")
    CARDINALITY = ("cardinality", "requests counted in the overflow series: too many different attributes")
    SPAN_QUEUE_FULL = ("span_queue_full", "spans dropped: the exporter did not keep up")
    METRIC_QUEUE_FULL = ("metric_queue_full", "metric batches dropped: the exporter did not keep up")
    SPAN_EXPORT_FAILED = ("span_export_failed", "spans that the backend refused, or that met no backend in time")
    METRIC_EXPORT_FAILED = (
        "metric_export_failed",
        "metric batches that met no backend; the next cumulative one makes up for it",
    )
    METRIC_POINTS_REFUSED = ("metric_points_refused", "metric points of accepted batches that the backend refused")
    STORE_FAILED = ("store_failed", "spans and counts for the page that could not be written to disk")
    REQUEST_LOG_QUEUE_FULL = ("request_log_queue_full", "request logs dropped: the exporter did not keep up")
    REQUEST_LOG_EXPORT_FAILED = (
        "request_log_export_failed",
        "request logs that the backend refused, or that met no backend in time",
    )
    LOG_LOST = ("log_lost", "lines of autoinstr's own log that met no backend")
    INTERNAL = ("internal", "batches given up because of an error in autoinstr itself")


class Orphan(Told):
    """Why a request is told without a parent; nothing of it is lost. The kernel side's numbers, in their order."""

    UNPLACED = (
        "unplaced",
        "requests that came with more than 64 others at once, or that the kernel side gave no place",
    )
    ELSEWHERE = ("elsewhere", "served: nobody who is watched here has asked, and no trace context came with it")
    CALLER_UNSURE = ("caller_unsure", "served: somebody who is watched has asked, but which call it was is not certain")
    NOBODY = ("nobody", "calls by a thread, goroutine or task that serves nothing that is known")
    SEVERAL = ("several", "calls that several requests may have asked for")
    ANSWERED = ("answered", "calls by one that has answered what it served last")
    SHARED = ("shared", "calls over HTTP/2 by one that writes whatever others have left there")
    TURN = (
        "turn",
        "calls of an event loop that was at something else than what it had read: a timer, other connections",
    )


ORPHANS = tuple(Orphan)


class Health:
    """Counts of losses and of work; written by all stages, read at each collection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # exporters count from threads of their own
        self.lost: Counter[Loss] = Counter()
        self.orphans: Counter[Orphan] = Counter()
        self.work: Counter[str] = Counter()  # "requests", "spans_exported", "wakeups" ...
        self.gauges: dict[str, float] = {}  # "ring_fill_ratio", "queue_bytes" ...
        self.looked = 0.0  # when the ring was last looked at, by the monotonic clock; 0: not attached yet

    def lose(self, loss: Loss, count: int = 1) -> None:
        """Count a loss, from any thread."""
        if count:
            with self._lock:
                self.lost[loss] += count

    def found_orphans(self, counts: Iterable[int]) -> None:
        """Count requests without a parent, by reason."""
        with self._lock:
            self.orphans.update(dict(zip(ORPHANS, counts, strict=True)))

    def measure(self) -> None:
        """What this process costs, into the self-metrics."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.work["cpu_seconds"] = used.ru_utime + used.ru_stime  # type: ignore[assignment]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.gauges["memory_bytes"] = pages * resource.getpagesize()

    def did(self, what: str, count: int = 1) -> None:
        """Count work done."""
        if count:
            with self._lock:
                self.work[what] += count
