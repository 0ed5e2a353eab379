"""`make lgtm`: real Mimir and Loki, as the compose project configures them, are asked every query of every dashboard.

The agent sends straight to them, by OTLP, as Alloy would. Builds both the first time (`backends.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import backends  # noqa: E402 - found by the line above
from agent import Agent  # noqa: E402
from collector import Collector, Told  # noqa: E402
from machine import attempt, wait_for  # noqa: E402
from queries import Api, of_dashboards, of_data_sources, sensible  # noqa: E402
from storefront import ROOT, Storefront, k6  # noqa: E402

pytestmark = pytest.mark.timeout(3600)
MIMIR, LOKI = "http://127.0.0.1:9009", "http://127.0.0.1:3100"
OPTIONS = {"mimir": ("-target=all",), "loki": ()}


def configured(name: str) -> list[str]:
    file = ROOT / f"compose/{name}/{name}.yaml"
    return [str(backends.build(name) / name), f"-config.file={file}", "-config.expand-env=true", *OPTIONS[name]]


@contextmanager
def started(name: str, url: str, folder: Path) -> Iterator[None]:
    """The backend, ready, with the configuration that the compose project ships."""
    environment = {**os.environ, "ADDRESS": "127.0.0.1", "DATA": str(folder)}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(configured(name), env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(lambda: urllib.request.urlopen(f"{url}/ready").read(), f"{name} is ready: {log.name}", 180)
            yield
        finally:
            process.terminate()
            process.wait(60)


class Visit(NamedTuple):
    """What was sent, and what a Collector has of the spans."""

    requests: int
    spans: list[Told]


@contextmanager
def visit(folder: Path, **environment: str) -> Iterator[Visit]:
    """The shop under k6, watched; traces go to a Collector, the rest where `environment` says. The agent lives on."""
    with ExitStack() as stack:
        front = stack.enter_context(Storefront(folder))
        collector = stack.enter_context(Collector(backends.build("collector") / "otelcol", folder))
        agent = Agent(
            *("--port", front.ports),
            environment={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.http}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,deployment.environment.name=demo",
                "OTEL_METRIC_EXPORT_INTERVAL": "2000",
                **environment,
            },
            exports=["otlp"],
        ).wait_ready()
        stack.callback(agent.kill)
        variables = {"DURATION": "10s", "RATE": 30, "HTTP_URL": front.http, "HTTPS_URL": front.https}
        done = k6("steady.js", "--summary-export", str(folder / "summary.json"), **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        sent = json.loads((folder / "summary.json").read_text())["metrics"]["http_reqs"]["count"]

        def spans() -> list[Told] | None:
            found = collector.spans()
            mine = [one for one in found if one.resource["service.name"] == "nginx" and one.content["kind"] == 2]
            return found if len(mine) == sent else None

        yield Visit(sent, wait_for(spans, f"{sent} spans of nginx", 30))


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, int]]:
    folder = tmp_path_factory.mktemp("mimir")
    metrics = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{MIMIR}/otlp/v1/metrics"}
    with started("mimir", MIMIR, folder), visit(folder, **metrics) as found:
        yield Api(f"{MIMIR}/prometheus"), found.requests


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Loki has both logs: the agent's own, and a line for each request."""
    folder = tmp_path_factory.mktemp("loki")
    logs = {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{LOKI}/otlp/v1/logs",
        "OTEL_LOGS_EXPORTER": "otlp",
        "AUTOINSTR_REQUEST_LOGS": "all",
    }
    with started("loki", LOKI, folder), visit(folder, **logs) as found:
        yield found


@pytest.fixture(scope="module")
def mimir(visited: tuple[Api, int]) -> Api:
    return visited[0]


@pytest.fixture(scope="module")
def sent(visited: tuple[Api, int]) -> int:
    return visited[1]


def test_every_query_of_every_dashboard_has_an_answer(mimir: Api) -> None:
    found = wait_for(lambda: mimir.query('target_info{job="shop/shop"}'), "the shop in Mimir", 20)
    queries = [*of_dashboards("shop/shop"), *of_data_sources(found[0]["metric"]["instance"], "shop")]
    for query in (one for one in queries if one.language == "prometheus"):
        result = wait_for(lambda query=query: mimir.query(query.text), f"{query.where}: {query.text}", 20)
        assert sensible(query, result), (query, result)


def test_counts_are_those_of_k6(mimir: Api, sent: int) -> None:
    query = 'sum(http_server_request_duration_seconds_count{job="shop/nginx"})'
    wait_for(lambda: [float(one["value"][1]) for one in mimir.query(query)] == [sent], f"{sent} requests in Mimir", 20)


def test_exemplars_arrive(mimir: Api) -> None:
    parameters = "query=http_server_request_duration_seconds_bucket&start=0&end=9999999999"
    with urllib.request.urlopen(f"{mimir.url}/api/v1/query_exemplars?{parameters}") as answer:
        assert json.load(answer)["data"]


def lines(query: str) -> list[tuple[dict[str, str], str]]:
    """Each with its labels, those of the record among them."""
    parameters = urllib.parse.urlencode({"query": query, "limit": 5000, "since": "1h"})
    with urllib.request.urlopen(f"{LOKI}/loki/api/v1/query_range?{parameters}") as answer:
        streams = json.load(answer)["data"]["result"]
    return [(one["stream"], line) for one in streams for _, line in one["values"]]


def test_loki_takes_its_configuration(tmp_path: Path) -> None:
    environment = {**os.environ, "ADDRESS": "127.0.0.1", "DATA": str(tmp_path)}
    assert attempt(*configured("loki"), "-verify-config", env=environment)


def test_every_query_of_logs_has_lines(logged: Visit) -> None:
    (span, *_) = [one for one in logged.spans if one.resource["service.name"] == "shop"]
    queries = [*of_dashboards("shop/shop"), *of_data_sources("", "shop", span.content["traceId"])]
    asked = [one for one in queries if one.language == "loki"]
    assert len(asked) == 3
    for query in asked:
        assert wait_for(lambda query=query: lines(query.text), f"{query.where}: {query.text}", 20)


def test_every_request_is_a_line_that_leads_to_its_trace(logged: Visit) -> None:
    query = '{service_name="nginx", service_namespace="shop"} | span_kind="server"'
    found = wait_for(lambda: told if len(told := lines(query)) == logged.requests else None, "every request", 20)
    spans = {one.content["spanId"]: one for one in logged.spans}
    for labels, line in found:
        span = spans[labels["span_id"]]
        assert labels["trace_id"] == span.content["traceId"]
        assert line.startswith(f"{span.attributes['http.request.method']} {span.attributes['url.path']} ")
        assert labels["severity_text"] == ("ERROR" if span.content.get("status", {}).get("code") == 2 else "INFO")
    slow = lines(f"{query} | request_duration > 0.05")
    assert 0 < len(slow) < len(found) and all(float(labels["request_duration"]) > 0.05 for labels, _ in slow)
