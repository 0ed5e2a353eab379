"""Indices of services: whose they are, and when they are for others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from autoinstr.discover import services as module
from autoinstr.discover.services import CROWDED, MAX_SERVICES, REMEMBER, RETIRE_AFTER, SOONER, Services
from autoinstr.model import NOBODY, Service


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def named(name: str) -> Service:
    return Service(name, {"service.name": name})


def asked(services: Services, *pids: int) -> list[int]:
    return services.of(np.array(pids, np.uint32), lambda _: False).tolist()


def ended(services: Services, clock: Clock, *pids: int) -> None:
    """And it is known that nothing of them can come any more."""
    for pid in pids:
        services.end(pid)
    clock.now += REMEMBER + 1
    services.forget()
    assert services.retire(0) == set(), "not at once"


def test_the_place_of_one_that_ended_long_ago_is_for_another(clock: Clock) -> None:
    services = Services()
    for pid, name in ((1, "a"), (2, "b")):
        services.add(pid, named(name))
    assert asked(services, 1, 2) == [0, 1]
    before = services.services
    ended(services, clock, 1)
    clock.now += RETIRE_AFTER - 1
    assert services.retire(0) == set() and services.services is before
    clock.now += 2
    assert services.retire(RETIRE_AFTER * 2) == set(), "somebody collects more seldom"
    assert services.retire(0) == {0}
    assert services.services is not before and [one.name for one in before] == ["a", "b"]
    assert [one.name for one in services.services] == ["", "b"] and services.services[0] is NOBODY
    for pid, name in ((3, "c"), (4, "d")):
        services.add(pid, named(name))
    assert asked(services, 3, 4, 2, 1) == [0, 2, 1, -1]
    assert [one.name for one in services.services] == ["c", "b", "d"]
    assert services.retire(0) == set()


def test_one_that_lives_is_not_forgotten_however_idle(clock: Clock) -> None:
    services = Services()
    services.add(1, named("a"))
    assert asked(services, 1) == [0]
    services.retire(0)
    clock.now += 100 * RETIRE_AFTER
    assert services.retire(0) == set()
    assert asked(services, 1) == [0]


@pytest.mark.parametrize("child_is_born", ["before the first request", "after it"])
def test_a_child_has_its_parents_place(clock: Clock, child_is_born: str) -> None:
    services = Services()
    one = named("a")
    services.add(1, one)
    if child_is_born == "before the first request":
        services.add(2, one)
    asked(services, 1)
    if child_is_born == "after it":
        services.add(2, one)
    ended(services, clock, 1)
    clock.now += 10 * RETIRE_AFTER
    assert services.retire(0) == set()
    assert asked(services, 2) == [0]


def test_one_that_shares_a_place_by_name_keeps_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SERVICES", 1)
    services = Services()
    for pid in (1, 2):
        services.add(pid, named("a"))
    assert asked(services, 1, 2) == [0, 0]
    ended(services, clock, 1)
    clock.now += 10 * RETIRE_AFTER
    assert services.retire(0) == set()


def test_sooner_where_there_are_many(clock: Clock) -> None:
    services = Services()
    count = CROWDED + 1
    for pid in range(1, count + 1):
        services.add(pid, named(f"s{pid}"))
    asked(services, *range(1, count + 1))
    ended(services, clock, *range(1, 101))
    clock.now += SOONER + 1
    assert services.retire(0) == set(range(100))


def test_always_new_ones(clock: Clock) -> None:
    """A program that is started every few seconds, for days: no place is taken for ever, and each has its own name."""
    services = Services()
    for number in range(4 * MAX_SERVICES):
        pid = number + 1
        services.add(pid, named(f"job-{number}"))
        (index,) = asked(services, pid)
        assert services.services[index].name == f"job-{number}"
        services.end(pid)
        clock.now += 2
        if number % 30 == 0:
            services.forget()
            services.retire(120)
    assert len(services.services) < MAX_SERVICES
