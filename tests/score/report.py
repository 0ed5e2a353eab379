"""The matrix as a table on the terminal and as score.json; `page` has the page and the picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import page
from cells import COLUMNS, Cell, figures, headline, short, state
from chain import Trial
from joins import HEADS, texts
from rich.console import Console
from rich.table import Table

STYLES = {"right": "green", "late": "yellow", "wrong": "bold red", "not run": "dim"}
"""How a cell stands, in this order of preference: all right; right but for durations; wrong; not run."""


@dataclass
class Score:
    cells: list[Cell]
    shapes: Sequence[str]
    seconds: float
    trials: Sequence[Trial] = ()

    @property
    def right(self) -> bool:
        ran = [cell for cell in self.cells if cell.ran]
        cells = all(cell.right for cell in ran) and not any(cell.broken for cell in self.cells)
        return bool(ran or self.trials) and cells and all(trial.good for trial in self.trials)

    @property
    def rows(self) -> dict[tuple[str, str, str], dict[str, Cell]]:
        """Cells by shape, by (kind, row, transport)."""
        rows: dict[tuple[str, str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            rows.setdefault((cell.kind, cell.row, cell.transport), {})[cell.shape] = cell
        return rows

    def summary(self) -> dict[str, Any]:
        ran = [cell for cell in self.cells if cell.ran]
        must = sum(cell.requests - cell.optional for cell in ran)
        names = ("requests", "optional", "missing", "duplicated", "invented", "wrong", "wrong_peer")
        return {
            "cells": len(self.cells),
            "ran": len(ran),
            "broken": sum(cell.broken for cell in self.cells),
            "right": sum(cell.right for cell in ran),
            "in_time": sum(cell.right and cell.in_time for cell in ran),
            **{name: sum(getattr(cell, name) for cell in ran) for name in names},
            "seen_percent": 100 * (1 - sum(cell.missing + cell.duplicated for cell in ran) / must) if must else None,
            "traced": sum(cell.traced for cell in ran),
            "right_parent": sum(cell.right_parent for cell in ran),
            "metrics_equal": sum(cell.metrics_equal for cell in ran),
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "summary": self.summary(),
            "cells": [cell.as_json() for cell in self.cells],
            "traces": [trial.as_json() for trial in self.trials],
        }

    def show(self) -> None:
        console = Console(width=None if os.isatty(1) else 200)
        if self.cells:
            console.print(self._matrix())
            console.print(self._figures())
        for cell in self.cells:
            if cell.complaints or cell.reason:
                title = f"{cell.kind} {cell.row} {cell.transport} {cell.shape}"
                console.print(f"[{STYLES[state(cell)]}]{title}[/]: {state(cell)}", highlight=False)
                for text in [cell.reason] if cell.reason else cell.complaints:
                    console.print(f"    {text}", markup=False, highlight=False, soft_wrap=True)
                if cell.lost:
                    console.print(f"    said to be lost: {cell.lost}", markup=False, highlight=False)
        if self.cells:
            console.print(headline(self.summary()), highlight=False)
        if self.trials:
            self._show_traces(console)

    def _show_traces(self, console: Console) -> None:
        table = Table("", *HEADS, title="Parents: what requests are made for, and who asks servers")
        for trial in self.trials:
            for join in trial.joins:
                style = STYLES["right" if join.good else "wrong"]
                table.add_row(trial.name, *(f"[{style}]{text}[/]" for text in texts(join)))
        console.print(table)
        for trial in self.trials:
            told = [trial.reason, *(text for join in trial.joins for text in join.complaints)]
            if lost := {name: count for name, count in trial.lost.items() if count}:
                told.append(f"said to be lost: {lost}")
            told.append(f"without a parent, by the reason that was told: {trial.orphans}")
            if trial.uncounted:
                told.append(f"and {trial.uncounted} more, of which no reason was told")
            about = f"{trial.name}: {'good' if trial.good else 'not good'}, {trial.rate:.0f} requests/s"
            about += f" of {trial.asked:.0f}" if trial.asked else ""
            about += f", {1000 * trial.cpu:.2f} ms of CPU each in all services"
            console.print(about, *filter(None, told), sep="\n    ", markup=False, highlight=False, soft_wrap=True)

    def _matrix(self) -> Table:
        table = Table("", "", "", *self.shapes, title="Requests told exactly once, and rightly")
        for (kind, row, transport), cells in self.rows.items():
            texts = [cells.get(shape) for shape in self.shapes]
            table.add_row(kind, row, transport, *(f"[{STYLES[state(c)]}]{short(c)}[/]" if c else "" for c in texts))
        return table

    def _figures(self) -> Table:
        table = Table(
            "",
            "",
            "",
            *COLUMNS,
            title="All shapes of a row; times in microseconds: of the worst cell, and the narrowest window of truth",
        )
        for (kind, row, transport), cells in self.rows.items():
            ran = [cell for cell in cells.values() if cell.ran]
            if ran:
                table.add_row(kind, row, transport, *figures(ran))
        return table

    def write(self, folder: Path, picture: Path | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "score.json").write_text(json.dumps(self.as_json(), indent=2) + "\n")
        (folder / "score.html").write_text(page.html(self))
        print(f"{folder}/score.html, {folder}/score.json")
        if picture:
            picture.write_text(page.svg(self))


def show_known(rows: Sequence[Any], shapes: Sequence[Any], traces: Sequence[str]) -> None:
    table = Table("row", "kind", "transport", "can't run because")
    for row in rows:
        table.add_row(row.name, row.kind, row.transport, row.lacking())
    columns = Table("shape", "")
    for shape in shapes:
        columns.add_row(shape.name, shape.about)
    Console().print(table, columns, f"traces: {', '.join(traces)}")
