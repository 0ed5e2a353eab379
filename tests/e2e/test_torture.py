"""Raw sockets, both ends watched: every way that HTTP/1 may cross them is told exactly.

All conversations run under one agent; each is then a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agent import Agent
from cases import CASES
from conversation import MULTIPATH
from puppet import Puppet
from stage import Run, Stage, belongs, check_nothing_invented, check_told, play_all
from truth import CLIENT, SERVER, kind_of, path_of


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> Run:
    return play_all(Stage(puppets), CASES.values(), module_agent)


@pytest.mark.parametrize("name", CASES)
def test_told_exactly(run: Run, name: str) -> None:
    check_told(run, name)


@pytest.mark.parametrize("family", ["tcp4", "fast-open", *MULTIPATH])
def test_ends_joined(run: Run, family: str) -> None:
    """Each request's server has its client for a parent, whatever carried it."""
    name = "keep_alive" if family == "tcp4" else f"over_{family.replace('-', '_')}"
    told = [span for span in run.spans if belongs(span, name)]
    called = {path_of(span): span["spanId"] for span in told if kind_of(span) == CLIENT}
    assert called
    assert {path_of(span): span["parentSpanId"] for span in told if kind_of(span) == SERVER} == called


def test_nothing_invented(run: Run) -> None:
    check_nothing_invented(run)
