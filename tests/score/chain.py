"""Whole traces: services that call each other, and every span's parent held against what they have logged.

A chain of many services under steady load, all under one agent; and each service by itself, with all the ways in which
it makes requests mixed, while it makes others for nobody. Out: `Join`s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import hops
import meter
import servers
from certificates import trusting
from hops import Hop
from joins import BACKGROUND, Join, Log, joins
from servers import Running
from watch import LOOKS_EVERY, Watch

STEADY = Path(__file__).resolve().parents[1] / "bench/steady.c"
CONNECTIONS = 32
RATE = 500  # requests/s of the quick chain
SLOW = 100  # of the one with frameworks, which take four times the CPU
WARMING = (100, 4.0)  # requests/s, seconds: what compiles itself while it runs has done so by then
SECONDS = 10.0  # of a chain's load. In all no more than 8,192 requests: so many methods of gRPC are told apart
ENDS_JOINED = (
    0.75  # of servers' spans: over TLS the first request of a connection may be told before its socket is known
)
# who answers, and calls nobody, by transport; and ways that are of HTTP/1 alone
ENDS = {"http": hops.named("go"), "h2c": hops.named("go", "h2c"), "grpc": hops.named("grpc-go", "grpc")}
BY_HTTP1 = ("name", "fetch", "client")


@dataclass
class Trial:
    """One run of the agent. `reason`: why it, or a part of it, could not be run."""

    name: str
    joins: list[Join] = field(default_factory=list)
    reason: str = ""
    broken: bool = False
    asked: float = 0.0  # requests/s
    rate: float = 0.0  # that came through
    cpu: float = 0.0  # seconds of CPU a request, of all services
    lost: dict[str, int] = field(default_factory=dict)
    orphans: dict[str, int] = field(
        default_factory=dict
    )  # requests without a parent, by the reason that the agent says

    @property
    def uncounted(self) -> int:
        """Requests without a parent, beyond those for which the agent says why."""
        return max(0, sum(join.none for join in self.joins) - sum(self.orphans.values()))

    @property
    def good(self) -> bool:
        return not self.broken and not self.uncounted and all(join.good for join in self.joins)

    def as_json(self) -> dict[str, Any]:
        about = {"name": self.name, "reason": self.reason, "good": self.good, "rate": self.rate, "asked": self.asked}
        return {
            **about,
            "lost": self.lost,
            "cpu": self.cpu,
            "orphans": self.orphans,
            "joins": [join.as_json() for join in self.joins],
        }


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
        found = json.loads(told.stdout)
        assert not found["failed"], f"{found['failed']} of {found['requests']} requests failed"
        return float(found["rate"])

    def log(self, hop: Hop, name: str) -> Log:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return Log(name, [(words[0], words[1]) for words in map(str.split, lines)], hop.ways)


def watched(
    place: Place,
    trial: Trial,
    services: Sequence[Running],
    parts: Sequence[tuple[Hop, str]],
    *,
    warming: tuple[float, float] | None = None,
    **load: Any,
) -> None:
    """Load on the last one that was started while the agent watches all; fills in the trial."""
    pids = [pid for service in services for pid in meter.family(service.pid)]
    watch = Watch(["--cmd", f"*{place.folder}/*"])
    try:
        watch.start()
        if warming:
            place.load(services[-1].port, *warming, ("warm",))
        before = sum(meter.cpu_seconds(pids))
        trial.rate = place.load(services[-1].port, **load)
        trial.cpu = (sum(meter.cpu_seconds(pids)) - before) / (load["rate"] * load["seconds"])
        time.sleep(LOOKS_EVERY)
        trial.lost = dict(watch.settle([])[1])
        trial.orphans = watch.orphans
        watch.stop()
    finally:
        watch.kill()
    trial.joins = joins([place.log(hop, name) for hop, name in parts], watch.spans)


def chain(place: Place, kind: str, short: bool) -> Trial:
    wanted, rate = CHAINS[kind]
    trial, parts, reasons = Trial(kind, asked=0 if short else rate), [], []
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
        services: list[Running] = []
        scheme = ""
        for hop, name in reversed(parts):
            services.append(place.start(hop, name, services[-1] if services else None, scheme, background=False))
            stack.callback(services[-1].stop)
            scheme = hop.server.transport
        load = {"rate": SLOW, "seconds": 3.0} if short else {"rate": rate, "seconds": SECONDS, "warming": WARMING}
        watched(place, trial, services, parts, ways=(), **load)
    called = {name: after[0].server.transport for (_, name), after in pairwise(parts)}
    for join in trial.joins:
        hop = next((hop for hop, name in parts if name == join.hop), None)
        by_http1 = called.get(join.hop) in ("http", "https")
        if join.way == "plain" and hop:
            join.least = hop.joins if by_http1 else hop.streams
        else:
            join.least = ENDS_JOINED
    return trial


def ways(place: Place, name: str, rate: float, seconds: float) -> Trial:
    hop, by = ALONE[name]
    trial, end = Trial(name), ENDS[by]
    if lacking := servers.missing(hop.server) + servers.missing(end.server):
        trial.reason = f"needs {', '.join(lacking)}"
        return trial
    hop = replace(hop, ways=[way for way in hop.ways if by == "http" or way not in BY_HTTP1])
    with ExitStack() as stack:
        behind = place.start(end, "end", None, "", background=False)
        stack.callback(behind.stop)
        running = place.start(hop, hop.name, behind, by, background=True)
        stack.callback(running.stop)
        watched(place, trial, [behind, running], [(hop, hop.name)], rate=rate, seconds=seconds, ways=hop.ways)
    share = hop.joins if by == "http" else hop.streams
    for join in trial.joins:
        must = join.way == "plain" or (by == "http" and join.way in hop.joined)
        join.least = share if must else 1.0 if join.way == BACKGROUND else 0.0
    return trial


ALONE = {hop.name: (hop, "http") for hop in hops.HOPS if len(hop.ways) > 1}
ALONE |= {
    f"{name}-{by}": (hop, by)
    for name, (hop, _) in list(ALONE.items())
    for by in ENDS
    if by != "http" and by in hop.calls and hop.streams
}
CHAINS = {"chain": (hops.CHAIN, RATE), "frameworks": (hops.FRAMEWORKS, SLOW)}
NAMES = (*CHAINS, *ALONE)
SHORT = ("chain", *hops.SHORT)


def play(folder: Path, names: Collection[str], short: bool) -> list[Trial]:
    """The chain, and services by themselves, as far as they are wanted."""
    if not names:
        return []
    place, trials = Place(folder), []
    for name in (name for name in NAMES if name in names):
        begun = time.monotonic()
        print(f"traces: {name} ...", file=sys.stderr, flush=True)
        try:
            if name in CHAINS:
                trial = chain(place, name, short)
            else:
                trial = ways(place, name, 60 if short else 150, 2.0 if short else 4.0)
        except (AssertionError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
            trial = Trial(name, reason=str(error).strip().splitlines()[-1], broken=True)
        trials.append(trial)
        print(f"    {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
    return trials
