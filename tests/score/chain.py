"""Whole traces: services that call each other, and every span's parent held against what they have logged.

A chain of many services under steady load, all under one agent; and each service by itself, with all the ways in which
it makes requests mixed, while it makes others for nobody. Out: `Join`s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hops
import servers
from certificates import trusting
from hops import Hop
from joins import BACKGROUND, SERVED, Join, Log, joins
from servers import Running
from watch import LOOKS_EVERY, Watch

STEADY = Path(__file__).resolve().parents[1] / "bench/steady.c"
CONNECTIONS = 32
LONGEST = 16.0  # seconds of load: no more than 8,192 methods of gRPC are told apart
END = hops.named("go")  # answers, and calls nobody


@dataclass
class Trial:
    """One run of the agent. `reason`: why it, or a part of it, could not be run."""

    name: str
    joins: list[Join] = field(default_factory=list)
    reason: str = ""
    broken: bool = False
    rate: float = 0.0  # requests/s
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not self.broken and all(join.good for join in self.joins)

    def as_json(self) -> dict[str, Any]:
        about = {"name": self.name, "reason": self.reason, "good": self.good, "rate": self.rate, "lost": self.lost}
        return {**about, "joins": [join.as_json() for join in self.joins]}


class Place:
    """Where services run, and the load that comes to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hops"
        self.folder.mkdir(exist_ok=True)
        self.steady = self.folder / "steady"
        subprocess.run(["gcc", "-O2", "-o", self.steady, STEADY], check=True)

    def start(self, hop: Hop, name: str, behind: Running | None, scheme: str, background: bool) -> Running:
        place = f"127.0.0.1:{behind.port}" if behind else ""
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        environment = trusting() | ({"HOP_BACKGROUND": "1"} if background else {})
        words = {"name": name, "log": log, "next": f"{scheme}://{place}" if behind else "-", "place": place}
        folder = self.folder / f"{hop.name}-{hop.server.transport}-{name}"
        return servers.wait_up(servers.launch(hop.server, folder, environment=environment, **words))

    def load(self, port: int, rate: float, seconds: float, ways: Sequence[str]) -> float:
        command = [str(self.steady), str(port), str(rate), str(seconds), str(CONNECTIONS), *ways]
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60 + 20 * seconds)
        import json  # noqa: PLC0415

        found = json.loads(told.stdout)
        assert not found["failed"], f"{found['failed']} of {found['requests']} requests failed"
        return float(found["rate"])

    def log(self, hop: Hop, name: str) -> Log:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return Log(name, [(words[0], words[1]) for words in map(str.split, lines)], hop.ways)


def watched(place: Place, trial: Trial, running: Running, parts: Sequence[tuple[Hop, str]], **load: Any) -> None:
    """Load on the first one while the agent watches all; fills in the trial."""
    watch = Watch(["--cmd", f"*{place.folder}/*"])
    try:
        watch.start()
        trial.rate = place.load(running.port, **load)
        time.sleep(LOOKS_EVERY)
        trial.lost = dict(watch.settle([])[1])
        watch.stop()
    finally:
        watch.kill()
    trial.joins = joins([place.log(hop, name) for hop, name in parts], watch.spans)


def chain(place: Place, wanted: Sequence[Hop], rate: float, seconds: float) -> Trial:
    trial, parts, reasons = Trial("chain"), [], []
    for hop in wanted:
        lacking = servers.missing(hop.server)
        if lacking:
            reasons.append(f"{hop.name} needs {', '.join(lacking)}")
        elif parts and hop.server.transport not in parts[-1][0].calls:
            reasons.append(f"{parts[-1][0].name} does not call {hop.name} over {hop.server.transport}")
        else:
            parts.append((hop, f"{len(parts) + 1}-{hop.name}"))
    trial.reason = "; ".join(reasons)
    with ExitStack() as stack:
        behind, scheme = None, ""
        for hop, name in reversed(parts):
            behind = place.start(hop, name, behind, scheme, background=False)
            stack.callback(behind.stop)
            scheme = hop.server.transport
        assert behind
        watched(place, trial, behind, parts, rate=rate, seconds=min(seconds, LONGEST), ways=())
    for join in trial.joins:
        hop = next((hop for hop, name in parts if name == join.hop), None)
        join.least = hop.joins if hop and join.way == "plain" else 1.0
    return trial


def ways(place: Place, hop: Hop, rate: float, seconds: float) -> Trial:
    trial = Trial(hop.name)
    if lacking := servers.missing(hop.server) + servers.missing(END.server):
        trial.reason = f"needs {', '.join(lacking)}"
        return trial
    with ExitStack() as stack:
        end = place.start(END, "end", None, "", background=False)
        stack.callback(end.stop)
        running = place.start(hop, hop.name, end, "http", background=True)
        stack.callback(running.stop)
        watched(place, trial, running, [(hop, hop.name)], rate=rate, seconds=seconds, ways=hop.ways)
    for join in trial.joins:
        join.least = hop.joins if join.way == "plain" else 1.0 if join.way == BACKGROUND else 0.0
    return trial


def play(folder: Path, short: bool, names: Sequence[str] = ()) -> list[Trial]:
    """All of it. `names`: only these services by themselves, and `chain`."""
    place = Place(folder)
    trials = []
    todo: list[tuple[str, Any]] = [
        ("chain", lambda: chain(place, hops.SHORT_CHAIN if short else hops.CHAIN, 100 if short else 500, 3 if short else 10)),
        *(
            (hop.name, lambda hop=hop: ways(place, hop, 60 if short else 120, 2 if short else 5))
            for hop in hops.HOPS
            if len(hop.ways) > 1 and (not short or hop.name in hops.SHORT)
        ),
    ]
    for name, function in todo:
        if names and name not in names:
            continue
        begun = time.monotonic()
        try:
            trial = function()
        except (AssertionError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
            trial = Trial(name, reason=str(error).strip().splitlines()[-1], broken=True)
        trials.append(trial)
        print(f"    {name}: {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
    return trials
