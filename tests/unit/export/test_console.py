"""Lines on a real pipe: what they say, and what a reader that stops reading costs."""

from __future__ import annotations

import json
import os
import pty
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pytest
from unit.export.support import CLIENT, SERVER, SERVICE, make_context, make_traced, soon

from autoinstr.export.base import Context, Exporter, create
from autoinstr.export.console import MAX_ROWS, address, duration, printable
from autoinstr.health import Loss
from autoinstr.model import Group, Traced

GROUPS = [SERVER, CLIENT]


@contextmanager
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as source, os.fdopen(writer, "w") as target:
        yield source, target


def console(output: TextIO, **changes: Any) -> tuple[Exporter, Context]:
    context = make_context(output=output, **changes)
    return create("console", context), context


def written(*batches: Traced, groups: list[Group] = GROUPS, **changes: Any) -> str:
    with pipe() as (source, target):
        exporter, _ = console(target, **changes)
        for batch in batches:
            exporter.spans(batch, groups, [SERVICE])
        exporter.close(soon())
        target.close()
        return source.read()


def test_a_server_span_is_one_line() -> None:
    text = written(make_traced(2))
    clock = time.strftime("%H:%M:%S", time.localtime(1_700_000_000))
    line = f"{clock}.123 server 200 GET /users/* 1.3ms shop-api 127.0.0.1:8080 <- 127.0.0.1:50514\n"
    assert text == line * 2


def test_a_client_span_tells_its_path_and_where_it_went() -> None:
    text = written(make_traced(1, group=1, text="/stock/7"))
    assert text.endswith(" client ECONNRESET GET /stock/7 1.3ms shop-api -> db.internal:80\n")


def test_rows_that_are_not_sampled_are_not_written() -> None:
    traced = make_traced(5)
    traced.sampled[[1, 3]] = False
    assert len(written(traced, make_traced(3, sampled=False)).splitlines()) == 3


def test_json_is_one_record_a_line() -> None:
    traced = make_traced(3)
    records = [json.loads(line) for line in written(traced, console_format="json").splitlines()]
    assert [record["traceId"] for record in records] == [row.tobytes().hex() for row in traced.trace_id]
    assert records[0]["attributes"] == SERVER.span_attributes
    assert records[0]["resource"]["service.name"] == "shop-api"


def test_a_path_can_not_command_the_terminal() -> None:
    text = written(make_traced(1, group=1, text="/\x1b[2J\x07\r\nfake line"))
    assert text.count("\n") == 1
    assert "/\\x1b[2J\\x07\\r\\nfake line" in text


@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["terminal", "NO_COLOR"]
)
def test_a_terminal_gets_colour(variables: dict[str, str], coloured: bool) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen, os.fdopen(slave, "w") as terminal:
        exporter, _ = console(terminal, environ=variables)
        exporter.spans(make_traced(1), GROUPS, [SERVICE])
        exporter.close(soon())
        text = screen.read(4096).decode()
    assert ("\x1b[32m200\x1b[0m" in text) is coloured
    assert "server 200 GET" in re.sub(r"\x1b\[\d*m", "", text)


def test_a_reader_that_stops_reading_blocks_nobody_and_every_drop_is_counted() -> None:
    """Nobody reads the pipe: after 64 KiB the writer's thread is stuck."""
    with pipe() as (source, target):
        exporter, context = console(target)
        batches, rows = 40, 8192
        began = time.monotonic()
        for _ in range(batches):
            exporter.spans(make_traced(rows), GROUPS, [SERVICE])
        assert time.monotonic() - began < 2.0
        dropped = context.health.lost[Loss.SPAN_QUEUE_FULL]
        assert dropped >= (batches - 2) * rows - MAX_ROWS
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(source))
        reader.start()
        exporter.close(soon(30))
        target.close()
        reader.join()
        assert len(lines) + dropped == batches * rows
        assert context.health.work["spans_written"] == len(lines)


def test_close_keeps_its_deadline_when_nobody_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with pipe() as (source, target):
        exporter, context = console(target)
        exporter.spans(make_traced(5000), GROUPS, [SERVICE])
        time.sleep(0.2)
        exporter.spans(make_traced(10), GROUPS, [SERVICE])
        began = time.monotonic()
        exporter.close(soon(0.3))
        assert time.monotonic() - began < 0.8
        assert context.health.lost[Loss.SPAN_QUEUE_FULL] >= 10
        threading.Thread(target=source.read, daemon=True).start()
    assert f"lost: {context.health.lost[Loss.SPAN_QUEUE_FULL]} spans dropped" in capsys.readouterr().err


def test_a_reader_that_goes_away_asks_the_program_to_end() -> None:
    stopped = threading.Event()
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as target:
        exporter, context = console(target, stop=stopped.set)
        os.close(reader)
        exporter.spans(make_traced(3), GROUPS, [SERVICE])
        assert stopped.wait(5)
        exporter.spans(make_traced(2), GROUPS, [SERVICE])
        exporter.close(soon())
        assert sum(context.health.lost.values()) == 5


def test_a_non_blocking_terminal_loses_nothing() -> None:
    with pipe() as (source, target):
        os.set_blocking(target.fileno(), False)
        exporter, _ = console(target)
        exporter.spans(make_traced(5000), GROUPS, [SERVICE])
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(source))
        time.sleep(0.2)
        reader.start()
        exporter.close(soon(10))
        target.close()
        reader.join()
        assert len(lines) == 5000
        assert len(set(map(len, lines))) == 1


def test_a_quiet_run_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    assert written(make_traced(1)) != ""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0us"), (950, "1us"), (999_000, "999us"), (1_340_000, "1.3ms"), (2_500_000_000, "2.50s")]
)
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_addresses() -> None:
    assert address(b"\0" * 10 + b"\xff\xff\x0a\0\0\x07", 80) == "10.0.0.7:80"
    assert address(b"\0" * 15 + b"\1", 80) == "[::1]:80"
    assert address(b"\0" * 16, 0) == "unix"


def test_printable_keeps_letters_of_all_languages() -> None:
    assert printable("/Größe/価格") == "/Größe/価格"
    assert printable("/\u202eevil") == "/\\u202eevil"
