"""`make lgtm`: real Mimir and Loki, as the compose project configures them, are asked every query of every dashboard.

The agent sends straight to them, by OTLP, as Alloy would. Builds both the first time (`backends.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import backends  # noqa: E402 - found by the line above
from agent import Agent  # noqa: E402
from collector import Collector  # noqa: E402
from machine import attempt, wait_for  # noqa: E402
from queries import Api, of_dashboards, of_data_sources, sensible  # noqa: E402
from storefront import ROOT, Storefront, k6  # noqa: E402

pytestmark = pytest.mark.timeout(3600)
MIMIR, LOKI = "http://127.0.0.1:9009", "http://127.0.0.1:3100"
OPTIONS = {"mimir": ("-target=all",), "loki": ()}


def configured(name: str) -> list[str]:
    file = ROOT / f"compose/{name}/{name}.yaml"
    return [str(backends.build(name) / name), f"-config.file={file}", "-config.expand-env=true", *OPTIONS[name]]


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, int]]:
    folder = tmp_path_factory.mktemp("mimir")
    environment = {**os.environ, "ADDRESS": "127.0.0.1", "DATA": str(folder)}
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(configured("mimir"), env=environment, stdout=log, stderr=log, cwd=folder)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        wait_for(lambda: urllib.request.urlopen(f"{MIMIR}/ready").read(), f"Mimir is ready: {folder}/log", 120)
        front = stack.enter_context(Storefront(folder))
        collector = stack.enter_context(Collector(backends.build("collector") / "otelcol", folder))
        agent = Agent(
            *("--port", front.ports),
            environment={
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{MIMIR}/otlp/v1/metrics",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{collector.http}/v1/traces",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,deployment.environment.name=demo",
                "OTEL_METRIC_EXPORT_INTERVAL": "2000",
            },
            exports=["otlp"],
        ).wait_ready()
        stack.callback(agent.kill)
        variables = {"DURATION": "10s", "RATE": 30, "HTTP_URL": front.http, "HTTPS_URL": front.https}
        done = k6("steady.js", "--summary-export", str(folder / "summary.json"), **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        yield (
            Api(f"{MIMIR}/prometheus"),
            json.loads((folder / "summary.json").read_text())["metrics"]["http_reqs"]["count"],
        )


@pytest.fixture(scope="module")
def mimir(visited: tuple[Api, int]) -> Api:
    return visited[0]


@pytest.fixture(scope="module")
def sent(visited: tuple[Api, int]) -> int:
    return visited[1]


def test_every_query_of_every_dashboard_has_an_answer(mimir: Api) -> None:
    found = wait_for(lambda: mimir.query('target_info{job="shop/shop"}'), "the shop in Mimir", 20)
    queries = [*of_dashboards("shop/shop"), *of_data_sources(found[0]["metric"]["instance"])]
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


def test_loki_takes_its_configuration(tmp_path: Path) -> None:
    environment = {**os.environ, "ADDRESS": "127.0.0.1", "DATA": str(tmp_path)}
    assert attempt(*configured("loki"), "-verify-config", env=environment)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(configured("loki"), env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        wait_for(lambda: urllib.request.urlopen(f"{LOKI}/ready").read(), f"Loki is ready: {tmp_path}/log", 120)
        (query,) = {one.text for one in of_dashboards("shop/shop") if one.language == "loki"}
        url = f"{LOKI}/loki/api/v1/query_range?query={urllib.parse.quote(query)}"
        assert json.load(urllib.request.urlopen(url))["status"] == "success"
    finally:
        process.terminate()
        process.wait(30)
