"""What is known of each series, as columns, so that questions about thousands of them are array work.

In: the store's series, which only grow. Out: columns by series number. Used under the API's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Follower, Group, Kind, Service
from autoinstr.semconv import (
    ERROR_TYPE,
    NETWORK_PROTOCOL_NAME,
    NETWORK_PROTOCOL_VERSION,
    NETWORK_TRANSPORT,
    OUTCOMES,
    PROCESS_PID,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_SCHEME,
)
from autoinstr.store import Series, Store


@dataclass(frozen=True, slots=True)
class Fact:
    """One series, in the words of the page."""

    service: str
    kind: str  # "server", "client"
    name: str  # of its spans: "GET /users/*"
    to: str  # of a client: whom it called, by the name that it used
    status: str
    failed: bool
    protocol: str  # "HTTP/1.1", "gRPC over TLS"
    address: str  # server: of its socket; client: of the end that it called
    port: int
    peer: str  # of a client: the service there, if the kernel side has met both ends


class Facts:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._series: list[Series] = []  # that were taken in
        self.all: list[Fact] = []
        self.names: list[str] = []  # of services
        self._of_pid: dict[int, str] = {}
        self._services = Follower[Service]()
        self._number: dict[str, int] = {}
        self.service: NDArray[np.int32] = np.zeros(0, np.int32)  # by series: index into names
        self.server: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.failed: NDArray[np.bool_] = np.zeros(0, np.bool_)

    def learn(self) -> None:
        """Take in what has come since, and what has taken the place of another."""
        series, known = list(self._store.series), len(self._series)
        numbers = [number for number in range(known) if series[number] is not self._series[number]]
        numbers += range(known, len(series))
        if not numbers:
            return
        services, _ = self._services.more(self._store.services)
        self._of_pid |= {int(str(one.attributes.get(PROCESS_PID, 0))): one.name for one in services}
        more = np.zeros(len(series) - known, np.int32)
        self.service = np.append(self.service, more)
        self.server, self.failed = (np.append(column, more.astype(np.bool_)) for column in (self.server, self.failed))
        for number in numbers:
            one = series[number]
            peer = self._of_pid.get(one.peer, "") if one.peer else ""
            fact = fact_of(one, self._store.service_of(one).name, peer)
            self.all[number : number + 1] = [fact]
            if fact.service not in self._number:
                self._number[fact.service] = len(self.names)
                self.names.append(fact.service)
            self.service[number] = self._number[fact.service]
            self.server[number] = fact.kind == "server"
            self.failed[number] = fact.failed
        self._series = series

    def where(self, **wanted: object) -> NDArray[np.bool_]:
        """Series with these facts; what is None may be anything."""
        asked = {name: value for name, value in wanted.items() if value is not None}
        fits = (all(getattr(fact, name) == value for name, value in asked.items()) for fact in self.all)
        return np.fromiter(fits, np.bool_, len(self.all))


def fact_of(series: Series, service: str, peer: str) -> Fact:
    group = series.group
    attributes = group.span_attributes
    server = group.kind is Kind.SERVER
    outcome = next((attributes[key] for key in OUTCOMES if key in attributes), "error" if group.failed else "ok")
    host, port = str(attributes.get(SERVER_ADDRESS, "")), attributes.get(SERVER_PORT, 0)
    called = "" if server else join(host, port) if host else "unix socket" if is_unix(group) else "?"
    address = host if server else address_text(series.address)
    return Fact(
        service=service,
        kind=group.kind.name.lower(),
        name=group.name,
        to=called,
        status=str(outcome),
        failed=ERROR_TYPE in group.metric_attributes or group.failed,
        protocol=protocol_of(group),
        address=address,
        port=int(str(port)) if server else series.port,
        peer=peer,
    )


def is_unix(group: Group) -> bool:
    return group.span_attributes.get(NETWORK_TRANSPORT) == "unix"


def protocol_of(group: Group) -> str:
    """`http` 1.1 -> HTTP/1.1; of other protocols their system or the metrics' prefix: gRPC."""
    attributes = group.span_attributes
    family = group.metric.partition(".")[0]
    system = attributes.get(f"{family}.system.name", attributes.get(f"{family}.system"))
    name = str(system or attributes.get(NETWORK_PROTOCOL_NAME) or family)
    version = str(attributes.get(NETWORK_PROTOCOL_VERSION, "")) if not system else ""
    text = {"grpc": "gRPC"}.get(name, name.upper()) + (f"/{version}" if version else "")
    tls = " over TLS" if attributes.get(URL_SCHEME) == "https" else ""
    unix = " on a Unix socket" if is_unix(group) else ""
    return text + tls + unix


def join(host: str, port: object) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


def address_text(raw: bytes) -> str:
    """16 bytes as text; empty for none."""
    if not any(raw):
        return ""
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)
