"""`make test-k8s`: the shipped manifests on a real node, and every span's names held against the API's own answer.

Some minutes, after the programs were built once (`backends.py`: a quarter of an hour). On control groups v1 and v2:
pods of each kind in networks of their own and in the node's, by HTTP and HTTPS; pods that come and go; the API server
down and back; rights and capabilities one by one less; the sidecar.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import backends
import pytest
import trustme
import workloads
import yaml
from collector import Collector, Told
from engine import Engine
from machine import run, wait_for
from node import ADDRESS, API, NAME, Node

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy/kubernetes"
pytestmark = pytest.mark.timeout(1800)  # the node and the image are made for the first test
# servers: kind, port, what else their pods are
SERVERS = {
    "web": ("Deployment", 8080, {}),
    "db": ("StatefulSet", 8180, {}),
    "edge": ("DaemonSet", 8280, {"hostNetwork": True}),
    "user": ("Deployment", 8380, {"securityContext": {"runAsUser": 1000}}),
}
BOTH = {"http", "https"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, built from this tree."""
    archive = tmp_path_factory.mktemp("image") / "autoinstr.tar"
    with Engine(ROOT / ".cache/containers") as engine:
        base = f"BASE={engine.base()}"
        engine.docker("build", "--network", "host", "--build-arg", base, "-t", workloads.IMAGE, ".", cwd=ROOT)
        engine.docker("save", "-o", archive, workloads.IMAGE)
    return archive


class Cluster:
    """A node with the agent on it, and what its collector was told."""

    def __init__(self, node: Node, collector: Collector, folder: Path) -> None:
        self.node = node
        self.collector = collector
        self.folder = folder

    def deploy(self, capabilities: list[str] | None = None, within: int = 120) -> None:
        """As a user would: an overlay with the image's and the collector's names, and what else is watched."""
        overlay = self.folder / "overlay"
        shutil.rmtree(overlay, ignore_errors=True)
        shutil.copytree(SHIPPED, overlay / "base", ignore=shutil.ignore_patterns("sidecar"))
        config = yaml.safe_load((SHIPPED / "config.yaml").read_text())
        config["select"][0]["port"] = "8080-8381"  # what else runs on this machine is none of ours
        config["select"].append({"cmd": "*client.py*"})  # it listens to nothing
        (overlay / "base/config.yaml").write_text(yaml.safe_dump(config))
        container: dict[str, Any] = {
            "name": "autoinstr",
            "imagePullPolicy": "Never",
            "env": [
                {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": f"http://{ADDRESS}:{self.collector.http}"},
                {"name": "OTEL_METRIC_EXPORT_INTERVAL", "value": "2000"},
                {"name": "AUTOINSTR_KUBERNETES_LABELS", "value": "tier"},
            ],
        }
        if capabilities is not None:
            container["securityContext"] = {"capabilities": {"add": capabilities}}
        patch = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "autoinstr"},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
        kustomization = {
            "resources": ["base"],
            "images": [{"name": "autoinstr", "newName": "localhost/autoinstr", "newTag": "1"}],
            "patches": [{"patch": json.dumps(patch), "target": {"kind": "DaemonSet"}}],
        }
        (overlay / "kustomization.yaml").write_text(json.dumps(kustomization))
        self.node.kubectl("apply", "-k", overlay)
        self.wait_ready(within)

    def wait_ready(self, within: int = 120) -> None:
        self.node.kubectl("-n", "autoinstr", "rollout", "status", "daemonset/autoinstr", f"--timeout={within}s")

    def log(self) -> str:
        return self.node.kubectl("-n", "autoinstr", "logs", "daemonset/autoinstr", "--tail=-1")

    def pods(self) -> dict[str, dict[str, Any]]:
        return {pod["metadata"]["uid"]: pod for pod in self.node.get("pods", "-A")["items"]}

    def address(self, app: str) -> str:
        return str(self.node.get("pods", "-l", f"app={app}")["items"][0]["status"]["podIP"])

    def run_job(self, name: str, server: str, count: int, **spec: Any) -> None:
        self.node.apply(workloads.job(name, self.address(server), SERVERS[server][1], count, **spec))
        self.finished(name)

    def finished(self, name: str) -> None:
        self.node.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=300s")

    def spans(self, word: str) -> list[Told]:
        """Those whose path begins with the word, by either side."""
        found = []
        for span in self.collector.spans():
            path = span.attributes.get("url.path", "")
            if str(path).startswith(f"/{word}/"):
                found.append(span)
        return found

    def served(self, word: str) -> set[str]:
        """By which schemes the servers were seen."""
        return {str(span.attributes["url.scheme"]) for span in self.spans(word) if span.content["kind"] == 2}

    def all_told(self, word: str, count: int) -> list[Told]:
        """Every request once by its server and once by its client. AssertionError: not so."""
        wanted = Counter(
            {
                (f"/{word}/{scheme}/{number}", kind): 1
                for scheme in ("http", "https")
                for number in range(count)
                for kind in (2, 3)
            }
        )

        def told() -> Counter[tuple[str, int]]:
            return Counter((span.attributes["url.path"], int(span.content["kind"])) for span in self.spans(word))

        try:
            wait_for(lambda: told() == wanted, f"{word}: all told", 20)
        except TimeoutError:
            found = told()
            raise AssertionError(
                f"missing {list((wanted - found).items())[:5]}, too many {list((found - wanted).items())[:5]}"
            ) from None
        return self.spans(word)


def names_by_api(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """What the attributes have to be, by the API's own answer."""
    meta = pod["metadata"]
    expected = {
        "k8s.namespace.name": meta["namespace"],
        "k8s.pod.name": meta["name"],
        "k8s.pod.uid": meta["uid"],
        "k8s.node.name": pod["spec"]["nodeName"],
        "k8s.container.name": container,
        "host.name": NAME,
        "container.image.name": "localhost/autoinstr",
        "container.image.tags": ["1"],
        "container.id": pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2],
    }
    if "tier" in meta["labels"]:
        expected["k8s.pod.label.tier"] = meta["labels"]["tier"]
    (owner,) = meta["ownerReferences"]
    expected[f"k8s.{owner['kind'].lower()}.name"] = owner["name"]
    if owner["kind"] == "ReplicaSet":
        expected["k8s.deployment.name"] = owner["name"].rpartition("-")[0]
    return expected


def assert_named(spans: list[Told], pods: dict[str, dict[str, Any]]) -> None:
    """Each span has the names of the pod that it is of."""
    assert spans
    for span in spans:
        pod = pods[span.resource["k8s.pod.uid"]]
        expected = names_by_api(pod, "main")
        assert {key: span.resource.get(key) for key in expected} == expected
        owner = expected.get("k8s.deployment.name") or pod["metadata"]["ownerReferences"][0]["name"]
        assert span.resource["service.name"] == owner
        assert span.resource["service.namespace"] == "default"


@pytest.fixture(scope="module", params=["v1", "v2"])
def cluster(request: pytest.FixtureRequest, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for name in ("etcd", "kubernetes", "collector"):
        backends.build(name)
    folder = tmp_path_factory.mktemp("cluster")
    with Node(backends.BACKENDS, cgroup2=request.param == "v2") as node:
        node.import_image(image)
        with Collector(backends.BACKENDS / "otelcol", folder, ADDRESS) as collector:
            found = Cluster(node, collector, folder)
            authority = trustme.CA()
            issued = authority.issue_cert("pods.test")
            chain = b"".join(one.bytes() for one in issued.cert_chain_pems).decode()
            node.apply(workloads.programs(chain, issued.private_key_pem.bytes().decode()))
            for name, (kind, port, spec) in SERVERS.items():
                node.apply(workloads.server(kind, name, port, **spec))
            found.deploy()
            for name, (kind, _, _) in SERVERS.items():
                node.kubectl("rollout", "status", f"{kind}/{name}", "--timeout=60s")
            yield found


@pytest.mark.parametrize("server", list(SERVERS))
def test_every_span_has_its_pods_names(cluster: Cluster, server: str) -> None:
    cluster.run_job(f"visit-{server}", server, 53)
    spans = cluster.all_told(f"visit-{server}", 53)
    assert_named(spans, cluster.pods())
    servers = {span.resource["service.name"] for span in spans if span.content["kind"] == 2}
    assert servers == {server}


def test_a_client_in_the_nodes_network(cluster: Cluster) -> None:
    cluster.run_job("visit-from-node", "web", 17, hostNetwork=True)
    assert_named(cluster.all_told("visit-from-node", 17), cluster.pods())


def test_metrics_have_the_same_names(cluster: Cluster) -> None:
    def seen() -> list[Told]:
        return [one for one in cluster.collector.metrics() if one.resource.get("k8s.deployment.name") == "web"]

    wait_for(seen, "metrics of web", 20)
    names = {key: value for key, value in seen()[-1].resource.items() if key.startswith("k8s.")}
    (pod,) = (pod for pod in cluster.pods().values() if pod["metadata"]["name"] == names["k8s.pod.name"])
    expected = {key: value for key, value in names_by_api(pod, "main").items() if key.startswith("k8s.")}
    assert names == expected


def test_pods_that_come_and_go_under_load(cluster: Cluster) -> None:
    node = cluster.node
    node.kubectl("scale", "deployment/web", "--replicas=3")
    node.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    rounds = [f"coming-{number}" for number in range(3)]
    seen: dict[str, dict[str, Any]] = {}
    for word in rounds:
        address = node.get("pods", "-l", "app=db")["items"][0]["status"]["podIP"]
        node.apply(workloads.job(word, address, SERVERS["db"][1], 40, pause=0.05))
        node.kubectl("rollout", "restart", "deployment/web")
        cluster.finished(word)
        seen |= cluster.pods()
    for word in rounds:
        assert_named(cluster.all_told(word, 40), seen)
    node.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    node.kubectl("scale", "deployment/web", "--replicas=1")


def test_api_server_down_and_back(cluster: Cluster) -> None:
    node = cluster.node
    node.apply(workloads.job("outage", cluster.address("db"), SERVERS["db"][1], 100, pause=0.2))
    wait_for(lambda: cluster.spans("outage"), "requests are told")
    node.stop_api()
    try:
        before = len(cluster.spans("outage"))
        wait_for(lambda: len(cluster.spans("outage")) > before + 40, "requests go on being told", 30)
    finally:
        node.start_api()
    cluster.finished("outage")
    assert_named(cluster.all_told("outage", 100), cluster.pods())
    wait_for(lambda: "up to date again" in cluster.log(), "the agent says that it is up to date", 60)
    cluster.run_job("after-outage", "web", 5)
    assert_named(cluster.all_told("after-outage", 5), cluster.pods())


def test_names_catch_up_when_the_agent_starts_before_the_api_server(cluster: Cluster) -> None:
    node = cluster.node
    address = cluster.address("db")
    node.apply(workloads.job("early", address, SERVERS["db"][1], 500, pause=0.2))
    wait_for(lambda: cluster.spans("early"), "requests are told")
    (pod,) = node.get("pods", "-n", "autoinstr")["items"]
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    node.stop_api()
    try:
        node.kill(container)  # kubelet starts it again, without asking anybody
        wait_for(
            lambda: any("k8s.pod.name" not in span.resource for span in cluster.spans("early")),
            "told without names",
            60,
        )
    finally:
        node.start_api()
    cluster.finished("early")
    wait_for(lambda: "k8s.container.name" in cluster.spans("early")[-1].resource, "told with names again", 60)
    cluster.run_job("later", "db", 5)
    assert_named(cluster.all_told("later", 5), cluster.pods())


def test_rights_are_the_least(cluster: Cluster) -> None:
    node = cluster.node
    token = node.kubectl("-n", "autoinstr", "create", "token", "autoinstr").strip()

    def status(path: str) -> str:
        bearer = f"Authorization: Bearer {token}"
        return run("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", bearer, f"https://{API}:443{path}")

    assert status(f"/api/v1/pods?fieldSelector=spec.nodeName={NAME}") == "200"
    for forbidden in ("/api/v1/secrets", "/api/v1/configmaps", "/api/v1/nodes", "/api/v1/namespaces/default/pods/x"):
        assert status(forbidden) == "403"
    for verb in ("list", "watch"):
        others = [
            {"apiGroups": [""], "resources": ["pods"], "verbs": [one]} for one in ("list", "watch") if one != verb
        ]
        node.kubectl("patch", "clusterrole", "autoinstr", "--type=merge", "-p", json.dumps({"rules": others}))
        node.kubectl("-n", "autoinstr", "rollout", "restart", "daemonset/autoinstr")
        cluster.wait_ready()
        wait_for(lambda: "needs list and watch on pods" in cluster.log(), f"it says that {verb} is missing", 30)
    cluster.deploy()
    node.kubectl("-n", "autoinstr", "rollout", "restart", "daemonset/autoinstr")
    cluster.wait_ready()


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("BPF", None),
        ("PERFMON", None),
        ("SYS_PTRACE", {}),
        ("DAC_READ_SEARCH", {"web": BOTH}),
        ("nothing", {"web": BOTH, "user": BOTH}),
    ],
)
def test_capabilities_are_the_least(cluster: Cluster, missing: str, told: dict[str, set[str]] | None) -> None:
    """`told`: what is seen without one of them, of processes of root and of another user; None: it does not start."""
    (shipped,) = yaml.safe_load_all((SHIPPED / "daemonset.yaml").read_text())
    context = shipped["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    capabilities = [one for one in context["capabilities"]["add"] if one != missing]
    if told is None:
        with pytest.raises(RuntimeError, match="timed out"):
            cluster.deploy(capabilities, within=20)
        return
    cluster.deploy(capabilities)
    for server in ("web", "user"):
        word = f"without-{missing}-{server}".lower().replace("_", "-")
        cluster.run_job(word, server, 5)
        cluster.run_job(f"{word}-again", server, 5)  # the first ones are told by then
        assert cluster.served(word) == told.get(server, set())


def test_sidecar(cluster: Cluster) -> None:
    """The shipped manifest, with an application of ours in the place of its own."""
    node = cluster.node
    node.kubectl("-n", "autoinstr", "delete", "daemonset", "autoinstr", "--wait")
    (deployment,) = yaml.safe_load_all((SHIPPED / "sidecar/deployment.yaml").read_text())
    template = deployment["spec"]["template"]
    application, agent = template["spec"]["containers"]
    template["spec"]["volumes"].append({"name": "app", "configMap": {"name": "programs"}})
    application |= {
        "image": workloads.IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python3", "/app/server.py"],
        "env": [{"name": "PORT", "value": "8080"}],
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }
    agent |= {"image": workloads.IMAGE, "imagePullPolicy": "Never"}
    for variable in agent["env"]:
        if variable["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT":
            variable["value"] = f"http://{ADDRESS}:{cluster.collector.http}"
    node.apply(deployment)
    node.kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    (pod,) = (pod for pod in cluster.pods().values() if pod["metadata"]["labels"].get("app") == "shop")
    wait_for(
        lambda: "ready" in node.kubectl("logs", pod["metadata"]["name"], "-c", "autoinstr"), "the sidecar is ready"
    )
    node.apply(workloads.job("beside", pod["status"]["podIP"], 8080, 31))
    cluster.finished("beside")
    wait_for(lambda: len(cluster.spans("beside")) == 62, "all told", 20)
    for span in cluster.spans("beside"):
        assert span.content["kind"] == 2
        expected = {
            "service.name": "shop",
            "service.namespace": "default",
            "k8s.pod.name": pod["metadata"]["name"],
            "k8s.pod.uid": pod["metadata"]["uid"],
            "k8s.namespace.name": "default",
            "k8s.node.name": NAME,
            "k8s.container.name": "shop",
            "k8s.deployment.name": "shop",
        }
        assert {key: span.resource.get(key) for key in expected} == expected
