"""Who calls whom: services as nodes, calls as edges, from what clients told and from who listens where.

In: counts, facts, and the ports on which targets listen. Out: nodes and edges. A call is counted once, on the side of
its client; what servers told beyond that came from outside, from programs that are not watched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from autoinstr.address import is_loopback
from autoinstr.store import Counted
from autoinstr.store.counts import tally
from autoinstr.store.durations import BUCKETS
from autoinstr.web.facts import Fact, Facts
from autoinstr.web.figures import figures

OUTSIDE, NOBODY = "outside", ""
# Calls that are under way when a span of time begins or ends are told by one side only.
SLACK = 0.02


class Listeners:
    """Which service is behind an address."""

    def __init__(self, facts: Iterable[Fact], targets: Iterable[dict[str, Any]]) -> None:
        self._exact: dict[tuple[str, int], str] = {}
        self._by_port: defaultdict[int, set[str]] = defaultdict(set)
        self._local: set[str] = set()
        for fact in facts:
            if fact.kind == "server" and fact.address:
                self._exact[fact.address, fact.port] = fact.service
                self._local.add(fact.address)
        for target in targets:
            for port in target["ports"]:
                self._by_port[port].add(target["service"])

    def service(self, fact: Fact) -> str:
        """Whom this client called; empty: nobody that is watched, or a server."""
        if fact.kind == "server":
            return NOBODY
        if fact.peer:
            return fact.peer
        if found := self._exact.get((fact.address, fact.port)):
            return found
        if fact.address and (fact.address in self._local or is_loopback(fact.address)):
            names = self._by_port.get(fact.port, set())
            return next(iter(names)) if len(names) == 1 else ""
        return ""


def topology(
    counted: Counted, facts: Facts, targets: list[dict[str, Any]], seconds: int, only: str = ""
) -> dict[str, Any]:
    """Nodes and edges of a span of time. `only`: a service, of which all is told; not all of the others."""
    listeners = Listeners(facts.all, targets)
    number_of: dict[tuple[str, str], int] = {}  # of a call; what a service served is a call by nobody
    label = np.full(len(facts.all), -1, np.int32)
    external: set[str] = set()
    for series in counted.active().tolist():
        fact = facts.all[series]
        if only and fact.kind == "server" and fact.service != only:
            continue
        to = fact.service if fact.kind == "server" else listeners.service(fact)
        if not to:
            to = fact.to
            external.add(to)
        pair = (NOBODY if fact.kind == "server" else fact.service, to)
        label[series] = number_of.setdefault(pair, len(number_of))
    doubled = np.where(label < 0, -1, label * 2 + facts.failed).astype(np.int32)
    tallies = tally(counted.pieces, doubled, 2 * len(number_of)).reshape(-1, 2, BUCKETS)
    calls: dict[Any, Any] = {}
    served: dict[Any, Any] = {}  # service -> counts of all that it served, and how many failed
    for pair, number in number_of.items():
        entry = [tallies[number].sum(axis=0), float(tallies[number, 1].sum())]
        if pair[0] == NOBODY:
            served[pair[1]] = entry
        else:
            calls[pair] = entry
    for name, (counts, errors) in served.items():
        known = [pair for pair in calls if pair[1] == name]
        rest = np.maximum(counts - sum((calls[pair][0] for pair in known), np.zeros(BUCKETS)), 0)
        beyond = counts.sum() - sum(calls[pair][0].sum() for pair in known)
        if beyond > max(1.0, SLACK * counts.sum()):
            # Each bucket's rest may be off where client and server disagree on a duration; their sum must not be.
            scaled = rest * (beyond / rest.sum())
            calls[OUTSIDE, name] = [scaled, max(0.0, errors - sum(calls[pair][1] for pair in known))]
    names = {*served, *(name for pair in calls for name in pair)}
    own = {*served, *(pair[0] for pair in calls if pair[0] != OUTSIDE)}
    ordered, pairs = sorted(names), sorted(calls)
    none = (np.zeros(BUCKETS), 0.0)
    of_nodes = told([served.get(name, none) for name in ordered], seconds)
    of_edges = told([calls[pair] for pair in pairs], seconds)

    def kind(name: str) -> str:
        return OUTSIDE if name == OUTSIDE else "service" if name in own or name not in external else "external"

    return {
        "nodes": [{"id": name, "kind": kind(name), **one} for name, one in zip(ordered, of_nodes, strict=True)],
        "edges": [{"from": pair[0], "to": pair[1], **one} for pair, one in zip(pairs, of_edges, strict=True)],
    }


def told(rows: list[Any], seconds: int) -> list[dict[str, Any]]:
    """Figures of pairs of counts and errors."""
    counts = np.array([counts for counts, _ in rows]).reshape(-1, BUCKETS)
    return figures(counts, np.array([errors for _, errors in rows]), seconds)
