"""What a user looks at, and what keys change of it. Pure: keys in, a state out.

Views lead from one to the next: services, one service's routes, requests, one request's trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from autoinstr.top.tables import REQUESTS, ROUTES, SERVICES, TRACE, Column, Row, key_of

MINUTES = (1, 5, 15, 60, 360, 1440)


class View(Enum):
    SERVICES = "services"
    SERVICE = "service"
    REQUESTS = "requests"
    TRACE = "trace"


COLUMNS: dict[View, tuple[Column, ...]] = {
    View.SERVICES: SERVICES,
    View.SERVICE: ROUTES,
    View.REQUESTS: REQUESTS,
    View.TRACE: TRACE,
}


@dataclass
class State:
    view: View = View.SERVICES
    service: str = ""
    route: dict[str, str] = field(default_factory=dict)  # whose requests are shown: kind, name, to; empty: all
    trace: str = ""
    sort: str = "rate"
    down: bool = True
    having: str = ""  # the filter
    typing: bool = False  # it is being written
    marked: int = 0  # the row that is chosen
    chosen: object = None  # what it is about, so that it is found again when the order changes; None: the first
    paused: bool = False
    minutes: int = 15
    done: bool = False
    rows: list[Row] = field(default_factory=list)  # as they are shown

    @property
    def columns(self) -> tuple[Column, ...]:
        return COLUMNS[self.view]

    @property
    def place(self) -> tuple[object, ...]:
        """What is asked for."""
        return self.view, self.service, tuple(self.route.items()), self.trace, self.minutes

    def show(self, rows: list[Row]) -> None:
        """These are shown now."""
        self.rows = rows
        keys = [key_of(row) for row in rows]
        self.marked = keys.index(self.chosen) if self.chosen in keys else max(0, min(self.marked, len(rows) - 1))
        if self.chosen is None:
            self.marked = 0

    def key(self, key: str) -> None:  # noqa: PLR0912 - a table of keys
        """A key was pressed: a character, or a name such as `up`."""
        if self.typing:
            self._type(key)
            return
        match key:
            case "q" | "ctrl-c":
                self.done = True
            case "up" | "k":
                self._mark(self.marked - 1)
            case "down" | "j":
                self._mark(self.marked + 1)
            case "home" | "g":
                self._mark(0)
            case "end" | "G":
                self._mark(len(self.rows) - 1)
            case "enter" | "right":
                self._into()
            case "escape" | "backspace" | "left":
                self._back()
            case "t":
                self._look(View.REQUESTS, self.service)
            case "s":
                self._sort_by_next()
            case "r":
                self.down = not self.down
            case "p" | " ":
                self.paused = not self.paused
            case "m":
                self.minutes = MINUTES[(MINUTES.index(self.minutes) + 1) % len(MINUTES)]
            case "/":
                self.typing, self.having = True, ""

    def _type(self, key: str) -> None:
        if key in ("enter", "escape", "ctrl-c"):
            self.typing = False
            self.having = self.having if key == "enter" else ""
        elif key == "backspace":
            self.having = self.having[:-1]
        elif len(key) == 1:
            self.having += key
        self.marked, self.chosen = 0, None

    def _mark(self, row: int) -> None:
        self.marked = max(0, min(row, len(self.rows) - 1))
        self.chosen = key_of(self.rows[self.marked]) if self.marked else None

    def _look(self, view: View, service: str, route: dict[str, str] | None = None, trace: str = "") -> None:
        self.view, self.service, self.marked, self.chosen, self.having = view, service, 0, None, ""
        self.route, self.trace = route or {}, trace
        self.sort, self.down = ("rate", True) if view in (View.SERVICES, View.SERVICE) else ("", False)

    def _into(self) -> None:
        if not self.rows:
            return
        row = self.rows[self.marked]
        if self.view is View.SERVICES:
            self._look(View.SERVICE, row["name"])
        elif self.view is View.SERVICE:
            self._look(View.REQUESTS, self.service, {name: row[name] for name in ("kind", "name", "to")})
        elif self.view is View.REQUESTS:
            self._look(View.TRACE, self.service, self.route, row["traceId"])

    def _back(self) -> None:
        if self.having:
            self.having = ""
        elif self.view is View.TRACE:
            self._look(View.REQUESTS, self.service, self.route)
        elif self.view is View.REQUESTS and self.service:
            self._look(View.SERVICE, self.service)
        else:
            self._look(View.SERVICES, "")

    def _sort_by_next(self) -> None:
        names = [column.name for column in self.columns if column.name]
        if names:
            at = names.index(self.sort) if self.sort in names else -1
            self.sort = names[(at + 1) % len(names)]
            self.down = self.sort not in ("name", "language")
