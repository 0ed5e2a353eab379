"""Two watched puppets that play cases to each other, under one agent, and the truth of what they did."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import conversation
from agent import Agent
from cases import HOST, Talk
from conversation import FAMILIES
from puppet import Puppet
from truth import SERVER, Expected, compare, path_of

WITHOUT_PATH = {"CONNECT": "connect", "OPTIONS": "options_of_everything"}  # method, case
UNKNOWN = "?"  # a server's address: what is told is not checked
AT_ONCE = 3  # conversations at the same time


@dataclass
class Outcome:
    """What the two puppets made of a case."""

    expected: list[Expected]
    error: str = ""
    port: int = 0  # of the server; 0: it has none


class Stage:
    """Two watched puppets that play cases to each other."""

    def __init__(self, puppets: Callable[[], Puppet]) -> None:
        self.server, self.client = puppets(), puppets()

    def begin(self, talk: Talk) -> tuple[str | int, Future[Any], Future[Any]]:
        options = talk.options
        address = self.server.call(conversation.listen, talk.name, options.family).result(20)
        serve = conversation.serve_at_once if options.at_once else conversation.serve
        visit = conversation.visit_at_once if options.at_once else conversation.visit
        served = self.server.call(serve, talk.name, talk.connections, options.accept, options.handler)
        visited = self.client.call(visit, options.family, address, talk.connections, options.client)
        return address, served, visited

    def end(self, talk: Talk, address: str | int, served: Future[Any], visited: Future[Any]) -> Outcome:
        ports, errors = [], []
        for side, future in (("server", served), ("client", visited)):
            try:
                ports = future.result(40) or []
            except (RuntimeError, TimeoutError) as error:
                errors.append(f"{side}: {error!r}")
        if errors:
            return Outcome([], "\n".join(errors))
        expected = [placed(talk, truth, address, ports[number]) for number, truth in talk.expected]
        return Outcome(expected, port=0 if isinstance(address, str) else address)

    def play(self, talk: Talk) -> Outcome:
        return self.end(talk, *self.begin(talk))


def placed(talk: Talk, truth: Expected, address: str | int, client_port: int) -> Expected:
    """The truth with the addresses that it happened at."""
    if talk.options.family == "unix":
        return truth
    port = int(address)
    if truth.kind == SERVER:
        host = FAMILIES[talk.options.family]
        return replace(truth, server_port=port, peer_port=client_port, server_address=host)
    host = None if truth.server_address == UNKNOWN else truth.server_address or HOST
    return replace(truth, server_port=truth.server_port or port, peer_port=port, server_address=host)


@dataclass
class Run:
    outcomes: dict[str, Outcome]
    spans: list[dict[str, Any]]
    stderr: str


def play_all(stage: Stage, talks: Collection[Talk], start_agent: Callable[..., Agent]) -> Run:
    """All of them, those that are older than the agent first."""
    early = [talk for talk in talks if talk.options.before]
    begun = [(talk, *stage.begin(talk)) for talk in early]
    for puppet in (stage.server, stage.client):
        puppet.call(conversation.wait_for_waiting, len(early)).result(40)
    agent = start_agent("--pid", stage.server.pid, "--pid", stage.client.pid)
    for puppet in (stage.server, stage.client):
        puppet.call(conversation.open_gates).result(10)
    outcomes = {talk.name: stage.end(talk, *rest) for talk, *rest in begun}
    late = [talk for talk in talks if not talk.options.before and not talk.options.alone]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes |= {talk.name: outcome for talk, outcome in zip(late, pool.map(stage.play, late), strict=True)}
    outcomes |= {talk.name: stage.play(talk) for talk in talks if talk.options.alone}
    spans = agent.stop(check=False)
    return Run(outcomes, spans, agent.stderr)


def belongs(span: dict[str, Any], name: str) -> bool:
    """Does the span tell of this case?"""
    path = path_of(span)
    case = WITHOUT_PATH.get(path)
    return name.startswith(case) if case else path.startswith(f"/t/{name}/")


Belongs = Callable[[dict[str, Any], str], bool]


def check_told(run: Run, name: str, belongs: Belongs = belongs) -> None:
    """What the agent has told of a case is what both sides did."""
    outcome = run.outcomes[name]
    assert not outcome.error, f"the conversation itself failed: {outcome.error}"
    complaints = compare(outcome.expected, (span for span in run.spans if belongs(span, name)))
    assert not complaints, "\n".join(complaints)


def check_nothing_invented(run: Run, belongs: Belongs = belongs) -> None:
    """Every span is of one of the cases."""
    invented = [span for span in run.spans if not any(belongs(span, name) for name in run.outcomes)]
    assert not invented, "\n".join(f"{path_of(span)} {span['attributes']}" for span in invented)
