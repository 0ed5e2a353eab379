"""What the terminal shows: rows and columns of services, of one service's routes, of requests.

In: answers of the API. Out: tables of `rich`, no wider than a terminal. Pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    name: str  # of the API's figure, which it is sorted by
    title: str
    cell: Callable[[Row], Text]
    right: bool = False


def plain(value: object) -> Text:
    """Text from the network without what a terminal would obey."""
    text = str(value)
    return Text(text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text))


def rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.1 or not value else f"{value:.3f}"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f}us"
    return f"{value:.1f}ms" if value < 100 else f"{value:.0f}ms" if value < 1000 else f"{value / 1000:.2f}s"


def errors(row: Row) -> Text:
    share = row["errorRate"]
    return Text(f"{share:.1%}", "red") if row["errors"] else Text("-", "dim")


def status(row: Row) -> Text:
    code = str(row["status"])
    return (
        plain(code[:10]) if not row["failed"] and code < "4" else Text(code[:10], "red" if row["failed"] else "yellow")
    )


FIGURES = (
    Column("rate", "REQ/S", lambda row: Text(rate(row["rate"])), right=True),
    Column("errorRate", "ERRORS", errors, right=True),
    *(
        Column(name, name.upper(), lambda row, name=name: Text(milliseconds(row[name])), right=True)  # type: ignore[misc]
        for name in ("p50", "p95", "p99")
    ),
)
SERVICES = (
    Column("name", "SERVICE", lambda row: plain(row["name"])),
    *FIGURES,
    Column("language", "LANGUAGE", lambda row: plain(row["language"] or "-")),
    Column("", "CAPTURED", lambda row: plain(captured(row))),
)
ROUTES = (
    Column("name", "REQUEST", lambda row: plain(row["name"] + called(row))),
    *FIGURES,
    Column("", "STATUS", lambda row: plain(" ".join(row["statuses"]))),
)
REQUESTS = (
    Column("", "TIME", lambda row: Text(clock(row["start"]))),
    Column("", "SERVICE", lambda row: plain(row["service"])),
    Column("", "REQUEST", lambda row: plain(request(row))),
    Column("", "STATUS", status),
    Column("", "TOOK", lambda row: Text(milliseconds(row["duration"])), right=True),
)
TRACE = (
    Column("", "SPAN", lambda row: plain("  " * row["depth"] + span(row))),
    Column("", "STATUS", status),
    Column("", "BEGAN", lambda row: Text(milliseconds(row["after"])), right=True),
    Column("", "TOOK", lambda row: Text(milliseconds(row["duration"])), right=True),
)


# Texts of any length share what the figures leave, in these parts; so many characters at least.
SHARES = {"SERVICE": 3, "REQUEST": 6, "CAPTURED": 2, "SPAN": 1}
LEAST = {"SERVICE": 12, "REQUEST": 24, "CAPTURED": 8, "SPAN": 24}


def captured(row: Row) -> str:
    unseen = [f"not {reason.partition(':')[0]}" for reason in row["unseen"]]
    return ", ".join(row["captured"] + unseen) or "no request yet"


def request(row: Row) -> str:
    method = row["name"].partition(" ")[0]
    return f"{method} {row['text'] or row['name']}{called(row)}"


def called(row: Row) -> str:
    """Whom: the service, if it is known, else the address."""
    return f" -> {row['peer'] or row['to']}" if row["to"] else ""


def span(row: Row) -> str:
    """One of a trace."""
    return f"{row['service']} {'calls ' if row['kind'] == 'client' else ''}{request(row)}"


def nested(spans: list[Row]) -> list[Row]:
    """Spans of a trace, each below its parent, with their depth and when they began, ms."""
    ids = {one["spanId"] for one in spans}
    below: dict[str, list[Row]] = {}
    for one in spans:
        parent = one["parentSpanId"] if one["parentSpanId"] in ids and one["parentSpanId"] != one["spanId"] else ""
        below.setdefault(parent, []).append(one)
    begin = min((one["start"] for one in spans), default=0)
    found: list[Row] = []
    waiting = [(one, 0) for one in reversed(below.pop("", []))]
    while waiting:
        one, depth = waiting.pop()
        found.append(one | {"depth": depth, "after": one["start"] - begin})
        waiting += [(child, depth + 1) for child in reversed(below.pop(one["spanId"], []))]
    return found


def key_of(row: Row) -> object:
    """What stays of a row when its figures change."""
    return row.get("sequence") or (row.get("kind"), row["name"], row.get("to"))


def clock(milliseconds_since_epoch: float) -> str:
    seconds, rest = divmod(milliseconds_since_epoch, 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(rest):03d}"


def chosen(rows: list[Row], columns: tuple[Column, ...], by: str, *, down: bool, having: str) -> list[Row]:
    """Rows that have a text in any cell, in an order."""
    some = [row for row in rows if not having or any(having.lower() in one.cell(row).plain.lower() for one in columns)]
    if not by:
        return some
    return sorted(some, key=lambda row: (row[by] is not None, row[by] if row[by] is not None else 0), reverse=down)


def table(rows: list[Row], columns: tuple[Column, ...], by: str = "", *, down: bool = True, marked: int = -1) -> Table:
    """One line a row; the first column and the widest texts give way on a narrow terminal."""
    made = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 1), header_style="bold", show_edge=False)
    for column in columns:
        arrow = "" if not by or column.name != by else "v" if down else "^"
        made.add_column(
            f"{column.title}{arrow}",
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=SHARES.get(column.title),
            min_width=LEAST.get(column.title),
            max_width=11 if column.title == "STATUS" else None,
        )
    for number, row in enumerate(rows):
        made.add_row(*(column.cell(row) for column in columns), style="reverse" if number == marked else "")
    return made
