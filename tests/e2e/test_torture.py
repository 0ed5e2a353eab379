"""Raw sockets, both ends watched: every way that HTTP/1 may cross them is told exactly.

All conversations run under one agent; each is then a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agent import Agent
from cases import CASES
from puppet import Puppet
from stage import Run, Stage, belongs, play_all
from truth import compare, path_of


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> Run:
    return play_all(Stage(puppets), CASES.values(), module_agent)


@pytest.mark.parametrize("name", CASES)
def test_told_exactly(run: Run, name: str) -> None:
    outcome = run.outcomes[name]
    assert not outcome.error, f"the conversation itself failed: {outcome.error}"
    complaints = compare(outcome.expected, (span for span in run.spans if belongs(span, name)))
    assert not complaints, "\n".join(complaints)


def test_nothing_invented(run: Run) -> None:
    invented = [span for span in run.spans if not any(belongs(span, name) for name in CASES)]
    assert not invented, "\n".join(f"{path_of(span)} {span['attributes']}" for span in invented)
