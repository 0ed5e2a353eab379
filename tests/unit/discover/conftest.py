"""Real processes to look at: started, waited for, ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The tests are the parents of what they start, and a discovery leaves out what its own process started: so it is told
# to be another one, and started processes announce themselves with a line.
LISTEN = """
import socket, sys, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
time.sleep(60)
"""
PREFORK = """
import os, socket, sys, time
s = socket.create_server(("127.0.0.1", 0))
child = os.fork()
if child:
    print(s.getsockname()[1], child, flush=True)
time.sleep(60)
"""


class Spawner:
    """Starts processes; `line` is the first line that one printed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[str]] = []

    def __call__(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0, **options)
        self._running.append(process)
        return process

    def script(self, name: str, text: str, *arguments: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
        """Run a Python file of that name; the numbers that it printed first."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        process = self(sys.executable, str(path), *arguments, **options)
        assert process.stdout
        return process, [int(word) for word in process.stdout.readline().split()]

    def stop(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawner]:
    spawner = Spawner(tmp_path)
    yield spawner
    spawner.stop()


@pytest.fixture
def not_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let discovery believe that the tests' process is somebody else's."""
    monkeypatch.setattr("autoinstr.discover.discovery.own_pid", lambda: 1 << 30)


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    """For what another process does in its own time."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.01)
