"""`autoinstr top`: what services do, live in the terminal."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from autoinstr.address import DEFAULT_PAGE
from autoinstr.cli.flags import add_selecting
from autoinstr.config import EXCLUDING, SELECTING
from autoinstr.errors import AutoinstrError, UsageError

GATHER = 10.0  # seconds that an agent of its own gathers, before --once prints
END_WITHIN = 6.0
SORTS = ("rate", "errorRate", "p50", "p95", "p99", "name")


class Top:
    """The live table."""

    name = "top"
    summary = "show live what services do, in the terminal"
    description = (
        "Shows rate, errors and durations of services, their routes and their requests, live. Asks an agent that runs\n"
        "with --ui; with selecting flags it starts one, and ends it at the end."
    )
    epilog = """keys: arrows or j and k: choose  Enter: into a service, a route, a request  Esc: back  t: requests
  s: sort by the next column  r: reverse  /: filter  m: minutes  p: pause  q: quit

examples:
  sudo autoinstr top --port 8080              start an agent, and look
  autoinstr top                               look at the one that runs on this machine with --ui
  autoinstr top 'http://host:8377/?token=...' on another one, by the address that it printed
  autoinstr top --once --json                 for scripts: what GET /api/services says"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "address", nargs="?", default="", help=f"where the agent's page is (default: {DEFAULT_PAGE})"
        )
        parser.add_argument("--once", action="store_true", help="print a table and end")
        parser.add_argument("--json", action="store_true", help="JSON: with --once one line, else one every 5 seconds")
        parser.add_argument("--service", default="", help="of one service, by its routes")
        parser.add_argument("--sort", choices=SORTS, default="rate", help="by this column (default: rate)")
        parser.add_argument("--minutes", type=int, default=15, help="that figures are of (default: 15)")
        add_selecting(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        flags = selecting(arguments)
        if flags and arguments.address:
            raise UsageError("either an address, or which processes to watch: not both")
        interactive = not (arguments.once or arguments.json)
        if interactive and not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("this is no terminal: use --once or --json")
        from autoinstr.top import Client  # noqa: PLC0415 - rich, which --help does not need

        token = os.environ.get("AUTOINSTR_UI_TOKEN", "")
        if not flags:
            return look(Client(arguments.address, token), arguments)
        with own_agent(flags) as address:
            if not interactive:
                time.sleep(GATHER)
            return look(Client(address, token), arguments)


def look(client: object, arguments: argparse.Namespace) -> int:
    """In the way that was asked for."""
    from autoinstr.top import Client, print_json, print_table, show  # noqa: PLC0415
    from autoinstr.top.state import MINUTES, State, View  # noqa: PLC0415

    assert isinstance(client, Client)
    service, minutes = arguments.service, arguments.minutes
    client.ask("services", minutes=minutes)  # an error, if there is one, before the screen is taken
    if not arguments.once and not arguments.json:
        nearest = min(MINUTES, key=lambda one: abs(one - minutes))
        view = View.SERVICE if service else View.SERVICES
        show(client, State(view, service, sort=arguments.sort, down=arguments.sort != "name", minutes=nearest))
        return 0
    while True:
        if arguments.json:
            print_json(client, service, minutes)
        else:
            print_table(client, service, minutes, arguments.sort)
        if arguments.once:
            return 0
        time.sleep(5)


def selecting(arguments: argparse.Namespace) -> list[str]:
    """The selecting flags as they were given."""
    found: list[str] = []
    for name, *_ in (*SELECTING, EXCLUDING):
        for value in getattr(arguments, name) or []:
            found += [f"--{name.replace('_', '-')}", value]
    if arguments.config:
        found += ["--config", arguments.config]
    return [*found, *(["--include-agents"] if arguments.include_agents else [])]


@contextmanager
def own_agent(flags: list[str]) -> Iterator[str]:
    """An agent that serves its page to this machine, on any port; the page's address."""
    command = [sys.executable, "-m", "autoinstr", "run", *flags, "--export", "ui", "--ui", "127.0.0.1:0"]
    agent = subprocess.Popen(
        [*command, "--log-level", "error"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,  # Ctrl-C is for us
    )  # fmt: skip
    assert agent.stderr
    address, said = "", []
    try:
        for line in agent.stderr:
            said.append(line)
            address = line.partition("page: ")[2].strip() or address
            if line.startswith("ready"):
                break
        else:
            raise AutoinstrError("the agent did not start:\n" + "".join(said).strip())
        yield address
    finally:
        agent.terminate()
        try:
            agent.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            agent.kill()
        agent.stderr.close()
