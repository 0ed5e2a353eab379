"""The agent under full load, in several settings: nginx with one worker, which answers faster than any application, and
grpc-go, of which many calls come and go at the same time on each connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

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
    script: str | None = None  # of wrk; None: the load is the usual one of the server's protocol
    at_once: int = 1  # requests in flight on a connection
    own: bool = False  # each call of gRPC has metadata of its own


ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
EVERY = {"OTEL_TRACES_SAMPLER": "always_on"}
SHARES = (
    Setting("one_percent", "1 % of spans", ONE_PERCENT),
    Setting("every_span", "every span", EVERY),
)
CALLS = (*SHARES, Setting("own_metadata", "1 %, each with metadata of its own", ONE_PERCENT, own=True))
SETTINGS = (
    *(replace(one, script="") for one in SHARES),
    Setting("own_paths", "each a path of its own", EVERY, generators.OWN_PATHS),
    Setting("pipelined", f"{AT_ONCE} at a time", EVERY, PIPELINED, AT_ONCE),
)


def saturate(server: Running, setting: Setting, place: Place) -> tuple[int, Figures]:
    pids = meter.family(server.pid)
    before = meter.running_seconds(pids)
    if setting.script is None:
        load = generators.saturate(server, place.seconds, place.folder, own=setting.own)
    else:
        load = generators.wrk(server.port, place.seconds, place.folder, setting.script)
    used = meter.running_seconds(pids) - before
    return load.requests, {"rate": load.rate, "app_us": used / load.requests * 1e6}


def watched(server: Running, setting: Setting, place: Place, lost: Counter[str], wrong: list[str]) -> Figures:
    with watching(server.port, place.endpoint("full_load"), setting.sampler) as agent:
        before = meter.cpu_seconds(agent.pids)
        requests, found = saturate(server, setting, place)
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


def measure_setting(server: Running, setting: Setting, place: Place, wrong: list[str]) -> Part:
    lost: Counter[str] = Counter()
    rounds = []
    for _ in range(place.rounds):
        _, alone = saturate(server, setting, place)
        found = watched(server, setting, place, lost, wrong)
        rounds.append(found | related(found, alone))
    return {"title": setting.title, "lost": dict(lost), **summary(rounds)}


def measure(place: Place, server: Server = NGINX, settings: Sequence[Setting] = SETTINGS) -> Part:
    """Its part of the price list: the settings are its variants."""
    title = f"the agent under full load: {server.name} with autoinstr beside it"
    if lacking := servers.missing(server):
        return {"title": title, "lacking": f"needs {', '.join(lacking)}"}
    wrong: list[str] = []
    with ExitStack() as stack:
        running = servers.launch(server, place.folder / f"full_load_{server.name}", log="off")
        stack.callback(running.stop)
        servers.wait_up(running)
        variants = {one.name: measure_setting(running, one, place, wrong) for one in settings}
    return {"title": title, "wrong": wrong, "variants": variants}
