"""HTTP/1.0 and 1.1: exchanges become requests and groups (RFC 9112, semantic conventions for HTTP).

In: exchanges, whose request line the kernel side has found, but not understood. Out: columns and groups. What the bytes
mean is found in `http1_head.py`, routes and hosts in their own files; here it comes together. Never trusts a record.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import IPv6Address

import numpy as np
from numpy.typing import NDArray

from autoinstr import semconv
from autoinstr.capture.abi import EXCHANGE_HEAD_CUT, EXCHANGE_TLS, HEAD_SIZE, Error, Family
from autoinstr.health import Loss
from autoinstr.model import Attributes, Group, Kind
from autoinstr.parse import texts as tx
from autoinstr.parse import traceparent
from autoinstr.parse.base import Batch, Context, Parsed
from autoinstr.parse.hosts import Hosts, find_field
from autoinstr.parse.http1_head import Heads, Lines, Methods, Targets, read_lines, read_targets
from autoinstr.parse.redact import Redactor
from autoinstr.parse.routes import Routes
from autoinstr.parse.texts import Texts
from autoinstr.parse.traceparent import Parents

U64 = np.uint64
_METRICS = {Kind.SERVER: semconv.HTTP_SERVER, Kind.CLIENT: semconv.HTTP_CLIENT}
_FAILED_FROM = {Kind.SERVER: 500, Kind.CLIENT: 400}  # status codes that are errors for this side
_NOT_FOUND = 404
_SCHEMES = ("http", "https")  # without TLS, with it
_ERRORS: dict[int, str] = {Error.NO_RESPONSE: semconv.ERROR_NO_RESPONSE, Error.TRUNCATED: semconv.ERROR_TRUNCATED}


class Http1:
    """The protocol's parser: see `parse/base.py`."""

    def __init__(self, context: Context) -> None:
        self._groups = context.groups
        self._health = context.health
        self._keep_queries = context.queries
        self._methods = Methods()
        self._hosts = Hosts()
        self._routes = Routes(context.routes, context.services)
        self._redactor = Redactor()
        self._buffer = np.empty(0, np.uint8)  # for heads: a fresh one for each batch would cost page faults

    def parse(self, batch: Batch, service: NDArray[np.int32]) -> Parsed:
        wanted = (len(batch) + 1) * HEAD_SIZE
        if len(self._buffer) < wanted:
            self._buffer = np.zeros(wanted, np.uint8)
        heads = Heads(self._buffer, batch["head"], batch["head_size"], batch["traceparent"])
        lines = read_lines(heads)
        method = self._methods.find(heads, lines)
        targets = read_targets(heads, lines, method)
        cut = (batch["flags"] & EXCHANGE_HEAD_CUT) != 0
        self._health.lose(Loss.PARSE_ERROR, int(np.count_nonzero(~lines.fine)))
        self._health.lose(Loss.HEAD_CUT, int(np.count_nonzero(cut & lines.fine & ~targets.whole)))
        route = self._route(batch, service, targets)
        calls = _calls(
            batch,
            service,
            method=method,
            version=lines.version,
            route=route,
            host=self._host(batch, heads, lines, targets),
            host_ports=self._hosts.ports,
        )
        group = self._groups.find(
            calls.keys(),
            service,
            calls.kind,
            make=lambda row: self._group(calls, row),
            failed=calls.failed,
            make_overflow=_overflow_group,
            refused=calls.host < 0,
        )
        return Parsed(group, targets.path, self._query(targets), _parents(heads))

    def _route(self, batch: Batch, service: NDArray[np.int32], targets: Targets) -> NDArray[np.int32]:
        """Number of the route of each server request; 0 for none."""
        path = targets.path
        starts_well = np.append(path.data, np.uint8(0))[path.at] == ord("/")
        rows = tx.marked((batch["role"] == Kind.SERVER) & (path.size > 0) & starts_well)
        if not len(rows):
            return np.zeros(len(batch), np.int32)
        found = batch["status"] != _NOT_FOUND
        if len(rows) == len(batch):
            return self._routes.find(path, service, found=found, whole=targets.whole)
        route = np.zeros(len(batch), np.int32)
        some = tx.gather(path.data, path.at[rows], path.size[rows])
        route[rows] = self._routes.find(some, service[rows], found=found[rows], whole=targets.whole[rows])
        return route

    def _host(self, batch: Batch, heads: Heads, lines: Lines, targets: Targets) -> NDArray[np.int32]:
        """Number of the host that each client asked; 0 for none, and for servers."""
        host = np.zeros(len(batch), np.int32)
        rows = tx.marked((batch["role"] == Kind.CLIENT) & (batch["family"] != Family.UNIX))
        if not len(rows):
            return host
        if len(rows) == len(batch):
            field = find_field(heads.bytes, heads.size, lines.fields, heads.flat)
        else:
            some = np.append(heads.bytes[rows], np.zeros((1, heads.width), np.uint8), axis=0)
            field = find_field(some[:-1], heads.size[rows], lines.fields[rows], some.ravel())
        host[rows] = self._hosts.find(field)
        # The authority in the target takes precedence (RFC 9112, 3.2.2).
        asked = rows[targets.authority.size[rows] > 0]
        if len(asked):
            authority = targets.authority
            host[asked] = self._hosts.find(Texts(authority.data, authority.at[asked], authority.size[asked]))
        return host

    def _query(self, targets: Targets) -> Texts:
        if not self._keep_queries:
            return tx.no_texts(len(targets.whole))
        sent = targets.query
        queries, _ = tx.cut_before(tx.gather(sent.data, sent.at, sent.size), ord("#"))
        return self._redactor.redact(tx.escape(queries))

    def _group(self, calls: _Calls, row: int) -> Group:
        """The group of a request that is the first of its kind."""
        kind, status = Kind(int(calls.kind[row])), int(calls.status[row])
        method, original = self._methods.names[int(calls.method[row])]
        route = self._routes.names[int(calls.route[row])]
        host = self._hosts.names[int(calls.host[row])] or _address(calls.address[row].tobytes())
        port, version = int(calls.port[row]), int(calls.version[row])
        error = _error_type(kind, status, int(calls.error[row]))
        scheme = _SCHEMES[int(calls.tls[row])]
        shared: Attributes = {semconv.HTTP_REQUEST_METHOD: method, semconv.URL_SCHEME: scheme}
        optional: Attributes = {
            semconv.HTTP_RESPONSE_STATUS_CODE: status,
            semconv.HTTP_ROUTE: route,
            semconv.SERVER_ADDRESS: host,
            semconv.SERVER_PORT: port,
            semconv.ERROR_TYPE: error,
        }
        shared |= {name: value for name, value in optional.items() if value}
        own: Attributes = {}
        if original:
            own[semconv.HTTP_REQUEST_METHOD_ORIGINAL] = original
        if version:
            own[semconv.NETWORK_PROTOCOL_VERSION] = f"1.{chr(version)}"
        if calls.unix[row]:
            own[semconv.NETWORK_TRANSPORT] = "unix"
        name = "HTTP" if method == semconv.METHOD_OTHER else method
        return Group(
            service=int(calls.service[row]),
            kind=kind,
            name=f"{name} {route}" if route else name,
            metric=_METRICS[kind],
            metric_attributes=shared,
            span_attributes=shared | own,
            text_key=semconv.URL_PATH,
            failed=bool(error),
        )


@dataclass(slots=True)
class _Calls:
    """All that decides on the groups of n requests, column by column."""

    service: NDArray[np.int32]
    kind: NDArray[np.uint8]
    unix: NDArray[np.bool_]
    tls: NDArray[np.bool_]
    method: NDArray[np.int32]
    version: NDArray[np.uint8]
    route: NDArray[np.int32]
    status: NDArray[np.uint16]
    error: NDArray[np.uint16]
    host: NDArray[np.int32]
    address: NDArray[np.uint64]  # (n, 2) of the server; zeros where the host is known, or there is none
    port: NDArray[np.int64]  # of the server

    def keys(self) -> NDArray[np.uint64]:
        """One key a request: the same for the same group."""
        wide = [
            column.astype(U64)
            for column in (
                self.service,
                self.kind,
                self.version,
                self.unix,
                self.tls,
                self.method,
                self.route,
                self.host,
            )
        ]
        service, kind, version, unix, tls, method, route, host = wide
        return tx.combine(
            [
                service | kind << U64(32) | version << U64(40) | unix << U64(48) | tls << U64(49),
                route | method << U64(32) | host << U64(48),
                self.status.astype(U64) | self.error.astype(U64) << U64(16) | self.port.astype(U64) << U64(32),
                self.address[:, 0],
                self.address[:, 1],
            ]
        )

    @property
    def failed(self) -> NDArray[np.bool_]:
        limit = np.where(self.kind == Kind.SERVER, _FAILED_FROM[Kind.SERVER], _FAILED_FROM[Kind.CLIENT])
        failed: NDArray[np.bool_] = (self.status >= limit) | (self.status == 0) | (self.error != 0)
        return failed


def _calls(
    batch: Batch,
    service: NDArray[np.int32],
    *,
    method: NDArray[np.int32],
    version: NDArray[np.uint8],
    route: NDArray[np.int32],
    host: NDArray[np.int32],
    host_ports: NDArray[np.int64],
) -> _Calls:
    unix = batch["family"] == Family.UNIX
    tls = (batch["flags"] & EXCHANGE_TLS) != 0
    server = batch["role"] == Kind.SERVER
    local, remote = batch["local"].copy().view("<u8"), batch["remote"].copy().view("<u8")
    address = np.where(server[:, None], local, remote)
    address[unix | (host != 0)] = 0
    port = np.where(server, batch["local_port"], batch["remote_port"]).astype(np.int64)
    told = host_ports.take(np.maximum(host, 0))
    port = np.where(told > 0, told, port)
    port[unix] = 0
    return _Calls(
        service, batch["role"], unix, tls, method, version, route, batch["status"], batch["error"], host, address, port
    )


def _parents(heads: Heads) -> Parents:
    """Trace context where the kernel side has seen the field."""
    rows = tx.marked((heads.traceparent > 0) & (heads.traceparent <= heads.width - traceparent.SIZE))
    at = heads.traceparent[rows]
    # What comes after it in the head shows whether it ended there, unless it was put in from elsewhere.
    followed = at + traceparent.SIZE < heads.size[rows]
    return traceparent.parse(heads.flat, heads.start[rows] + at, followed, rows, len(heads))


def _error_type(kind: Kind, status: int, error: int) -> str:
    """error.type, "" if the request went well."""
    if status >= _FAILED_FROM[kind]:
        return str(status)
    if error:
        return _ERRORS.get(error) or errno.errorcode.get(error, semconv.ERROR_OTHER)
    return "" if status else semconv.ERROR_NO_RESPONSE


def _address(raw: bytes) -> str:
    """Text of an address, "" for none."""
    if not any(raw):
        return ""
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def _overflow_group(service: int, kind: Kind, failed: bool) -> Group:
    """For what finds no room in the table of groups."""
    return Group(
        service=service,
        kind=kind,
        name="HTTP",
        metric=_METRICS[kind],
        metric_attributes={semconv.OTEL_METRIC_OVERFLOW: True},
        span_attributes={},
        text_key=semconv.URL_PATH,
        failed=failed,
    )
