"""One cell of the matrix: the truth held against what was told, one to one.

In: the truth (`Made`), spans, counts of the metrics. Out: a `Cell`, numbers and complaints that people can read.

A request that is `optional` may be missing (its connection ended too early for anyone to know whether the server read
it); if it is told, it must be told rightly, and once. The error of a duration is how far a span's beginning or end lies
outside of what is possible (see `generator`); its window is how far apart these bounds are: what the truth can't tell.
For clients, bounds are the peer's clock (first byte read, last byte about to be sent) and the client's own clock around
its call.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import Any

from cells import Cell
from generator import Made
from shapes import SHAPES
from truth import ECHO, SERVER, Expected, differences, kind_of, path_of

LATE = {shape.name for shape in SHAPES if shape.late}
Names = Sequence[str]  # how complaints begin
ONLY_TRACE = ("trace is", "server.address")
NAMES = ("rpc.service", "rpc.method", *ONLY_TRACE)
NAMED = ("grpc-go",)  # whose methods are known on older connections, too
PEER = ("server.address", "server.port", "client.port", "network.peer.port")


def compare(cell: Cell, made: Collection[Made], spans: Sequence[dict[str, Any]], counts: Counter[Any]) -> Cell:
    """Fills the cell. `spans`: all that were told of it, or of nothing known while it ran."""
    told = defaultdict(list)
    for span in spans:
        told[path_of(span)].append(span)
    due = defaultdict(list)
    for one in made:
        due[one.expected.path].append(one)
    offset = time.time_ns() - time.monotonic_ns()
    errors: list[float] = []
    windows: list[float] = []
    nameless = assign_nameless(made, told, late=cell.shape in LATE)
    unnamed = sum(names is NAMES for names in nameless.values())
    if unnamed and cell.row in NAMED:
        cell.wrong += unnamed
        cell.complain(f"wrong: {unnamed} calls are told without their method, which the library knows")
    for path, ones in due.items():
        for one, span in pair(cell, ones, told.pop(path, [])):
            judge(cell, one.expected, span, unknown=nameless.get(span["spanId"], ()))
            if bounds := error_of(one, span, offset):
                errors.append(bounds[0])
                windows.append(bounds[1])
    for path, strange in told.items():
        cell.invented += len(strange)
        cell.complain(f"invented: {kind_of(strange[0])} {path!r} x {len(strange)}: {strange[0]['attributes']}")
    if errors:
        cell.error_p50, cell.error_p99 = (at(errors, share) for share in (0.5, 0.99))
        cell.window_p50 = at(windows, 0.5)
    if not cell.in_time:
        cell.complain(f"durations are off by {cell.error_p50:.0f} us (p50), {cell.error_p99:.0f} us (p99)")
    wrong = wrong_counts([one.expected for one in made], counts, late=cell.shape in LATE)
    cell.metrics_equal = not wrong
    for text in wrong:
        cell.complain(text)
    return cell


def at(values: Sequence[float], share: float) -> float:
    """The percentile, no value of its own making: of few values, the 99th is the largest."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def pair(cell: Cell, ones: list[Made], spans: list[dict[str, Any]]) -> list[tuple[Made, dict[str, Any]]]:
    """Which span tells of which request, all of one path: by kind, those that failed first, in order of time. A server
    can't tell in which order a client has made attempts over several connections; it is the last one that it answers.
    """
    pairs = []
    for kind in {one.expected.kind for one in ones} | {kind_of(span) for span in spans}:
        mine = sorted((one for one in ones if one.expected.kind == kind), key=lambda one: not one.expected.errors)
        failures = {error for one in mine for error in one.expected.errors}
        known = sorted(
            (span for span in spans if kind_of(span) == kind),
            key=lambda span: (span["attributes"].get("error.type") not in failures, span["startTimeUnixNano"]),
        )
        optional = sum(one.expected.optional for one in mine)
        cell.requests += len(mine)
        cell.optional += optional
        name = f"{kind} {ones[0].expected.method} {ones[0].expected.path}"
        missing, more = len(mine) - optional - len(known), len(known) - len(mine)
        if missing > 0:
            cell.missing += missing
            cell.complain(f"missing: {name}")
        if more > 0 and not mine:
            cell.wrong_peer += more
            cell.complain(f"wrong kind: {name}")
        elif more > 0:
            cell.duplicated += more
            cell.complain(f"told {len(known)} times: {name}")
        elif len(mine) == 1 or missing <= 0:
            cell.seen += len(known)
        # those that must be told first: where fewer are told than were made, it is the others that are missing
        due = sorted(mine, key=lambda one: one.expected.optional)[: len(known)]
        pairs += zip(sorted(due, key=mine.index), known, strict=False)
    return pairs


def assign_nameless(made: Collection[Made], told: dict[str, list[dict[str, Any]]], *, late: bool) -> dict[str, Names]:
    """A connection of HTTP/2 that is older than the agent has names in its table that nobody else knows. Spans without
    path or method are of the requests of their connection, in order of time; and so are, if the agent was `late`, those
    that have them and not their trace, by which RPCs are told apart. By id, what is not to be known of them."""
    known = {one.expected.path for one in made}
    spans = [
        span
        for path in list(told)
        if not path.startswith("/")
        or "/_OTHER" in path
        or (late and path.startswith(f"/{ECHO}/") and path not in known)
        for span in told.pop(path)
    ]
    of_ends = defaultdict(list)
    for span in sorted(spans, key=lambda span: span["startTimeUnixNano"]):
        port = span["attributes"].get("client.port" if kind_of(span) == SERVER else "network.peer.port")
        of_ends[kind_of(span), port].append(span)
    unknown = {}
    for (kind, port), mine in of_ends.items():
        due = [one.expected for one in made if one.expected.path not in told]
        due = [truth for truth in due if (truth.kind, truth.peer_port) == (kind, port)]
        # where fewer are told than were made, it is those that may be missing that are
        left_out = [truth for truth in due if truth.optional][: max(len(due) - len(mine), 0)]
        due = [truth for truth in due if truth not in left_out]
        for span, own in zip_longest(mine, due[: len(mine)]):
            path = path_of(span)
            if own:
                unknown[span["spanId"]] = ONLY_TRACE if path.startswith(f"/{ECHO}/") and "_OTHER" not in path else NAMES
            told[own.path if own else path].append(span)
    return unknown


def judge(cell: Cell, truth: Expected, span: dict[str, Any], *, unknown: Names = ()) -> None:
    complaints = [text for text in differences(truth, span) if not text.startswith(tuple(unknown))]
    parents = [text for text in complaints if text.startswith("trace is")]
    peers = [text for text in complaints if text.startswith(PEER)]
    cell.traced += bool(truth.trace)
    cell.right_parent += bool(truth.trace) and not parents
    cell.wrong_peer += bool(peers)
    cell.wrong += len(complaints) > len(parents) + len(peers)
    for text in complaints:
        cell.complain(f"wrong: {truth.kind} {truth.method} {truth.path}: {text}")


def error_of(one: Made, span: dict[str, Any], offset: int) -> tuple[float, float] | None:
    """Microseconds outside of what is possible, and between the bounds; None: nothing is known of its times."""
    begin, end = (int(span[name]) - offset for name in ("startTimeUnixNano", "endTimeUnixNano"))
    outside, window = [0], []
    if one.inner:
        outside += [begin - one.inner[0], one.inner[1] - end]
    if one.outer:
        outside += [one.outer[0] - begin, end - one.outer[1]]
        window = [one.outer[1] - one.outer[0]]
    if one.at_most is not None:
        outside.append(end - begin - one.at_most)
        window = [one.at_most]
    if not window:
        return None
    if one.inner:
        window[0] -= one.inner[1] - one.inner[0]
    return max(outside) / 1000, window[0] / 1000


def counted_method(truth: Expected) -> str:
    return truth.path.split("/")[2] if truth.rpc else truth.method


def wrong_counts(truth: Collection[Expected], counts: Counter[Any], *, late: bool = False) -> list[str]:
    """What the metrics counted, against what was made: equal, but for what is optional or has no certain status, and,
    if the agent was `late`, for methods that are not to be known."""
    complaints = []
    if late:
        for kind, method, status in [key for key in counts if key[1] in {"", "_OTHER"}]:
            due = Counter(counted_method(t) for t in truth if (t.kind, t.status, t.optional) == (kind, status, False))
            for known, most in due.items():
                some = min(max(most - counts[kind, known, status], 0), counts[kind, method, status])
                counts = counts - Counter({(kind, method, status): some}) + Counter({(kind, known, status): some})
    for kind in {one.kind for one in truth} | {key[0] for key in counts}:
        mine = [one for one in truth if one.kind == kind]
        certain = Counter((kind, counted_method(t), t.status) for t in mine if t.status is not None and not t.optional)
        due, most = sum(not t.optional for t in mine), len(mine)
        own = Counter({key: count for key, count in counts.items() if key[0] == kind})
        complaints += [
            f"metrics: {' '.join(map(str, key))} was counted {own[key]} times, not {count}"
            for key, count in certain.items()
            if own[key] < count
        ]
        if not due <= own.total() <= most:
            known = f"{due}" if due == most else f"{due} to {most}"
            complaints.append(f"metrics: {own.total()} {kind} requests were counted, not {known}")
        if certain.total() == most and own - certain and own.total() == most:
            complaints.append(f"metrics: counted as {dict(own - certain)} what was {dict(certain - own)}")
    return complaints
