"""What those pay who are not watched, and have a TLS library that is probed for the sake of another process.

A server over TLS bears as much load as it can: alone, with the agent watching another process that has no TLS, and one
that has the same library. wrk has it, too, so rate and hits tell what both ends pay.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import servers
from apps import APPS
from figures import Figures, Part, Spread, related, summary
from place import SINK, Place
from price import ALONE, Price
from servers import SERVERS, Running
from watching import watching

BYSTANDER = next(app for app in APPS if app.name == "nginx-tls")
OTHER = next(server for server in SERVERS if server.name == "http-server-tls")
TITLES = {ALONE: ALONE, "plain": "another is watched", "shared": "another with the same library is"}


def measure(place: Place, calibrated: dict[str, Spread]) -> Part:
    if lacking := servers.missing(BYSTANDER.server):
        return {"title": BYSTANDER.title, "lacking": f"needs {', '.join(lacking)}"}
    price = Price(BYSTANDER, place, calibrated)
    rounds: list[dict[str, Figures]] = []
    with ExitStack() as stack:

        def run(server: servers.Server) -> Running:
            running = servers.launch(server, place.folder / f"bystander_{server.name}")
            stack.callback(running.stop)
            return servers.wait_up(running)

        def beside(watched: Running) -> Figures:
            with watching(watched.port, place.endpoint("bystander"), {}) as agent:
                found = price.saturate(bystander, place.seconds)[1] | price.count_hits(bystander, agent)[1]
                price.expect(agent.told() == 0, "requests of others are in the metrics")
            return found

        plain, shared = run(SINK), run(OTHER)
        bystander = price.launch(ALONE)
        stack.callback(bystander.stop)
        price.warm_up(bystander)
        turns: dict[str, Callable[[], Figures]] = {
            ALONE: lambda: price.saturate(bystander, place.seconds)[1],
            "plain": lambda: beside(plain),
            "shared": lambda: beside(shared),
        }
        for _ in range(place.rounds):
            found = {name: turn() for name, turn in turns.items()}
            for name in found.keys() - {ALONE}:
                found[name] |= related(found[name], found[ALONE])
            rounds.append(found)
    return {
        "title": f"{BYSTANDER.title}, which nobody watches",
        "wrong": price.wrong,
        "variants": {
            name: {"title": title, **summary([turns[name] for turns in rounds])} for name, title in TITLES.items()
        },
    }
