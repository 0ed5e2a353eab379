"""How tests share a machine: those that load programs or start servers take turns, beside those that only compute."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ONLY_COMPUTE = ("tests/unit/", "tests/bpf/")


class TakingTurns(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(ONLY_COMPUTE) else "those that need the machine"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TakingTurns:
    return TakingTurns(config, log)
