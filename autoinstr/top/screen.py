"""The live table: asks, draws, listens to keys, until `q`.

In: a client, a terminal. Out: the terminal as it was before. Works in 80x24, over ssh and in tmux.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from autoinstr.errors import AutoinstrError
from autoinstr.top.client import Client
from autoinstr.top.keys import raw, read_keys
from autoinstr.top.state import State, View
from autoinstr.top.tables import chosen, nested, plain, rate, table

EVERY = 1.0  # seconds between two questions
AROUND = 5  # lines that are no rows: title, head, line, keys
HELP = {
    View.SERVICES: "Enter: routes  t: requests  s: sort  /: filter  m: minutes  p: pause  q: quit",
    View.SERVICE: "Enter: requests  t: all  Esc: back  s: sort  /: filter  m: minutes  p: pause  q: quit",
    View.REQUESTS: "Enter: trace  Esc: back  /: filter  p: pause  q: quit",
    View.TRACE: "Esc: back  /: filter  q: quit",
}
NOTHING = {
    View.SERVICES: "no process to watch was found yet: it will appear here by itself",
    View.SERVICE: "no request yet",
    View.REQUESTS: "no request yet: new ones appear here as they end",
    View.TRACE: "it is not kept any more",
}


def show(client: Client, state: State) -> None:
    """Until the user leaves."""
    console, terminal = Console(), sys.stdin.fileno()
    trouble, told, asked_at = "", [], -EVERY
    seen = state.place
    with raw(terminal), Live(console=console, screen=True, auto_refresh=False) as live:
        while not state.done:
            now = time.monotonic()
            if (not state.paused and now - asked_at >= EVERY) or seen != state.place:
                asked_at, seen = now, state.place
                try:
                    told, trouble = ask(client, state, console.height), ""
                except AutoinstrError as error:
                    trouble = str(error)
            rows = chosen(told, state.columns, state.sort, down=state.down, having=state.having)
            state.show(rows)
            live.update(picture(client, state, trouble, console.height), refresh=True)
            for key in read_keys(terminal, max(0.05, asked_at + EVERY - time.monotonic())):
                state.key(key)
                if seen != state.place:
                    told = []


def ask(client: Client, state: State, lines: int) -> list[dict[str, Any]]:
    """The rows of the view."""
    rows: list[dict[str, Any]]
    if state.view is View.SERVICES:
        rows = client.ask("services", minutes=state.minutes)["services"]
    elif state.view is View.SERVICE:
        rows = client.ask("service", name=state.service, minutes=state.minutes)["routes"]
    elif state.view is View.REQUESTS:
        rows = client.ask("spans", service=state.service, limit=max(lines, 20) * 4, **state.route)["spans"]
    else:
        rows = nested(client.ask("trace", id=state.trace)["spans"])
    return rows


def picture(client: Client, state: State, trouble: str, height: int) -> Group:
    """All of the screen."""
    room = max(1, height - AROUND)
    first = max(0, min(state.marked - room // 2, len(state.rows) - room))
    shown = state.rows[first : first + room]
    body = table(shown, state.columns, state.sort, down=state.down, marked=state.marked - first)
    nothing = "nothing has that" if state.having else NOTHING[state.view]
    gap = Text(("" if shown else nothing) + "\n" * max(0, room - len(shown) - 1), "dim")
    keys = f"filter: {state.having}_" if state.typing else HELP[state.view]
    foot = Text(trouble or keys, "red" if trouble else "dim", overflow="ellipsis", no_wrap=True)
    return Group(title(client, state), body, gap, foot)


def title(client: Client, state: State) -> Text:
    place = {
        View.SERVICES: "services",
        View.SERVICE: state.service,
        View.REQUESTS: f"requests {state.service} {state.route.get('name', '')}".strip(),
        View.TRACE: f"trace {state.trace}",
    }
    figures = ""
    if state.view in (View.SERVICES, View.SERVICE):
        total = sum(row["rate"] for row in state.rows if row["kind"] == "server")
        figures = f"  {rate(total)} req/s  last {state.minutes} min"
    shown = plain(f"autoinstr  {place[state.view]}{figures}").plain
    text = Text(shown, "bold", overflow="ellipsis", no_wrap=True)
    text.append("  paused" if state.paused else "", "yellow")
    text.append(f"  filter: {state.having}" if state.having and not state.typing else "", "cyan")
    text.append(f"  {client.url}", "dim")
    return text
