"""`make containers`: the compose project and the sidecar in a real Docker engine, the agent in a container of its own.

Images can't be pulled where this runs: one that is built here has all that the services need. In the place of Alloy
stands a Collector with the same processors, set and joined as the shipped configuration says; what is behind it is left
out (`try_lgtm.py` has it).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import alloy
import backends
import pytest
import yaml
from collector import edges, plain, told_in
from engine import Engine
from machine import commands, run, wait_for
from podman import Podman
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from agent import Agent  # noqa: E402 - found by the line above

pytestmark = pytest.mark.timeout(1800)
EVERYTHING = "localhost/everything:1"
SERVICES = {"gateway": "nginx", "shop": "shop", "pricing": "pricing", "stock": "stock", "reviews": "Reviews"}
DOCKERFILE = """FROM localhost/debian:12
RUN apt-get update && apt-get install -y --no-install-recommends \\
    curl nginx-light nodejs openjdk-17-jdk-headless openssl python3 python3-grpcio && rm -rf /var/lib/apt/lists/*
COPY stock k6 otelcol-alloy /usr/local/bin/
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(ROOT / ".cache/containers") as one:
        base = one.base()
        one.docker("build", "--network", "host", "--build-arg", f"BASE={base}", "-t", "autoinstr:latest", ".", cwd=ROOT)
        folder = tmp_path_factory.mktemp("everything")
        (folder / "Dockerfile").write_text(DOCKERFILE)
        stock = ("go", "build", "-buildvcs=false", "-o", folder / "stock", ".")
        run("env", "CGO_ENABLED=0", *stock, cwd=ROOT / "examples/go-stock")
        shutil.copy(Path(sys.executable).parent / "k6", folder)
        shutil.copy(backends.build("alloy") / "otelcol-alloy", folder)
        one.docker("build", "--network", "host", "-t", EVERYTHING, folder)
        yield one


class Project:
    """A copy of the project's files in which images are local ones."""

    def __init__(self, engine: Engine, folder: Path, file: str) -> None:
        self.engine = engine
        self.folder = folder
        for name in ("compose", "examples", "k6"):
            shutil.copytree(ROOT / name, folder / name)
        self.path = folder / "compose" / file
        self.out = folder / "out"
        self.out.mkdir()
        self.out.chmod(0o777)

    def rewrite(self, file: str, change: Any) -> None:
        path = self.folder / "compose" / file
        content = yaml.safe_load(path.read_text())
        for name, service in list(content["services"].items()):
            change(content, name, service)
        path.write_text(json.dumps(content))

    def compose(self, *arguments: str) -> str:
        return self.engine.docker("compose", "-f", self.path, *arguments)

    def container(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(self.engine.docker("inspect", self.compose("ps", "-q", service).strip()))
        return found


def local(content: dict[str, Any], name: str, service: dict[str, Any]) -> None:
    """The same service from an image that is here."""
    if name in ("tempo", "mimir", "loki", "grafana"):
        del content["services"][name]
        return
    service.pop("build", None)
    if "extends" in service or name in ("agent", "sidecar"):
        service.pop("depends_on", None)
        return
    service["image"] = EVERYTHING
    if name == "stock":
        service["command"] = ["/usr/local/bin/stock"]
    elif name == "ratings":
        service["command"] = ["python3", "/app/ratings.py"]
        service["volumes"] = ["../examples/python-ratings:/app:ro"]
    elif name == "gateway":
        service["command"] = ["sh", "-c", "/docker-entrypoint.d/10-certificate.sh && exec nginx"]
        service["tmpfs"] += ["/var/lib/nginx", "/var/log/nginx"]
    elif name == "k6":
        service["entrypoint"] = ["k6"]
        service["volumes"].append("../out:/out")
        service["profiles"] = ["on demand"]
        del service["read_only"]
    elif name == "alloy":
        del service["depends_on"], service["read_only"], service["healthcheck"]
        service |= {
            "user": "0",
            "command": ["otelcol-alloy", "--config", "/collector.yaml"],
            "cap_add": ["DAC_OVERRIDE"],
        }
        service["volumes"] = ["./collector.yaml:/collector.yaml:ro", "../out:/out"]


@pytest.fixture(scope="module")
def demo(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(engine, tmp_path_factory.mktemp("demo"), "compose.yaml")
    project.rewrite("services.yaml", local)
    project.rewrite("compose.yaml", local)
    project.rewrite("agent.yaml", local)
    files = {
        name: {"path": f"/out/{name.partition('/')[2]}.jsonl", "flush_interval": "100ms"}
        for name in ("file/tempo", "file/mimir", "file/loki")
    }
    collector = alloy.as_collector(alloy.parse((ROOT / "compose/alloy/config.alloy").read_text()), files)
    (project.folder / "compose/collector.yaml").write_text(json.dumps(collector))
    # names of containers, where this engine keeps them
    agent = project.folder / "compose/agent.yaml"
    kept = f"{ROOT}/.cache/containers/docker/containers:/var/lib/docker/containers:ro"
    agent.write_text(agent.read_text().replace("/var/lib/docker/containers:/var/lib/docker/containers:ro", kept))
    try:
        project.compose("up", "-d")
        wait_for(
            lambda: project.container("agent")["State"]["Health"]["Status"] == "healthy", "the agent is healthy", 240
        )
        yield project
    finally:
        print(project.compose("logs", "--tail", "50"))
        project.compose("down", "-v", "-t", "5")


def test_every_service_is_told_with_its_containers_names(demo: Project) -> None:
    visit = ("k6", "run", "--quiet", "--summary-export", "/out/summary.json", "/k6/smoke.js")
    demo.compose("run", "--rm", "--no-deps", "-e", "GRPC_ADDRESS=", *visit)
    sent = json.loads((demo.out / "summary.json").read_text())["metrics"]["http_reqs"]["count"]
    assert sent == 100

    def of_gateway() -> list[Any]:
        spans = told_in(demo.out / "tempo.jsonl", "Spans")
        return [one for one in spans if one.resource["service.name"] == "nginx" and one.content["kind"] == 2]

    def visits() -> list[Any]:
        return [one for one in of_gateway() if one.attributes["url.path"] != "/health"]

    wait_for(lambda: len(visits()) == sent, f"{sent} requests of k6 at the gateway", 30)
    assert Counter(one.attributes["url.scheme"] for one in visits()) == {"http": 50, "https": 50}
    for service, name in SERVICES.items():
        container = demo.container(service)
        spans = [
            one
            for one in told_in(demo.out / "tempo.jsonl", "Spans")
            if one.resource.get("container.id") == container["Id"] and one.content["kind"] == 2
        ]
        assert spans, f"nothing of {service}"
        for one in spans:
            assert one.resource["service.name"] == name
            assert one.resource["container.name"] == container["Name"].lstrip("/")
            assert one.resource["container.image.name"] == "localhost/everything"
            assert one.resource["container.image.tags"] == ["1"]
            assert one.resource["deployment.environment.name"] == "demo"


def test_what_alloy_is_told_to_do(demo: Project) -> None:
    """Health checks are no spans, and stay in the metrics; each signal goes to its backend with one attribute more."""
    spans = told_in(demo.out / "tempo.jsonl", "Spans")
    assert not [one for one in spans if one.attributes.get("url.path") == "/health"]

    def checks() -> int:
        points = [
            point
            for one in told_in(demo.out / "mimir.jsonl", "Metrics")
            if one.content["name"] == "http.server.request.duration"
            for point in one.content["histogram"]["dataPoints"]
        ]
        return sum(int(one["count"]) for one in points if plain(one["attributes"]).get("http.route") == "/health")

    wait_for(checks, "health checks in the metrics", 30)
    for file, signal in (("tempo", "Spans"), ("mimir", "Metrics"), ("loki", "Logs")):
        told = told_in(demo.out / f"{file}.jsonl", signal)
        assert told and all(one.resource["collected.by"] == "alloy" for one in told), file


def test_every_service_is_healthy(demo: Project) -> None:
    """Its own check says so, of each that has one."""
    asked = [name for name in (*SERVICES, "ratings", "agent") if name != "k6"]
    for name in asked:
        state = demo.container(name)["State"]
        assert state["Health"]["Status"] == "healthy", (name, state["Health"])
        assert state["Health"]["FailingStreak"] == 0


def test_traces_tell_who_calls_whom(demo: Project) -> None:
    """By the backend alone, across containers; and nothing that is not so."""
    wanted = {("nginx", "shop"), ("shop", "pricing"), ("shop", "Reviews"), ("pricing", "stock")}

    def found() -> bool:
        return wanted <= edges(told_in(demo.out / "tempo.jsonl", "Spans")).keys()

    wait_for(found, "every edge of the shop", 30)
    assert edges(told_in(demo.out / "tempo.jsonl", "Spans")).keys() == wanted


def test_only_what_is_asked_for_is_published(engine: Engine) -> None:
    for file in ("compose.yaml", "otel-lgtm.yaml", "sidecar.yaml"):
        project = json.loads(engine.docker("compose", "-f", ROOT / "compose" / file, "config", "--format", "json"))
        ports = [port for service in project["services"].values() for port in service.get("ports", [])]
        assert all(port["host_ip"] == "127.0.0.1" and port["target"] == 3000 for port in ports)
        for name, service in project["services"].items():
            assert "privileged" not in service and ":latest" not in service.get("image", "").replace(
                "autoinstr:latest", ""
            )
            assert "memory" in str(service.get("deploy", "")) or (file, name) == ("sidecar.yaml", "shop")


def test_sidecar(engine: Engine, tmp_path: Path) -> None:
    """What docs/sidecar.md says, word by word; the image is built already."""
    build, up, visit, logs = commands((ROOT / "docs/sidecar.md").read_text(), "## Docker")
    assert build == "docker build -t autoinstr ."
    project = Project(engine, tmp_path, "sidecar.yaml")
    project.rewrite("sidecar.yaml", local)

    def do(command: str) -> str:
        return run("sh", "-ec", command, cwd=project.folder, env=engine.environment)

    try:
        do(up)
        wait_for(lambda: project.container("sidecar")["State"]["Health"]["Status"] == "healthy", "it is healthy", 120)
        do(visit)
        wait_for(lambda: do(logs).count("GET /users/*/orders") == 1, "its span is printed", 20)
        url = "http://127.0.0.1:8081/users/%d/orders"
        get = f"import urllib.request as u; [u.urlopen('{url}' % i).read() for i in range(23)]"
        project.compose("exec", "-T", "shop", "python3", "-c", get)
        wait_for(lambda: project.compose("logs", "sidecar").count("GET /users/*/orders") == 24, "23 more spans", 20)
        inside = project.compose("exec", "-T", "sidecar", "autoinstr", "targets", "--port", "1-65535", "--json")
        assert [one["ports"] for one in json.loads(inside)["targets"]] == [[8081]]
    finally:
        print(project.compose("logs", "--tail", "50"))
        project.compose("down", "-v", "-t", "5")


def test_podman(engine: Engine, tmp_path: Path) -> None:
    """Kept and `--rm` containers, watched from the host; its storage is where nobody told the agent."""
    archive = tmp_path / "everything.tar"
    engine.docker("save", "-o", archive, EVERYTHING)
    port = free_port()
    with Podman(engine.cache, tmp_path / "podman") as podman:
        podman("load", "-i", archive)
        archive.unlink()
        ids = {}
        for name, options in {"kept": (), "gone": ("--rm",)}.items():
            server = ("python3", "-m", "http.server", "--bind", "127.0.0.1", str(port + len(ids)))
            ids[name] = podman("run", "-d", "--name", name, "--network", "host", *options, EVERYTHING, *server)
        agent = Agent("--port", f"{port}-{port + 1}").wait_ready()
        try:
            for number in range(len(ids)):
                wait_for(lambda at=port + number: urlopen(f"http://127.0.0.1:{at}/").read(), "a server", 20)
            assert agent.wait_for(lambda spans: len(spans) >= len(ids)), agent.stderr
        finally:
            agent.kill()
        told = {span["resource"]["container.name"]: span["resource"] for span in agent.spans}
        assert {name: one["container.id"] for name, one in told.items()} == ids
        for one in told.values():
            assert (one["container.image.name"], one["container.image.tags"]) == ("localhost/everything", ["1"])
