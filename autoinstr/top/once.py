"""`top --once`, and `--json`: answers for scripts and pipes."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from autoinstr.top.client import Client
from autoinstr.top.tables import ROUTES, SERVICES, chosen, table


def ask(client: Client, service: str, minutes: int) -> dict[str, Any]:
    """All services, or one of them."""
    return client.ask("service", name=service, minutes=minutes) if service else client.ask("services", minutes=minutes)


def print_json(client: Client, service: str, minutes: int) -> None:
    """The API's answer, in one line."""
    print(json.dumps(ask(client, service, minutes)), flush=True)


def print_table(client: Client, service: str, minutes: int, sort: str) -> None:
    """A table, as wide as the terminal, or as it needs to be where there is none."""
    told = ask(client, service, minutes)
    rows, columns = (told["routes"], ROUTES) if service else (told["services"], SERVICES)
    console = Console(width=None if sys.stdout.isatty() else 160)
    ordered = chosen(rows, columns, sort, down=sort != "name", having="")
    console.print(table(ordered, columns, sort, down=sort != "name"))
