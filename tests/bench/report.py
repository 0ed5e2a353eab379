"""The price list for a terminal.

In: parts of bench.json. Out: a table for each, a figure a line, a variant a column: median (least .. most).
"""

from __future__ import annotations

from figures import FIGURES, Figure, Part
from rich.console import Console
from rich.table import Table


def cell(figure: Figure, found: Part) -> str:
    if figure.key not in found:
        return ""
    values = found[figure.key]
    middle, least, most = (figure.text(values[name]) for name in ("median", "least", "most"))
    return middle if least == most else f"{middle}  [dim]({least} .. {most})[/dim]"


def show(part: Part, console: Console) -> None:
    if reason := part.get("lacking"):
        console.print(f"\n[bold]{part['title']}[/bold]: not measured, {reason}")
        return
    columns = list(part["variants"].values()) if "variants" in part else [part]
    table = Table(title=part["title"], title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column()
    for found in columns:
        table.add_column(found["title"] if found is not part else "", justify="right")
    for figure in FIGURES:
        cells = [cell(figure, found) for found in columns]
        if any(cells):
            table.add_row(figure.title, *cells)
    if any("lost" in found for found in columns):
        lost = (", ".join(f"{name} {count:,}" for name, count in found["lost"].items()) for found in columns)
        table.add_row("said to be lost", *(text or "nothing" for text in lost))
    console.print()
    console.print(table)
    if reason := part.get("lacking_in_process"):
        console.print(f"no in-process agent beside it: {reason}")
    for line in part.get("wrong", ()):
        console.print(f"[red]wrong: {line}[/red]")
