"""The agent under full load: nginx with one worker, which answers faster than any application, in several settings."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import generators
import meter
import servers
from figures import Figures, Part, related, summary
from place import Place
from servers import Running, Server
from watching import watching

NGINX = Server(
    "nginx",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx_load.conf"),
    needs=("nginx",),
    files=("nginx_load.conf",),
)
AT_ONCE = 16
PIPELINED = f"""
init = function()
  local all = {{}}
  for n = 1, {AT_ONCE} do all[n] = wrk.format("GET", "/item/" .. n) end
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
    at_once: int = 1  # requests in flight on a connection


ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
EVERY = {"OTEL_TRACES_SAMPLER": "always_on"}
SETTINGS = (
    Setting("one_percent", "1 % of spans", ONE_PERCENT),
    Setting("every_span", "every span", EVERY),
    Setting("own_paths", "each a path of its own", EVERY, generators.OWN_PATHS),
    Setting("pipelined", f"{AT_ONCE} at a time", EVERY, PIPELINED, AT_ONCE),
)


def saturate(nginx: Running, setting: Setting, place: Place) -> tuple[int, Figures]:
    worker = meter.family(nginx.pid)[1:]
    before = meter.running_seconds(worker)
    load = generators.wrk(nginx.port, place.seconds, place.folder, setting.script)
    return load.requests, {
        "rate": load.rate,
        "app_us": (meter.running_seconds(worker) - before) / load.requests * 1e6,
    }


def watched(nginx: Running, setting: Setting, place: Place, lost: Counter[str], wrong: list[str]) -> Figures:
    with watching(nginx.port, place.endpoint("full_load"), setting.sampler) as agent:
        before = meter.cpu_seconds(agent.pids)
        requests, found = saturate(nginx, setting, place)
        told = agent.wait_told(requests)
        used = [after - at for at, after in zip(before, meter.cpu_seconds(agent.pids), strict=True)]
        found |= {"agent_user_us": used[0] / requests * 1e6, "agent_system_us": used[1] / requests * 1e6}
        found |= {"pss_bytes": meter.pss_bytes(agent.pids), "map_bytes": meter.map_bytes(agent.pids)}
        lost.update(agent.lost())
        excess = told - requests
        if excess < 0:
            wrong.append(f"{setting.title}: {-excess} of {requests} requests are missing in the metrics")
        if excess > generators.CONNECTIONS * setting.at_once:
            wrong.append(f"{setting.title}: {excess} requests too many in the metrics")
    return found


def measure_setting(nginx: Running, setting: Setting, place: Place, wrong: list[str]) -> Part:
    lost: Counter[str] = Counter()
    rounds = []
    for _ in range(place.rounds):
        _, alone = saturate(nginx, setting, place)
        found = watched(nginx, setting, place, lost, wrong)
        rounds.append(found | related(found, alone))
    return {"title": setting.title, "lost": dict(lost), **summary(rounds)}


def measure(place: Place) -> Part:
    """Its part of the price list: the settings are its variants."""
    title = "the agent under full load: nginx with autoinstr beside it"
    if lacking := servers.missing(NGINX):
        return {"title": title, "lacking": f"needs {', '.join(lacking)}"}
    wrong: list[str] = []
    with ExitStack() as stack:
        nginx = servers.launch(NGINX, place.folder / "full_load", log="off")
        stack.callback(nginx.stop)
        servers.wait_up(nginx)
        variants = {one.name: measure_setting(nginx, one, place, wrong) for one in SETTINGS}
    return {"title": title, "wrong": wrong, "variants": variants}
