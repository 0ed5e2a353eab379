"""The Collector is built while other tests run: a cold build takes minutes, in which most tests wait for something.

It is begun when its tests are among those to run, yields to everything else, and they come last.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import backends  # noqa: E402 - found by the line above

NEED_COLLECTOR = ("test_collector",)
_building: subprocess.Popen[bytes] | None = None


@pytest.hookimpl(trylast=True)  # after -k and the like
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    global _building  # noqa: PLW0603 - one a run of pytest
    last = [item for item in items if needs_collector(item)]
    if not last or len(last) == len(items):
        return
    items[:] = [item for item in items if not needs_collector(item)] + last
    alone = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"  # of several processes one builds
    wanted = alone and os.geteuid() == 0 and shutil.which("go") and not (backends.BACKENDS / "otelcol").exists()
    if wanted and not config.option.collectonly:
        command = ["nice", "-n", "19", sys.executable, str(HERE / "backends.py"), "collector"]
        _building = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0)


def needs_collector(item: pytest.Item) -> bool:
    return item.path.parent == HERE and item.path.stem in NEED_COLLECTOR


def pytest_unconfigure() -> None:
    if _building is not None and _building.poll() is None:
        os.killpg(_building.pid, signal.SIGTERM)
        _building.wait()


@pytest.fixture(scope="session")
def collector_program() -> Path:
    """The Collector, as soon as it is built."""
    if not shutil.which("go"):
        # where tests are run for others, nobody reads what was skipped
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs go, to build the Collector")
    return backends.build("collector") / "otelcol"
