"""Raw sockets, both ends watched: every way that HTTP/1 may cross them is told exactly.

All conversations run under one agent; each is then a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agent import Agent
from cases import CASES
from puppet import Puppet
from stage import Run, Stage, check_nothing_invented, check_told, play_all


@pytest.fixture(scope="module")
def run(module_agent: Callable[..., Agent], puppets: Callable[[], Puppet]) -> Run:
    return play_all(Stage(puppets), CASES.values(), module_agent)


@pytest.mark.parametrize("name", CASES)
def test_told_exactly(run: Run, name: str) -> None:
    check_told(run, name)


def test_nothing_invented(run: Run) -> None:
    check_nothing_invented(run)
