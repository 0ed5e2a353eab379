"""What watching costs: nginx under load, without and with the agent, again and again. Root.

Usage: run.py [--short] [--rounds N] [--seconds S] [--output bench.json]

nginx answers `return 200` with one worker over kept connections; wrk makes the load; nothing is bound to a CPU, so all
share the machine's. Rounds without (A) and with (B) the agent take turns, since the speed of a machine changes by the
minute: only figures of the same turn are compared. Prints a table and writes the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import meter  # noqa: E402 - found by the line above
import servers  # noqa: E402
from agent import Agent  # noqa: E402
from servers import Running, Server  # noqa: E402

NGINX = Server("nginx", ("nginx", "-p", "{folder}", "-c", "{folder}/nginx_load.conf"), files=("nginx_load.conf",))
SINK = Server("sink", ("{python}", str(HERE / "sink.py"), "{port}"))
CONNECTIONS = 32
# The agent is given so long to tell what it saw, after the load has ended.
TOLD_WITHIN = 10.0
OWN_PATHS = 'local n = 0\nrequest = function() n = n + 1 return wrk.format("GET", "/item/" .. n) end\n'
PIPELINED = """
init = function()
  local all = {}
  for n = 1, 16 do all[n] = wrk.format("GET", "/item/" .. n) end
  batch = table.concat(all)
end
request = function() return batch end
"""


@dataclass(frozen=True)
class Setting:
    """One way to run agent and load."""

    name: str
    title: str
    sampler: dict[str, str]
    script: str = ""


ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
EVERY = {"OTEL_TRACES_SAMPLER": "always_on"}
SETTINGS = (
    Setting("one_percent", "metrics, 1 % of spans", ONE_PERCENT),
    Setting("every_span", "metrics, every span", EVERY),
    Setting("own_paths", "every span, a path of its own in each", EVERY, OWN_PATHS),
    Setting("pipelined", "every span, 16 requests at a time", EVERY, PIPELINED),
)


@dataclass
class Turn:
    """One load: figures are per request and in microseconds unless they say otherwise."""

    requests: int
    rate: float  # requests/s
    nginx: float
    agent: float = 0.0
    missing: int = 0  # requests that the metrics do not have
    lost: dict[str, int] = field(default_factory=dict)  # what the agent says it lost


@dataclass
class Start:
    """What the agent costs without any load."""

    ready: float  # seconds from its start to the line `ready`, as the caller sees it
    compiled: float  # the same where nothing is kept from an earlier run
    idle: float  # share of a core
    pss: int = 0  # bytes, after the load
    maps: int = 0


def worker(nginx: Running) -> list[int]:
    return meter.family(nginx.pid)[1:]


def wrk(nginx: Running, seconds: float, script: str, folder: Path) -> tuple[int, float]:
    """Load. Returns requests, and requests a second."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s"]
    if script:
        (folder / "wrk.lua").write_text(script)
        command += ["-s", str(folder / "wrk.lua")]
    done = subprocess.run([*command, f"http://127.0.0.1:{nginx.port}"], check=True, capture_output=True, text=True)
    count, rate = re.search(r"(\d+) requests in", done.stdout), re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert count and rate, done.stdout
    return int(count[1]), float(rate[1])


class Page:
    """The agent's own Prometheus page: how many requests it counted, and what it says it lost."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def read(self) -> str:
        with urllib.request.urlopen(self._url, timeout=10) as response:
            return str(response.read().decode())

    def counted(self) -> int:
        counts = re.findall(r"^http_server_request_duration_seconds_count\{.*?\} (\S+)", self.read(), re.MULTILINE)
        return int(sum(map(float, counts)))

    def lost(self) -> dict[str, int]:
        found = re.findall(r'^autoinstr_lost_total\{loss="(.*?)"\} (\d+)', self.read(), re.MULTILINE)
        return {name: int(count) for name, count in found if int(count)}


class Bench:
    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.nginx = servers.launch(NGINX, folder / "nginx", log="off")
        self.sink = servers.launch(SINK, folder / "sink")
        for running in (self.nginx, self.sink):
            servers.wait_up(running)

    def close(self) -> None:
        self.nginx.stop()
        self.sink.stop()

    @contextmanager
    def agent(self, setting: Setting, *, cache: Path | None = None) -> Iterator[tuple[Agent, Page]]:
        page = servers.free_port()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.sink.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            **setting.sampler,
        }
        kept = os.environ.get("AUTOINSTR_CACHE_DIR")
        if cache or kept:
            environment["AUTOINSTR_CACHE_DIR"] = str(cache or kept)
        flags = ("--port", self.nginx.port, "--prometheus-port", page)
        agent = Agent(*flags, environment=environment, exports=("otlp", "prometheus"))
        try:
            yield agent.wait_ready(), Page(page)
            agent.stop()
        finally:
            agent.kill()

    def load(self, script: str) -> tuple[int, float, float]:
        """Requests, requests a second, microseconds of nginx a request."""
        before = meter.running_seconds(worker(self.nginx))
        requests, rate = wrk(self.nginx, self.seconds, script, self.folder)
        return requests, rate, (meter.running_seconds(worker(self.nginx)) - before) / requests * 1e6

    def without(self, setting: Setting) -> Turn:
        return Turn(*self.load(setting.script))

    def watched(self, setting: Setting, start: Start | None = None) -> Turn:
        with self.agent(setting) as (agent, page):
            pids = meter.family(agent.pid)
            before = meter.cpu_seconds(pids)
            turn = Turn(*self.load(setting.script))
            end = time.monotonic() + TOLD_WITHIN
            while page.counted() < turn.requests and time.monotonic() < end:
                time.sleep(0.5)
            turn.agent = (meter.cpu_seconds(pids) - before) / turn.requests * 1e6
            turn.missing = max(0, turn.requests - page.counted())
            turn.lost = page.lost()
            if start:
                start.pss = max(start.pss, meter.pss_bytes(meter.family(agent.pid)))
                start.maps = meter.map_bytes(meter.family(agent.pid))
        return turn

    def start(self, setting: Setting, idle_seconds: float) -> Start:
        """Start twice: with nothing kept from an earlier run, then as usual; then watch it doing nothing."""
        with self.agent(setting, cache=self.folder / "cache") as (agent, _):
            compiled = agent.ready_after
        with self.agent(setting, cache=self.folder / "cache") as (agent, _):
            time.sleep(2)  # what a start leaves to do is not idleness
            pids = meter.family(agent.pid)
            before = meter.running_seconds(pids)
            time.sleep(idle_seconds)
            idle = (meter.running_seconds(pids) - before) / idle_seconds
            return Start(agent.ready_after, compiled, idle, meter.pss_bytes(pids), meter.map_bytes(pids))


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(setting: Setting, pairs: Sequence[tuple[Turn, Turn]]) -> dict[str, Any]:
    lost: dict[str, int] = {}
    for _, watched in pairs:
        for name, count in watched.lost.items():
            lost[name] = lost.get(name, 0) + count
    return {
        "title": setting.title,
        "throughput_ratio": spread([watched.rate / alone.rate for alone, watched in pairs]),
        "requests_per_second_without": spread([alone.rate for alone, _ in pairs]),
        "requests_per_second_with": spread([watched.rate for _, watched in pairs]),
        "nginx_us_per_request_without": spread([alone.nginx for alone, _ in pairs]),
        "nginx_us_per_request_added": spread([watched.nginx - alone.nginx for alone, watched in pairs]),
        "agent_us_per_request": spread([watched.agent for _, watched in pairs]),
        "requests": sum(watched.requests for _, watched in pairs),
        "missing_in_metrics": sum(watched.missing for _, watched in pairs),
        "lost": lost,
    }


LINES = (
    ("throughput_ratio", "throughput with / without", "{:.2f}"),
    ("requests_per_second_without", "requests/s without", "{:,.0f}"),
    ("requests_per_second_with", "requests/s with", "{:,.0f}"),
    ("nginx_us_per_request_without", "nginx, us a request", "{:.2f}"),
    ("nginx_us_per_request_added", "added to it by probes", "{:.2f}"),
    ("agent_us_per_request", "agent, us a request", "{:.2f}"),
)


def show(results: Sequence[dict[str, Any]], start: Start) -> None:
    for result in results:
        print(f"\n{result['title']} ({result['requests']:,} requests)")
        for key, title, form in LINES:
            values = result[key]
            middle, least, most = (form.format(values[name]) for name in ("median", "least", "most"))
            print(f"  {title:<28}{middle:>12}   ({least} .. {most})")
        print(f"  {'missing in the metrics':<28}{result['missing_in_metrics']:>12,}")
        print(f"  {'said to be lost':<28}{', '.join(f'{n} {c:,}' for n, c in result['lost'].items()) or 'nothing':>12}")
    print("\nthe agent itself")
    print(f"  {'start to ready':<28}{start.ready:>11.2f}s   ({start.compiled:.2f}s when it has to compile)")
    print(f"  {'idle':<28}{start.idle * 100:>11.2f}%   of a core")
    print(f"  {'memory (Pss)':<28}{start.pss / 1e6:>10.1f}MB")
    print(f"  {'eBPF maps':<28}{start.maps / (1 << 20):>9.1f}MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description="What watching costs, in the application and in the agent.")
    parser.add_argument("--short", action="store_true", help="one round of two seconds: figures are rough")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load in each half of a round")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--only", choices=[setting.name for setting in SETTINGS], help="only this setting")
    options = parser.parse_args()
    if lacking := [program for program in ("nginx", "wrk") if not shutil.which(program)]:
        parser.error(f"needs {', '.join(lacking)}")
    if os.geteuid() != 0:
        parser.error("needs root")
    rounds, seconds, idle = (1, 2.0, 5.0) if options.short else (options.rounds, options.seconds, 20.0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(folder, seconds)
        stack.callback(bench.close)
        print(
            f"{platform.platform()}, {os.cpu_count()} CPUs; {rounds} rounds of 2 x {seconds:g} s a setting", flush=True
        )
        start = bench.start(SETTINGS[0], idle)
        results = []
        for setting in (setting for setting in SETTINGS if options.only in (None, setting.name)):
            print(f"measuring: {setting.title} ...", flush=True)
            pairs = [(bench.without(setting), bench.watched(setting, start)) for _ in range(rounds)]
            results.append({"name": setting.name, **summary(setting, pairs)})
    show(results, start)
    machine = {"platform": platform.platform(), "cpus": os.cpu_count(), "rounds": rounds, "seconds": seconds}
    options.output.write_text(
        json.dumps({"machine": machine, "start": vars(start), "settings": results}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
