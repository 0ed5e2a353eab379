"""The matrix as a page (static HTML, nothing loaded, nothing scripted) and as a picture (SVG), for light and dark.

A cell is known by its text as well as by its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import routes
from cells import COLUMNS, Cell, figures, headline, short, state
from joins import HEADS, texts
from shapes import SHAPES

if TYPE_CHECKING:
    from report import Score

# Background and text of a cell, in light and dark; blue and orange rather than green and red, for all eyes.
COLOURS = {
    "right": ("#cfe8fc", "#0b3a5e", "#123a57", "#cfe8fc"),
    "late": ("#fff1b8", "#5c4700", "#4d3e0a", "#fff1b8"),
    "wrong": ("#ffc9a8", "#6b1f00", "#7a2a08", "#ffe3d3"),
    "not run": ("#ececec", "#6a6a6a", "#2a2d31", "#9a9a9a"),
}
MEANINGS = {
    "right": "every request told exactly once, nothing invented, nothing wrong, metrics equal to the truth",
    "late": "right, but the 99th percentile of the durations' error is 100 microseconds or more",
    "wrong": "what is wrong most, and how often",
    "not run": "could not be run, or does not apply: the reason is below",
}
CSS = """
:root { color-scheme: light dark; --page: #fff; --text: #1c1e21; --line: #c8ccd1; }
@media (prefers-color-scheme: dark) { :root { --page: #17191c; --text: #dfe2e6; --line: #3b4046; } }
body { background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif;
  margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
table { border-collapse: separate; border-spacing: 2px; font-size: 13px; }
th { text-align: left; font-weight: 600; padding: 3px 6px; }
td { padding: 3px 6px; text-align: center; white-space: nowrap; }
.figures td { border-bottom: 1px solid var(--line); text-align: right; }
.wide { overflow-x: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; }
"""
METHOD = (
    """Real programs serve and call; the agent watches them as a user would have it do. A generator (for servers) or a
peer (for clients) knows every request: an id of its own in the path, method, status, sizes, connection, trace. Spans
come over OTLP, metrics as Prometheus reads them. Each request is held against its span by its id, and what the metrics
counted against the number of requests, by kind, method and status.""",
    """A request whose connection ended too early for anyone to know whether the server read it may be missing, but must
be right if told. Such requests are few, and only where connections are cut: aborts, restart, forks, within.""",
    """Durations: a server's span must begin between the generator's first send and the call of the server's handler (by
the server's clock, which it tells in a field of the response), and end between the handler's end and the generator's
last read. A client's span must contain what the peer saw and fit in what the client measured around its own call. Off
is how far outside of that a span begins or ends; window is how far the bounds are apart, below which the truth can't
tell. All clocks are CLOCK_MONOTONIC of one machine. A span ends when the system call returns, which may be after the
other end has read its bytes, if another process takes the CPU in between.""",
)


def kind_of_cell(name: str) -> str:
    return name.replace(" ", "-")


def style(dark: bool, selector: str, text: str) -> str:
    rules = []
    for name, colours in COLOURS.items():
        back, front = colours[2:] if dark else colours[:2]
        rules.append(f"{selector}.{kind_of_cell(name)} {{ {text.format(back=back, front=front)} }}\n")
    return "".join(rules)


def html(score: Score) -> str:
    look = "background: {back}; color: {front};"
    css = f"{CSS}{style(False, 'td', look)}@media (prefers-color-scheme: dark) {{\n{style(True, 'td', look)}}}\n"
    about = {shape.name: shape.about for shape in SHAPES} | {routes.SHAPE: routes.ABOUT}
    heads = "".join(f'<th title="{escape(about[shape])}">{escape(shape)}</th>' for shape in score.shapes)
    machine = score.as_json()
    parts = [
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width">',
        f"<title>How right autoinstr is</title><style>{css}</style></head><body>",
        f"<h1>How right autoinstr is</h1><p>{escape(headline(score.summary()))}.</p>",
        f"<p>{escape(machine['time'])}, {escape(machine['machine']['platform'])}, {machine['machine']['cpus']} CPUs, "
        f"{score.seconds:.0f} s.</p>",
        f"<div class=wide><table><tr><th></th><th></th><th></th>{heads}</tr>",
        *(
            f"<tr>{row_head(key)}{''.join(map(html_cell, ordered(score, cells)))}</tr>"
            for key, cells in score.rows.items()
        ),
        "</table></div><table>",
        *(f"<tr><td class={kind_of_cell(name)}>{name}</td><th>{text}</th></tr>" for name, text in MEANINGS.items()),
        "</table><h2>In figures</h2><p>All shapes of a row. Times in microseconds: of the worst cell, and the "
        "narrowest window.</p>",
        "<div class=wide><table class=figures><tr><th></th><th></th><th></th>",
        *(f"<th>{name}</th>" for name in COLUMNS),
        "</tr>",
        *(
            f"<tr>{row_head(key)}{''.join(f'<td>{text}</td>' for text in figures(ran))}</tr>"
            for key, cells in score.rows.items()
            if (ran := [cell for cell in cells.values() if cell.ran])
        ),
        "</table></div><h2>Shapes</h2><ul>",
        *(f"<li><b>{escape(shape)}</b>: {escape(about[shape])}" for shape in score.shapes),
        "</ul>",
        *traces(score),
        "<h2>Method</h2>",
        *(f"<p>{escape(text)}</p>" for text in METHOD),
        "<h2>What is not right, or was not run</h2>",
        *map(details, (cell for cell in score.cells if state(cell) != "right")),
        "</body></html>\n",
    ]
    return "".join(parts)


def traces(score: Score) -> list[str]:
    """Parents, held against what services have logged."""
    if not score.trials:
        return []
    heads = "".join(f"<th>{name}</th>" for name in ("", *HEADS))
    lines = [
        f"<tr class={'right' if join.good else 'wrong'}><th>{escape(trial.name)}</th>"
        + "".join(f"<td class={'right' if join.good else 'wrong'}>{escape(text)}</td>" for text in texts(join))
        + "</tr>"
        for trial in score.trials
        for join in trial.joins
    ]
    about = [
        f"<p><b>{escape(trial.name)}</b>: {trial.rate:.0f} requests/s, "
        f"{1000 * trial.cpu:.2f} ms of CPU each in all services. {escape(trial.reason)} "
        f"{escape(', '.join(f'{count} {name}' for name, count in trial.lost.items() if count))}</p>"
        + f"<p>Without a parent, by the reason that was told: {escape(str(trial.orphans))}</p>"
        + "".join(f"<pre>{escape(text)}</pre>" for join in trial.joins for text in join.complaints)
        for trial in score.trials
    ]
    return [
        "<h2>Whole traces</h2><p>Services log for which request they make which. Each client span's parent must be the "
        "server span of the request that it was made for, each server span's that of the call that it answers. None "
        "may be wrong; of plain calls at least the share in the last column must be right.</p>",
        f"<div class=wide><table class=figures><tr>{heads}</tr>",
        *lines,
        "</table></div>",
        *about,
    ]


def row_head(key: tuple[str, str, str]) -> str:
    kind, row, transport = map(escape, key)
    return f"<th>{kind}</th><th>{row}</th><th>{transport}</th>"


def ordered(score: Score, cells: dict[str, Cell]) -> Sequence[Cell | None]:
    return [cells.get(shape) for shape in score.shapes]


def html_cell(cell: Cell | None) -> str:
    if not cell:
        return "<td></td>"
    more = cell.reason or f"{cell.requests} requests"
    return f'<td class={kind_of_cell(state(cell))} title="{escape(more)}">{escape(short(cell))}</td>'


def details(cell: Cell) -> str:
    title = escape(f"{cell.kind} {cell.row} {cell.transport} {cell.shape}: {state(cell)}")
    lines = (
        [cell.reason]
        if cell.reason
        else [*cell.complaints, *(f"said to be lost: {cell.lost}" for _ in [1] if cell.lost)]
    )
    return f"<p><b>{title}</b></p><pre>{escape(chr(10).join(lines))}</pre>"


def svg(score: Score) -> str:
    left, top, wide, high = 190, 92, 78, 22
    width = left + wide * len(score.shapes) + 16
    height = top + high * len(score.rows) + 44
    look = "fill: {back};", "fill: {front};"

    def colours(dark: bool) -> str:
        own = ("#ffffff", "#1c1e21") if not dark else ("#17191c", "#dfe2e6")
        return f".page {{ fill: {own[0]}; }} text {{ fill: {own[1]}; }}\n" + "".join(
            style(dark, tag, text) for tag, text in zip(("rect", "text"), look, strict=True)
        )

    def text(x: float, y: float, content: str, *, kind: str = "", size: int = 12, more: str = "") -> str:
        named = f' class="{kind}"' if kind else ""
        return f'<text{named} x="{x:g}" y="{y:g}" font-size="{size}"{more}>{escape(content)}</text>\n'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(headline(score.summary()))}">\n',
        f"<style>\n{colours(False)}@media (prefers-color-scheme: dark) {{\n{colours(True)}}}\n</style>\n",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>\n',
        text(16, 30, headline(score.summary()), size=15),
    ]
    for column, shape in enumerate(score.shapes):
        parts.append(text(left + wide * (column + 0.5), top - 10, shape, size=11, more=' text-anchor="middle"'))
    for line, (key, cells) in enumerate(score.rows.items()):
        y = top + high * line
        parts.append(
            text(left - 10, y + 15, " ".join((*key[:2], key[2].replace("http", ""))).strip(), more=' text-anchor="end"')
        )
        for column, cell in enumerate(ordered(score, cells)):
            if cell:
                kind, x = kind_of_cell(state(cell)), left + wide * column
                parts.append(
                    f'<rect class="{kind}" x="{x}" y="{y}" width="{wide - 2}" height="{high - 2}" rx="2"/>\n'
                    + text(x + wide / 2 - 1, y + 14, short(cell), kind=kind, size=11, more=' text-anchor="middle"')
                )
    y, x = height - 24, left
    for name in COLOURS:
        parts.append(
            f'<rect class="{kind_of_cell(name)}" x="{x}" y="{y}" width="16" height="14" rx="2"/>\n'
            + text(x + 22, y + 12, name, size=11)
        )
        x += 110
    return "".join([*parts, "</svg>\n"])
