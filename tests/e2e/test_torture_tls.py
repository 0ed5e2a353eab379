"""The conversations of `test_torture`, over TLS 1.2 and 1.3 with certificates on both sides.

Left out is what TLS has nothing to do with: calls that only move bytes of a raw socket (those of iovecs, messages,
sendfile, splice, MSG_PEEK), descriptors that Python's ssl can't take along (dup, passing, stdio), and half-closed
connections, which TLS has none of.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle

import deeds
import pytest
from agent import Agent
from cases import CASES, Talk, again
from certificates import certificates
from conversation import CloseByRange, Say, ShutWrite, Spawn, just_play
from puppet import Puppet
from stage import Run, Stage, check_nothing_invented, check_told, play_all

VERSIONS = {"_tls12": ssl.TLSVersion.TLSv1_2, "_tls13": ssl.TLSVersion.TLSv1_3}  # cases take turns
HANDLERS = (just_play, deeds.forked, deeds.forked_killed, deeds.handed_to_child, deeds.thread_each)


def applies(talk: Talk) -> bool:
    steps = [step for steps in talk.connections for step in steps]
    said = [step for step in steps if isinstance(step, Say)]
    return (
        talk.options.handler in HANDLERS
        and not talk.options.at_once  # told apart by MSG_PEEK
        and talk.options.family != "fast-open"  # Python's ssl asks whether it is connected before it writes
        and not any(isinstance(step, (ShutWrite, CloseByRange, Spawn)) for step in steps)
        and all((say.send, say.receive) == ("send", "recv") for say in said)
    )


def encrypted(talk: Talk, suffix: str) -> Talk:
    files = certificates()
    handler = partial(deeds.over_tls, talk.options.handler, VERSIONS[suffix], files)
    options = replace(talk.options, handler=handler, client=partial(deeds.visit_over_tls, files))
    return again(talk.name, suffix, options)


TALKS = [
    encrypted(talk, suffix) for talk, suffix in zip(filter(applies, CASES.values()), cycle(VERSIONS), strict=False)
]


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> Run:
    return play_all(Stage(puppets), TALKS, module_agent)


@pytest.mark.parametrize("name", [talk.name for talk in TALKS])
def test_told_exactly(run: Run, name: str) -> None:
    check_told(run, name)


def test_nothing_invented(run: Run) -> None:
    check_nothing_invented(run)


def test_all_of_it_is_https(run: Run) -> None:
    assert {span["attributes"]["url.scheme"] for span in run.spans} == {"https"}
