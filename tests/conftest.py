"""How tests share a machine: those that load programs or start servers take turns, beside those that only compute."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ONLY_COMPUTE = (HERE / "unit", HERE / "bpf")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(folder in item.path.parents for folder in ONLY_COMPUTE):
            item.add_marker(pytest.mark.xdist_group("machine"))
