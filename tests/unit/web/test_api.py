"""Answers of the JSON API, held against the traffic that was put in."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from unit.web.site import GROUPS, SERVICES, TRAFFIC, Row, Store, filled, make_api, make_traced, trace_of

from autoinstr.web import Api
from autoinstr.web.api import WrongQuestion

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def api() -> Api:
    return make_api(filled())


def by(rows: list[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    return {row[name]: row for row in rows}


def near(value: float, truth: float) -> bool:
    return abs(value - truth) <= 0.1 * truth


def test_services(api: Api) -> None:
    told = api.ask("services", {})
    services = by(told["services"], "name")
    assert list(services) == ["gateway", "shop", "stock"]
    shop = services["shop"]
    assert (shop["kind"], shop["count"], shop["errors"], shop["errorRate"]) == ("server", 40, 10, 0.25)
    assert near(shop["p50"], 5) and near(shop["p99"], 5)
    assert (shop["language"], shop["pids"], shop["ports"], shop["captured"]) == ("python", [11], [8001], ["HTTP/1.1"])
    seconds = told["end"] - told["begin"]
    assert 45 <= seconds <= 65, "no more than the agent has run"
    assert shop["rate"] == pytest.approx(40 / seconds, rel=1e-4)
    points = shop["trend"]["rate"]
    assert len(points) == -(-seconds // told["step"]) and sum(points) * told["step"] == pytest.approx(40, rel=1e-3)
    assert sum(shop["trend"]["errors"]) * told["step"] == pytest.approx(10, rel=1e-3)
    assert [value is None for value in shop["trend"]["p95"]].count(False) == 1
    assert (services["stock"]["kind"], services["stock"]["count"], services["stock"]["p50"]) == ("idle", 0, None)


def test_a_service_that_only_calls(api: Api) -> None:
    store = Store(1 << 20)
    end = time.time_ns() - 10 * 10**9
    store.add(make_traced([Row(4, end - 10**6, 10**6)] * 7), GROUPS, SERVICES)
    (shop,) = make_api(store, []).ask("services", {})["services"]
    assert (shop["name"], shop["kind"], shop["count"]) == ("shop", "client", 7)


def test_service(api: Api) -> None:
    told = api.ask("service", {"name": "shop"})
    routes = {(row["kind"], row["name"], row["to"]): row for row in told["routes"]}
    assert {key: row["count"] for key, row in routes.items()} == {
        ("server", "GET /users/*", ""): 40,
        ("client", "GET", "127.0.0.1:8002"): 20,
        ("client", "GET", "api.example.com:443"): 5,
    }
    assert routes["server", "GET /users/*", ""]["statuses"] == ["200", "500"]
    assert [(one["status"], one["failed"], one["count"]) for one in told["statuses"]] == [
        ("200", False, 30),
        ("500", True, 10),
    ]
    assert [(edge["from"], edge["count"]) for edge in told["callers"]] == [("gateway", 40)]
    assert [(edge["to"], edge["count"]) for edge in told["callees"]] == [("api.example.com:443", 5), ("stock", 20)]
    assert sum(map(sum, told["heat"]["counts"])) == 40
    assert len(told["slowest"]) == 10
    assert {span["status"] for span in told["failed"]} == {"500"}
    assert all(span["service"] == "shop" and span["kind"] == "server" for span in told["slowest"] + told["failed"])


def test_map(api: Api) -> None:
    """Calls of names and addresses lead to who listens there; what nobody is seen to send comes from outside."""
    told = api.ask("map", {})
    edges = {(edge["from"], edge["to"]): edge for edge in told["edges"]}
    assert {pair: edge["count"] for pair, edge in edges.items()} == {
        ("outside", "gateway"): 40,
        ("gateway", "shop"): 40,
        ("shop", "stock"): 20,
        ("shop", "api.example.com:443"): 5,
    }
    assert edges["shop", "api.example.com:443"]["errorRate"] == 1
    kinds = {node["id"]: node["kind"] for node in told["nodes"]}
    assert kinds == {
        "outside": "outside",
        "gateway": "service",
        "shop": "service",
        "stock": "service",
        "api.example.com:443": "external",
    }
    assert by(told["nodes"], "id")["shop"]["errorRate"] == 0.25


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 145),
        ({"service": "shop"}, 65),
        ({"service": "shop", "kind": "server"}, 40),
        ({"service": "shop", "kind": "client", "to": "127.0.0.1:8002"}, 20),
        ({"name": "GET /users/*"}, 40),
        ({"status": "500"}, 10),
        ({"failed": "1"}, 15),
        ({"failed": "0"}, 130),
        ({"min": "50"}, 5),
        ({"max": "3"}, 20),
        ({"text": "/users/39"}, 2),
        ({"trace": trace_of(3).hex()}, 6),
        ({"service": "nobody"}, 0),
        ({"limit": "7"}, 7),
        ({"limit": "0"}, 1),
        ({"end": "1"}, 0),
    ],
)
def test_spans(api: Api, asked: dict[str, str], count: int) -> None:
    assert len(api.ask("spans", {"limit": "1000"} | asked)["spans"]) == count


def test_a_tail_of_spans() -> None:
    store = filled()
    api = make_api(store)
    last = api.ask("spans", {})["last"]
    assert api.ask("spans", {"after": str(last)})["spans"] == []
    store.add(make_traced([Row(0, time.time_ns(), 5000, text="/new")]), GROUPS, SERVICES)
    (span,) = api.ask("spans", {"after": str(last)})["spans"]
    assert (span["text"], span["service"], span["name"], span["status"]) == ("/new", "gateway", "GET /", "200")
    assert span["duration"] == 0.005 and abs(span["start"] / 1000 - time.time()) < 5


def test_older_spans_by_pages(api: Api) -> None:
    seen: list[int] = []
    asked = {"limit": "40"}
    while spans := (told := api.ask("spans", asked))["spans"]:
        seen += [span["sequence"] for span in spans]
        asked = {"limit": "40", "before": str(told["searched"])}
    assert seen == list(range(144, -1, -1))


def test_trace(api: Api) -> None:
    told = api.ask("trace", {"id": trace_of(2).hex()})
    assert told["traceId"] == trace_of(2).hex()
    assert [span["service"] for span in told["spans"]] == ["shop", "gateway", "gateway", "shop", "shop", "shop"]
    server = next(span for span in told["spans"] if span["name"] == "GET /")
    assert server["attributes"]["client.address"] == "127.0.0.1"
    assert server["attributes"]["url.path"] == "/users/2"
    assert server["resource"] == {"service.name": "gateway"}
    assert api.ask("trace", {"id": "ab" * 16})["spans"] == []


def test_agent(api: Api) -> None:
    told = api.ask("agent", {})
    assert told["store"]["spans"] == sum(count for _, count, *_ in TRAFFIC)
    assert 0 < told["store"]["bytes"] < told["store"]["limit"]


def test_an_hour_is_told_in_minutes() -> None:
    told = make_api(filled(ago=150.0), started=time.time() - 7200).ask("services", {"minutes": "60"})
    assert (told["end"] - told["begin"], told["step"]) == (3600, 60)
    assert told["begin"] % 60 == 0
    assert by(told["services"], "name")["shop"]["count"] == 40


def test_an_agent_that_is_younger_than_what_is_asked_for() -> None:
    told = make_api(filled()).ask("services", {"minutes": "60"})
    assert told["step"] == 5 and told["end"] - told["begin"] <= 65


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("services", {"minutes": "x"}),
        ("services", {"minutes": "0"}),
        ("services", {"minutes": "nan"}),
        ("map", {"minutes": "1e9"}),
        ("service", {}),
        ("service", {"name": "nobody"}),
        ("spans", {"min": "1e99"}),
        ("spans", {"limit": "inf"}),
        ("spans", {"trace": "xyz"}),
        ("trace", {}),
        ("trace", {"id": "00"}),
    ],
)
def test_questions_that_make_no_sense(api: Api, question: str, asked: dict[str, str]) -> None:
    with pytest.raises(WrongQuestion, match=r"\w"):
        api.ask(question, asked)


def test_it_is_documented(api: Api) -> None:
    """Every question, parameter and figure."""
    text = (ROOT / "docs/api.md").read_text()
    for question in api.questions:
        assert f"`GET /api/{question}`" in text
    source = (ROOT / "autoinstr/web/api.py").read_text()
    for name in set(re.findall(r'(?:asked\.get\(|asked\[|number\(asked, )"(\w+)"', source)):
        assert f"`{name}`" in text
    answers = [api.ask(question, {"name": "shop", "id": trace_of(1).hex()}) for question in api.questions]
    names = {name for answer in answers for name in answer}
    names |= {name for row in answers[0]["services"] for name in row} | {
        name for span in answers[4]["spans"] for name in span
    }
    for name in names - {"work", "gauges"}:
        assert f"`{name}`" in text, name
