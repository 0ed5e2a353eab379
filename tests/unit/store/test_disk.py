"""A store that is kept on disk is the same after a restart, whatever ended the agent before."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.spans.batches import GROUPS, SERVICES, Row, make_traced
from unit.store.test_store import never, total

from autoinstr.errors import UsageError
from autoinstr.health import Health, Loss
from autoinstr.spans import span_records
from autoinstr.store import Store, Wanted
from autoinstr.store.chunks import ROWS
from autoinstr.store.disk import Disk
from autoinstr.store.journal import SUFFIX

MB = 1 << 20
SECOND = 10**9

# Writes for ever; says how many spans are saved.
WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from unit.store.test_disk import opened, rows_of
from unit.spans.batches import GROUPS, SERVICES, make_traced
with opened(Path(sys.argv[1])) as (store, disk):
    number = store.next
    while True:
        store.add(make_traced(rows_of(number, 700)), GROUPS, SERVICES)
        number += 700
        disk.save()
        print(number, flush=True)
"""


class Killed(BaseException):
    """What nobody catches."""


def ten_minutes_ago() -> int:
    return time.time_ns() // (60 * SECOND) * 60 * SECOND - 600 * SECOND


NOW = ten_minutes_ago()


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the import: a store keeps the finest counts for minutes, and other tests may come before."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", ten_minutes_ago())


@contextmanager
def opened(folder: Path, limit: int = 64 * MB) -> Iterator[tuple[Store, Disk]]:
    store = Store(limit)
    disk = Disk(folder, store, Health())
    try:
        yield store, disk
    finally:
        os.close(disk.lock)


def rows_of(first: int, count: int) -> list[Row]:
    return [
        Row(
            group=number % len(GROUPS),
            start=NOW + number * 10**6,
            duration=number * 1000,
            text=f"/n/{number}",
            query="a=b" if number % 3000 == 7 else "",
            parent=b"P" * 8 if number % 4000 == 9 else b"",
            span=number.to_bytes(8, "big"),
        )
        for number in range(first, first + count)
    ]


def told(store: Store, most: int = 1 << 20) -> list[dict[str, object]]:
    rows = store.search(Wanted(), most, never).rows
    return list(span_records(*store.traced(rows))) if rows else []


def counted(store: Store) -> dict[tuple[str, str, int], int]:
    """Requests by what a user sees of their series."""
    found: dict[tuple[str, str, int], int] = {}
    for begin, end in ((NOW // SECOND, NOW // SECOND + 600), (NOW // SECOND - 3600, NOW // SECOND + 3600)):
        for number, count in total(store, begin, end).items():
            series = store.series[number]
            key = (store.service_of(series).name, repr(series.group.span_attributes), end - begin)
            found[key] = found.get(key, 0) + count
    return found


def newest(folder: Path, kind: str) -> Path:
    return max(folder.glob(f"{kind}-*{SUFFIX}"))


class TestRestart:
    @pytest.mark.parametrize("count", [0, 1, ROWS, 2 * ROWS + 5])
    def test_everything_is_there_again(self, tmp_path: Path, count: int) -> None:
        with opened(tmp_path) as (store, disk):
            for first in range(0, count, 900):
                store.add(make_traced(rows_of(first, min(900, count - first))), GROUPS, SERVICES)
                disk.save()
            disk.save(last=True)
            spans, counts = told(store), counted(store)
            assert len(spans) == count
        with opened(tmp_path) as (again, disk):
            assert told(again) == spans
            assert counted(again) == counts
            assert again.next == count
            again.add(make_traced(rows_of(count, 50)), GROUPS, SERVICES)
            disk.save(last=True)
            spans, counts = told(again), counted(again)
            assert len(again.series) <= len(GROUPS), "a series goes on after a restart"
        with opened(tmp_path) as (again, _):
            assert told(again) == spans and counted(again) == counts

    def test_names_that_came_later_are_there(self, tmp_path: Path) -> None:
        services = list(SERVICES)
        with opened(tmp_path) as (store, disk):
            store.add(make_traced(rows_of(0, 10)), GROUPS, services)
            services[0] = replace(services[0], attributes=services[0].attributes | {"k8s.pod.name": "shop-1"})
            disk.save(last=True)
        with opened(tmp_path) as (again, _):
            assert {one["resource"].get("k8s.pod.name") for one in told(again)} == {"shop-1", None}

    def test_what_came_between_two_looks_is_lost_when_we_are_killed(self, tmp_path: Path) -> None:
        with opened(tmp_path) as (store, disk):
            store.add(make_traced(rows_of(0, 100)), GROUPS, SERVICES)
            disk.save()
            store.add(make_traced(rows_of(100, 100)), GROUPS, SERVICES)
        with opened(tmp_path) as (again, _):
            assert len(told(again)) == 100
            assert sum(counted(again).values()) == 2 * 100, "fine counts make up for the minute that was not over"

    def test_late_ones(self, tmp_path: Path) -> None:
        """What comes to an interval that has been written is kept, too."""
        with opened(tmp_path) as (store, disk):
            for first in (0, 500_000, 10):
                store.add(make_traced(rows_of(first, 10)), GROUPS, SERVICES)
                disk.save()
            disk.save(last=True)
            counts = counted(store)
        with opened(tmp_path) as (again, _):
            assert counted(again) == counts and sum(counts.values()) == 2 * 30


class TestKilled:
    def test_at_any_moment(self, tmp_path: Path) -> None:
        """What was saved is there, each span once, and the next start goes on."""
        saved = 0
        for number in range(3):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            assert writer.stdout
            line = ""
            for _ in range(2 + number):
                line = writer.stdout.readline()
            time.sleep(0.013 * number)
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().splitlines()
            writer.wait()
            saved = max(saved, int(next((one for one in reversed(rest) if one.isdigit()), line)))
            with opened(tmp_path) as (store, _):
                names = [str(one["attributes"].get("url.path", "")) for one in told(store)]
                assert saved <= len(names) == store.next
                assert len({one["spanId"] for one in told(store)}) == len(names)

    def test_between_any_two_steps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also while a chunk takes the place of its parts, which is too short to be met by chance."""
        batches = [make_traced(rows_of(first, ROWS - 10)) for first in (0, ROWS - 10)]
        steps_left = saved = 0

        def step(work: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **named: Any) -> Any:
                nonlocal steps_left
                steps_left -= 1
                if steps_left == 0:
                    raise Killed
                return work(*args, **named)

            return counted

        def live(folder: Path) -> int:
            """How many steps there were."""
            nonlocal steps_left, saved
            begun = steps_left = steps_left or 1000
            with opened(folder) as (store, disk), monkeypatch.context() as patched:
                for module, name in ((os, "open"), (os, "write"), (os, "writev"), (Path, "rename"), (Path, "unlink")):
                    patched.setattr(module, name, step(getattr(module, name)))
                for batch in batches:
                    store.add(batch, GROUPS, SERVICES)
                    disk.save()
                    saved = store.next
            return begun - steps_left

        steps = live(tmp_path / "whole")
        assert steps > 5
        for number in range(1, steps + 1):
            steps_left, saved = number, 0
            with pytest.raises(Killed):
                live(tmp_path / str(number))
            with opened(tmp_path / str(number)) as (store, _):
                numbers = [int(str(one["spanId"]), 16) for one in reversed(told(store))]
                assert numbers == list(range(len(numbers))), f"each once, killed before step {number} of {steps}"
                assert len(numbers) >= saved

    @pytest.mark.parametrize("kind", ["spans", "fine", "coarse"])
    def test_a_file_that_ends_anywhere(self, tmp_path: Path, kind: str) -> None:
        with opened(tmp_path) as (store, disk):
            for first in range(0, 60, 20):
                store.add(make_traced(rows_of(first, 20)), GROUPS, SERVICES)
                disk.save()
            disk.save(last=True)
        whole = newest(tmp_path, kind).read_bytes()
        for cut in {*range(0, len(whole), 97), *range(60)}:
            newest(tmp_path, kind).write_bytes(whole[:cut])
            with opened(tmp_path) as (again, _):
                numbers = [int(one["spanId"], 16) for one in reversed(told(again))]
                assert numbers == list(range(len(numbers))) and len(numbers) % 20 == 0
                counted(again)
            for file in tmp_path.glob(f"{kind}-*"):  # also one of another version, which was removed
                file.unlink()
            (tmp_path / f"{kind}-000000000000{SUFFIX}").write_bytes(whole)

    @pytest.mark.parametrize("kind", ["spans", "fine", "coarse"])
    def test_a_file_that_is_spoilt_anywhere(self, tmp_path: Path, kind: str) -> None:
        with opened(tmp_path) as (store, disk):
            store.add(make_traced(rows_of(0, 20)), GROUPS, SERVICES)
            disk.save(last=True)
        file = newest(tmp_path, kind)
        whole = file.read_bytes()
        for at in range(0, len(whole), 31):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
            with opened(tmp_path) as (again, _):
                assert len(told(again)) in (0, 20)

    def test_half_of_a_file_that_was_to_take_the_place_of_another(self, tmp_path: Path) -> None:
        with opened(tmp_path) as (store, disk):
            store.add(make_traced(rows_of(0, 20)), GROUPS, SERVICES)
            disk.save()
        (tmp_path / "spans-000000000001.new").write_bytes(b"autoinstr")
        with opened(tmp_path) as (again, _):
            assert len(told(again)) == 20
        assert not list(tmp_path.glob("*.new"))


class TestLimits:
    def test_hardly_more_than_in_memory(self, tmp_path: Path) -> None:
        with opened(tmp_path, 4 * MB) as (store, disk):
            for first in range(0, 8 * ROWS, 4000):
                store.add(make_traced(rows_of(first, 4000)), GROUPS, SERVICES)
                disk.save()
            assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5 * MB
            kept = told(store)
        with opened(tmp_path, 4 * MB) as (again, _):
            assert told(again)[: len(kept)] == kept
        with opened(tmp_path, 2 * MB) as (again, _):
            assert again.size()[0] <= 2 * MB

    def test_a_day(self, tmp_path: Path) -> None:
        with opened(tmp_path) as (store, disk):
            for hours in (30, 25, 1):
                store.add(make_traced([Row(start=NOW - hours * 3600 * SECOND)]), GROUPS, SERVICES)
                disk.save()
            disk.save(last=True)
            assert len(list(tmp_path.glob("spans-*"))) == 1, "what is too old is removed"
        with opened(tmp_path) as (again, _):
            assert len(told(again)) == 1
            assert sum(total(again, NOW // SECOND - 80_000, NOW // SECOND).values()) == 1

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """Is counted and nothing else; what can be written later is."""
        with opened(tmp_path) as (store, disk):
            store.add(make_traced(rows_of(0, 100)), GROUPS, SERVICES)
            disk.save()
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (newest(tmp_path, "spans").stat().st_size + 500, limits[1]))
            try:
                store.add(make_traced(rows_of(100, 100)), GROUPS, SERVICES)
                disk.save()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert disk.health.lost[Loss.STORE_FAILED] >= 100
            for first, count in ((200, 100), (300, ROWS)):
                store.add(make_traced(rows_of(first, count)), GROUPS, SERVICES)
                disk.save()
        with opened(tmp_path) as (again, _):
            numbers = [int(str(one["spanId"]), 16) for one in reversed(told(again))]
            assert numbers == [*range(100), *range(200, 300 + ROWS)]


class TestFolder:
    def test_nobody_else_can_read_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "er"
        before = os.umask(0)
        try:
            with opened(folder) as (store, disk):
                store.add(make_traced(rows_of(0, ROWS + 20)), GROUPS, SERVICES)
                disk.save(last=True)
        finally:
            os.umask(before)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}

    def test_one_agent_at_a_time(self, tmp_path: Path) -> None:
        with opened(tmp_path), pytest.raises(UsageError, match="another agent"), opened(tmp_path):
            pass

    def test_not_where_others_may_write(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with pytest.raises(UsageError, match="others may write there"), opened(tmp_path):
            pass

    def test_not_where_there_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="can't be used"), opened(tmp_path / "file"):
            pass

    def test_no_link_leads_elsewhere(self, tmp_path: Path) -> None:
        (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError), opened(tmp_path):
            pass
        assert not (tmp_path / "elsewhere").exists()
