"""A real OpenTelemetry Collector receives what the agent sends: by both protocols, gzip, TLS, and after an outage."""

from __future__ import annotations

import functools
import http.client
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "torture")]

import hosts  # noqa: E402 - found by the line above
from agent import Agent  # noqa: E402
from certificates import certificates  # noqa: E402
from collector import Collector, edges  # noqa: E402
from link import Link  # noqa: E402
from machine import wait_for  # noqa: E402
from puppet import Puppet  # noqa: E402
from storefront import Storefront  # noqa: E402
from torture import refusal  # noqa: E402

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="eBPF programs need root"),
    pytest.mark.timeout(900),  # the Collector is built, the first time
]
REQUESTS = 97
OUTAGE = 2.5  # seconds: several attempts


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storefront]:
    with Storefront(tmp_path_factory.mktemp("front")) as one:
        yield one


@pytest.fixture(scope="module")
def program(collector_program: Path) -> Path:
    return collector_program


def visit(port: int, word: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number in range(REQUESTS):
        connection.request("GET", f"/{word}/{number}")
        connection.getresponse().read()
    connection.close()


def assert_told(collector: Collector, word: str) -> None:
    """Each request once, as a span and in the metrics, which carry the same resource."""
    wanted = Counter(f"/{word}/{number}" for number in range(REQUESTS))

    def paths() -> Counter[str]:
        return Counter(str(span.attributes["url.path"]) for span in collector.spans())

    wait_for(lambda: paths() == wanted, "every span once", 60)
    (resource,) = {str(sorted(span.resource.items(), key=str)): span.resource for span in collector.spans()}.values()
    assert resource["service.name"] == "shop" and resource["telemetry.sdk.name"] == "autoinstr"

    def counted() -> int:
        told = [one for one in collector.metrics() if one.content["name"] == "http.server.request.duration"]
        (last,) = told[-1:]
        assert last.resource == resource
        return sum(int(point["count"]) for point in last.content["histogram"]["dataPoints"])

    wait_for(lambda: counted() == REQUESTS, "every request in the metrics", 60)


def assert_logged(collector: Collector) -> None:
    """Each request once as a line that belongs to its span."""
    spans = {span.content["spanId"]: span for span in collector.spans()}
    logged = [told for told in collector.logs() if told.resource["service.name"] == "shop"]
    assert {told.content["spanId"] for told in logged} == spans.keys() and len(logged) == len(spans)
    for told in logged:
        span = spans[told.content["spanId"]]
        assert told.resource == span.resource and told.content["traceId"] == span.content["traceId"]
        assert told.content["timeUnixNano"] == span.content["endTimeUnixNano"]
        status = span.attributes["http.response.status_code"]
        assert told.content["body"]["stringValue"].startswith(f"GET {span.attributes['url.path']} {status} ")
        own = ("span.kind", "request.duration")
        assert {key: value for key, value in told.attributes.items() if key not in own} == span.attributes


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_received(front: Storefront, program: Path, tmp_path: Path, protocol: str, tls: bool) -> None:
    files = certificates()
    given = {"cert_file": str(files.certificate), "key_file": str(files.key)} if tls else None
    with Collector(program, tmp_path, tls=given) as collector:
        port = collector.grpc if protocol == "grpc" else collector.http
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{'https' if tls else 'http'}://localhost:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_LOGS_EXPORTER": "otlp",
            "AUTOINSTR_REQUEST_LOGS": "all",
            **({"OTEL_EXPORTER_OTLP_CERTIFICATE": str(files.authority)} if tls else {}),
        }
        agent = Agent("--port", front.shop, environment=environment, exports=["otlp"]).wait_ready()
        try:
            visit(front.shop, "received")
            assert_told(collector, "received")
            agent.stop()
            lines = [line for line in agent.stderr.splitlines() if " INFO " in line or " WARNING " in line]
            wait_for(lambda: len(collector.logs()) == len(lines) + REQUESTS, "every line of both logs", 10)
            own = [told for told in collector.logs() if told.resource["service.name"] == "autoinstr"]
            for told, line in zip(own, lines, strict=True):
                assert told.content["body"]["stringValue"] in line and told.content["severityText"] in line
            assert_logged(collector)
        finally:
            agent.kill()


def test_an_outage_loses_nothing(front: Storefront, program: Path, tmp_path: Path) -> None:
    with Collector(program, tmp_path) as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.grpc}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60000",  # for so long a batch is tried again
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
        collector.stop()
        agent = Agent("--port", front.shop, environment=environment, exports=["otlp"]).wait_ready()
        try:
            visit(front.shop, "outage")
            time.sleep(OUTAGE)
            collector.start()
            assert_told(collector, "outage")
            agent.stop()
        finally:
            agent.kill()


def test_two_nodes_are_one_map(program: Path, tmp_path: Path) -> None:
    """By the spans alone, as a backend makes it: who serves is on another host, and has an agent of its own."""
    if reason := refusal("tcp"):
        pytest.skip(f"trace contexts can't be sent to another host here: {reason}")
    with Collector(program, tmp_path) as collector, Link() as link, ExitStack() as stack:
        client, server = (stack.enter_context(Puppet()) for _ in range(2))
        agents = []
        for node, puppet, name in (("node-1", client, "till"), ("node-2", server, "ledger")):
            environment = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.grpc}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_SERVICE_NAME": name,
                "OTEL_RESOURCE_ATTRIBUTES": f"host.name={node}",
            }
            agents.append(Agent("--pid", puppet.pid, "--propagate", "tcp", environment=environment, exports=["otlp"]))
            stack.callback(agents[-1].kill)
        for agent in agents:
            agent.wait_ready()
        port = server.call(hosts.serve, str(link.file), link.there).result(10)
        client.call(functools.partial(hosts.call, anew=False), link.there, port, REQUESTS).result(30)
        wait_for(lambda: len(collector.spans()) == 2 * REQUESTS, "every span once", 30)
        spans = collector.spans()
    assert edges(spans) == {("till", "ledger"): REQUESTS}
    assert {(one.resource["host.name"], one.resource["service.name"]) for one in spans} == {
        ("node-1", "till"),
        ("node-2", "ledger"),
    }
