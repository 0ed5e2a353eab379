"""Probes on functions come and go under load, and nothing is left of them: neither in the agent nor in the program.

The suite does it a few times; `make reattach` does it TIMES times, 500 of them if that is not given.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import client_context
from servers import Running

from autoinstr.attach import Attached, Functions, Limits, attach
from autoinstr.capture import Control, Ring
from autoinstr.capture.abi import EXCHANGE
from autoinstr.capture.control import RUNTIME_GO
from autoinstr.probes import GROUPS

TIMES = int(os.environ.get("REATTACH", "20"))
MOST = 1 << 16  # records
HELD = 0.05  # seconds between attaching and detaching
AT_ONCE = 3  # connections under load
ON_EACH = 50  # requests
SEEN_BY_FUNCTIONS = ("go-tls", "node-tls", "uvicorn-tls")


@pytest.fixture(scope="module")
def attached() -> Iterator[Attached]:
    made = attach(Limits())
    made.wait()
    yield made
    made.close()


class Load(threading.Thread):
    """Requests one after the other, each held against its answer.

    Over new connections now and then: one whose message probes have left in the middle may be lost until it ends.
    """

    def __init__(self, running: Running, number: int) -> None:
        super().__init__(daemon=True)
        self.running, self.number = running, number
        self.asked = self.answered = 0
        self.ended = False

    def run(self) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", self.running.port, context=client_context(), timeout=20)
        while not self.ended:
            size = self.asked % 3000
            if self.asked % ON_EACH == 0:
                connection.close()
            self.asked += 1
            connection.request("GET", f"/s/200/b/{size}/{self.number}-{self.asked}")
            response = connection.getresponse()
            self.answered += response.status == 200 and len(response.read()) == size
        connection.close()


@contextlib.contextmanager
def under_load(running: Running) -> Iterator[list[Load]]:
    loads = [Load(running, number) for number in range(AT_ONCE)]
    for one in loads:
        one.start()
    yield loads
    for one in loads:
        one.ended = True
    for one in loads:
        one.join(30)


def descriptors() -> dict[str, str]:
    """Of this process, but for those that load has."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[entry.name] = str(entry.readlink())
    return {number: what for number, what in found.items() if what.startswith("anon_inode:")}


@pytest.mark.parametrize("name", SEEN_BY_FUNCTIONS)
def test_again_and_again(attached: Attached, launched: Callable[[str], Running], name: str) -> None:
    running = launched(name)
    pid = running.process.pid
    control = Control(attached.maps)
    control.runtime(pid, RUNTIME_GO if name == "go-tls" else 0)
    control.watch(pid)
    ring = Ring(attached.maps["exchanges"], Limits().exchange_ring, EXCHANGE)

    def mark(pid: int, flags: int, layout: dict[str, int]) -> None:
        control.mark(pid, flags & 0xFF, layout)

    def once() -> int:
        """Records that came meanwhile."""
        ring.take(MOST)
        functions = Functions(attached.function_program, mark, GROUPS)
        functions.follow(pid, Path(f"/proc/{pid}/maps").read_bytes(), older=True)
        assert functions.files()
        time.sleep(HELD)
        functions.close()
        assert running.process.poll() is None
        return len(ring.take(MOST))

    with under_load(running) as loads:
        time.sleep(0.2)
        once()  # programs are loaded when they are needed first, and stay
        before = descriptors()
        seen = [once() for _ in range(TIMES)]
        left = descriptors()
    control.ignore(pid)
    assert left == before
    assert [load.answered for load in loads] == [load.asked for load in loads]
    assert min(load.asked for load in loads) > TIMES
    # what it told shows that the probes were there each time: but for a moment in which nobody asked
    assert sum(count > 0 for count in seen) >= 0.9 * TIMES
