"""`Config`, and the tables of everything that can be set.

Every option is one entry in `OPTIONS`: its environment variables, its place in the file, how its text is read, its
default and its meaning; the command line, `--help` and the file are made from it. Must never look at the system.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoinstr.address import parse_address
from autoinstr.errors import UsageError
from autoinstr.probes import GROUPS
from autoinstr.selection import Selection, Selector, parse_ports

if TYPE_CHECKING:
    from autoinstr.model import Attributes  # costs numpy, which --help does not need

EXPORTERS = ("otlp", "console", "prometheus", "ui", "none")
FORMATS = ("text", "json")
TEMPORALITIES = ("cumulative", "delta", "lowmemory")
HISTOGRAMS = ("explicit_bucket_histogram", "base2_exponential_bucket_histogram")
ROUTE_MODES = ("heuristic", "wildcard")
PROPAGATIONS = ("go", "headers", "tcp")  # names of attach.propagation.PROGRAMS
PROBES = tuple(GROUPS)
REQUEST_LOGS = ("off", "failed", "all")  # or slow=DURATION
LOG_LEVELS = ("debug", "info", "warning", "error")

MIN_RING = 64 << 10
MAX_RING = 16 << 20  # the kernel side's maps stay below 32 MiB in all
MIN_MEMORY = 1 << 20
MAX_MEMORY = 4 << 30


@dataclass(frozen=True, slots=True)
class Routes:
    """How paths become routes."""

    patterns: tuple[str, ...] = ()  # for all services
    by_service: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # tried before `patterns`
    mode: str = "heuristic"  # of paths that no pattern matches; "wildcard": all of them become "/**"
    max_children: int = 10  # of a node of the path tree, before it becomes "*"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a run. Times are seconds, sizes bytes."""

    selection: Selection
    exports: tuple[str, ...] = ("console", "ui")
    format: str = "text"
    prometheus_host: str = "127.0.0.1"
    prometheus_port: int = 9464
    ui: str = ""  # address of the page; empty: the default, or another port if it is taken
    ui_memory: int = 8 << 20
    ui_token: str = ""
    ui_store: str = ""  # folder; empty: what the page shows is only in memory
    routes: Routes = field(default_factory=Routes)
    queries: bool = False
    probes: tuple[str, ...] = PROBES  # groups of probes on functions
    sampler: str = "parentbased_always_on"
    sampler_arg: str = ""
    request_logs: str = "off"
    metric_interval: float = 60.0
    temporality: str = "cumulative"
    histogram: str = "explicit_bucket_histogram"
    cardinality_limit: int = 2000
    old_rpc_names: bool = False
    service_name: str = ""  # for all targets
    resource: Attributes = field(default_factory=dict)  # on every resource
    kubernetes_node: str = ""
    kubernetes_labels: tuple[str, ...] = ()
    propagate: tuple[str, ...] = ()  # ways to carry trace contexts to other hosts
    ring_size: int = 8 << 20
    log_level: str = "info"
    environment: Mapping[str, str] = field(default_factory=dict)  # OTEL_*: the environment's over the file's


@dataclass(frozen=True, slots=True)
class Option:
    """One setting."""

    name: str  # field of Config; the flag is the same with dashes
    help: str
    parse: Callable[[str], Any]
    environment: tuple[str, ...]  # the first that is set counts
    file: str = ""  # dotted path in the file
    metavar: str = ""
    choices: tuple[str, ...] = ()
    flag: bool = True  # has a flag


def parse_duration(text: str) -> float:
    """`500ms`, `10s`, `1m`, or plain seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"{text!r} is not a duration: write 500ms, 10s or 1m")
    return float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}[found[2]]


def parse_request_logs(text: str) -> str:
    """`off`, `failed`, `all` or `slow=500ms`."""
    value = text.strip().lower()
    value = "off" if value == "false" else value  # YAML's off
    if value not in REQUEST_LOGS and not (value.startswith("slow=") and parse_duration(value[5:])):
        raise UsageError(f"{text!r} is not one of {', '.join(REQUEST_LOGS)}, slow=DURATION")
    return value


def logged_from(request_logs: str) -> float:
    """Seconds from which on a request is logged that has not failed."""
    if request_logs.startswith("slow="):
        return parse_duration(request_logs[5:])
    return 0.0 if request_logs == "all" else float("inf")


def parse_size(text: str) -> int:
    """`4MiB`, `512KiB` or bytes; for the ring: a power of two, as the kernel asks."""
    size = _bytes(text)
    if not MIN_RING <= size <= MAX_RING or size & (size - 1):
        raise UsageError(f"{text!r} is not a ring size: a power of two from 64KiB to 16MiB, such as 4MiB")
    return size


def parse_memory(text: str) -> int:
    """`64MiB`, `1GiB` or bytes."""
    size = _bytes(text)
    if not MIN_MEMORY <= size <= MAX_MEMORY:
        raise UsageError(f"{text!r} is not a size from 1MiB to 4GiB, such as 64MiB")
    return size


def _bytes(text: str) -> int:
    """0 if it is none."""
    found = re.fullmatch(r"(\d+)\s*(?:([KkMmGg])(?:i?B)?|B)?", text.strip())
    return int(found[1]) << {"k": 10, "m": 20, "g": 30, "": 0}[(found[2] or "").lower()] if found else 0


def parse_bool(text: str) -> bool:
    """`true` or `false`, in the usual spellings."""
    if text.strip().lower() in ("1", "true", "yes", "on"):
        return True
    if text.strip().lower() in ("0", "false", "no", "off", ""):
        return False
    raise UsageError(f"{text!r} is neither true nor false")


def number(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers."""

    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise UsageError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return parse


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise UsageError(f"{text!r} is not one of {', '.join(choices)}")
        return text.strip().lower()

    return parse


def _page_address(text: str) -> str:
    """As it was written, if it is one."""
    parse_address(text)
    return text.strip()


def parse_exports(text: str) -> tuple[str, ...]:
    """`otlp,prometheus`."""
    return tuple(dict.fromkeys(_one_of(EXPORTERS)(part) for part in text.split(",")))


def parse_propagations(text: str) -> tuple[str, ...]:
    """`headers,tcp`."""
    return tuple(dict.fromkeys(_one_of(PROPAGATIONS)(part) for part in text.split(",")))


def parse_attributes(text: str) -> dict[str, str]:
    """`key=value,key=value`, values percent-encoded, as OTEL_RESOURCE_ATTRIBUTES has them."""
    from urllib.parse import unquote  # noqa: PLC0415 - not needed by most commands

    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{part!r} is not an attribute: write key=value,key=value")
        found[key.strip()] = unquote(value.strip())
    return found


def parse_names(text: str) -> tuple[str, ...]:
    """`app,tier`."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def parse_probes(text: str) -> tuple[str, ...]:
    """`tls,routes`, or `none`."""
    return () if text.strip().lower() == "none" else tuple(map(_one_of(PROBES), text.split(",")))


_SAMPLERS = (
    "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio,"
    " keep_errors_slow"
)

OPTIONS: tuple[Option, ...] = (
    Option(
        "exports",
        "where to send what is seen: otlp, console, prometheus, ui, none (default: otlp if an"
        " OTEL_EXPORTER_OTLP_*ENDPOINT is set, else console and ui)",
        parse_exports,
        ("AUTOINSTR_EXPORT",),
        "export",
        metavar="NAME",
    ),
    Option(
        "format", "of the console: text or json", _one_of(FORMATS), ("AUTOINSTR_FORMAT",), "format", choices=FORMATS
    ),
    Option(
        "prometheus_host",
        "address that /metrics is served on (default: 127.0.0.1, this machine only)",
        str,
        ("AUTOINSTR_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_HOST"),
        "prometheus.host",
        metavar="ADDRESS",
    ),
    Option(
        "prometheus_port",
        "port that /metrics is served on (default: 9464); given, it adds the prometheus exporter",
        number(0, 65535),
        ("AUTOINSTR_PROMETHEUS_PORT", "OTEL_EXPORTER_PROMETHEUS_PORT"),
        "prometheus.port",
        metavar="PORT",
    ),
    Option(
        "ui",
        "serve the page that autoinstr brings itself, there (default: 127.0.0.1:8377, this machine only; elsewhere it"
        " asks for a token: AUTOINSTR_UI_TOKEN, or a new one)",
        _page_address,
        ("AUTOINSTR_UI",),
        "ui.address",
        metavar="ADDRESS",
    ),
    Option(
        "ui_memory",
        "for the spans and counts that the page shows, a day's at most (default: 8MiB)",
        parse_memory,
        ("AUTOINSTR_UI_MEMORY",),
        "ui.memory",
        metavar="SIZE",
    ),
    Option(
        "ui_store",
        "keep what the page shows in this folder too, so that a restart goes on with it (default: only in memory)",
        str,
        ("AUTOINSTR_UI_STORE",),
        "ui.store",
        metavar="DIR",
    ),
    Option(
        "ui_token",
        "that the page asks for (default: a new one, unless only this machine can connect)",
        str,
        ("AUTOINSTR_UI_TOKEN",),  # no flag: every user of the machine can see those
        "ui.token",
        flag=False,
    ),
    Option(
        "queries",
        "put query strings on spans, values of secret-looking keys redacted (default: off)",
        parse_bool,
        ("AUTOINSTR_QUERIES",),
        "queries",
    ),
    Option(
        "probes",
        f"groups of probes on functions of programs and libraries: {', '.join(PROBES)}, or none (default: all)",
        parse_probes,
        ("AUTOINSTR_PROBES",),
        "probes",
        metavar="GROUPS",
    ),
    Option(
        "sampler",
        f"which traces are kept: {_SAMPLERS} (default: parentbased_always_on)",
        str,
        ("AUTOINSTR_SAMPLER", "OTEL_TRACES_SAMPLER"),
        "sampler.name",
        metavar="NAME",
    ),
    Option(
        "sampler_arg",
        "a ratio such as 0.01; for keep_errors_slow: slow=500ms,ratio=0.01",
        str,
        ("AUTOINSTR_SAMPLER_ARG", "OTEL_TRACES_SAMPLER_ARG"),
        "sampler.arg",
        metavar="ARG",
    ),
    Option(
        "propagate",
        "carry trace contexts to other hosts: tcp (an option of TCP, between hosts of private networks that both run"
        " autoinstr), headers (a traceparent in plaintext requests of HTTP/1 and HTTP/2 that have none), go (the same"
        " in what Go's net/http and grpc-go ask, also inside TLS: writes to their memory); default: off",
        parse_propagations,
        ("AUTOINSTR_PROPAGATE",),
        "propagate",
        metavar="WAYS",
    ),
    Option(
        "request_logs",
        "one OTLP log record for each request: off, failed (the failed ones), slow=500ms (and those that took as long),"
        " all (default: off)",
        parse_request_logs,
        ("AUTOINSTR_REQUEST_LOGS",),
        "request_logs",
        metavar="WHICH",
    ),
    Option(
        "metric_interval",
        "time between two exports of metrics (default: 60s)",
        parse_duration,
        ("AUTOINSTR_METRIC_INTERVAL",),
        "metrics.interval",
        metavar="TIME",
    ),
    Option(
        "temporality",
        "of metrics over OTLP: cumulative, delta or lowmemory (default: cumulative)",
        _one_of(TEMPORALITIES),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",),
        "metrics.temporality",
        flag=False,
    ),
    Option(
        "histogram",
        f"of metrics over OTLP: {HISTOGRAMS[0]} (default) or {HISTOGRAMS[1]}",
        _one_of(HISTOGRAMS),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",),
        "metrics.histogram",
        flag=False,
    ),
    Option(
        "cardinality_limit",
        "series of one metric; the rest is counted in one overflow series (default: 2000)",
        number(1, 1_000_000),
        ("AUTOINSTR_CARDINALITY_LIMIT",),
        "metrics.cardinality_limit",
        metavar="N",
    ),
    Option(
        "old_rpc_names",
        "call the metric of gRPC rpc.server.duration, rpc.client.duration, as older conventions did (default: off)",
        parse_bool,
        ("AUTOINSTR_OLD_RPC_NAMES",),
        "metrics.old_rpc_names",
    ),
    Option(
        "service_name",
        "name of all targets, instead of the one found for each",
        str,
        ("AUTOINSTR_SERVICE_NAME", "OTEL_SERVICE_NAME"),
        "service_name",
        metavar="NAME",
    ),
    Option(
        "resource",
        "attributes on every resource: key=value,key=value",
        parse_attributes,
        ("OTEL_RESOURCE_ATTRIBUTES",),
        "resource",
        flag=False,
    ),
    Option(
        "kubernetes_node",
        "in a pod: put names of this node's pods on resources, by asking the API server",
        str.strip,
        ("AUTOINSTR_KUBERNETES_NODE",),
        "kubernetes.node",
        metavar="NAME",
    ),
    Option(
        "kubernetes_labels",
        "labels of pods that become k8s.pod.label.<label>, or * for all",
        parse_names,
        ("AUTOINSTR_KUBERNETES_LABELS",),
        "kubernetes.labels",
        metavar="LABELS",
    ),
    Option(
        "ring_size",
        "of the buffer between kernel and agent, a power of two (default: 8MiB)",
        parse_size,
        ("AUTOINSTR_RING_SIZE",),
        "ring_size",
        metavar="SIZE",
    ),
    Option(
        "log_level",
        "debug, info, warning or error (default: info)",
        _one_of(LOG_LEVELS),
        ("AUTOINSTR_LOG_LEVEL", "OTEL_LOG_LEVEL"),
        "log_level",
        choices=LOG_LEVELS,
    ),
)

# The selecting flags: name, environment variable, what separates several values in that variable (a port list keeps
# its commas; a command line may hold any), help.
SELECTING: tuple[tuple[str, str, str, str], ...] = (
    ("port", "AUTOINSTR_PORT", "", "that listen on one of these TCP ports: 8080,9000-9100"),
    ("exe", "AUTOINSTR_EXE", ",", "whose executable matches: '*/nginx'; without a slash the base name: 'python3*'"),
    ("cmd", "AUTOINSTR_CMD", "\n", "whose whole command line matches: '*shop.main:app*'"),
    ("pid", "AUTOINSTR_PID", ",", "with this process id, and its children"),
)
EXCLUDING = ("exclude_exe", "AUTOINSTR_EXCLUDE_EXE", ",", "never watch executables that match")


def checked(parse: Callable[[str], Any], text: str, where: str) -> Any:
    """Read a text; an error says where the text stood."""
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def make_selector(key: str, values: Sequence[str], origin: str, where: str) -> Selector:
    """A selector with one key."""
    if not all(value.strip() for value in values):
        raise UsageError(f"{where}: an empty value selects nothing")
    match key:
        case "port":
            ranges = tuple(one for value in values for one in checked(parse_ports, value, where))
            return Selector(origin, ports=ranges)
        case "pid":
            return Selector(origin, pid=tuple(checked(number(1, 1 << 22), value, where) for value in values))
        case "exe":
            return Selector(origin, exe=tuple(values))
        case _:
            return Selector(origin, cmd=tuple(values))
