"""Keys in, views out; and the bytes of a terminal that keys are."""

from __future__ import annotations

from typing import Any

import pytest

from autoinstr.top.keys import split
from autoinstr.top.state import State, View
from autoinstr.top.tables import SERVICES, chosen, milliseconds, nested, plain, rate

ROWS: list[dict[str, Any]] = [
    {"name": name, "rate": rate, "errorRate": 0.0, "errors": 0, "p50": p50, "p95": p50, "p99": p50, "language": "go"}
    | {"captured": [], "unseen": [], "kind": "server", "to": "", "peer": ""}
    for name, rate, p50 in (("a", 1.0, 5.0), ("b", 3.0, None), ("c", 2.0, 1.0))
]


def pressed(state: State, *keys: str) -> State:
    for key in keys:
        state.key(key)
    return state


def test_into_a_service_and_its_requests_and_back() -> None:
    state = pressed(State(rows=ROWS), "down", "enter")
    assert (state.view, state.service, state.marked) == (View.SERVICE, "b", 0)
    assert pressed(state, "enter").view is View.REQUESTS
    assert (state.service, state.route) == ("b", {"kind": "server", "name": "a", "to": ""})
    state.show([{"sequence": 7, "traceId": "4711"}])
    assert (pressed(state, "enter").view, state.trace) == (View.TRACE, "4711")
    assert (pressed(state, "escape").view, state.route["name"]) == (View.REQUESTS, "a")
    assert pressed(state, "escape").view is View.SERVICE
    assert pressed(state, "backspace").view is View.SERVICES
    assert (state.service, state.sort) == ("", "rate")


def test_the_mark_stays_within_the_rows() -> None:
    assert pressed(State(rows=ROWS), *("j" * 9)).marked == 2
    assert pressed(State(rows=ROWS), "down", *("k" * 9)).marked == 0
    assert pressed(State(rows=[]), "down", "enter").view is View.SERVICES


def test_the_mark_stays_with_its_row_when_the_order_changes() -> None:
    state = pressed(State(rows=ROWS), "down")
    state.show(ROWS[::-1])
    assert state.rows[state.marked]["name"] == "b"
    state.show([ROWS[1], *ROWS])
    assert state.rows[state.marked]["name"] == "b"
    pressed(state, "home").show(ROWS[::-1])
    assert state.marked == 0, "the first one is whatever comes first"


def test_a_trace_that_came_in_any_order() -> None:
    """Each span below its parent; whose parent is not there stands at the top; nothing twice, and no end of it."""
    spans = [
        {"spanId": "c", "parentSpanId": "b", "start": 3.0},
        {"spanId": "b", "parentSpanId": "a", "start": 2.0},
        {"spanId": "a", "parentSpanId": "elsewhere", "start": 1.0},
        {"spanId": "d", "parentSpanId": "a", "start": 4.0},
        {"spanId": "e", "parentSpanId": "e", "start": 5.0},
    ]
    told = [(one["spanId"], one["depth"], one["after"]) for one in nested(spans)]
    assert told == [("a", 0, 0.0), ("b", 1, 1.0), ("c", 2, 2.0), ("d", 1, 3.0), ("e", 0, 4.0)]


def test_the_order() -> None:
    state = State(rows=ROWS)
    assert [row["name"] for row in chosen(ROWS, SERVICES, state.sort, down=state.down, having="")] == ["b", "c", "a"]
    names = []
    for _ in range(8):
        names.append(pressed(state, "s").sort)
    assert names == ["errorRate", "p50", "p95", "p99", "language", "name", "rate", "errorRate"]
    assert [row["name"] for row in chosen(ROWS, SERVICES, "p50", down=True, having="")] == ["a", "c", "b"]
    assert not pressed(State(), "r").down


def test_the_filter() -> None:
    state = pressed(State(rows=ROWS), "/", "x", "backspace", "q", "b")
    assert state.typing and state.having == "qb" and not state.done
    assert pressed(state, "enter").having == "qb" and not state.typing
    assert pressed(state, "escape").having == ""
    assert pressed(state, "/", "z", "escape").having == ""
    assert [row["name"] for row in chosen(ROWS, SERVICES, "", down=False, having="B")] == ["b"]


def test_the_rest() -> None:
    state = pressed(State(), "p", "m")
    assert state.paused and state.minutes == 60
    assert pressed(state, "m", "m", "m").minutes == 1
    assert pressed(state, "t").view is View.REQUESTS
    assert pressed(state, "unknown", "é", "q").done


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1b[Bjk", ["up", "down", "j", "k"]),
        ("\x1b", ["escape"]),
        ("\x1bOA\r\x7f", ["up", "enter", "backspace"]),
        ("\x1b[5~x\x1b[1;5Cy", ["x", "y"]),
        ("\x1b[", []),
        ("\x00\x01é", ["é"]),
    ],
)
def test_bytes_of_keys(data: str, keys: list[str]) -> None:
    assert split(data) == keys


def test_texts() -> None:
    assert [rate(value) for value in (0, 0.01, 5.25, 1234.5)] == ["0.0", "0.010", "5.2", "1234"]
    assert [milliseconds(value) for value in (None, 0.5, 12.34, 250, 2500)] == [
        "-",
        "500us",
        "12.3ms",
        "250ms",
        "2.50s",
    ]
    assert plain("a\x1b[31mb\n").plain == "a?[31mb?"
