"""One cell of the matrix: what came of it, and how it reads. No colour, and no layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FINE_BELOW = 100.0  # microseconds, 99th percentile
COMPLAINTS = 12  # of each cell are kept
COLUMNS = ("requests", "seen", "double", "invented", "wrong", "peer", "metrics", "parent", "off p50", "p99", "window")
"""Heads of what `figures` gives."""


@dataclass
class Cell:
    """What came of one row, transport and shape. `reason`: why it could not be run."""

    row: str
    kind: str
    transport: str
    shape: str
    reason: str = ""
    broken: bool = False  # of that: the machinery or the program failed
    requests: int = 0
    optional: int = 0
    seen: int = 0  # exactly once
    missing: int = 0
    duplicated: int = 0
    invented: int = 0
    wrong: int = 0  # method, path, status, sizes, error.type
    wrong_peer: int = 0  # kind, addresses, ports
    traced: int = 0  # came with a traceparent
    right_parent: int = 0
    metrics_equal: bool = False
    error_p50: float | None = None  # microseconds
    error_p99: float | None = None
    window_p50: float | None = None
    lost: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    @property
    def ran(self) -> bool:
        return not self.reason

    @property
    def right(self) -> bool:
        """Nothing missing, invented or wrong."""
        wrong = (self.missing, self.duplicated, self.invented, self.wrong, self.wrong_peer)
        return self.ran and not any(wrong) and self.metrics_equal and self.right_parent == self.traced

    @property
    def in_time(self) -> bool:
        return self.error_p99 is None or self.error_p99 < FINE_BELOW

    def complain(self, text: str) -> None:
        if len(self.complaints) < COMPLAINTS:
            self.complaints.append(text)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "right": self.right, "in_time": self.in_time}


def state(cell: Cell) -> str:
    if not cell.ran:
        return "wrong" if cell.broken else "not run"
    if not cell.right:
        return "wrong"
    return "right" if cell.in_time else "late"


def short(cell: Cell) -> str:
    """A cell in a few characters, readable without its colour."""
    if not cell.ran:
        return "broken" if cell.broken else "-"
    if cell.right:
        return percent(cell) if cell.in_time else f"{cell.error_p99:.0f} us off"
    names = {
        "missing": "missing",
        "duplicated": "double",
        "invented": "invented",
        "wrong": "wrong",
        "wrong_peer": "peer",
    }
    found = [f"{getattr(cell, name)} {text}" for name, text in names.items() if getattr(cell, name)]
    return found[0] if found else "metrics" if not cell.metrics_equal else "parent"


def percent(cell: Cell) -> str:
    must = cell.requests - cell.optional
    return "100 %" if must else "0 due"


def figures(cells: Sequence[Cell]) -> list[str]:
    def total(name: str) -> int:
        return sum(getattr(cell, name) for cell in cells)

    def worst(name: str) -> str:
        values = [value for cell in cells if (value := getattr(cell, name)) is not None]
        return f"{max(values):.0f}" if values else "-"

    must = total("requests") - total("optional")
    windows = [cell.window_p50 for cell in cells if cell.window_p50 is not None]
    return [
        f"{total('requests'):,}",
        f"{100 * (1 - (total('missing') + total('duplicated')) / must):.6g} %" if must else "-",
        *(f"{total(name)}" for name in ("duplicated", "invented", "wrong", "wrong_peer")),
        "equal" if all(cell.metrics_equal for cell in cells) else "differ",
        f"{100 * total('right_parent') / total('traced'):.4g} %" if total("traced") else "-",
        *(worst(name) for name in ("error_p50", "error_p99")),
        f"{min(windows):.0f}" if windows else "-",
    ]


def headline(summary: dict[str, Any]) -> str:
    return (
        f"{summary['right']} of {summary['ran']} cells right ({summary['cells'] - summary['ran']} could not run); "
        f"{summary['requests']:,} requests: {summary['missing']} missing, {summary['duplicated']} double, "
        f"{summary['invented']} invented, {summary['wrong'] + summary['wrong_peer']} wrong"
    )
