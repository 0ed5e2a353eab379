"""Names of pods: from objects as the API writes them, by way of its list and watch, onto services that run already."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pytest
import trustme

from autoinstr.discover import Discovery
from autoinstr.discover.kubernetes import Api, Kubernetes
from autoinstr.discover.pods import MAX_PODS, Pod, Table, names_of
from autoinstr.discover.process import Process
from autoinstr.health import Health
from autoinstr.selection import Selection, Selector

from .conftest import wait_until

UID = "6f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
ID, BEFORE = "ab" * 32, "cd" * 32


def a_pod(
    uid: str = UID, *, container: str = ID, kind: str = "ReplicaSet", owner: str = "shop-7d4b9"
) -> dict[str, Any]:
    """As /api/v1/pods has it, shortened."""
    return {
        "metadata": {
            "name": "shop-7d4b9-x2x4z",
            "namespace": "prod",
            "uid": uid,
            "resourceVersion": "7",
            "labels": {"pod-template-hash": "7d4b9", "app": "shop", "tier": "web"},
            "annotations": {"kubernetes.io/config.source": "api"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "controller": True}],
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"nodeName": "node1", "containers": [{"name": "web", "image": "registry:5000/shop:1.2"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": "web",
                    "image": "registry:5000/shop:1.2",
                    "containerID": f"containerd://{container}",
                    "lastState": {"terminated": {"exitCode": 1, "containerID": f"containerd://{BEFORE}"}},
                    "state": {"running": {}},
                }
            ],
        },
    }


def decoded(pod: dict[str, Any]) -> Pod:
    return msgspec.json.decode(json.dumps(pod).encode(), type=Pod)


def test_names_of_a_container_and_of_the_one_before_it() -> None:
    found = dict(names_of(decoded(a_pod()), ("tier",)))
    assert found.keys() == {UID, ID, BEFORE}
    assert found[ID].service == "shop" and found[ID].namespace == "prod"
    assert found[ID].attributes == found[BEFORE].attributes == {
        "k8s.namespace.name": "prod",
        "k8s.pod.name": "shop-7d4b9-x2x4z",
        "k8s.pod.uid": UID,
        "k8s.node.name": "node1",
        "k8s.deployment.name": "shop",
        "k8s.replicaset.name": "shop-7d4b9",
        "k8s.pod.label.tier": "web",
        "k8s.container.name": "web",
        "container.image.name": "registry:5000/shop",
        "container.image.tags": ["1.2"],
    }  # fmt: skip
    assert "k8s.container.name" not in found[UID].attributes


@pytest.mark.parametrize(
    ("kind", "owner", "named"),
    [
        ("ReplicaSet", "by-hand", {"k8s.replicaset.name": "by-hand"}),
        ("StatefulSet", "db", {"k8s.statefulset.name": "db"}),
        ("DaemonSet", "logs", {"k8s.daemonset.name": "logs"}),
        ("Job", "once", {"k8s.job.name": "once"}),
        ("Job", "nightly-29112340", {"k8s.cronjob.name": "nightly", "k8s.job.name": "nightly-29112340"}),
        ("Node", "node1", {}),
    ],
)
def test_owner(kind: str, owner: str, named: dict[str, str]) -> None:
    found = dict(names_of(decoded(a_pod(kind=kind, owner=owner)), ()))[ID]
    kinds = {f"k8s.{kind}.name" for kind in ("deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob")}
    assert {key: value for key, value in found.attributes.items() if key in kinds} == named
    assert found.service == next(iter(named.values()), "shop-7d4b9-x2x4z")


def test_annotations_are_attributes() -> None:
    pod = a_pod()
    pod["metadata"]["annotations"] = {
        "resource.opentelemetry.io/service.name": "till",
        "resource.opentelemetry.io/team": "shops",
        "kubernetes.io/config.hash": "ef" * 16,
    }
    found = dict(names_of(decoded(pod), ()))
    assert found[ID].service == "till" and found[ID].attributes["team"] == "shops"
    assert found["ef" * 16].attributes["k8s.pod.uid"] == UID


def test_table_is_bounded_and_remembers_the_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    for number in range(MAX_PODS + 10):
        table.put(decoded(a_pod(str(number), container=f"{number:064x}")))
    assert table.find("", "0") and table.find(f"{MAX_PODS - 1:064x}", "")
    assert not table.find("", str(MAX_PODS))
    table.delete("0")
    table.forget()
    assert table.find("", "0")
    monkeypatch.setattr("autoinstr.discover.pods.REMEMBER", -1)
    table.delete("1")
    table.forget()
    assert table.find("", "0") and not table.find("", "1") and not table.find(f"{1:064x}", "")


class Server:
    """Answers list and watch over TLS with what it is told to; `down` closes connections without an answer."""

    def __init__(self, folder: Path) -> None:
        self.pods: list[dict[str, Any]] = []
        self.events: deque[dict[str, Any]] = deque()
        self.asked: list[dict[str, list[str]]] = []
        self.status = 200
        self.down = False
        self.changed = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                server.asked.append(query)
                assert self.headers["Authorization"] == "Bearer secret"
                if server.down:
                    self.close_connection = True  # without an answer
                elif server.status != 200:
                    self.send_error(server.status)
                elif "watch" in query:
                    self.watch()
                else:
                    self.whole({"metadata": {"resourceVersion": "5"}, "items": server.pods})

            def whole(self, content: object) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def watch(self) -> None:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while not server.down:
                    with server.changed:
                        server.changed.wait_for(lambda: server.events or server.down, 0.1)
                        event = server.events.popleft() if server.events else None
                    if event:
                        line = json.dumps(event).encode() + b"\n"
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        (folder / "token").write_text("secret\n")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.api = Api("127.0.0.1", self._server.server_port, folder)

    def tell(self, kind: str, pod: dict[str, Any]) -> None:
        with self.changed:
            self.events.append({"type": kind, "object": pod})
            self.changed.notify_all()

    def close(self) -> None:
        self.down = True
        self._server.shutdown()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("autoinstr.discover.kubernetes.RETRY_AFTER", 0.05)
    one = Server(tmp_path)
    yield one
    one.close()


def test_follows_the_server(server: Server) -> None:
    server.pods = [a_pod("1", container="1" * 64)]
    names = Kubernetes(server.api, "node1")
    assert names.wait(5) and names.table.find("1" * 64, "")
    assert server.asked[0]["fieldSelector"] == ["spec.nodeName=node1"]
    server.tell("ADDED", a_pod("2", container="2" * 64))
    wait_until(lambda: names.table.find("2" * 64, "") is not None)
    server.tell("MODIFIED", a_pod("2", container="3" * 64))  # its container was started anew
    wait_until(lambda: names.table.find("3" * 64, "") is not None)
    names.close()


def test_server_goes_away_and_comes_back(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server.down = True
    names = Kubernetes(server.api, "node1")
    assert not names.wait(0.3)
    server.pods, server.down = [a_pod()], False
    assert names.wait(5)
    server.down = True
    wait_until(lambda: caplog.text.count("not up to date") == 2)
    assert names.table.find(ID, "")  # the last that was known holds
    server.pods, server.down = [a_pod("2", container="2" * 64)], False
    wait_until(lambda: names.table.find("2" * 64, "") is not None)
    wait_until(lambda: caplog.text.count("up to date again") == 2)
    names.close()


def test_lists_again_when_the_server_has_forgotten(server: Server) -> None:
    names = Kubernetes(server.api, "node1")
    assert names.wait(5)
    server.pods = [a_pod()]
    server.tell("ERROR", {"code": 410, "reason": "Expired"})
    wait_until(lambda: names.table.find(ID, "") is not None)
    names.close()


def test_says_what_right_is_missing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.status = 403
    names = Kubernetes(server.api, "node1")
    wait_until(lambda: "needs list and watch on pods" in caplog.text)
    names.close()


def test_names_catch_up_with_a_service_under_its_index(spawn: Any, not_ourselves: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(Process, "cgroup", f"0::/kubepods/pod{UID}/{ID}\n")
    process, _ = spawn.script("till.py", "import time\nprint(1, flush=True)\ntime.sleep(60)\n")
    table = Table()
    discovery = Discovery(Selection((Selector("test", pid=(process.pid,)),)), Health(), pods=table)
    discovery.scan()
    pids = np.array([process.pid], np.uint32)
    (index,) = discovery.service_of(pids)
    before = discovery.services[index]
    assert before.name == "till" and before.attributes["k8s.pod.uid"] == UID
    pod = a_pod()
    statuses = pod["status"].pop("containerStatuses")  # the kubelet has not told of them yet
    table.put(decoded(pod))
    discovery.name_pods()
    assert discovery.services[index].attributes["k8s.deployment.name"] == "shop"
    table.put(decoded(pod | {"status": {"containerStatuses": statuses}}))
    discovery.name_pods()
    after = discovery.services[index]
    assert (after.name, after.attributes["service.name"], after.attributes["service.namespace"]) == (
        "shop",
        "shop",
        "prod",
    )
    assert after.attributes["k8s.container.name"] == "web"
    assert after.attributes["service.instance.id"] == before.attributes["service.instance.id"]
    assert discovery.service_of(pids).tolist() == [index] and len(discovery.services) == 1
    assert discovery.targets[process.pid].service is after


def test_a_given_name_stays(spawn: Any, not_ourselves: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(Process, "cgroup", f"0::/kubepods/pod{UID}/{ID}\n")
    environment = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=ours"}
    process, _ = spawn.script("till.py", "import time\nprint(1, flush=True)\ntime.sleep(60)\n", env=environment)
    table = Table()
    table.put(decoded(a_pod()))
    discovery = Discovery(Selection((Selector("test", pid=(process.pid,)),)), Health(), pods=table)
    discovery.scan()
    service = discovery.targets[process.pid].service
    assert service.name == service.attributes["service.name"] == "mine"
    assert service.attributes["service.namespace"] == "ours"
    assert service.attributes["k8s.pod.name"] == "shop-7d4b9-x2x4z"
