"""The price list: what watching costs, in applications and in the agent. Root.

Usage: run.py [--short] [--only PART]... [--rounds N] [--seconds S] [--output bench.json]

Load generator, application and agent share two CPUs, however many there are. Prints tables and writes the same as JSON;
parts that are not measured this time stay in it as they were. Exit status 1: a count was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import bystander  # noqa: E402 - found by the line above
import calibrate  # noqa: E402
import full_load  # noqa: E402
import memory  # noqa: E402
import no_load  # noqa: E402
import placing  # noqa: E402
import price  # noqa: E402
import report  # noqa: E402
from apps import APPS  # noqa: E402
from figures import Part  # noqa: E402
from place import Place, place  # noqa: E402
from rich.console import Console  # noqa: E402
from servers import by_name  # noqa: E402

CPUS = 2
NEEDS = ("wrk", "gcc")
PROBES = "probes"
# of a run that is there to check counts; figures are rough
SHORT_ROUNDS, SHORT_SECONDS = 1, 1


def plan(here: Place, done: dict[str, Part]) -> dict[str, Callable[[], Part]]:
    """Parts by name, and how each is measured. What a hit of a probe costs comes first: others need it."""
    parts: dict[str, Callable[[], Part]] = {PROBES: partial(calibrate.measure, here.folder)}
    for app in APPS:
        parts[app.name] = lambda app=app: price.measure(app, here, done[PROBES])
    parts["full_load"] = partial(full_load.measure, here)
    grpc_go = by_name("grpc-go", APPS).server
    parts["full_load_grpc"] = partial(full_load.measure, here, grpc_go, full_load.CALLS)
    parts["placing"] = partial(placing.measure, here)
    parts["memory"] = partial(memory.measure, here)
    parts["bystander"] = lambda: bystander.measure(here, done[PROBES])
    return parts | {"no_load": partial(no_load.measure, here)}


def machine() -> dict[str, object]:
    return {"platform": platform.platform(), "cpus": CPUS, "of_cpus": os.cpu_count()}


def options() -> argparse.Namespace:
    names = [PROBES, *(app.name for app in APPS), "full_load", "full_load_grpc"]
    names += ["placing", "memory", "bystander", "no_load"]
    parser = argparse.ArgumentParser(description="What watching costs, in applications and in the agent.")
    parser.add_argument(
        "--short",
        action="store_true",
        help="one round of loads of one second, without in-process agents: checks counts",
    )
    parser.add_argument("--only", action="append", choices=names, help="only this part; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    found = parser.parse_args()
    if lacking := [program for program in NEEDS if not shutil.which(program)]:
        parser.error(f"needs {', '.join(lacking)}")
    if os.geteuid() != 0:
        parser.error("needs root")
    if found.short:
        found.rounds, found.seconds = SHORT_ROUNDS, SHORT_SECONDS
    return found


def main() -> int:
    chosen = options()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
    console = Console(highlight=False, width=max(120, Console().width))
    kept = json.loads(chosen.output.read_text()) if chosen.output.exists() and chosen.only else {}
    parts: dict[str, Part] = kept.get("parts", {})
    wrong: list[str] = []
    with place(chosen.rounds, chosen.seconds, in_process=not chosen.short) as here:
        console.print(f"{platform.platform()}; {chosen.rounds} rounds, {chosen.seconds:g} s a load")
        for name, measure in plan(here, parts).items():
            if chosen.only and name not in (PROBES, *chosen.only):
                continue
            console.print(f"[dim]measuring: {name} ...[/dim]")
            stamp = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "rounds": chosen.rounds}
            parts[name] = {**measure(), **stamp, "seconds": chosen.seconds}
            report.show(parts[name], console)
            wrong += parts[name].get("wrong", [])
            chosen.output.write_text(json.dumps({"machine": machine(), "parts": parts}, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
