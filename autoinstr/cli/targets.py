"""`autoinstr targets`: what `run` with the same selectors would watch now, and why."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from autoinstr.cli.flags import HOW_SELECTED, add_options, add_selecting
from autoinstr.cli.run import set_up_logging
from autoinstr.config import Config, load, require_selectors

if TYPE_CHECKING:
    from autoinstr.model import Target  # costs numpy

_COLUMNS = ("PID", "SERVICE", "NAME FROM", "LANGUAGE", "PORTS", "SELECTED BY", "LIBRARIES")


class Targets:
    """List processes."""

    name = "targets"
    summary = "list the processes that `run` would watch, and why"
    description = (
        "Lists what `autoinstr run` with the same selectors would watch now: process, service name and where it came\n"
        "from, language, listening ports, libraries, the selector that matched, and what of it can't be seen."
    )
    epilog = f"""{HOW_SELECTED}

examples:
  autoinstr targets --port 1-65535           everything that listens
  autoinstr targets --exe 'python3*' --json  for scripts"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_selecting(parser)
        add_options(parser, "how they are named", ("service_name", "log_level"))
        parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def run(self, arguments: argparse.Namespace) -> int:
        flags = vars(arguments)
        config = load({"log_level": "warning", **{k: v for k, v in flags.items() if v is not None}}, os.environ)
        require_selectors(config)
        set_up_logging(config.log_level)
        found = find_targets(config)
        if arguments.json:
            from autoinstr.discover import target_record  # noqa: PLC0415

            print(json.dumps({"targets": [target_record(target) for target in found]}, indent=2))
        elif found:
            print(table(found))
        else:
            asked = ", ".join(str(selector) for selector in config.selection.selectors)
            print(f"Nothing that runs now matches {asked}. `run` would wait for processes that start later.")
        return 0


def find_targets(config: Config) -> list[Target]:
    """One scan."""
    from autoinstr.discover import Discovery  # noqa: PLC0415 - numpy, which --help does not need
    from autoinstr.health import Health  # noqa: PLC0415

    discovery = Discovery(
        config.selection, Health(), service_name=config.service_name, resource=config.resource, quiet=True
    )
    discovery.scan()
    return sorted(discovery.targets.values(), key=lambda target: target.pid)


def table(targets: list[Target]) -> str:
    """Columns as wide as their texts; below a target what of it is not seen."""
    rows = [_COLUMNS, *(_row(target) for target in targets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines: list[str] = []
    for index, row in enumerate(rows):
        lines.append("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        if index:
            lines += [f"{'':{widths[0]}}  ! {reason}" for reason in targets[index - 1].unseen]
    return "\n".join(lines)


def _row(target: Target) -> tuple[str, ...]:
    ports = ",".join(map(str, target.ports))
    libraries = " ".join(target.libraries)
    return (
        str(target.pid),
        target.service.name,
        target.name_source,
        target.language,
        ports or "-",
        target.selected_by,
        libraries or "-",
    )
