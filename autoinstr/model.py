"""The values that stages hand to each other. Nothing else is shared between stages.

Words (used everywhere in this sense):

Target      a process to watch
Connection  one socket of a target, from its first to its last byte
Exchange    one request and its response as the kernel side saw them, still bytes (`capture/abi.py`)
Request     one reconstructed call, server or client side: a row of `Requests`
Group       what many requests share: service, kind, method, route, status ... (one metric series)
Span, Point what leaves over OTLP

Everything that is per request is a column (a numpy array, one element a request), so that work per request is
array work. Everything that requests share is a Python object, made once per group.
This module imports no other module of the package, and does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

AttributeValue: TypeAlias = str | int | float | bool | list[str]
Attributes: TypeAlias = dict[str, AttributeValue]
Item = TypeVar("Item")


class Follower(Generic[Item]):
    """Follows a list that only grows, until another list takes its place.

    The lists of groups and of services are such: an index into one never changes its meaning. When processes that ended
    have left too much in them, there are other lists, and who has learned something by index begins anew.
    """

    def __init__(self) -> None:
        self._list: Sequence[Item] = ()
        self._known = 0

    def more(self, items: Sequence[Item]) -> tuple[Sequence[Item], bool]:
        """What was not there at the last look, and whether that is all of another list."""
        anew = items is not self._list
        known = 0 if anew else self._known
        self._list, self._known = items, len(items)
        return items[known:] if known < len(items) else (), anew


class Kind(IntEnum):
    """Side of a request that the target was on; the numbers are OTLP's `Span.SpanKind`."""

    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class Service:
    """Who a process is, in OpenTelemetry's words: one OTLP resource.

    `attributes` always holds service.name, service.instance.id, telemetry.sdk.*, process.pid, process.executable.name,
    host.name; more where it is known.
    """

    name: str
    attributes: Attributes = field(hash=False)


NOBODY = Service("", {})  # in the place of a service that nothing refers to any more


@dataclass(frozen=True, slots=True)
class Target:
    """A process that is watched, and why. Pids are those of the agent's own PID namespace."""

    pid: int
    start_time: float  # seconds since the epoch, from /proc/<pid>/stat
    service: Service
    name_source: (
        str  # where the service name came from: "OTEL_SERVICE_NAME", "config", "jar", "script", "executable" ...
    )
    selected_by: str  # the selector that matched, in its own words: "--port 8080", "select[0].exe", "child of 4711"
    exe: str
    command: tuple[str, ...]
    language: str  # "go", "java", "python", "nodejs", "ruby", "php", "dotnet", "rust", "cpp", "lua" ..., "unknown"
    ports: tuple[int, ...] = ()  # listening TCP ports
    libraries: tuple[str, ...] = ()  # TLS and HTTP libraries mapped, by file name
    unseen: tuple[str, ...] = ()  # what can't be captured of this process, with the reason: "io_uring: ..."


@dataclass(frozen=True, slots=True)
class Group:
    """What all requests of one kind share. Made by a protocol (`parse/protocols/`), once, then referred to by index.

    The protocol decides on names; later stages only carry them on, and know no protocol.
    """

    service: int  # index into the pipeline's list of services
    kind: Kind
    name: str  # span name: "GET /users/{id}"
    metric: str  # prefix of the metric family: "http.server" -> http.server.request.duration; see `red/names.py`
    metric_attributes: Attributes  # of the points; low cardinality only
    span_attributes: Attributes  # of the spans; a superset of what is known at group level
    text_key: str  # attribute that the request's own text becomes: "url.path"
    failed: bool  # span status ERROR


@dataclass(frozen=True, slots=True)
class Name:
    """What a program itself calls some of its requests."""

    kind: int  # how it is to be read: `capture.abi.NameKind`
    text: bytes


@dataclass(slots=True)
class Places:
    """Places of requests in traces, as far as the kernel side knows them: columns of length n.

    `renamed`: traces that turned out to be others, since trace context came with the request that began them.
    """

    trace_id: NDArray[np.uint8]  # (n, 16) zeros: none was given
    span_id: NDArray[np.uint8]  # (n, 8) zeros: none was given
    parent_id: NDArray[np.uint8]  # (n, 8) zeros: none is known
    decided: NDArray[np.bool_]  # (n,) whoever began the trace has decided on sampling: as `sampled` says
    sampled: NDArray[np.bool_]  # (n,)
    own: NDArray[np.bool_]  # (n,) of a client: the program makes trace context by itself
    orphan: NDArray[np.uint8]  # (n,) why it has no parent, if it has none: `health.Orphan`, by its place there
    peer_pid: NDArray[np.uint32]  # (n,) the target at the other end; 0: none is known
    renamed: Renamed | None = None


@dataclass(slots=True)
class Renamed:
    """Traces under two ids, of which the second counts."""

    known_as: NDArray[np.uint8]  # (k, 16)
    trace_id: NDArray[np.uint8]  # (k, 16)
    flags: NDArray[np.uint8]  # (k,) W3C


@dataclass(slots=True)
class Requests:
    """A batch of reconstructed requests: columns of equal length n, in the order in which they ended.

    Times are nanoseconds since the Unix epoch, sizes are bytes of payload.
    `text` holds the requests' own texts end to end (url.path for HTTP), UTF-8 made safe (no invalid byte in it).
    """

    group: NDArray[np.int32]  # (n,) index into `Groups.groups`
    start: NDArray[np.int64]  # (n,)
    end: NDArray[np.int64]  # (n,)
    request_size: NDArray[np.int64]  # (n,)
    response_size: NDArray[np.int64]  # (n,)
    pid: NDArray[np.uint32]  # (n,)
    tid: NDArray[np.uint32]  # (n,) the thread that read (server) or wrote (client) the first byte of the request
    text: NDArray[np.uint8]  # (sum of text_size,)
    text_at: NDArray[np.int64]  # (n,) where each text starts
    text_size: NDArray[np.int64]  # (n,)
    query: NDArray[np.uint8]  # like text: the query string, redacted; all sizes 0 unless queries were asked for
    query_at: NDArray[np.int64]
    query_size: NDArray[np.int64]
    peer: NDArray[np.uint8]  # (n, 16) address of the other end, IPv4 as ::ffff:a.b.c.d; zeros if unknown (Unix socket)
    peer_port: NDArray[np.uint16]  # (n,) 0 if unknown
    has_parent: NDArray[np.bool_]  # (n,) a valid traceparent came with the request
    parent_trace: NDArray[np.uint8]  # (n, 16)
    parent_span: NDArray[np.uint8]  # (n, 8)
    parent_flags: NDArray[np.uint8]  # (n,)
    places: Places | None = None  # None: nothing is known

    def __len__(self) -> int:
        return len(self.group)


@dataclass(slots=True)
class Traced:
    """`Requests` with ids and the sampling decision: what correlate adds, column by column."""

    requests: Requests
    trace_id: NDArray[np.uint8]  # (n, 16)
    span_id: NDArray[np.uint8]  # (n, 8)
    parent_id: NDArray[np.uint8]  # (n, 8) zeros: a root span
    sampled: NDArray[np.bool_]  # (n,)


@dataclass(frozen=True, slots=True)
class Overflow:
    """Requests that the kernel only counted, since the ring was full: added to the metrics, not to the spans.

    Counts are since the last reading. Buckets: `counts[i]` is the number of values in (bounds[i-1], bounds[i]].
    """

    pid: int
    metric: str  # as in Group
    attributes: Attributes  # of its points, as far as the kernel side knows them
    count: int
    duration_sum: int  # ns
    duration_buckets: NDArray[np.int64]
    request_size_sum: int
    request_size_buckets: NDArray[np.int64]
    response_size_sum: int
    response_size_buckets: NDArray[np.int64]


# Bucket bounds of the duration (seconds) and size (bytes) histograms: those that users' dashboards expect.
DURATION_BOUNDS: tuple[float, ...] = (0, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
SIZE_BOUNDS: tuple[float, ...] = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One request that fell into a series, by its span."""

    value: float  # in the metric's unit
    time: int  # ns since the Unix epoch
    trace_id: bytes
    span_id: bytes


@dataclass(frozen=True, slots=True)
class Exponential:
    """Buckets: `counts[i]` values lie in (base**(offset+i), base**(offset+i+1)], where base is 2**(2**-scale)."""

    scale: int
    zero_count: int
    offset: int
    counts: NDArray[np.int64]


@dataclass(slots=True)
class Series:
    """A histogram of one metric, or a counter, for one service and one set of attributes.

    `bounds` and `buckets` as in `Overflow` (one bucket more than bounds), or `exponential` in their place. A counter
    has neither: `count` is its value.
    """

    name: str  # "http.server.request.duration"
    unit: str  # "s"
    description: str
    service: int  # index into the pipeline's list of services
    attributes: Attributes
    start: int  # ns since the Unix epoch: counted since then
    count: int
    sum: float  # in the metric's unit
    bounds: tuple[float, ...]
    buckets: NDArray[np.int64] | None
    exponential: Exponential | None = None
    exemplars: list[Exemplar] = field(default_factory=list)
    is_counter: bool = False


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """A figure about autoinstr itself; sums count since the start, whatever the temporality of the rest."""

    name: str  # "autoinstr.lost"
    unit: str  # "{span}", "By"
    description: str
    attributes: Attributes
    value: float
    monotonic: bool  # a sum that only increases; else a gauge
    start: int = 0  # of a sum: ns since the Unix epoch


@dataclass(slots=True)
class Snapshot:
    """One collection of all metrics: since the start (cumulative), or since the last collection (delta)."""

    start: int  # ns since the Unix epoch
    end: int
    delta: bool
    series: list[Series] = field(default_factory=list)
    own: list[SelfMetric] = field(default_factory=list)
