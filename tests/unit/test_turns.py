"""Those that are watched go first: priorities, and how often they get their chance."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from autoinstr import turns
from autoinstr.correlate import Correlator, make_sampler
from autoinstr.health import Health
from autoinstr.model import Service
from autoinstr.parse import Groups, Parser, RouteOptions
from autoinstr.red import Red
from autoinstr.spans import SpanEncoder
from tests.unit.parse.exchanges import batch, get

# Prints the nice value of each thread, after `stand_back`.
TOLD = """
import json, os, threading
from autoinstr import turns
threading.Thread(target=threading.Event().wait, daemon=True).start()
turns.stand_back()
print(json.dumps([os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")]))
"""


@pytest.mark.parametrize("started_with", [0, 9])
def test_all_threads_stand_back(started_with: int) -> None:
    command = ["nice", "-n", str(started_with), sys.executable, "-c", TOLD]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told == 2 * [max(turns.NICE, started_with)]


@pytest.fixture
def rival() -> Iterator[None]:
    """Somebody else who wants the one CPU that is left to us."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, allowed)


def switches(seconds: float) -> int:
    """How often the CPU was somebody else's while this thread worked for so long."""
    before = resource.getrusage(resource.RUSAGE_THREAD)
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(1000):
            pass
        turns.give_way()
    after = resource.getrusage(resource.RUSAGE_THREAD)
    return after.ru_nivcsw + after.ru_nvcsw - before.ru_nivcsw - before.ru_nvcsw


@pytest.mark.usefixtures("rival")
def test_others_go_first_but_when_much_is_to_do() -> None:
    try:
        turns.hurry_while(lambda: True)
        hurried = switches(0.4)
        turns.hurry_while(lambda: False)
        assert switches(0.4) > 2 * hurried
    finally:
        turns.hurry_while(lambda: False)


def test_another_thread_may_have_worked_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers the page, say."""
    yielded: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: yielded.append(None))
    monkeypatch.setattr(turns._Turn, "began", time.thread_time() + 3600)
    turns.give_way()
    assert len(yielded) == 1


def test_no_stretch_of_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that is done with a batch, no more than a sixth is done between two steps."""
    records = batch(*(get(f"/users/{number}/orders/{number:x}?page=2") for number in range(3072)))
    health, services = Health(), [Service("shop", {"service.name": "shop"})]
    groups = Groups(health)
    parser = Parser(groups, RouteOptions(), health, services=services)
    correlator, encoder = Correlator(make_sampler(), health), SpanEncoder("1")
    red = Red(health, start=0)
    steps: list[float] = []
    monkeypatch.setattr(turns, "give_way", lambda: steps.append(time.thread_time()))

    def work() -> float:
        """The longest stretch, as a part of all."""
        steps[:] = [time.thread_time()]
        traced = correlator.correlate(parser.parse(records, np.zeros(len(records), np.int32), 0), groups.groups)
        red.add(traced, groups.groups)
        assert sum(one.spans for one in encoder.encode(traced, groups.groups, services)) == len(records)
        steps.append(time.thread_time())
        return float(np.diff(steps).max()) / (steps[-1] - steps[0])

    assert min(work() for _ in range(10)) < 1 / 6
