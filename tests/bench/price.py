"""The price of watching one application: alone, with autoinstr beside it, and with an in-process agent inside it.

The variants take turns in every round, since the speed of a machine changes by the minute: only figures of the same
round are compared. `alone` and `autoinstr` are the same process. Counts must be exact: what is wrong is told in words.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import apps
import generators
import meter
import servers
from apps import App
from figures import Figures, Part, Spread, related, summary
from generators import CONNECTIONS
from in_process import InProcess, LackingError
from place import Place
from servers import Running
from watching import Watching, watching

ALONE, AUTOINSTR, IN_PROCESS = "alone", "autoinstr", "in_process"
# both agents tell metrics and every span
SAMPLER = {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}
WARMING_UP = COUNTING_HITS = 1  # second
ON_FUNCTION = 2  # enum bpf_prog_type
HIT_OF = {17: "tracepoint_ns", ON_FUNCTION: "uprobe_push_ns"}  # -> the figure that tells what a hit costs
APPS = Path(apps.__file__).resolve().parent
SCRIPTS = Path(sys.executable).parent


class Price:
    """One application, the turns of its variants, and what was wrong in them."""

    def __init__(self, app: App, place: Place, calibrated: dict[str, Spread]) -> None:
        self.app = app
        self.place = place
        self.calibrated = calibrated
        self.rate = 0.0  # of the load that is not the utmost
        self.answered: Counter[str] = Counter()  # requests, by the folder of who answered
        self.wrong: list[str] = []

    def own(self, variant: str) -> str:
        """Name of a variant's folder and of its OTLP endpoint."""
        return f"{self.app.name}_{variant}"

    def launch(self, variant: str, inside: InProcess | None = None) -> Running:
        server, environment = self.app.server, {}
        if inside:
            server = inside.inside(server)
            environment = {
                "OTEL_SERVICE_NAME": self.app.name,
                "OTEL_EXPORTER_OTLP_ENDPOINT": self.place.endpoint(self.own(variant)),
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                **SAMPLER,
                **dict(inside.environment),
            }
        scripts = (inside and inside.scripts) or SCRIPTS
        folder = self.place.folder / self.own(variant)
        running = servers.launch(server, folder, environment=environment, apps=APPS, scripts=scripts, log="off")
        return servers.wait_up(running)

    def expect(self, good: bool, what: str) -> None:
        if not good:
            self.wrong.append(f"{self.app.name}: {what}")

    def saturate(self, running: Running, seconds: int) -> tuple[int, Figures]:
        """Requests, and the figures of a load as fast as it goes."""
        pids = meter.family(running.pid)
        before = meter.running_seconds(pids)
        load = generators.saturate(running, seconds, self.place.folder)
        used = meter.running_seconds(pids) - before
        self.answered[running.folder.name] += load.requests
        self.expect(load.failed == 0, f"{load.failed} of {load.requests} requests failed")
        return load.requests, {"rate": load.rate, "app_us": used / load.requests * 1e6}

    def keep_up(self, running: Running) -> tuple[int, Figures]:
        """The same for a load of a fixed rate, which there is a generator for of HTTP/1 without TLS only."""
        if self.app.server.transport != "http":
            return 0, {}
        load = generators.steady(self.place.steady, running.port, self.rate, self.place.seconds)
        self.answered[running.folder.name] += load.requests
        self.expect(load.failed == 0, f"{load.failed} of {load.requests} requests at a fixed rate failed")
        return load.requests, {"p50_us": load.p50_us, "p99_us": load.p99_us, "kept_up": min(1, load.rate / self.rate)}

    def warm_up(self, running: Running) -> None:
        """And find the rate of the load that is not the utmost: half of what the slowest variant bears, for in a
        server that can't keep up, latency tells only how long that went on."""
        self.saturate(running, WARMING_UP)
        bears = self.saturate(running, WARMING_UP)[1]["rate"]
        self.rate = min(self.rate or bears, bears / 2)

    def exported_inside(self, inside: InProcess) -> float:
        """Bytes a request that the in-process agent exported. Metrics may be missing: they go out once a minute, and
        not every server lets its agent speak at the end."""
        told = self.place.exported(self.own(IN_PROCESS))
        self.expect("v1/traces" in told, f"{inside.title} exported no spans")
        return sum(told.values()) / self.answered[self.own(IN_PROCESS)]

    def turn(self, running: Running) -> Figures:
        return self.saturate(running, self.place.seconds)[1] | self.keep_up(running)[1]

    def watched_turn(self, running: Running) -> Figures:
        endpoint = self.own(AUTOINSTR)
        exported = sum(self.place.exported(endpoint).values())
        with watching(running.port, self.place.endpoint(endpoint), SAMPLER, flags=self.app.watched) as agent:
            before = meter.cpu_seconds(agent.pids)
            first, found = self.saturate(running, self.place.seconds)
            agent.wait_told(first)
            used = [after - at for at, after in zip(before, meter.cpu_seconds(agent.pids), strict=True)]
            found |= {"agent_user_us": used[0] / first * 1e6, "agent_system_us": used[1] / first * 1e6}
            second, latency = self.keep_up(running)
            third, hits = self.count_hits(running, agent)
            requests = first + second + third
            told = agent.wait_told(requests)
            # wrk and h2load do not count what they still wait for at their end
            self.expect(told >= requests, f"{requests - told} of {requests} requests are missing in the metrics")
            self.expect(told <= requests + 2 * CONNECTIONS, f"{told - requests} requests too many in the metrics")
            found |= latency | hits
            found |= {"pss_bytes": meter.pss_bytes(agent.pids), "map_bytes": meter.map_bytes(agent.pids)}
        found["exported_bytes"] = (sum(self.place.exported(endpoint).values()) - exported) / told
        return found

    def count_hits(self, running: Running, agent: Watching) -> tuple[int, Figures]:
        """Requests, and how often probes are hit for one, in the whole machine: in a load of its own, since this
        slows each hit down."""
        with meter.bpf_stats():
            before = meter.program_runs(agent.pids)
            requests, _ = self.saturate(running, COUNTING_HITS)
            after = meter.program_runs(agent.pids)
        hits = on_functions = runs_ns = hits_ns = socket_ns = 0.0
        for kind in after:
            count, time = (now - then for then, now in zip(before[kind], after[kind], strict=True))
            hits += count
            on_functions += count * (kind == ON_FUNCTION)
            run, way = (
                time - count * self.calibrated["statistics_ns"]["median"],
                count * self.calibrated[HIT_OF[kind]]["median"],
            )
            runs_ns, hits_ns = runs_ns + run, hits_ns + way
            socket_ns += (run + way) * (kind != ON_FUNCTION)
        return requests, {
            "hits": hits / requests,
            "function_hits": on_functions / requests,
            "run_us": runs_ns / requests / 1e3,
            "hit_us": hits_ns / requests / 1e3,
            "socket_us": socket_ns / requests / 1e3,
        }


def in_process(app: App, place: Place) -> tuple[InProcess | None, str]:
    """The agent that could be had instead; without one the reason, which is empty if none is wanted."""
    try:
        return (app.instead() if app.instead and place.in_process else None), ""
    except LackingError as reason:
        return None, str(reason)


def measure(app: App, place: Place, calibrated: dict[str, Spread]) -> Part:
    """Its part of the price list."""
    if lacking := servers.missing(app.server):
        return {"title": app.title, "lacking": f"needs {', '.join(lacking)}"}
    price = Price(app, place, calibrated)
    inside, lacking_inside = in_process(app, place)
    titles = {ALONE: ALONE, AUTOINSTR: AUTOINSTR}
    rounds: list[dict[str, Figures]] = []
    with ExitStack() as stack:
        plain = price.launch(ALONE)
        stack.callback(plain.stop)
        turns: dict[str, Callable[[], Figures]] = {
            ALONE: lambda: price.turn(plain),
            AUTOINSTR: lambda: price.watched_turn(plain),
        }
        price.warm_up(plain)
        if inside:
            titles[IN_PROCESS] = inside.title
            other = price.launch(IN_PROCESS, inside)
            stack.callback(other.stop)
            turns[IN_PROCESS] = lambda: price.turn(other)
            price.warm_up(other)
        for _ in range(place.rounds):
            found = {name: turn() for name, turn in turns.items()}
            for name in found.keys() - {ALONE}:
                found[name] |= related(found[name], found[ALONE])
            rounds.append(found)
    if inside:
        # at its end an application's agent tells what is left: one figure for all rounds
        exported = price.exported_inside(inside)
        for one in rounds:
            one[IN_PROCESS]["exported_bytes"] = exported
    return {
        "title": f"{app.title}; latency at {price.rate:,.0f} requests/s"
        if app.server.transport == "http"
        else app.title,
        "lacking_in_process": lacking_inside,
        "wrong": price.wrong,
        "variants": {
            name: {"title": title, **summary([turns[name] for turns in rounds])} for name, title in titles.items()
        },
    }
