"""What every exporter is, and the list of them.

In: batches of traced requests and metric snapshots, from the pipeline's thread, and a deadline at the end.
Out: bytes to a backend, a terminal or a scraper; losses in `Health`.
An exporter must never block the pipeline's thread, never grow without bound, and never raise out of `spans`, `metrics`
or `close`: what can't be delivered is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, TextIO

from autoinstr.errors import UsageError
from autoinstr.health import Health
from autoinstr.model import Attributes, Group, Overflow, Service, Snapshot, Traced


class Encoded(Protocol):
    """One OTLP `ExportTraceServiceRequest` as bytes, and how many spans are in it; or log records, likewise."""

    @property
    def data(self) -> bytes: ...
    @property
    def spans(self) -> int: ...


class Exporter(Protocol):
    """Called by one thread, the pipeline's. All but `close` return at once."""

    name: str
    wants_spans: bool  # False: `spans` does nothing, so the pipeline need not make any
    wants_metrics: bool  # False: `metrics` does nothing (a pull exporter calls `Context.collect` instead)

    def spans(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        """Take the sampled rows of a batch. Its columns must not be changed afterwards: they may be read later."""

    def counted(self, overflow: Overflow, service: int, services: list[Service]) -> None:
        """Take requests that have no spans, since the kernel only counted them; if `wants_spans`."""

    def metrics(self, snapshot: Snapshot, services: list[Service]) -> None:
        """Take one collection of metrics. The snapshot belongs to the exporter from here on."""

    def close(self, deadline: float) -> None:
        """Deliver what is waiting until `time.monotonic()` reaches the deadline; count the rest as lost."""


@dataclass(frozen=True, slots=True)
class Context:
    """What exporters need from outside; each takes what concerns it."""

    health: Health
    environ: Mapping[str, str]  # OTEL_EXPORTER_OTLP_*, OTEL_BSP_*
    version: str
    encode_spans: Callable[[Traced, list[Group], list[Service]], Iterable[Encoded]]
    encode_metrics: Callable[[Snapshot, list[Service]], bytes]
    span_records: Callable[[Traced, list[Group], list[Service]], Iterable[dict[str, Any]]]
    collect: Callable[[], tuple[Snapshot, list[Service]]]  # a cumulative snapshot, from any thread
    inside: Callable[[], dict[str, Any]]  # what the agent knows of itself and its targets, for JSON; from any thread
    stop: Callable[[], None]  # ask the program to end, from any thread: nobody reads its output any more
    output: TextIO  # of the console exporter
    console_format: str = "text"  # or "json"
    prometheus_host: str = "127.0.0.1"
    prometheus_port: int = 9464
    ui: str = ""  # address of the page; empty: the default, or a port beside it if that is taken
    ui_memory: int = 8 << 20
    ui_token: str = ""
    measure: Callable[[], dict[str, Any]] = dict  # what probes are hit and take: takes a second; from any thread
    ui_store: str = ""  # folder; empty: only in memory
    own_resource: Attributes = field(default_factory=dict)  # the agent itself
    encode_request_logs: Callable[[Traced, list[Group], list[Service]], Iterable[Encoded]] | None = None  # if wanted


# Name on the command line -> module with `create(context) -> Exporter`, imported only when it is asked for: grpc alone
# would cost every run 17 MB.
EXPORTERS: dict[str, str] = {
    "otlp": "autoinstr.export.otlp",
    "console": "autoinstr.export.console",
    "prometheus": "autoinstr.export.prometheus",
    "ui": "autoinstr.export.ui",
    "none": "autoinstr.export.none",
}


def create(name: str, context: Context) -> Exporter:
    """Make one exporter, ready to use. UsageError: unknown name, or settings that can't work."""
    if name not in EXPORTERS:
        raise UsageError(f"--export {name}: unknown exporter; known are {', '.join(EXPORTERS)}")
    exporter: Exporter = import_module(EXPORTERS[name]).create(context)
    return exporter
