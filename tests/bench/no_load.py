"""The agent without any load: how soon it is ready, what it takes when it does nothing, and from whom."""

from __future__ import annotations

import time

import generators
import meter
import servers
from calibrate import CALLS, Hits
from figures import Figures, Part, summary
from place import SINK, Place
from watching import watching

from autoinstr.pipeline import SETTLED_AFTER

# What a start leaves to do is not idleness: memory is given back some seconds after `ready`.
SETTLING = SETTLED_AFTER + 1
IDLE = 10  # times as long as a load: it wakes twice a second


def measure(place: Place) -> Part:
    """Start twice: with nothing kept from an earlier run, then as usual; then watch it doing nothing."""
    watched = servers.launch(SINK, place.folder / "no_load")
    servers.wait_up(watched)
    others = Hits(generators.build("hits", place.folder))
    rounds: list[Figures] = []
    cache = place.folder / "cache"
    with watching(watched.port, place.endpoint("no_load"), {}, cache) as agent:
        compiled = agent.ready_after
    for _ in range(place.rounds):
        call = others.nanoseconds("calls", CALLS)
        with watching(watched.port, place.endpoint("no_load"), {}, cache) as agent:
            time.sleep(SETTLING)
            before = meter.running_seconds(agent.pids)
            time.sleep(IDLE * place.seconds)
            rounds.append(
                {
                    "ready_s": agent.ready_after,
                    "compiled_s": compiled,
                    "start_cpu_s": agent.started_with,
                    "idle_percent": (meter.running_seconds(agent.pids) - before) / (IDLE * place.seconds) * 100,
                    "pss_bytes": meter.pss_bytes(agent.pids),
                    "map_bytes": meter.map_bytes(agent.pids),
                    "others_call_ns": others.nanoseconds("calls", CALLS) - call,
                }
            )
    others.close()
    watched.stop()
    return {"title": "the agent without load", **summary(rounds)}
