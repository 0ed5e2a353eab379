"""The questions that page and terminal ask: see docs/api.md. Each answer is a plain object.

In: the store, what the agent says of itself, and a question's parameters as texts. Out: objects for JSON;
`WrongQuestion` if a parameter makes no sense. Changes nothing, reads nothing but the store.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from autoinstr.model import Group, Service, Traced
from autoinstr.store import Counted, Store, Wanted
from autoinstr.store.chunks import View
from autoinstr.store.counts import COARSE, FINE, FINE_KEPT, tally
from autoinstr.web.facts import Facts
from autoinstr.web.figures import Tables, Window, make_window
from autoinstr.web.topology import Listeners, topology

Parameters = Mapping[str, str]
Records = Callable[[Traced, list[Group], list[Service]], Iterable[dict[str, Any]]]

SETTLED = 1.0  # seconds after which an interval has been told in full
MINUTES = 15
MAX_MINUTES = 24 * 60
LIMIT, MAX_LIMIT = 100, 1000  # spans of an answer
SEARCH_WITHIN = 0.08  # seconds
FEW = 10  # slowest and failed requests of a service
LOOKED_UP_FOR = 5.0  # seconds
CHECKED_FOR, MEASURED_FOR = 60.0, 8.0  # seconds
HISTORY = 240  # readings of the agent's own figures


class WrongQuestion(ValueError):  # noqa: N818 - an answer to whoever asked
    """A parameter that makes no sense, in words."""


@dataclass(slots=True)
class Role:
    """What a service did, by the numbers of its series."""

    kind: str = "client"
    all: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    protocols: set[str] = field(default_factory=set)


IDLE = Role()


class Slow:
    """An answer that takes seconds to find, as of a moment ago at most."""

    def __init__(self, find: Callable[[], dict[str, Any]], good_for: float) -> None:
        self.lock = threading.Lock()
        self._find, self._good_for = find, good_for
        self._found: tuple[float, dict[str, Any]] | None = None

    def ask(self, asked: Parameters) -> dict[str, Any]:
        if self._found is None or time.monotonic() - self._found[0] > self._good_for:
            found = self._find()
            self._found = time.monotonic(), found
        return self._found[1]


class Api:
    """`inside`: what the agent says of itself; `records`: spans as plain objects; `ask_host`: what the host allows;
    `measure`: what probes are hit; `started`: when the agent did.
    """

    def __init__(
        self,
        store: Store,
        inside: Callable[[], dict[str, Any]],
        records: Records,
        ask_host: Callable[[], dict[str, Any]] = dict,
        *,
        measure: Callable[[], dict[str, Any]] = dict,
        started: float | None = None,
    ) -> None:
        self._store = store
        self._inside = inside
        self._ask_host = ask_host
        self._records = records
        self._facts = Facts(store)
        self._lock = threading.Lock()
        self.started = time.time() if started is None else started
        self._history: deque[tuple[int, float, float]] = deque(maxlen=HISTORY)
        self._known: tuple[object, Listeners] | None = None
        # what takes seconds: asked once in a while, under a lock of its own
        self._slow = {"check": Slow(ask_host, CHECKED_FOR), "probes": Slow(measure, MEASURED_FOR)}
        self.questions: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "services": self.services,
            "service": self.service,
            "map": self.map,
            "spans": self.spans,
            "trace": self.trace,
            "agent": self.agent,
            **{name: slow.ask for name, slow in self._slow.items()},
        }

    def ask(self, question: str, asked: Parameters) -> dict[str, Any]:
        """One at a time: many who ask cost no more memory than one."""
        with self._slow[question].lock if question in self._slow else self._lock:
            return self.questions[question](asked)

    def note(self, cpu_seconds: float, memory_bytes: float) -> None:
        """What the agent has cost until now, for its history."""
        self._history.append((int(time.time()), cpu_seconds, memory_bytes))

    # --- questions

    def services(self, asked: Parameters) -> dict[str, Any]:
        """One row a service."""
        facts, counted, window = self._counted(asked)
        own: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for target in self._inside()["targets"]:
            own[target["service"]].append(target)
        roles = self._roles(facts, counted)
        names = sorted({*roles, *own})
        number_of = {name: number for number, name in enumerate(names)}
        label = np.full(len(facts.all), -1, np.int32)
        for name, role in roles.items():
            label[role.told] = number_of[name]
        tables = Tables(counted, window, label, len(names), facts.failed)
        told = tables.figures()
        rows = [
            self._service(name, roles.get(name, IDLE), own[name], told[number]) | {"trend": tables.trend(number)}
            for number, name in enumerate(names)
        ]
        return {**window.told(), "services": rows}

    def service(self, asked: Parameters) -> dict[str, Any]:
        """Everything of one service."""
        facts, counted, window = self._counted(asked)
        name = asked.get("name", "")
        targets = self._inside()["targets"]
        own = [target for target in targets if target["service"] == name]
        if name not in facts.names and not own:
            raise WrongQuestion(f"name: there is no service {name!r}")
        graph = topology(counted, facts, targets, window.seconds, only=name)
        counted = counted.only(facts.where(service=name))
        role = self._roles(facts, counted).get(name, IDLE)
        told = np.zeros(len(facts.all), np.bool_)
        told[role.told] = True
        label = np.where(told, 0, -1).astype(np.int32)
        tables = Tables(counted, window, label, 1, facts.failed)
        slowest = Wanted(series=told, begin=window.begin * 10**6, slowest=True)
        failed = Wanted(series=told & facts.failed, begin=window.begin * 10**6)
        return {
            **window.told(),
            **self._service(name, role, own, tables.figures()[0]),
            "trend": tables.trend(0),
            "targets": own,
            "heat": tables.heat(0),
            "statuses": self._statuses(facts, counted, role),
            "routes": self._routes(facts, counted, role, window),
            "callers": [edge for edge in graph["edges"] if edge["to"] == name],
            "callees": [edge for edge in graph["edges"] if edge["from"] == name],
            "slowest": self._brief(facts, self._store.search(slowest, FEW, self._patience()).rows),
            "failed": self._brief(facts, self._store.search(failed, FEW, self._patience()).rows),
        }

    def map(self, asked: Parameters) -> dict[str, Any]:
        """Services and their calls."""
        facts, counted, window = self._counted(asked)
        return {**window.told(), **topology(counted, facts, self._inside()["targets"], window.seconds)}

    def spans(self, asked: Parameters) -> dict[str, Any]:
        """Requests that fulfil a wish."""
        facts = self._learned()
        texts = {name: asked.get(name) or None for name in ("service", "kind", "name", "to", "status")}
        failed = {"1": True, "0": False, "": None}.get(asked.get("failed", ""))
        some = facts.where(**texts, failed=failed) if failed is not None or any(texts.values()) else None
        wanted = Wanted(
            series=some,
            begin=int(number(asked, "begin", 0) * 10**6),
            end=int(number(asked, "end", 1 << 40) * 10**6),
            shortest=int(number(asked, "min", 0) * 1000),
            longest=int(number(asked, "max", 1 << 40) * 1000),
            text=asked.get("text", "").encode(errors="replace"),
            trace=trace_id(asked["trace"]) if asked.get("trace") else b"",
            after=int(number(asked, "after", -1)),
            before=int(number(asked, "before", 1 << 60)),
            slowest=asked.get("sort") == "slowest",
        )
        after = self._store.next - 1
        limit = int(min(max(number(asked, "limit", LIMIT), 1), MAX_LIMIT))
        found = self._store.search(wanted, limit, self._patience())
        return {
            "spans": self._brief(facts, found.rows),
            "last": after,
            "searched": found.searched,
            "services": sorted(facts.names),
        }

    def trace(self, asked: Parameters) -> dict[str, Any]:
        """All spans of one trace, in the order in which they began."""
        wanted = Wanted(trace=trace_id(asked.get("id", "")))
        facts = self._learned()
        rows = self._store.search(wanted, MAX_LIMIT, self._patience()).rows
        spans = self._brief(facts, rows, whole=True)
        return {"traceId": asked["id"].lower(), "spans": sorted(spans, key=lambda span: float(span["start"]))}

    def agent(self, asked: Parameters) -> dict[str, Any]:
        """What the agent costs, what it has lost, and how it is set."""
        size, spans = self._store.size()
        history = list(self._history)
        return {
            "time": time.time(),
            "started": self.started,
            **self._inside(),
            "store": {
                "bytes": size,
                "limit": self._store.limit,
                "spans": spans,
                "series": len(self._store.series),
            },
            "history": {
                "time": [at for at, _, _ in history[1:]],
                "cpu": [
                    round((cpu - before) / max(1, at - then), 5)
                    for (then, before, _), (at, cpu, _) in pairwise(history)
                ],
                "memory": [memory for _, _, memory in history[1:]],
            },
        }

    # --- parts

    def _learned(self) -> Facts:
        self._facts.learn()
        return self._facts

    def _listeners(self, facts: Facts) -> Listeners:
        """Who is behind an address, as of a moment ago."""
        state = len(facts.all), int(time.monotonic() / LOOKED_UP_FOR)
        if self._known is None or self._known[0] != state:
            self._known = state, Listeners(facts.all, self._inside()["targets"])
        return self._known[1]

    @staticmethod
    def _patience() -> Callable[[], bool]:
        end = time.monotonic() + SEARCH_WITHIN
        return lambda: time.monotonic() > end

    def _counted(self, asked: Parameters) -> tuple[Facts, Counted, Window]:
        """The counts of the last minutes, whole intervals of them that have been told in full."""
        minutes = number(asked, "minutes", MINUTES)
        if not 0 < minutes <= MAX_MINUTES:
            raise WrongQuestion(f"minutes: from 1 to {MAX_MINUTES}")
        now = time.time() - SETTLED
        since = min(self.started, self._store.since)
        width = FINE if min(minutes * 60, now - since) <= FINE_KEPT else COARSE
        end = int(now // width * width)
        # not before anything could be told, so that the first interval is there from the beginning, and stays
        begin = int(max(end - minutes * 60, since) // width * width)
        counted = self._store.counted(begin, max(end, begin + width))
        facts = self._learned()
        return facts, counted, make_window(counted.begin, counted.end, counted.width)

    @staticmethod
    def _roles(facts: Facts, counted: Counted) -> dict[str, Role]:
        """Of the services that did anything: what is told of each is what it served, or if it only calls, that."""
        found: dict[str, Role] = {}
        for series in counted.active().tolist():
            fact = facts.all[series]
            role = found.setdefault(fact.service, Role())
            role.all.append(series)
            role.protocols.add(fact.protocol)
            if fact.kind == "server":
                role.kind = "server"
        for role in found.values():
            role.told = [series for series in role.all if facts.all[series].kind == role.kind]
        return found

    @staticmethod
    def _service(name: str, role: Role, own: list[dict[str, Any]], figures: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "kind": role.kind if role.all else "idle",
            **figures,
            "language": next((one["language"] for one in own), ""),
            "pids": [one["pid"] for one in own],
            "ports": sorted({port for one in own for port in one["ports"]}),
            "libraries": sorted({library for one in own for library in one["libraries"]}),
            "captured": sorted(role.protocols),
            "unseen": sorted({reason for one in own for reason in one["unseen"]}),
        }

    @staticmethod
    def _statuses(facts: Facts, counted: Counted, role: Role) -> list[dict[str, Any]]:
        number_of: dict[tuple[str, bool], int] = {}
        label = np.full(len(facts.all), -1, np.int32)
        for series in role.told:
            fact = facts.all[series]
            label[series] = number_of.setdefault((fact.status, fact.failed), len(number_of))
        totals = tally(counted.pieces, label, len(number_of)).sum(axis=1)
        return [
            {"status": status, "failed": failed, "count": int(totals[number])}
            for (status, failed), number in sorted(number_of.items())
        ]

    def _routes(self, facts: Facts, counted: Counted, role: Role, window: Window) -> list[dict[str, Any]]:
        """A row for what is served under one name, or called under one name at one place; the busiest first."""
        number_of: dict[tuple[str, str, str], int] = {}
        statuses: defaultdict[int, set[str]] = defaultdict(set)
        label = np.full(len(facts.all), -1, np.int32)
        for series in role.all:
            fact = facts.all[series]
            label[series] = number_of.setdefault((fact.kind, fact.name, fact.to), len(number_of))
            statuses[int(label[series])].add(fact.status)
        whole = Window(window.begin, window.end, window.seconds)
        tables = Tables(counted, whole, label, len(number_of), facts.failed)
        peers = {fact.to: self._listeners(facts).service(fact) for fact in (facts.all[series] for series in role.all)}
        found = [
            {"kind": kind, "name": name, "to": to, "peer": peers[to], **told, "statuses": sorted(statuses[number])}
            for ((kind, name, to), number), told in zip(number_of.items(), tables.figures(), strict=True)
        ]
        return sorted(found, key=lambda one: -int(one["count"]))

    def _brief(self, facts: Facts, rows: list[tuple[View, int]], *, whole: bool = False) -> list[dict[str, Any]]:
        """Spans for JSON; `whole`: with attributes and resource."""
        if not rows:
            return []
        facts.learn()  # of spans that came a moment ago
        traced, groups, services = self._store.traced(rows)
        requests = traced.requests
        records = self._records(traced, groups, services)
        found = []
        for index, ((view, row), record) in enumerate(zip(rows, records, strict=True)):
            fact = facts.all[int(view.chunk.columns["series"][row])]
            size, at = int(requests.text_size[index]), int(requests.text_at[index])
            span = {
                "sequence": view.chunk.first + row,
                **{name: record[name] for name in ("traceId", "spanId", "parentSpanId", "kind", "name")},
                "service": fact.service,
                "to": fact.to,
                "peer": self._listeners(facts).service(fact),
                "status": fact.status,
                "failed": fact.failed,
                "start": record["startTimeUnixNano"] / 1e6,
                "duration": round((record["endTimeUnixNano"] - record["startTimeUnixNano"]) / 1e6, 3),
                "text": requests.text[at : at + size].tobytes().decode(errors="replace"),
            }
            if whole:
                span |= {"attributes": record["attributes"], "resource": record["resource"]}
            found.append(span)
        return found


def number(asked: Parameters, name: str, default: float) -> float:
    text = asked.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1 << 62:  # not a number, or beyond all
        raise WrongQuestion(f"{name}: {text!r} is not a number")
    return value


def trace_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise WrongQuestion(f"{text!r} is not a trace id: 32 hex digits")
    return raw
