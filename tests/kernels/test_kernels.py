"""On the oldest and the newest kernel the agent is as exact, and says what it lacks. `make kernels` tries them all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import try_kernels
from debian import Missing
from kernels import KERNELS

OLDEST, NEWEST = "5.10", "7"
# Emulation takes a few minutes for each, most of them for compiling, both at the same time; fetching comes before that.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, try_kernels.Outcome]:
    try:
        played = try_kernels.play_all([KERNELS[name] for name in (OLDEST, NEWEST)])
    except Missing as error:
        # where tests are run for others, nobody reads what was skipped
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    return {outcome.kernel.name: outcome for outcome in played}


@pytest.mark.parametrize("name", [OLDEST, NEWEST])
def test_told_exactly(outcomes: dict[str, try_kernels.Outcome], name: str) -> None:
    complaints = outcomes[name].complaints
    assert not complaints, "\n".join(complaints)
