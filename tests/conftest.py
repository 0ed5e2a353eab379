"""How tests share a machine: those that load programs or start servers take turns, beside those that only compute.

Other kernels are emulated, by one processor, and are another machine.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ONLY_COMPUTE = ("tests/unit/", "tests/bpf/")
EMULATED = "tests/kernels/"


class TakingTurns(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ONLY_COMPUTE):
            return nodeid
        return EMULATED if nodeid.startswith(EMULATED) else "those that need the machine"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TakingTurns:
    return TakingTurns(config, log)
