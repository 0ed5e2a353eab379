"""Other kernels, under emulation: fetches them, boots them, runs the short score in each. Root.

Usage: try_kernels.py [--kernels 5.10,7] [--at-once N] [--torture REQUESTS [--way tcp|headers]]

A kernel is named as in `KERNELS`, or by the start of its name. Prints what each does, then a table. Exit status 1 if
the agent told anything but the truth on one of them. What was fetched stays in .cache/kernels. With `--torture`, so
many odd requests are sent by every way of `--propagate` that the kernel allows, or by one, and nothing else.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / folder) for folder in ("", "e2e", "torture"))]

import boot  # noqa: E402 - found by the line above
import go_client  # noqa: E402
import torture  # noqa: E402
from certificates import certificates  # noqa: E402
from debian import PATH, Missing, install, run  # noqa: E402
from kernels import ARCHITECTURES, CACHE, KERNELS, Kernel  # noqa: E402
from userland import Userland, userland  # noqa: E402

LIMIT = 1200.0  # seconds; a guest that takes longer hangs
TORTURED = 40.0  # odd requests a second, at the very least, by each of three ways
GO = HERE.parent / "e2e" / "servers" / "go_server.go"
AT_ONCE = 2
SHOWN = 10  # complaints of one kernel
_printing = threading.Lock()


@dataclass
class Outcome:
    """What came of one kernel."""

    kernel: Kernel
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)


def say(kernel: Kernel, text: str) -> None:
    with _printing:
        print(f"{kernel.name:10} {text}", flush=True)


def chosen(names: str) -> list[Kernel]:
    """The kernels of a comma-separated list."""
    found = []
    for name in names.split(",") if names else KERNELS:
        exact = [KERNELS[name]] if name in KERNELS else [k for k in KERNELS.values() if k.name.startswith(name)]
        if not exact:
            raise SystemExit(f"try_kernels.py: no kernel {name!r}; there are {', '.join(KERNELS)}")
        found += exact
    return found


def prepare(kernels: Sequence[Kernel]) -> tuple[dict[str, boot.Fetched], dict[str, Userland]]:
    """All that has to be fetched or built, one after the other. Missing if that can't be."""
    install({"go": "golang-go", "nginx": "nginx-light"})
    certificates()  # before several threads ask
    fetched = {}
    for kernel in kernels:
        fetched[kernel.name] = boot.fetch(kernel)
        say(kernel, f"is Linux {fetched[kernel.name].release} {kernel.boot}".rstrip())
    return fetched, {machine: userland(machine) for machine in {kernel.machine for kernel in kernels}}


def build_go(kernel: Kernel, target: Path) -> None:
    variables = {"GOARCH": ARCHITECTURES[kernel.machine].go, "CGO_ENABLED": "0", "PATH": f"{os.environ['PATH']}:{PATH}"}
    run("go", "build", "-o", target, GO, cwd=HERE, env={**os.environ, **variables})


def play(fetched: boot.Fetched, place: Userland, what: Sequence[str], limit: float) -> Outcome:
    """One kernel, from power-on to the result. `what`: words for guest.py; `limit`: seconds."""
    outcome = Outcome(fetched.kernel)
    folder = CACHE / "runs" / fetched.kernel.name
    (folder / boot.COMPILED).mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    if what[0] != "score":
        for build in (go_client.build, go_client.build_http2):
            build(folder, architecture=ARCHITECTURES[fetched.kernel.machine].go)
    if what[0] == "torture":
        torture.build(folder)
    else:
        build_go(fetched.kernel, folder / "go-server")
    for file in certificates():
        shutil.copy(file, folder)
    begun = time.monotonic()
    guest = boot.boot(fetched, place, folder, f"{place.python} {HERE / 'guest.py'} {folder} {' '.join(what)}")
    try:
        follow(guest, begun + limit)
    finally:
        boot.end(guest)
    outcome.seconds = time.monotonic() - begun
    if (folder / "result.json").exists():
        outcome.result = json.loads((folder / "result.json").read_text())
        outcome.complaints = [*outcome.result["complaints"], *judge(fetched.kernel, outcome.result["check"])]
    else:
        outcome.complaints = [f"exit status {guest.status()} after {outcome.seconds:.0f} s; see {folder}", tail(folder)]
    for complaint in outcome.complaints[:SHOWN]:
        say(fetched.kernel, f"WRONG: {complaint}")
    if len(outcome.complaints) > SHOWN:
        say(fetched.kernel, f"WRONG: and {len(outcome.complaints) - SHOWN} more, in {folder}/result.json")
    return outcome


def follow(guest: boot.Guest, until: float) -> None:
    """Print the guest's lines as they come, until it ends."""
    output, told = guest.folder / "out.txt", 0
    while True:
        ended = guest.process.poll() is not None or time.monotonic() > until
        text = output.read_text(errors="replace") if output.exists() else ""
        for line in text[told : text.rfind("\n") + 1].splitlines():
            say(guest.fetched.kernel, line)
        told = max(told, text.rfind("\n") + 1)
        if ended:
            return
        time.sleep(0.5)


def tail(folder: Path) -> str:
    """The last words of guest and kernel."""
    texts = [folder / name for name in ("out.txt", "console.txt")]
    return "\n".join(path.read_text(errors="replace")[-1500:] for path in texts if path.exists())


def judge(kernel: Kernel, check: dict[str, Any]) -> list[str]:
    """`autoinstr check` names what this kernel lacks, and what that costs; nothing else."""
    complaints = [] if check["ok"] else [f"check failed: {check}"]
    missing = {found["name"]: found for found in check["checks"] if found["state"] == "missing"}
    if set(missing) != set(kernel.lacks):
        complaints.append(f"check names {sorted(missing)} as missing, not {sorted(kernel.lacks)}")
    complaints += [f"check does not say what {name} costs" for name, found in missing.items() if not found["cost"]]
    return complaints


def play_all(kernels: Sequence[Kernel], at_once: int = AT_ONCE, *what: str, limit: float = LIMIT) -> list[Outcome]:
    """As `play`; the score if nothing is said. Missing if this machine or its network can't provide what is needed."""
    what = what or ("score",)
    if os.geteuid() != 0:
        raise Missing("needs root: the guest sees this machine's files as it does")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a guest reads the images that another run would make anew
        fetched, places = prepare(kernels)
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda one: play(fetched[one.name], places[one.machine], what, limit), kernels))


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [("kernel", "release", "architecture", "requests", "counted", "wrong", "lost", "missing", "seconds")]
    for outcome in outcomes:
        found = outcome.result
        lost = ", ".join(f"{name} {count}" for name, count in found.get("lost", {}).items())
        cell = found.get("cell", {})
        wrong = sum(cell.get(name, 0) for name in ("missing", "duplicated", "invented", "wrong", "wrong_peer"))
        rows.append(
            (
                outcome.kernel.name,
                found.get("release", "-"),
                outcome.kernel.machine,
                str(cell.get("requests", "-")),
                str(found.get("counted", "-")),
                str(wrong) if found else "-",
                lost or "-",
                ", ".join(outcome.kernel.lacks) or "-",
                f"{outcome.seconds:.0f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", default="", help=f"of {', '.join(KERNELS)}; default: all")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="guests at the same time; each takes one CPU")
    parser.add_argument("--torture", type=int, default=0, metavar="REQUESTS", help="odd ones, through --propagate")
    parser.add_argument("--way", default="", choices=torture.WAYS, help="of --propagate; default: all")
    arguments = parser.parse_args()
    try:
        what, limit = ("propagate",), LIMIT
        if arguments.torture:
            what, limit = ("torture", str(arguments.torture), arguments.way), LIMIT + 3 * arguments.torture / TORTURED
        outcomes = play_all(chosen(arguments.kernels), arguments.at_once, *what, limit=limit)
    except Missing as error:
        print(f"try_kernels.py: {error}", file=sys.stderr)
        return 2
    print(f"\n{table(outcomes)}")
    return 1 if any(outcome.complaints for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
