"""What really happened, held against what the agent told: one to one, by the id that each request has in its path.

In: the list of requests that a generator or a server knows of, and the agent's spans as read from its JSON lines.
Out: a list of complaints, readable by people: missing, told twice, invented, or a wrong field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SERVER, CLIENT = "server", "client"
# The service of the gRPC servers here. Its methods are few: its RPCs are told apart by the trace that each comes with.
ECHO = "autoinstr.test.Echo"
# Machines under test are busy: a duration may be longer than planned by this much, never shorter by more than EARLY.
LATE = 3.0
EARLY = 0.005
# Ids stand at the start of a path: what follows may be cut, since the kernel keeps the start of a head only.
KEY_SIZE = 100
# Status codes of gRPC by number, and those which are a server's fault by the semantic conventions.
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
SERVER_FAULTS = (2, 4, 12, 13, 14, 15)
# How kinds are written in JSON, by name or by OTLP's number.
KINDS = {"2": SERVER, "3": CLIENT, "SERVER": SERVER, "CLIENT": CLIENT}


@dataclass(frozen=True)
class Expected:
    """One request as it should be told. None: not checked."""

    path: str
    kind: str = SERVER
    method: str = "GET"
    status: int | None = 200  # 0: no response came
    request_size: int | None = 0
    response_size: int | None = 0
    server_port: int | None = None
    server_address: str | None = None
    peer_port: int | None = None  # of the other end: client.port (server), network.peer.port (client)
    errors: Collection[str] = ()  # allowed values of error.type; empty: as the status says
    delay: float | None = None  # seconds that it took at least
    trace: str = ""  # trace id and parent's span id of an incoming traceparent, "<32>-<16>"
    version: str | None = None  # network.protocol.version
    optional: bool = False  # may be missing, but must be right if told
    rpc: bool = False  # of gRPC: path is /<service>/<method>, with the trace's id behind it for `ECHO`; status its code

    @property
    def key(self) -> str:
        return self.path[:KEY_SIZE]


def kind_of(span: dict[str, Any]) -> str:
    return KINDS.get(str(span["kind"]).upper().removeprefix("SPAN_KIND_"), str(span["kind"]))


def path_of(span: dict[str, Any]) -> str:
    """The path; for a request that has none (CONNECT, OPTIONS *) its method."""
    told = span["attributes"]
    if service := told.get("rpc.service"):
        return f"/{service}/{told.get('rpc.method')}" + (f"/{span['traceId']}" if service == ECHO else "")
    path = str(told.get("url.path", ""))
    return path if path.startswith("/") else str(told.get("http.request.method"))


def key_of(span: dict[str, Any]) -> tuple[str, str]:
    return kind_of(span), path_of(span)[:KEY_SIZE]


def seconds_of(span: dict[str, Any]) -> float:
    return (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9


def is_error(span: dict[str, Any]) -> bool:
    status = span.get("status") or {}
    code = status.get("code", "") if isinstance(status, dict) else status
    return str(code).upper() in ("2", "ERROR", "STATUS_CODE_ERROR")


def compare(expected: Iterable[Expected], spans: Iterable[dict[str, Any]]) -> list[str]:
    """Every difference, one line each; empty: the agent told the truth, the whole truth, nothing but the truth."""
    told = defaultdict(list)
    for span in spans:
        told[key_of(span)].append(span)
    complaints = []
    for truth in expected:
        found = told.pop((truth.kind, truth.key), [])
        name = f"{truth.kind} {truth.method} {truth.path}"
        if not found and not truth.optional:
            complaints.append(f"missing: {name}")
        if len(found) > 1:
            complaints.append(f"told {len(found)} times: {name}")
        if found:
            complaints += [f"wrong: {name}: {text}" for text in differences(truth, found[0])]
    for (kind, path), spans_ in told.items():
        complaints.append(f"invented: {kind} {path!r} x {len(spans_)}: {spans_[0]['attributes']}")
    return complaints


def differences(truth: Expected, span: dict[str, Any]) -> list[str]:
    told = span["attributes"]
    port = "client.port" if truth.kind == SERVER else "network.peer.port"
    fields = {
        **(rpc_fields(truth) if truth.rpc else http_fields(truth)),
        "server.port": truth.server_port,
        "server.address": truth.server_address,
        port: truth.peer_port,
    }
    wrong = [
        f"{name} is {told.get(name)!r}, not {value!r}"
        for name, value in fields.items()
        if value is not None and (told.get(name) or 0) != value
    ]
    return (
        wrong + wrong_url(truth, span) + wrong_error(truth, span) + wrong_time(truth, span) + wrong_trace(truth, span)
    )


def http_fields(truth: Expected) -> dict[str, Any]:
    return {
        "http.request.method": truth.method,
        "http.response.status_code": truth.status,
        "http.request.body.size": truth.request_size,
        "http.response.body.size": truth.response_size,
        "network.protocol.version": truth.version,
    }


def rpc_fields(truth: Expected) -> dict[str, Any]:
    _, service, method, *_ = truth.path.split("/")
    return {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": truth.status,
    }


def wrong_url(truth: Expected, span: dict[str, Any]) -> list[str]:
    """A client's url.full: whom it asks by which scheme, and for what."""
    told = span["attributes"]
    path, host = str(told.get("url.path", "")), told.get("server.address")
    if truth.kind == SERVER or truth.rpc or not path.startswith("/") or not host:
        return [f"a url.full: {told['url.full']}"] if "url.full" in told else []
    found = urlsplit(str(told.get("url.full", "")))
    port = found.port or {"http": 80, "https": 443}.get(found.scheme)
    said = (found.scheme, found.hostname, port, found.path)
    meant = (told["url.scheme"], str(host).lower(), told.get("server.port", port), urlsplit(path).path)
    return [] if said == meant else [f"url.full is {told.get('url.full')!r}, not {meant}"]


def wrong_error(truth: Expected, span: dict[str, Any]) -> list[str]:
    """error.type and the span's status, by the semantic conventions where the truth names no error."""
    told = span["attributes"].get("error.type")
    allowed: Collection[str | None] = truth.errors
    if not truth.errors:
        if truth.status is None:
            return []
        allowed = [str(truth.status), *CODES[truth.status : truth.status + 1]] if failed(truth) else [None]
    wrong = [] if told in allowed else [f"error.type is {told!r}, not one of {sorted(map(str, allowed))}"]
    if is_error(span) != (told is not None):
        wrong.append(f"span status is {span.get('status')!r} with error.type {told!r}")
    return wrong


def failed(truth: Expected) -> bool:
    assert truth.status is not None
    if truth.rpc:
        return truth.status in SERVER_FAULTS if truth.kind == SERVER else truth.status != 0
    return truth.status >= (500 if truth.kind == SERVER else 400)


def wrong_time(truth: Expected, span: dict[str, Any]) -> list[str]:
    if truth.delay is None:
        return []
    took = seconds_of(span)
    fits = truth.delay - EARLY <= took <= truth.delay + LATE
    return [] if fits else [f"took {took:.4f} s, not about {truth.delay:.4f} s"]


def wrong_trace(truth: Expected, span: dict[str, Any]) -> list[str]:
    told = f"{span['traceId']}-{span['parentSpanId']}"
    return [f"trace is {told}, not {truth.trace}"] if truth.trace and told != truth.trace else []
