"""The demo's picture: rate, errors and duration per route, from what the agent's Prometheus endpoint says.

In: two readings of /metrics, as text. Out: rows, and a table of them. Never talks to anybody.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
WIDTH = 40  # characters of a whole trace
DURATION = re.compile(r"http_(server|client)_request_duration_seconds_(bucket|count)")


class Key(NamedTuple):
    """What one row of the table is about."""

    service: str
    kind: str
    method: str
    route: str


@dataclass
class Totals:
    """Sums since the agent started. `buckets`: how many requests took at most so many seconds."""

    count: float = 0
    errors: float = 0
    statuses: set[str] = field(default_factory=set)
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))

    def since(self, earlier: Totals) -> Totals:
        """What came on top of an earlier reading."""
        return Totals(
            self.count - earlier.count,
            self.errors - earlier.errors,
            self.statuses,
            {bound: n - earlier.buckets[bound] for bound, n in self.buckets.items()},
        )

    def quantile(self, q: float) -> float | None:
        """Duration that a share q of the requests stayed below, interpolated within its bucket."""
        rank, below, low = q * self.count, 0.0, 0.0
        for bound, n in sorted(self.buckets.items()):
            if n >= rank and n > below:
                return low if bound == float("inf") else low + (bound - low) * (rank - below) / (n - below)
            low, below = bound, n
        return None


@dataclass
class Reading:
    """One answer of /metrics: totals by row, requests served by port, and what the agent says it has lost."""

    totals: dict[Key, Totals] = field(default_factory=lambda: defaultdict(Totals))
    served: Counter[int] = field(default_factory=Counter)
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return int(sum(totals.count for totals in self.totals.values()))


def read(text: str) -> Reading:
    """The durations of HTTP requests in a page of metrics, and losses; all else is passed over."""
    reading = Reading()
    for sample in SAMPLE.finditer(text):
        family = DURATION.fullmatch(sample["name"])
        labels, value = dict(LABEL.findall(sample["labels"])), float(sample["value"])
        if family:
            _add(reading, family[1], family[2], labels, value)
        elif sample["name"] == "autoinstr_lost_total" and value:
            reading.lost[labels["loss"]] = int(value)
    return reading


def _add(reading: Reading, kind: str, part: str, labels: dict[str, str], value: float) -> None:
    key = Key(labels["job"], kind, labels.get("http_request_method", "?"), _route(kind, labels))
    totals = reading.totals[key]
    if part == "bucket":
        totals.buckets[float(labels["le"])] += value
        return
    totals.count += value
    totals.statuses.add(labels.get("http_response_status_code") or labels.get("error_type", "?"))
    totals.errors += value if "error_type" in labels else 0
    if kind == "server" and "server_port" in labels:
        reading.served[int(labels["server_port"])] += int(value)


def _route(kind: str, labels: dict[str, str]) -> str:
    """A server's route; of a client, whom it called."""
    if kind == "client":
        return f"→{labels.get('server_address', '?')}:{labels.get('server_port', '?')}"
    return labels.get("http_route", "(any)")  # counted by the kernel only, or beyond the cardinality limit


def table(now: Reading, before: Reading, seconds: float, rows: int, caption: str) -> Table:
    """What happened between two readings, at most so many rows, the busiest ones."""
    recent = {key: totals.since(before.totals[key]) for key, totals in now.totals.items()}
    busiest = sorted(recent, key=lambda key: -recent[key].count)[:rows]
    picture = Table(caption=caption, header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for title in ("service", "kind", "method"):
        picture.add_column(title, no_wrap=True)
    picture.add_column("route", overflow="ellipsis", min_width=12)  # these two give way on a narrow terminal
    picture.add_column("status", overflow="ellipsis", min_width=7)
    for title in ("rate", "errors", "p50", "p95", "p99"):
        picture.add_column(title, justify="right", no_wrap=True, min_width=5)
    last = ""
    for key in sorted(busiest):
        if last and key.service != last:
            picture.add_section()
        picture.add_row(*_cells(key, recent[key], seconds, first=key.service != last))
        last = key.service
    return picture


def _cells(key: Key, recent: Totals, seconds: float, *, first: bool) -> list[str]:
    def milliseconds(q: float) -> str:
        value = recent.quantile(q)
        return "-" if value is None else f"{value * 1000:.1f}"

    share = recent.errors / recent.count if recent.count else 0
    errors = f"[red]{share:.1%}[/red]" if share else "-"
    service = f"[bold cyan]{key.service}[/bold cyan]" if first else ""
    rate = f"{recent.count / seconds:.1f}"
    statuses = " ".join(sorted(recent.statuses))
    return [service, key.kind, key.method, key.route, statuses, rate, errors, *map(milliseconds, (0.5, 0.95, 0.99))]


def trace(spans: list[dict[str, Any]]) -> Table:
    """One request through its services: spans as the page's API tells them, each below its parent, over time."""
    begin = min(span["start"] for span in spans)
    whole = max(span["start"] + span["duration"] for span in spans) - begin or 1
    services = len({span["service"] for span in spans})
    title = f"one request, through {services} services"
    picture = Table(title=title, header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_header=False)
    picture.add_column("what", overflow="ellipsis", no_wrap=True)
    picture.add_column("when", min_width=WIDTH, no_wrap=True)
    picture.add_column("took", justify="right", no_wrap=True)
    for span, depth in _below("", spans, 0):
        left = round(WIDTH * (span["start"] - begin) / whole)
        long = max(1, min(WIDTH - left, round(WIDTH * span["duration"] / whole)))
        what = Text("  " * depth).append(span["service"], "bold cyan").append(f" {span['name']}")
        if span["kind"] == "client":
            what = Text("  " * depth).append(span["service"], "cyan").append(f" calls {span['peer'] or span['to']}")
        bar = Text(" " * left + "━" * long, "green" if span["kind"] == "server" else "dim")
        picture.add_row(what, bar, f"{span['duration']:.2f} ms")
    return picture


def _below(parent: str, spans: list[dict[str, Any]], depth: int) -> list[tuple[dict[str, Any], int]]:
    """Those of a parent, or at the top those whose parent is not here, with all that is below them."""
    ids = {span["spanId"] for span in spans}
    own = [span for span in spans if (span["parentSpanId"] if span["parentSpanId"] in ids else "") == parent]
    return [pair for span in own for pair in ((span, depth), *_below(span["spanId"], spans, depth + 1))]
