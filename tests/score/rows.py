"""The rows of the matrix: every server of `servers` and every client of `clients`, by transport.

In: a shape to play. Out: the truth, a list of `Made`. Generators and peers run in a process of their own, which sends
orders ("agent", "fork", "restart") to the one here that can carry them out.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import clients
import servers
from certificates import certificates
from clients import CLIENTS, GRPC_CLIENTS, HTTP2_CLIENTS, Client
from generator import Caller, Made, Place, UnableError
from go_builds import of_builds
from load import Plan
from multiplexed import rpc_method, rpc_path, rpc_trace, wish
from peer import Peer
from peer_http2 import PeerHttp2
from servers import (
    FRONT,
    FRONT_TLS,
    FRONTS,
    GRPC_SERVERS,
    HTTP2_SERVERS,
    MULTIPLEXED,
    RPC,
    SERVERS,
    Running,
    Server,
)
from shapes import SHAPES, Ask, Shape

SPAWN = multiprocessing.get_context("spawn")  # whoever starts these has threads
PLAY_WITHIN = 90.0
# seconds, on a busy machine; TLS built into an executable of which the agent has seen none is not seen at once
LOOKED_AT_AFTER = 1.5
DONE, ENDED = "done", "ended"
BEHIND = (FRONT, FRONT_TLS, *FRONTS)  # Node stands behind them


class BrokenError(Exception):
    """The cell's own machinery, or the program, failed: nothing was learned of the agent."""


def play_server(orders: Connection, shape: str, place: Place, cell: str, seconds: float) -> None:
    """In a process of its own."""
    caller = Caller(place, cell, seconds, orders)
    try:
        function = servers.by_name(shape, SHAPES).server
        function(caller)
        orders.send(("made", caller.made))
    except UnableError as error:
        orders.send(("unable", (str(error), caller.made)))
    except Exception:
        orders.send(("broken", traceback.format_exc()))


def play_peer(orders: Connection, transport: str) -> None:
    """In a process of its own: serves until it is told that the clients have ended."""
    said: Queue[str] = Queue()

    def order(what: str) -> None:
        orders.send((what, None))
        said.get()

    try:
        peer = PeerHttp2(order, transport) if transport in MULTIPLEXED else Peer(order, transport)
        orders.send(("port", peer.port))
        while (word := orders.recv()) != ENDED:
            said.put(word)
        orders.send(("made", peer.records))
    except Exception:
        orders.send(("broken", traceback.format_exc()))


def attend(orders: Connection, carry_out: Callable[[str], None]) -> tuple[str, Any]:
    """Carry out orders until there is something else to say."""
    while True:
        if not orders.poll(PLAY_WITHIN):
            raise BrokenError(f"not done in {PLAY_WITHIN:g} s")
        try:
            what, content = orders.recv()
        except EOFError:
            raise BrokenError("the generator has ended") from None
        if what == "broken":
            raise BrokenError(content)
        if what not in ("agent", "fork", "restart"):
            return what, content
        carry_out(what)
        orders.send(DONE)


@dataclass
class ServerRow:
    server: Server
    folder: Path
    kind = "server"
    running: Running | None = None
    behind: Running | None = None

    @property
    def name(self) -> str:
        return self.server.row or self.server.name

    @property
    def transport(self) -> str:
        return self.server.transport

    def lacking(self) -> str:
        lacking = servers.missing(self.server)
        return f"needs {', '.join(lacking)}" if lacking else ""

    def start(self) -> None:
        if self.server in BEHIND:
            node = servers.by_name("node", SERVERS)
            self.behind = servers.wait_up(servers.launch(node, self.folder / "node"))
        self._launch()

    def _launch(self, port: int = 0) -> None:
        words = {"node": self.behind.port} if self.behind else {}
        self.running = servers.launch(self.server, self.folder / "server", port, **words)
        servers.wait_up(self.running)

    def restart(self) -> None:
        assert self.running
        self.running.stop()
        self._launch(self.running.port)

    def stop(self) -> None:
        for running in (self.running, self.behind):
            if running:
                running.stop()

    def flags(self) -> list[str]:
        assert self.running
        # the path of its socket stands in its command line
        return ["--cmd", f"*{self.folder}/*"] if self.server.unix else ["--port", str(self.running.port)]

    def unable(self, shape: Shape) -> str:
        if reason := self.server.unseen or shape.lacking(self.transport):
            return reason
        if self.server.waits_in_tls and shape.name == "older":
            return "what a thread waits for within its TLS library when the agent starts is not seen"
        return ""

    def _carry_out(self, what: str, start_agent: Callable[[], None]) -> None:
        assert self.running
        if what == "agent":
            start_agent()
        elif what == "fork":
            self.running.process.send_signal(self.server.forks)
        else:
            self.restart()

    def play(self, shape: Shape, cell: str, seconds: float, start_agent: Callable[[], None]) -> list[Made]:
        """UnableError, BrokenError: it could not be done, and nothing is known."""
        running = self.running
        assert running
        place = Place(
            self.transport,
            running.address,
            None if self.server.unix else running.port,
            self.server.chunked_up,
            own="/b/3/" if "nginx" in self.server.command else "nothing",
            behind=self.behind.port if self.behind else None,
            forks=bool(self.server.forks),
            always=self.server.always,
            keeps=self.server.keeps,
        )
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=play_server, args=(there, shape.name, place, cell, seconds), daemon=True)
        process.start()
        there.close()
        try:
            what, content = attend(here, lambda order: self._carry_out(order, start_agent))
        finally:
            end(process)
        if what == "unable":
            raise UnableError(*content)
        return content


@dataclass
class ClientRow:
    client: Client
    folder: Path
    transport: str = "http"
    kind = "client"

    @property
    def name(self) -> str:
        return self.client.name

    def lacking(self) -> str:
        lacking = clients.missing(self.client)
        return f"needs {', '.join(lacking)}" if lacking else ""

    def start(self) -> None:
        """Clients start with each shape."""

    def restart(self) -> None:
        """They have ended."""

    def stop(self) -> None:
        """And end with it."""

    def flags(self) -> list[str]:
        # the path of the list of its requests stands in its command line; a shell's children are watched, too
        return ["--cmd", f"*{self.folder}/*"]

    def unable(self, shape: Shape) -> str:
        if shape.late and not self.client.in_turn:
            return "makes others meanwhile: which of them are before the agent is not known"
        reason = shape.lacking(self.transport)
        return reason or (shape.client if isinstance(shape.client, str) else "")

    def play(self, shape: Shape, cell: str, seconds: float, start_agent: Callable[[], None]) -> list[Made]:
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=play_peer, args=(there, self.transport), daemon=True)
        process.start()
        there.close()
        running: list[clients.Running] = []
        try:
            _, port = attend(here, lambda _: None)
            scheme = {"h2c": "http", "h2": "https"}.get(self.transport, self.transport)
            base = f"{scheme}://127.0.0.1:{port}"
            asked = shape.client()
            for n in range(shape.at_once):
                lines = self._lines(asked, cell, base, n)
                running.append(clients.Running(self.client, self.folder / f"{cell}-{n}", lines))
            for one in running:
                one.wait_up()
            if self.client.build:
                time.sleep(LOOKED_AT_AFTER)
            took: dict[str, int] = {}
            threads = [Thread(target=lambda one=one: took.update(one.finish())) for one in running]
            for thread in threads:
                thread.start()
            Thread(target=tell_end, args=(threads, here), daemon=True).start()
            _, made = attend(here, lambda _: start_agent())
        finally:
            end(process)
            for one in running:
                one.kill()
        urls = {url.removeprefix(base): ns for url, ns in took.items()}
        if len(urls) != len(asked) * shape.at_once:
            raise BrokenError(f"{self.name} made {len(urls)} of {len(asked) * shape.at_once} requests")
        if self.transport in RPC:
            plans = [plan for n in range(shape.at_once) for _, plan in self._plans(asked, cell, n)]
            urls = {rpc_path(plan): urls[wish(plan)] for plan in plans}
        return list(with_own_times(made, urls))

    def _plans(self, asked: list[Ask], cell: str, process: int) -> Iterator[tuple[Ask, Plan]]:
        for number, ask in enumerate(asked):
            path = f"/{ask.wish}/{cell}-{process}.{number}"
            yield ask, Plan(path, ask.method, chunked=ask.chunked and self.client.chunked)

    def _lines(self, asked: list[Ask], cell: str, base: str, process: int) -> str:
        def line(ask: Ask, plan: Plan) -> str:
            how = "chunked" if plan.chunked else "length"
            if self.transport in RPC:
                return f"{rpc_method(plan)} {base}{wish(plan)} {ask.up} {how} 00-{rpc_trace(wish(plan))}-01\n"
            return f"{plan.method} {base}{plan.path} {ask.up} {how}\n"

        return "".join(line(*one) for one in self._plans(asked, cell, process))


def tell_end(threads: list[Thread], orders: Connection) -> None:
    for thread in threads:
        thread.join()
    orders.send(ENDED)


def with_own_times(made: list[Made], took: dict[str, int]) -> Iterator[Made]:
    """With how long it took by the client's own clock; one that the client tried again has none."""
    attempts = Counter(one.expected.path for one in made)
    for one in made:
        alone = attempts[one.expected.path] == 1 and one.inner
        yield replace(one, at_most=took[one.expected.path]) if alone else one


def end(process: Any) -> None:
    process.join(2)
    with suppress(ProcessLookupError):
        process.kill()
    process.join()


def all_rows(folder: Path) -> list[ServerRow | ClientRow]:
    certificates()  # made here, for whoever is started from here
    own = [
        ServerRow(server, folder / f"server-{server.name}")
        for server in (*BEHIND, *SERVERS, *of_builds(), *HTTP2_SERVERS, *GRPC_SERVERS)
    ]
    transports = [(client, name) for client in (*CLIENTS, *HTTP2_CLIENTS, *GRPC_CLIENTS) for name in client.transports]
    return [*own, *(ClientRow(client, folder / f"client-{client.name}-{name}", name) for client, name in transports)]
