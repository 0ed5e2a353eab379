"""What requests over HTTP become, whatever its version (semantic conventions for HTTP).

In: what a version's parser has found of n requests, as columns. Out: routes and groups. Knows no bytes of the wire.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import IPv6Address

import numpy as np
from numpy.typing import NDArray

from autoinstr import semconv
from autoinstr.capture.abi import EXCHANGE_TLS, Error, Family
from autoinstr.model import Attributes, Group, Kind
from autoinstr.parse import texts as tx
from autoinstr.parse.base import Batch, Context
from autoinstr.parse.hosts import Hosts
from autoinstr.parse.methods import Methods
from autoinstr.parse.routes import Routes
from autoinstr.parse.texts import Texts

U64 = np.uint64
HTTP, HTTPS = 0, 1  # index into SCHEMES
SCHEMES = ("http", "https")
_METRICS = {Kind.SERVER: semconv.HTTP_SERVER, Kind.CLIENT: semconv.HTTP_CLIENT}
_FAILED_FROM = {Kind.SERVER: 500, Kind.CLIENT: 400}  # status codes that are errors for this side
_NOT_FOUND = 404
_ERRORS: dict[int, str] = {Error.NO_RESPONSE: semconv.ERROR_NO_RESPONSE, Error.TRUNCATED: semconv.ERROR_TRUNCATED}
_HTTP2_ERRORS = (  # RFC 9113, 7
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
_ERRORS |= {Error.HTTP2 + code: name for code, name in enumerate(_HTTP2_ERRORS)}


def error_name(error: int) -> str:
    """error.type for what the kernel side says of a response that is not there, or not whole; "" for none."""
    if not error:
        return ""
    return _ERRORS.get(error) or errno.errorcode.get(error, semconv.ERROR_OTHER)


@dataclass(slots=True)
class Servers:
    """The server's end of n requests."""

    unix: NDArray[np.bool_]
    host: NDArray[np.int32]  # number of the host that was asked for, in `Hosts`; 0: not known, -1: one too many
    address: NDArray[np.uint64]  # (n, 2); zeros where the host is known, or there is none
    port: NDArray[np.int64]

    def keys(self) -> list[NDArray[np.uint64]]:
        """Of these columns: the same for the same server."""
        host = self.host.astype(np.uint32).astype(U64)
        ends = host | self.port.astype(U64) << U64(32) | self.unix.astype(U64) << U64(48)
        return [ends, self.address[:, 0], self.address[:, 1]]

    def attributes(self, row: int, hosts: Hosts) -> Attributes:
        """Of one request."""
        host = hosts.names[int(self.host[row])] or _address(self.address[row].tobytes())
        found: Attributes = {semconv.SERVER_ADDRESS: host, semconv.SERVER_PORT: int(self.port[row])}
        return {name: value for name, value in found.items() if value}

    def take(self, rows: NDArray[np.intp]) -> Servers:
        return Servers(self.unix[rows], self.host[rows], self.address[rows], self.port[rows])


def servers_of(batch: Batch, host: NDArray[np.int32], hosts: Hosts) -> Servers:
    """A server's own end of the socket; for clients the host that they asked for, else the other end."""
    unix = batch["family"] == Family.UNIX
    server = batch["role"] == Kind.SERVER
    local, remote = (tx.copied(batch[end]).view("<u8") for end in ("local", "remote"))
    address = np.where(server[:, None], local, remote)
    address[unix | (host != 0)] = 0
    port = np.where(server, batch["local_port"], batch["remote_port"]).astype(np.int64)
    told = hosts.ports.take(np.maximum(host, 0))
    port = np.where(told > 0, told, port)
    port[unix] = 0
    return Servers(unix, host, address, port)


@dataclass(slots=True)
class Calls:
    """All that decides on the groups of n requests, column by column."""

    service: NDArray[np.int32]
    kind: NDArray[np.uint8]
    scheme: NDArray[np.uint8]
    method: NDArray[np.int32]
    version: NDArray[np.uint8]  # a digit, as a character; 0: not known
    route: NDArray[np.int32]
    status: NDArray[np.uint16]  # 0: none, or not known
    error: NDArray[np.uint16]  # as in exchanges
    server: Servers

    def keys(self) -> NDArray[np.uint64]:
        """One key a request: the same for the same group."""
        wide = [
            column.astype(U64)
            for column in (self.service, self.kind, self.version, self.scheme, self.method, self.route)
        ]
        service, kind, version, scheme, method, route = wide
        return tx.combine(
            [
                service | kind << U64(32) | version << U64(40) | scheme << U64(48),
                route | method << U64(32),
                self.status.astype(U64) | self.error.astype(U64) << U64(16),
                *self.server.keys(),
            ]
        )

    @property
    def failed(self) -> NDArray[np.bool_]:
        limit = np.where(self.kind == Kind.SERVER, _FAILED_FROM[Kind.SERVER], _FAILED_FROM[Kind.CLIENT])
        failed: NDArray[np.bool_] = (self.status >= limit) | (self.error != 0)
        return failed


class HttpGroups:
    """Routes and groups of one version. `version` is how its digit is written: "1.{}"."""

    def __init__(self, context: Context, methods: Methods, hosts: Hosts, version: str) -> None:
        self._groups = context.groups
        self._routes = Routes(context.routes, lambda: context.services, context.names)
        self._methods = methods
        self._hosts = hosts
        self._version = version

    def routes(
        self,
        kind: NDArray[np.uint8],
        status: NDArray[np.uint16],
        service: NDArray[np.int32],
        path: Texts,
        *,
        whole: NDArray[np.bool_],
        name: NDArray[np.uint64],
    ) -> NDArray[np.int32]:
        """Number of the route of each server request; 0 for none. Paths lie end to end; `whole`: nothing is missing.

        `name`: keys of what programs themselves call them; 0 for none.
        """
        named = self._routes.named(name) if name.any() else np.zeros(len(name), np.int32)
        named[kind != Kind.SERVER] = 0
        starts_well = np.append(path.data, np.uint8(0))[path.at] == ord("/")
        rows = tx.marked((kind == Kind.SERVER) & (path.size > 0) & starts_well)
        if not len(rows):
            return named
        found = status != _NOT_FOUND
        if len(rows) == len(kind):
            return self._routes.find(path, service, found=found, whole=whole, named=named)
        route = named.copy()
        some = tx.gather(path.data, path.at[rows], path.size[rows])
        route[rows] = self._routes.find(some, service[rows], found=found[rows], whole=whole[rows], named=named[rows])
        return route

    def find(self, calls: Calls) -> NDArray[np.int32]:
        """The group of each request."""
        return self._groups.find(
            calls.keys(),
            calls.service,
            calls.kind,
            make=lambda row: self._group(calls, row),
            failed=lambda: calls.failed,
            make_overflow=_overflow_group,
            refused=calls.server.host < 0,
        )

    def _group(self, calls: Calls, row: int) -> Group:
        """The group of a request that is the first of its kind."""
        kind, status = Kind(int(calls.kind[row])), int(calls.status[row])
        method, original = self._methods.names[int(calls.method[row])]
        route = self._routes.names[int(calls.route[row])]
        version = int(calls.version[row])
        error = str(status) if status >= _FAILED_FROM[kind] else error_name(int(calls.error[row]))
        shared: Attributes = {
            semconv.HTTP_REQUEST_METHOD: method,
            semconv.URL_SCHEME: SCHEMES[int(calls.scheme[row])],
        }
        optional: Attributes = {
            semconv.HTTP_RESPONSE_STATUS_CODE: status,
            semconv.HTTP_ROUTE: route,
            semconv.ERROR_TYPE: error,
        }
        shared |= {name: value for name, value in optional.items() if value}
        shared |= calls.server.attributes(row, self._hosts)
        own: Attributes = {}
        if original:
            own[semconv.HTTP_REQUEST_METHOD_ORIGINAL] = original
        if version:
            own[semconv.NETWORK_PROTOCOL_VERSION] = self._version.format(chr(version))
        if calls.server.unix[row]:
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


def schemes_of(batch: Batch) -> NDArray[np.uint8]:
    """By what carried the bytes."""
    over_tls: NDArray[np.bool_] = (batch["flags"] & EXCHANGE_TLS) != 0
    return over_tls.view(np.uint8)


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
