"""`make demo` sees every example service, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="eBPF programs need root"),
]


@pytest.fixture
def demo(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "examples/demo.py"],
        cwd=ROOT,
        env={**os.environ, "DEMO_SECONDS": str(request.param)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def running_examples() -> list[str]:
    commands = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [c for c in commands if re.search(r"shop\.py|pricing\.js|Reviews\.java|demo/stock|autoinstr-demo-", c)]


@pytest.mark.parametrize("demo", [8], indirect=True)
def test_every_service_is_seen(demo: subprocess.Popen[str]) -> None:
    output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output
    for service in ("nginx", "shop", "pricing"):
        assert re.search(rf"^ *{service} ", output, re.MULTILINE), output
    assert re.search(r"all \d services seen", output), output
    through = re.search(r"one request, through (\d) services", output)
    assert through and int(through[1]) >= 3, output
    assert not running_examples()


@pytest.mark.parametrize("demo", [600], indirect=True)
def test_ends_what_it_started_when_interrupted(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout
    for line in demo.stdout:
        if "agent ready" in line:
            break
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0, output
    assert not running_examples()
