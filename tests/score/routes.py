"""Routes of Go's routers: rows of the score whose truth is what the router itself calls its route, in every request.

Out: a cell for each router of `routers`, of one run of the agent.
"""

from __future__ import annotations

import http.client
import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import routers
from cells import Cell
from truth import SERVER
from watch import Watch

SHAPE = "routes"
ABOUT = "Go's routers, each request with the route that the router itself gives it"
NAMES = tuple(f"go-{router}" for router in routers.ROUTERS)
COUNT = 211  # requests of each router
CONNECTIONS = 3  # and one that is older than the agent
Truth = list[tuple[str, str, str]]  # method, path, route


def play(folder: Path, names: Collection[str]) -> list[Cell]:
    wanted = {router: Cell(f"go-{router}", SERVER, "http", SHAPE) for router in routers.ROUTERS}
    wanted = {router: cell for router, cell in wanted.items() if cell.row in names}
    program = folder / "routers"
    reason = "needs go" if not shutil.which("go") else routers.build(program) if wanted else ""
    if reason:
        for cell in wanted.values():
            cell.reason = reason
    elif wanted:
        play_all(program, wanted)
    return list(wanted.values())


def play_all(program: Path, cells: dict[str, Cell]) -> None:
    with routers.running_routers(program) as (pid, ports):
        older = {router: http.client.HTTPConnection("127.0.0.1", ports[router]) for router in cells}
        for router, connection in older.items():
            routers.ask(connection, *routers.wishes(router, 0)[0])
        watch = Watch(["--pid", str(pid)])
        try:
            watch.start()
            truth = {router: ask_all(router, ports[router], connection) for router, connection in older.items()}
            counts = watch.counted_by(sum(map(len, truth.values())))
            watch.stop()
        finally:
            watch.kill()
    for router, cell in cells.items():
        spans = [span for span in watch.spans if span["attributes"].get("server.port") == ports[router]]
        compare(cell, truth[router], spans)
        cell.metrics_equal = counts == sum(map(len, truth.values()))


def ask_all(router: str, port: int, older: http.client.HTTPConnection) -> Truth:
    connections = [older, *(http.client.HTTPConnection("127.0.0.1", port) for _ in range(CONNECTIONS))]
    truth = []
    for number in range(1, COUNT):
        asked = routers.wishes(router, number)
        method, path = asked[number % len(asked)]
        route = routers.ask(connections[number % len(connections)], method, path)
        truth.append((method, path.partition("?")[0], route))
    return truth


def compare(cell: Cell, truth: Truth, spans: Collection[dict[str, Any]]) -> None:
    """Fills the cell. Some paths are asked for several times."""
    found = [span["attributes"] for span in spans]
    told = Counter((each["http.request.method"], each["url.path"], each.get("http.route", "none")) for each in found)
    asked = Counter(truth)
    cell.requests = len(truth)
    cell.seen = (asked & told).total()
    for (method, path, route), count in (asked - told).items():
        others = {other for other in told if other[:2] == (method, path) and other not in asked}
        if others:
            cell.wrong += count
            cell.complain(f"wrong: {method} {path}: its route is {route}, not {others.pop()[2]}")
        else:
            cell.missing += count
            cell.complain(f"missing: {method} {path}")
    paths = {one[:2] for one in asked}
    for (method, path, _), count in (told - asked).items():
        if (method, path) not in paths:
            cell.invented += count
            cell.complain(f"invented: {method} {path}")
    cell.duplicated = max(0, len(found) - len(truth) - cell.invented)
