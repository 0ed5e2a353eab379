"""What whole traces cost: nginx as a proxy before nginx, both watched, with and without the programs that place them.

Each request is three spans: served, asked and served again. Without its place a request has no parent, and nobody is
known to call anybody: so the agent keeps no service graph either. The same agent does both, by turns: its programs are
taken out of the map by which others go on with them, and put back.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import generators
import meter
import servers
from figures import Figures, Part, summary
from full_load import EVERY, NGINX
from place import Place
from servers import Running, Server
from watching import Watching, watching

from autoinstr.attach.loader import STEPS
from autoinstr.bpf_call import BpfCommand, bpf, update

PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID = 13, 14  # of enum bpf_cmd
PROG_ARRAY = 3  # of enum bpf_map_type
PLACING = ("place", "place_streams")
PROXY = Server(
    "nginx-proxy",
    ("nginx", "-p", "{folder}", "-c", "{folder}/nginx_proxy.conf"),
    needs=("nginx",),
    files=("nginx_proxy.conf",),
)
PLACED, UNPLACED = "placed", "unplaced"
TITLES = {PLACED: "with parents", UNPLACED: "without"}


def held(command: int, number: int) -> int:
    return bpf(command, struct.pack("<I", number))


@contextmanager
def without_places(agent: Watching) -> Iterator[None]:
    """Requests get no place in a trace meanwhile."""
    maps = [one["map_id"] for one in meter.bpf_objects(agent.pids, "map") if one["map_type"] == PROG_ARRAY]
    with ExitStack() as stack:
        for number in maps:
            steps = held(MAP_GET_FD_BY_ID, number)
            stack.callback(os.close, steps)
            for name in PLACING:
                key, value = struct.pack("<I", STEPS.index(name)), ctypes.create_string_buffer(4)
                at = ctypes.create_string_buffer(key, 4)
                element = struct.pack("<IxxxxQQ", steps, ctypes.addressof(at), ctypes.addressof(value))
                bpf(BpfCommand.MAP_LOOKUP_ELEM, element)
                program = held(PROG_GET_FD_BY_ID, struct.unpack("<I", value.raw)[0])
                stack.callback(os.close, program)
                bpf(BpfCommand.MAP_DELETE_ELEM, element[:-8])
                stack.callback(update, steps, key, struct.pack("<I", program))
        yield


def turn(proxy: Running, behind: Running, agent: Watching, place: Place, wrong: list[str]) -> Figures:
    """Figures of a request that the proxy hands on; and of its eBPF programs, in a load of its own."""
    apps = [*meter.family(proxy.pid), *meter.family(behind.pid)]
    before, app = meter.cpu_seconds(agent.pids), meter.running_seconds(apps)
    told = agent.told()
    load = generators.wrk(proxy.port, place.seconds, place.folder)
    app_us = (meter.running_seconds(apps) - app) / load.requests * 1e6
    seen = agent.wait_told(told + 2 * load.requests) - told
    used = [after - at for at, after in zip(before, meter.cpu_seconds(agent.pids), strict=True)]
    if seen < 2 * load.requests:
        wrong.append(f"{2 * load.requests - seen} of {2 * load.requests} requests are missing in the metrics")
    with meter.bpf_stats():
        runs = meter.program_runs(agent.pids)
        counted = generators.wrk(proxy.port, 1, place.folder).requests
        after = meter.program_runs(agent.pids)
    nanoseconds = sum(after[kind][1] - runs[kind][1] for kind in after)
    return {
        "rate": load.rate,
        "app_us": app_us,
        "agent_user_us": used[0] / load.requests * 1e6,
        "agent_system_us": used[1] / load.requests * 1e6,
        "run_us": nanoseconds / counted / 1e3,
    }


def measure(place: Place) -> Part:
    """Its part of the price list: the variants are with and without places."""
    title = "whole traces: nginx before nginx, of which one request is three spans"
    if lacking := servers.missing(PROXY):
        return {"title": title, "lacking": f"needs {', '.join(lacking)}"}
    wrong: list[str] = []
    rounds: list[dict[str, Figures]] = []
    with ExitStack() as stack:
        behind = servers.launch(NGINX, place.folder / "placing_behind", log="off")
        stack.callback(behind.stop)
        servers.wait_up(behind)
        proxy = servers.launch(PROXY, place.folder / "placing", next=behind.port)
        stack.callback(proxy.stop)
        servers.wait_up(proxy)
        for _ in range(place.rounds):
            with watching(f"{proxy.port},{behind.port}", place.endpoint("placing"), EVERY) as agent:
                found = {PLACED: turn(proxy, behind, agent, place, wrong)}
                with without_places(agent):
                    found[UNPLACED] = turn(proxy, behind, agent, place, wrong)
            rounds.append(found)
    return {
        "title": title,
        "wrong": wrong,
        "variants": {name: {"title": text, **summary([one[name] for one in rounds])} for name, text in TITLES.items()},
    }
