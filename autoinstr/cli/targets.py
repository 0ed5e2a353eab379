"""`autoinstr targets`: what `run` with the same selectors would watch now, why, and what it would probe."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from autoinstr.cli.flags import HOW_SELECTED, add_options, add_selecting
from autoinstr.cli.run import set_up_logging
from autoinstr.config import Config, load, require_selectors

if TYPE_CHECKING:
    from autoinstr.attach import Hit, Planned
    from autoinstr.model import Target  # costs numpy

Plans = dict[int, list["Planned"]]  # of probes on functions, by pid

_COLUMNS = ("PID", "SERVICE", "NAME FROM", "LANGUAGE", "PORTS", "SELECTED BY", "LIBRARIES")


class Targets:
    """List processes."""

    name = "targets"
    summary = "list the processes that `run` would watch, and why"
    description = (
        "Lists what `autoinstr run` with the same selectors would watch now: process, service name and where it came\n"
        "from, language, listening ports, libraries, the selector that matched, what of it can't be seen, and which\n"
        "groups of probes on functions it would get, at which price."
    )
    epilog = f"""{HOW_SELECTED}

examples:
  autoinstr targets --port 1-65535           everything that listens
  autoinstr targets --exe 'python3*' --json  for scripts"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_selecting(parser)
        add_options(parser, "how they are named and probed", ("service_name", "probes", "log_level"))
        parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def run(self, arguments: argparse.Namespace) -> int:
        flags = vars(arguments)
        config = load({"log_level": "warning", **{k: v for k, v in flags.items() if v is not None}}, os.environ)
        require_selectors(config)
        set_up_logging(config.log_level)
        found = find_targets(config)
        plans, hit = find_probes(found, config.probes)
        if arguments.json:
            print(json.dumps(record(found, plans, hit), indent=2))
        elif found:
            print(table(found, plans, hit))
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


def find_probes(targets: list[Target], groups: tuple[str, ...]) -> tuple[Plans, Hit | None]:
    """What there is to be probed in each process, and what a hit takes here; None: that can't be measured."""
    from autoinstr.attach import hit, planned  # noqa: PLC0415
    from autoinstr.discover import Process  # noqa: PLC0415

    plans = {target.pid: planned(target.pid, Process(target.pid).maps, groups) for target in targets}
    return plans, hit() if any(plans.values()) else None


def record(targets: list[Target], plans: Plans, hit: Hit | None) -> dict[str, Any]:
    """As a plain object."""
    from autoinstr.discover import target_record  # noqa: PLC0415

    def probes(plan: Planned) -> dict[str, Any]:
        return {
            "group": plan.group,
            "library": plan.library,
            "path": plan.path,
            "on": plan.wanted,
            "probes": plan.probes,
            "stepped": round(plan.stepped, 2),
            "hits": plan.hits,
            "per": plan.per,
            "nanoseconds": round(plan.nanoseconds(hit)) if hit else None,
        }

    return {
        "targets": [target_record(one) | {"probes": [probes(plan) for plan in plans[one.pid]]} for one in targets],
        "hit": {"emulated": round(hit.emulated), "stepped": round(hit.stepped)} if hit else None,
    }


def table(targets: list[Target], plans: Plans, hit: Hit | None) -> str:
    """Columns as wide as their texts; below a target what of it is not seen, and what would be probed."""
    rows = [_COLUMNS, *(_row(target) for target in targets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines: list[str] = []
    for index, row in enumerate(rows):
        lines.append("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        if index:
            target = targets[index - 1]
            lines += [f"{'':{widths[0]}}  ! {reason}" for reason in target.unseen]
            lines += [f"{'':{widths[0]}}  {_probes(plan, hit)}" for plan in plans[target.pid]]
    if any(plans.values()):
        lines += ["", _price(hit)]
    return "\n".join(lines)


def _probes(plan: Planned, hit: Hit | None) -> str:
    """`+ tls: openssl in libssl.so.3, 12 probes, 4 hits a request: 2.0 us`."""
    if not plan.wanted:
        return f"- {plan.group}: {plan.library}, switched off"
    hits = f"{plan.hits:g} hit{'' if plan.hits == 1 else 's'} a {plan.per}"
    price = f": {plan.nanoseconds(hit) / 1000:.1f} us" if hit else ""
    where = f"{plan.library} in {PurePath(plan.path).name}"
    return f"+ {plan.group}: {where}, {plan.probes} probe{'' if plan.probes == 1 else 's'}, {hits}{price}"


def _price(hit: Hit | None) -> str:
    if hit is None:
        return "What a hit of a probe takes could not be measured: that needs root, as `run` does."
    return (
        f"A hit takes {hit.emulated / 1000:.1f} us here, and {hit.stepped / 1000:.1f} us where the kernel can't emulate"
        " the instruction: measured now, with a program\nthat does nothing. What programs of a running agent take in"
        " addition is on its page, under Agent."
    )


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
