"""The entry point: picks the command, prints errors, sets the exit status. The only place that does either.

Exit status: 0 done, 1 something is missing or failed, 2 wrong usage, 130 interrupted before anything ran.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from autoinstr import __version__
from autoinstr.cli.check import Check
from autoinstr.cli.command import Command
from autoinstr.cli.run import Run
from autoinstr.cli.targets import Targets
from autoinstr.cli.top import Top
from autoinstr.errors import AutoinstrError, UsageError

COMMANDS: tuple[Command, ...] = (
    Run(),
    Top(),
    Targets(),
    Check(),
)

_DESCRIPTION = """Watches running processes from outside, by eBPF, and tells OpenTelemetry what they serve and call:
RED metrics and spans of HTTP requests, of programs in any language, without a restart or a line of code."""

_EPILOG = """start here:
  sudo autoinstr check                       does this host allow it?
  sudo autoinstr targets --port 1-65535      what is there to watch?
  sudo autoinstr run --port 8080             watch it: print what it does, and serve a page that shows it
  sudo autoinstr top --port 8080             the same as a live table in this terminal

`autoinstr COMMAND --help` has every flag, its environment variable and its default."""


def make_parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    parser = argparse.ArgumentParser(
        "autoinstr", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"autoinstr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        below = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(below)
        below.set_defaults(chosen=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    chosen: Command = arguments.chosen
    try:
        status = chosen.run(arguments)
        sys.stdout.flush()
    except AutoinstrError as error:
        print(f"autoinstr {chosen.name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `autoinstr targets | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
