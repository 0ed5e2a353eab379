"""What is told of parents, held against the truth, one to one.

In: what the hops of `hops` have logged, and the agent's spans. Out: `Join`s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from truth import CLIENT, SERVER, kind_of, path_of

COMPLAINTS = 5  # of each are kept
BACKGROUND, SERVED = "background", "served"
NO_ONE = "-"


@dataclass(frozen=True)
class Log:
    """What a hop has logged: (served, made); and the ways that it knows."""

    hop: str
    pairs: Collection[tuple[str, str]]
    ways: Collection[str] = ()

    def way(self, served: str) -> str:
        if served == NO_ONE:
            return BACKGROUND
        first = served.split("/")[1]
        return first if first in self.ways else "plain"


@dataclass
class Join:
    """Parents of one hop's client spans, of one way, or of its server spans (SERVED) whose caller is watched, too."""

    hop: str
    way: str
    spans: int = 0
    right: int = 0
    none: int = 0
    wrong: int = 0
    missing: int = 0  # the span, or its parent's
    least: float = 0.0  # share that must be right
    complaints: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing missing, nothing wrong, and as much joined as should be."""
        return not self.wrong and not self.missing and self.right >= self.least * self.spans

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "good": self.good}

    def add(self, span: dict[str, Any] | None, parent: dict[str, Any] | None, root: bool) -> None:
        """`root`: it has no parent."""
        if not span or not (parent or root):
            self.missing += 1
            return
        self.spans += 1
        told = span["parentSpanId"]
        if parent and told == parent["spanId"] and span["traceId"] == parent["traceId"]:
            self.right += 1
        elif not told:
            self.right += root
            self.none += not root
        else:
            self.wrong += 1
            if len(self.complaints) < COMPLAINTS:
                name = path_of(parent) if parent else "none"
                self.complaints.append(f"parent of {kind_of(span)} {path_of(span)} is not {name}, but {told}")


def joins(logs: Iterable[Log], spans: Iterable[dict[str, Any]]) -> list[Join]:
    told = {(kind_of(span), path_of(span)): span for span in spans}
    by_id = {span["spanId"]: span for span in told.values()}
    found: dict[tuple[str, str], Join] = {}

    def join(hop: str, way: str) -> Join:
        return found.setdefault((hop, way), Join(hop, way))

    hops, callers = {}, {}
    for log in logs:
        hops |= dict.fromkeys((served for served, _ in log.pairs), log.hop)
        callers |= dict.fromkeys((made for _, made in log.pairs), log.hop)
        for served, made in log.pairs:
            way = log.way(served)
            if way == BACKGROUND and (CLIENT, made) not in told:
                del callers[made]  # before the agent's time, or after it
                continue
            join(log.hop, way).add(told.get((CLIENT, made)), told.get((SERVER, served)), way == BACKGROUND)
    for made, caller in callers.items():
        server = told.get((SERVER, made))
        name = hops.get(made) or f"behind {caller}"
        join(name, SERVED).add(server, told.get((CLIENT, made)), False)
    for one in found.values():
        one.complaints = [named(text, by_id) for text in one.complaints]
    return list(found.values())


def named(complaint: str, by_id: dict[str, dict[str, Any]]) -> str:
    """With the path of the span instead of its id, if it is one that was told."""
    text, _, told = complaint.rpartition(" ")
    return f"{text} {path_of(by_id[told])}" if told in by_id else complaint


HEADS = ("service", "requests", "spans", "right", "no parent", "wrong", "missing", "at least")


def texts(join: Join) -> tuple[str, ...]:
    share = f"{100 * join.right / join.spans:.4g} %" if join.spans else "-"
    counts = (f"{count:,}" for count in (join.none, join.wrong, join.missing))
    return join.hop, join.way, f"{join.spans:,}", share, *counts, f"{100 * join.least:g} %"
