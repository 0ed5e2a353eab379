"""What those pay who are not watched: for system calls, and for a TLS library that is probed for another process.

A server bears as much load as it can: alone, with the agent watching another process that has no TLS, and, if it has
TLS itself, with one that has the same library. wrk is not watched either, so figures tell what both ends pay.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import servers
from apps import APPS, App
from figures import Figures, Part, Spread, related, summary
from place import SINK, Place
from price import ALONE, Price
from servers import SERVERS, Running
from watching import watching

BYSTANDERS = [app for app in APPS if app.name in ("nginx", "nginx-tls")]
OTHER = servers.by_name("http-server-tls", SERVERS)
TITLES = {ALONE: ALONE, "plain": "another is watched", "shared": "another with the same library is"}


def measure(place: Place, calibrated: dict[str, Spread]) -> Part:
    title = "servers that nobody watches"
    if lacking := sorted({name for app in BYSTANDERS for name in servers.missing(app.server)}):
        return {"title": title, "lacking": f"needs {', '.join(lacking)}"}
    found = [one(app, place, calibrated) for app in BYSTANDERS]
    return {
        "title": title,
        "wrong": [wrong for each in found for wrong in each["wrong"]],
        "variants": {name: variant for each in found for name, variant in each["variants"].items()},
    }


def one(app: App, place: Place, calibrated: dict[str, Spread]) -> Part:
    price = Price(app, place, calibrated)
    rounds: list[dict[str, Figures]] = []
    with ExitStack() as stack:

        def run(server: servers.Server) -> Running:
            running = servers.launch(server, place.folder / f"bystander_{app.name}_{server.name}")
            stack.callback(running.stop)
            return servers.wait_up(running)

        def beside(watched: Running) -> Figures:
            with watching(watched.port, place.endpoint("bystander"), {}) as agent:
                found = price.saturate(bystander, place.seconds)[1] | price.count_hits(bystander, agent)[1]
                price.expect(agent.told() == 0, "requests of others are in the metrics")
            return found

        plain = run(SINK)
        bystander = price.launch(ALONE)
        stack.callback(bystander.stop)
        price.warm_up(bystander)
        turns: dict[str, Callable[[], Figures]] = {
            ALONE: lambda: price.saturate(bystander, place.seconds)[1],
            "plain": lambda: beside(plain),
        }
        if app.server.secure:
            shared = run(OTHER)
            turns["shared"] = lambda: beside(shared)
        for _ in range(place.rounds):
            found = {name: turn() for name, turn in turns.items()}
            for name in found.keys() - {ALONE}:
                found[name] |= related(found[name], found[ALONE])
            rounds.append(found)
    return {
        "wrong": price.wrong,
        "variants": {
            f"{app.name}, {name}": {
                "title": f"{app.title}: {TITLES[name]}",
                **summary([each[name] for each in rounds]),
            }
            for name in turns
        },
    }
