"""k6 visits the example shop, the agent watches, Prometheus scrapes: all three say the same, and every query of every
dashboard has an answer. The short form; `make test-lgtm` has Mimir and Loki behind it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from agent import Agent  # noqa: E402 - found by the line above
from debian import STABLE, Suite  # noqa: E402
from machine import wait_for  # noqa: E402
from ports import free_port  # noqa: E402
from queries import Api, of_dashboards, of_data_sources, sensible  # noqa: E402
from storefront import ROOT, Storefront, k6  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="eBPF programs need root")]


class Stage(NamedTuple):
    front: Storefront
    agent: Agent
    metrics: str
    prometheus: Api

    def scrape(self, path: Path) -> Path:
        path.write_text(urllib.request.urlopen(self.metrics, timeout=10).read().decode())
        return path

    def scrape_settled(self, path: Path) -> Path:
        """When what was sent before, by another test, is told."""

        def is_settled() -> bool:
            before = requests_in(self.scrape(path).read_text())
            time.sleep(1)
            return requests_in(self.scrape(path).read_text()) == before

        wait_for(is_settled, "no request is told of any more", 30)
        return path


def requests_in(page: str) -> list[str]:
    return re.findall(r"^(?:http|rpc)_\w+_duration_seconds_count\b.*", page, re.MULTILINE)


def prometheus_program() -> Path:
    """Debian's, unpacked and not installed: as a package it would be started, and at each boot."""
    program = ROOT / ".cache/prometheus/usr/bin/prometheus"
    if not program.exists():
        Suite(STABLE).unpack(["prometheus"], program.parents[2])
    return program


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("live")
    port, answers = free_port(), free_port()
    with Storefront(folder) as front:
        agent = Agent("--port", front.ports, "--prometheus-port", port, exports=["prometheus"]).wait_ready()
        config = folder / "prometheus.yml"
        target = {"job_name": "agent", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        config.write_text(
            json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [target]})
        )
        with (folder / "prometheus.log").open("wb") as log:
            command = [prometheus_program(), f"--config.file={config}", f"--storage.tsdb.path={folder}/data"]
            command += [f"--web.listen-address=127.0.0.1:{answers}", "--enable-feature=exemplar-storage"]
            prometheus = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
        try:
            api = Api(f"http://127.0.0.1:{answers}")
            wait_for(lambda: api.query("up == 1"), "Prometheus scrapes the agent", 30)
            yield Stage(front, agent, f"http://127.0.0.1:{port}/metrics", api)
        finally:
            prometheus.terminate()
            prometheus.wait(10)
            agent.kill()


@pytest.mark.parametrize("script", ["smoke.js", "steady.js", "ramp.js", "spike.js", "errors.js"])
def test_k6_and_the_agent_agree(stage: Stage, script: str, tmp_path: Path) -> None:
    before = stage.scrape_settled(tmp_path / "before.txt")
    addresses = {
        "HTTP_URL": stage.front.http,
        "HTTPS_URL": stage.front.https,
        "GRPC_ADDRESS": f"127.0.0.1:{stage.front.ratings}",
    }
    summary = tmp_path / "summary.json"
    done = k6(script, "--summary-export", str(summary), DURATION="1s", RATE=20, **addresses)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = json.loads(summary.read_text())["metrics"]
    called = sent.get("grpc_req_duration", {"count": 0})["count"]
    assert called or script == "errors.js", "nothing was called by gRPC"  # there all is in vain, by HTTP
    assert called + sent["http_reqs"]["count"] == sent["iterations"]["count"], "some visits went nowhere"

    def agreed() -> subprocess.CompletedProcess[str] | None:
        after = stage.scrape(tmp_path / "after.txt")
        command = [sys.executable, str(ROOT / "k6/compare.py"), *map(str, (summary, before, after)), "--job", "nginx"]
        command += [
            "--grpc-job",
            "ratings",
            "--network",
            "1000",
        ]  # k6 waits for its turn, too, on a machine that is busy with tests
        compared = subprocess.run(command, capture_output=True, text=True, check=False)
        assert compared.returncode == 0, compared.stdout + compared.stderr
        return compared

    # a request is told within a second of its end
    said = wait_for(agreed, f"{script}: k6 and the agent agree", 5).stdout
    assert said.count(f" {sent['http_reqs']['count']:,} requests,") == 2 and said.count(f" {called:,} calls,") == 2


def test_a_threshold_that_is_crossed_fails_the_run() -> None:
    done = k6("smoke.js", HTTP_URL=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 99, done.stderr


def test_comparison_says_when_they_disagree(stage: Stage, tmp_path: Path) -> None:
    page = stage.scrape(tmp_path / "page.txt")
    summary = tmp_path / "summary.json"
    metrics = {
        "http_req_duration": {"avg": 1.0, "count": 3},
        "http_req_failed": {"passes": 0},
        "grpc_req_duration": {"avg": 1.0, "count": 5},
    }
    summary.write_text(json.dumps({"metrics": metrics}))
    command = [sys.executable, str(ROOT / "k6/compare.py"), *map(str, (summary, page, page)), "--job", "nginx"]
    command += ["--grpc-job", "ratings"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "k6 sent 3 requests, the agent saw 0" in done.stdout
    assert "k6 sent 5 calls, the agent saw 0" in done.stdout


def test_every_query_of_every_dashboard_has_an_answer(stage: Stage) -> None:
    done = k6("steady.js", DURATION="4s", RATE=30, HTTP_URL=stage.front.http, HTTPS_URL=stage.front.https)
    assert done.returncode == 0, done.stdout + done.stderr
    # the shop serves and calls; so every panel of "One service" has something to show
    instance = stage.prometheus.query('target_info{job="shop"}')[0]["metric"]["instance"]
    queries = [*of_dashboards("shop"), *of_data_sources(instance, "shop")]
    asked = [query for query in queries if query.language == "prometheus"]
    assert len(asked) > 30
    for query in asked:
        result = wait_for(lambda query=query: stage.prometheus.query(query.text), f"{query.where}: {query.text}", 10)
        assert sensible(query, result), (query, result)


def test_exemplars_lead_to_spans(stage: Stage) -> None:
    def found() -> list[dict[str, object]]:
        parameters = "query=http_server_request_duration_seconds_bucket&start=0&end=9999999999"
        url = f"{stage.prometheus.url}/api/v1/query_exemplars?{parameters}"
        return list(json.load(urllib.request.urlopen(url, timeout=10))["data"])

    (first, *_) = wait_for(found, "exemplars", 10)
    assert len(first["exemplars"][0]["labels"]["trace_id"]) == 32  # type: ignore[index]
