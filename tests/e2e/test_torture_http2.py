"""Raw frames of HTTP/2, both ends watched: every way that they may cross a socket is told exactly, also within TLS.

All conversations run under one agent; each is then a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import deeds
import pytest
from agent import Agent
from cases import Talk
from cases_http2 import CASES, again
from certificates import certificates
from conversation import just_play
from puppet import Puppet
from stage import Run, Stage, check_nothing_invented, check_told, play_all
from test_torture_tls import VERSIONS, applies
from truth import path_of


def encrypted(talk: Talk) -> Talk:
    version, files = VERSIONS["_tls13"], certificates()
    handler, client = partial(deeds.over_tls, just_play, version, files), partial(deeds.visit_over_tls, files)
    return again(talk.name, "_tls13", replace(talk.options, handler=handler, client=client))


OVER_TLS = [encrypted(talk) for talk in CASES.values() if applies(talk) and not talk.options.before]
TALKS = [*CASES.values(), *OVER_TLS]


def belongs(run: Run, span: dict[str, Any], name: str) -> bool:
    """Does the span tell of this case? One without a path is known by its port."""
    path, told = path_of(span), span["attributes"]
    if not path.startswith("/"):
        return told.get("server.port") == run.outcomes[name].port
    return path.startswith((f"/t/{name}/", f"/t.{name}/"))


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> Run:
    return play_all(Stage(puppets), TALKS, module_agent)


@pytest.mark.parametrize("name", [talk.name for talk in TALKS])
def test_told_exactly(run: Run, name: str) -> None:
    check_told(run, name, partial(belongs, run))


def test_nothing_invented(run: Run) -> None:
    check_nothing_invented(run, partial(belongs, run))
