"""gRPC: what its calls share (semantic conventions for RPC, and for gRPC).

In: columns of calls, and the :path of each. Out: groups. Knows no bytes of the wire but the path's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoinstr import semconv
from autoinstr.capture.abi import Error
from autoinstr.model import Attributes, Group, Kind
from autoinstr.parse import texts as tx
from autoinstr.parse.groups import Groups
from autoinstr.parse.hosts import Hosts
from autoinstr.parse.http_groups import Servers, error_name
from autoinstr.parse.table import Table
from autoinstr.parse.texts import MAX_HASHED, Texts

U64 = np.uint64
# Methods that are told apart, of all services, about 300 bytes each: more than the groups that there can be.
MAX_METHODS = 8192
# Of those, methods that no server has: whoever sends requests picks their names.
MAX_UNIMPLEMENTED = 128

UNKNOWN, OTHER = 0, 1  # number of a method that is not known; of one that can't be one, or is one too many
STATUS_NAMES = (  # by number
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_UNIMPLEMENTED = STATUS_NAMES.index("UNIMPLEMENTED")
# A server's failures: others are its client's, by the conventions.
_SERVER_FAILURES = frozenset(
    STATUS_NAMES.index(name)
    for name in ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
_CANCEL = Error.HTTP2 + 8  # RFC 9113, 7
_FAILED_FROM = 400  # HTTP status, where no grpc-status came: somebody between answered
_METRICS = {Kind.SERVER: semconv.RPC_SERVER, Kind.CLIENT: semconv.RPC_CLIENT}
# "/package.Service/Method"; letters of other frameworks' names as well, and a prefix that a proxy goes by
_PATH = re.compile(rb"/((?:[\w.\-]+/)*[A-Za-z_][\w.\-]*)/([A-Za-z_][\w\-]*)", re.ASCII)


class RpcMethods:
    """Numbers for methods by their paths. `names[number]` is (service, method)."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = [("", ""), ("", semconv.METHOD_OTHER)]
        self._table = Table()
        self._unimplemented = 0

    def find(self, paths: Texts, implemented: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The number of each path's method, UNKNOWN for no path. `implemented`: there is such a method."""
        keys = tx.hashes(tx.sliding(paths.data, len(paths.data) - 7), paths.at, paths.size)
        number = self._table.find(keys)
        number[paths.size == 0] = UNKNOWN
        new = tx.marked(number < 0)
        if len(new):
            # Those that there are first: they are worth a number.
            new = new[np.argsort(~implemented[new], kind="stable")]
            for row in new[np.sort(np.unique(keys[new], return_index=True)[1])].tolist():
                self._learn(int(keys[row]), paths.text(row), bool(implemented[row]))
            number[new] = self._table.find(keys[new])
            number[number < 0] = OTHER
        return number

    def _learn(self, key: int, path: bytes, implemented: bool) -> None:
        parts = _PATH.fullmatch(path)
        room = len(self.names) < MAX_METHODS and (implemented or self._unimplemented < MAX_UNIMPLEMENTED)
        if parts and room and len(path) <= MAX_HASHED:
            self._unimplemented += not implemented
            self._table.add(key, len(self.names))
            self.names.append((parts[1].decode(), parts[2].decode()))


@dataclass(slots=True)
class RpcCalls:
    """All that decides on the groups of n calls, column by column."""

    service: NDArray[np.int32]
    kind: NDArray[np.uint8]
    method: NDArray[np.int32]
    code: NDArray[np.int64]  # grpc-status; -1: none came, or it is not known
    status: NDArray[np.uint16]  # of HTTP
    error: NDArray[np.uint16]  # as in exchanges
    server: Servers

    def keys(self) -> NDArray[np.uint64]:
        """One key a call: the same for the same group."""
        service, kind, method, status, error = (
            column.astype(U64) for column in (self.service, self.kind, self.method, self.status, self.error)
        )
        code = (self.code + 1).astype(U64)
        parts = [service | kind << U64(32) | code << U64(40), method | status << U64(32) | error << U64(48)]
        return tx.combine([*parts, *self.server.keys()])


class RpcGroups:
    """Methods and groups."""

    def __init__(self, groups: Groups, hosts: Hosts) -> None:
        self._groups = groups
        self._hosts = hosts
        self._methods = RpcMethods()

    def methods(self, kind: NDArray[np.uint8], code: NDArray[np.int64], paths: Texts) -> NDArray[np.int32]:
        """Number of the method of each call. Eight more bytes must follow the last path."""
        return self._methods.find(paths, (kind == Kind.CLIENT) | (code != _UNIMPLEMENTED))

    def find(self, calls: RpcCalls) -> NDArray[np.int32]:
        """The group of each call."""
        return self._groups.find(
            calls.keys(),
            calls.service,
            calls.kind,
            make=lambda row: self._group(calls, row),
            failed=lambda: _failed(calls),
            make_overflow=_overflow_group,
            refused=calls.server.host < 0,
        )

    def _group(self, calls: RpcCalls, row: int) -> Group:
        """The group of a call that is the first of its kind."""
        kind, code = Kind(int(calls.kind[row])), int(calls.code[row])
        service, method = self._methods.names[int(calls.method[row])]
        error = error_type(kind, code, int(calls.status[row]), int(calls.error[row]))
        shared: Attributes = {semconv.RPC_SYSTEM: semconv.GRPC}
        optional: Attributes = {
            semconv.RPC_SERVICE: service,
            semconv.RPC_METHOD: method,
            semconv.ERROR_TYPE: error,
        }
        shared |= {name: value for name, value in optional.items() if value}
        if code >= 0:
            shared[semconv.RPC_GRPC_STATUS_CODE] = code
        shared |= calls.server.attributes(row, self._hosts)
        own: Attributes = {semconv.NETWORK_TRANSPORT: "unix"} if calls.server.unix[row] else {}
        return Group(
            service=int(calls.service[row]),
            kind=kind,
            name=f"{service}/{method}" if service else semconv.GRPC,
            metric=_METRICS[kind],
            metric_attributes=shared,
            span_attributes=shared | {semconv.NETWORK_PROTOCOL_VERSION: "2"} | own,
            text_key="" if service else semconv.URL_PATH,
            failed=bool(error),
        )


def error_type(kind: Kind, code: int, status: int, error: int) -> str:
    """error.type of a call, "" if it went well. `code`: grpc-status, -1 if it is not known."""
    if code >= 0:
        failed = code in _SERVER_FAILURES if kind is Kind.SERVER else code > 0
        if not failed:
            return ""
        return STATUS_NAMES[code] if code < len(STATUS_NAMES) else semconv.ERROR_OTHER
    if status >= _FAILED_FROM:
        return str(status)
    # A client that wants no answer any more: to a server that is CANCELLED, which is none of its failures.
    if kind is Kind.SERVER and error == _CANCEL:
        return ""
    return error_name(error)


def _failed(calls: RpcCalls) -> NDArray[np.bool_]:
    """Of those for which there is no group. The rule is `error_type`'s; what they differ in is seldom much."""
    kinds = (calls.kind.astype(np.int64), calls.code, calls.status.astype(np.int64), calls.error.astype(np.int64))
    different, inverse = np.unique(
        kinds[0] | (kinds[1] + 1) << 8 | kinds[2] << 24 | kinds[3] << 40, return_inverse=True
    )
    failed = [
        error_type(Kind(one & 0xFF), (one >> 8 & 0xFFFF) - 1, one >> 24 & 0xFFFF, one >> 40) != ""
        for one in different.tolist()
    ]
    return np.array(failed, np.bool_)[inverse]


def _overflow_group(service: int, kind: Kind, failed: bool) -> Group:
    """For what finds no room in the table of groups."""
    return Group(
        service=service,
        kind=kind,
        name=semconv.GRPC,
        metric=_METRICS[kind],
        metric_attributes={semconv.OTEL_METRIC_OVERFLOW: True},
        span_attributes={},
        text_key=semconv.URL_PATH,
        failed=failed,
    )
