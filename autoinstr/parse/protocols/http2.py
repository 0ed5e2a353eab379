"""HTTP/2, and gRPC over it (RFC 9113, semantic conventions for HTTP and for gRPC): streams become requests and groups.

In: parts of streams, whose header blocks are as they came. Out: columns and groups. Blocks are read in
`http2_blocks.py`, joined to streams in `http2_streams.py`; here it is decided what a stream was. What can't be known,
since the connection is older than the agent, is left out: never guessed, and no failure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import HTTP2_MESSAGES, Error, Family, NameKind
from autoinstr.health import Loss
from autoinstr.model import Kind, Renamed
from autoinstr.parse import http2_requests as h2
from autoinstr.parse import texts as tx
from autoinstr.parse import traceparent
from autoinstr.parse.base import Batch, Context, Parsed, some
from autoinstr.parse.grpc import OTHER, RpcCalls, RpcGroups
from autoinstr.parse.hosts import Hosts
from autoinstr.parse.http2_requests import RequestTable
from autoinstr.parse.http2_streams import Ended, Streams
from autoinstr.parse.http_groups import Calls, HttpGroups, Servers, schemes_of, servers_of
from autoinstr.parse.methods import HEAD, POST, Methods
from autoinstr.parse.redact import Redactor
from autoinstr.parse.texts import Texts
from autoinstr.parse.traceparent import Parents, no_parents

_VERSION = np.uint8(ord("2"))
_NO_CONTENT, _NOT_MODIFIED = 204, 304


class Http2:
    """The protocol's parser: see `parse/base.py`."""

    needs_all = True  # for the tables of header fields

    def __init__(self, context: Context) -> None:
        self._health = context.health
        self._keep_queries = context.queries
        methods, self._hosts = Methods(), Hosts()
        self._requests = RequestTable(methods, self._hosts)
        self._streams = Streams(self._requests, context.health)
        self._http = HttpGroups(context, methods, self._hosts, "{}")
        self._grpc = RpcGroups(context.groups, self._hosts)
        self._names = context.names
        self._redactor = Redactor()

    def begin_anew(self) -> None:
        pass  # blocks that are remembered, and streams that are open, refer to hosts

    def parse(self, batch: Batch, service: NDArray[np.int32]) -> Parsed:
        ended = self._streams.join(batch)
        renamed = self._renamed(batch)
        told = tx.marked(service[ended.rows] >= 0)
        if len(told) < len(ended.rows):
            ended = ended.take(told)
        if not len(ended.rows):
            self._streams.settle()
            return Parsed(np.empty(0, np.int32), tx.no_texts(0), tx.no_texts(0), no_parents(0), ended.rows, renamed)
        parsed = self._tell(some(batch, ended.rows), service[ended.rows], ended)
        self._streams.settle()
        parsed.renamed = renamed
        return parsed

    def _tell(self, batch: Batch, service: NDArray[np.int32], ended: Ended) -> Parsed:
        rows = self._requests.rows
        marks, method = rows["marks"][ended.request], rows["method"][ended.request]
        is_grpc = _is_grpc(ended, marks, method)
        own = self._named_calls(batch["name"])
        is_grpc |= own.size > 0
        batch["error"][_is_complete(batch, ended, method)] = 0
        host = rows["host"][ended.request]
        host[(batch["role"] != Kind.CLIENT) | (batch["family"] == Family.UNIX)] = 0
        server = servers_of(batch, host, self._hosts)
        size = rows["path_size"][ended.request].astype(np.int64)
        group = np.empty(len(ended.rows), np.int32)
        calls = tx.marked(is_grpc)
        if len(calls):
            group[calls], named = self._calls(batch, service, ended, server, rows=calls, size=size, own=own)
            size[calls[named]] = 0  # its group says it all
        raw = self._requests.texts(ended.request, size)
        path = tx.escape(tx.gather(raw.data, raw.at, raw.size))
        others = tx.marked(~is_grpc)
        if len(others):
            group[others] = self._others(batch, service, ended, server, rows=others, path=path)
        return Parsed(group, path, self._query(ended), self._parents(ended, marks), ended.rows)

    def _calls(
        self,
        batch: Batch,
        service: NDArray[np.int32],
        ended: Ended,
        server: Servers,
        *,
        rows: NDArray[np.intp],
        size: NDArray[np.int64],
        own: Texts,
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Groups of calls of gRPC, and whether their methods have names. `own`: what the program itself calls them."""
        kind, code = batch["role"][rows], ended.grpc[rows] - 1
        method = self._grpc.methods(kind, code, self._requests.texts(ended.request[rows], size[rows]))
        nameless = tx.marked((size[rows] == 0) & (own.size[rows] > 0))
        if len(nameless):
            some = rows[nameless]
            paths = Texts(own.data, own.at[some], own.size[some])
            method[nameless] = self._grpc.methods(kind[nameless], code[nameless], paths)
        group = self._grpc.find(
            RpcCalls(
                service=service[rows],
                kind=kind,
                method=method,
                code=code,
                status=ended.status[rows],
                error=batch["error"][rows],
                server=server.take(rows),
            )
        )
        return group, method > OTHER

    def _named_calls(self, name: NDArray[np.uint64]) -> Texts:
        """The path of the method of each call that the program itself has named; empty for others."""
        if not name.any():
            return Texts(np.zeros(8, np.uint8), np.zeros(len(name), np.int64), np.zeros(len(name), np.int64))
        keys, which = np.unique(name, return_inverse=True)
        found = [self._names.get(key) for key in keys.tolist()]
        texts = [one.text if one and one.kind == NameKind.RPC else b"" for one in found]
        size = np.array([len(text) for text in texts], np.int64)
        data = np.frombuffer(b"".join(texts) + bytes(8), np.uint8)
        return Texts(data, (np.cumsum(size) - size)[which], size[which])

    def _others(
        self,
        batch: Batch,
        service: NDArray[np.int32],
        ended: Ended,
        server: Servers,
        *,
        rows: NDArray[np.intp],
        path: Texts,
    ) -> NDArray[np.int32]:
        """Groups of requests that are HTTP and nothing else."""
        table, request = self._requests.rows, ended.request[rows]
        marks, scheme = table["marks"][request], table["scheme"][request]
        whole = marks & h2.PATH_CUT == 0
        self._health.lose(Loss.HEAD_CUT, int(np.count_nonzero(~whole)))
        kind, status = batch["role"][rows], ended.status[rows]
        own = Texts(path.data, path.at[rows], path.size[rows])
        if len(rows) < len(path):
            own = tx.gather(own.data, own.at, own.size)
        return self._http.find(
            Calls(
                service=service[rows],
                kind=kind,
                scheme=np.where(scheme == h2.UNKNOWN_SCHEME, schemes_of(batch)[rows], scheme),
                method=table["method"][request],
                version=np.full(len(rows), _VERSION),
                route=self._http.routes(kind, status, service[rows], own, whole=whole, name=batch["name"][rows]),
                status=status,
                error=batch["error"][rows],
                server=server.take(rows),
            )
        )

    def _renamed(self, batch: Batch) -> Renamed | None:
        """Traces that servers' requests go on with: until its header block was read, each was in one of its own."""
        rows, request = self._streams.brought
        served = batch["role"][rows] == Kind.SERVER
        rows, request = rows[served], request[served]
        if not len(rows):
            return None
        parents = self._context_of(request)
        known_as = batch["trace"]["id"][rows]
        return Renamed(known_as[parents.valid], parents.trace[parents.valid], parents.flags[parents.valid])

    def _context_of(self, request: NDArray[np.intp] | NDArray[np.int64]) -> Parents:
        """The trace context in these rows of requests, each of which has some."""
        data, at = self._requests.traceparents(request.astype(np.intp))
        return traceparent.parse(data, at, data[at + traceparent.SIZE] != 0, np.arange(len(request)), len(request))

    def _query(self, ended: Ended) -> Texts:
        if not self._keep_queries:
            return tx.no_texts(len(ended.rows))
        rows = self._requests.rows
        path_size = rows["path_size"][ended.request].astype(np.int64)
        size = np.maximum(rows["target_size"][ended.request].astype(np.int64) - path_size - 1, 0)
        targets = self._requests.texts(ended.request, size)
        return self._redactor.redact(tx.escape(tx.gather(targets.data, targets.at + path_size + 1, size)))

    def _parents(self, ended: Ended, marks: NDArray[np.uint8]) -> Parents:
        rows = tx.marked(marks & h2.PARENT)
        data, at = self._requests.traceparents(ended.request[rows])
        return traceparent.parse(data, at, data[at + traceparent.SIZE] != 0, rows, len(marks))


def _is_complete(batch: Batch, ended: Ended, method: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Only the end of the stream did not come before that of the connection: a client may close when it has all."""
    bodiless = (method == HEAD) | (ended.status == _NO_CONTENT) | (ended.status == _NOT_MODIFIED)
    whole = bodiless | (ended.length == batch["response_body"].astype(np.int64) + 1)
    complete: NDArray[np.bool_] = (batch["error"] < Error.HTTP2) & (ended.status > 0) & whole
    return complete


def _is_grpc(ended: Ended, marks: NDArray[np.uint8], method: NDArray[np.int32]) -> NDArray[np.bool_]:
    """By the request's content-type; where that is not known, by what only gRPC does."""
    grpc: NDArray[np.bool_] = marks & h2.GRPC != 0
    unknown = tx.marked(marks & h2.TYPE_KNOWN == 0)
    if len(unknown):
        may_be = (marks[unknown] & h2.METHOD_KNOWN == 0) | (method[unknown] == POST)
        looks = (ended.flags[unknown] & HTTP2_MESSAGES != 0) & (ended.blocks[unknown] > 1)
        grpc[unknown] = may_be & (looks | (ended.grpc[unknown] > 0) | ended.grpc_type[unknown])
    return grpc
