"""An agent's page without an agent: a store with requests in it, served on a port of its own."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from unit.spans.batches import Row, make_traced

from autoinstr.address import parse_address
from autoinstr.health import Health
from autoinstr.model import Group, Kind, Service
from autoinstr.spans import span_records
from autoinstr.store import Store
from autoinstr.web import Api, WebServer

SECOND = 10**9
SERVICES = [Service(name, {"service.name": name}) for name in ("gateway", "shop", "stock")]
VERSION = {"network.protocol.version": "1.1"}
HERE = IPv4Address("127.0.0.1")
TARGETS: list[dict[str, Any]] = [
    {
        "pid": 10 + number,
        "service": service.name,
        "language": "python",
        "ports": [8000 + number],
        "libraries": ["libssl.so.3"],
        "unseen": [],
        "selectedBy": "--port 8000-8002",
        "nameSource": "script",
        "exe": "/usr/bin/python3",
    }
    for number, service in enumerate(SERVICES)
]


def server(service: int, route: str, status: int = 200) -> Group:
    shared = {
        "http.request.method": "GET",
        "http.response.status_code": status,
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 8000 + service,
    }
    if status >= 500:
        shared["error.type"] = str(status)
    own = VERSION | {"http.route": route}
    return Group(service, Kind.SERVER, f"GET {route}", "http.server", shared, shared | own, "url.path", status >= 500)


def client(service: int, host: str, port: int, status: int = 200) -> Group:
    shared = {"http.request.method": "GET", "http.response.status_code": status, "server.address": host}
    shared["server.port"] = port
    if status >= 400:
        shared["error.type"] = str(status)
    return Group(service, Kind.CLIENT, "GET", "http.client", shared, shared | VERSION, "url.path", status >= 400)


GROUPS = [
    server(0, "/"),
    client(0, "shop.internal", 80),
    server(1, "/users/*"),
    server(1, "/users/*", 500),
    client(1, "127.0.0.1", 8002),
    client(1, "api.example.com", 443, 404),
]
# Requests of the truth: group, how many, how long (ms), whom they called.
TRAFFIC = [
    (0, 40, 8.0, (HERE, 50000)),
    (1, 40, 6.0, (HERE, 8001)),
    (2, 30, 5.0, (HERE, 50001)),
    (3, 10, 5.0, (HERE, 50001)),
    (4, 20, 2.0, (HERE, 8002)),
    (5, 5, 100.0, (IPv4Address("93.184.216.34"), 443)),
]


def filled(ago: float = 20.0) -> Store:
    """All traffic in one second, some seconds ago."""
    store = Store(16 << 20)
    end = time.time_ns() - int(ago * SECOND)
    for group, count, took, (address, port) in TRAFFIC:
        row = Row(group, end - int(took * 1e6), int(took * 1e6), peer=address, port=port)
        rows = [
            replace(row, text=f"/users/{number}", span=bytes([group + 1]) * 7 + bytes([number]), trace=trace_of(number))
            for number in range(count)
        ]
        store.add(make_traced(rows), GROUPS, SERVICES)
    return store


def trace_of(number: int) -> bytes:
    return bytes(15) + bytes([number + 1])


def make_api(store: Store, targets: list[dict[str, Any]] | None = None, started: float = 0) -> Api:
    inside = {"targets": TARGETS if targets is None else targets, "work": {}, "gauges": {}, "lost": [], "orphans": []}
    return Api(
        store, lambda: inside, span_records, lambda: {"ok": True, "checks": []}, started=started or time.time() - 60
    )


class Site:
    def __init__(self, address: str = "127.0.0.1:0", token: str = "", store: Store | None = None) -> None:
        self.health = Health()
        self.server = WebServer(parse_address(address), token, make_api(store or filled()), self.health)

    @property
    def port(self) -> int:
        return self.server.address.port

    def get(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """The answer, its body read as `body`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def ask(self, path: str) -> Any:
        return json.loads(self.get(path).body)  # type: ignore[attr-defined]
