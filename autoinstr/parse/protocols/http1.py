"""HTTP/1.0 and 1.1: exchanges become requests and groups (RFC 9112, semantic conventions for HTTP).

In: exchanges, whose request line the kernel side has found, but not understood. Out: columns and groups. What the bytes
mean is found in `http1_head.py`, routes and hosts in their own files; here it comes together. Never trusts a record.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import EXCHANGE_HEAD_CUT, HEAD_SIZE, Error, Family
from autoinstr.health import Loss
from autoinstr.model import Kind
from autoinstr.parse import texts as tx
from autoinstr.parse import traceparent
from autoinstr.parse.base import Batch, Context, Parsed, some
from autoinstr.parse.hosts import Hosts, find_field
from autoinstr.parse.http1_head import Heads, Lines, Targets, read_lines, read_targets
from autoinstr.parse.http_groups import Calls, HttpGroups, schemes_of, servers_of
from autoinstr.parse.methods import Methods
from autoinstr.parse.redact import Redactor
from autoinstr.parse.texts import Texts
from autoinstr.parse.traceparent import Parents, no_parents

_SWITCHING_PROTOCOLS = 101
_UPGRADE = re.compile(rb"\nupgrade:[^\n]*\bh2c\b", re.IGNORECASE)


class Http1:
    """The protocol's parser: see `parse/base.py`."""

    needs_all = False

    def __init__(self, context: Context) -> None:
        self._health = context.health
        self._keep_queries = context.queries
        self._methods = Methods()
        self._hosts = Hosts()
        self._groups = HttpGroups(context, self._methods, self._hosts, "1.{}")
        self._redactor = Redactor()
        self._buffer = np.empty(0, np.uint8)  # for heads: a fresh one for each batch would cost page faults

    def begin_anew(self) -> None:
        self._hosts.begin_anew()

    def parse(self, batch: Batch, service: NDArray[np.int32]) -> Parsed:
        to_http2 = _asks_for_http2(batch)
        if not len(to_http2):
            return self._parse(batch, service)
        rows = np.delete(np.arange(len(batch)), to_http2)
        if not len(rows):
            return Parsed(np.empty(0, np.int32), tx.no_texts(0), tx.no_texts(0), no_parents(0), rows)
        parsed = self._parse(some(batch, rows), service[rows])
        parsed.rows = rows
        return parsed

    def _parse(self, batch: Batch, service: NDArray[np.int32]) -> Parsed:
        wanted = (len(batch) + 1) * HEAD_SIZE
        if len(self._buffer) < wanted:
            self._buffer = np.zeros(wanted, np.uint8)
        heads = Heads(self._buffer, batch["head"], batch["head_size"], batch["traceparent"])
        lines = read_lines(heads)
        method = self._methods.find(heads.words, Texts(heads.flat, heads.start, lines.method_size), lines.fine)
        targets = read_targets(heads, lines, method)
        cut = (batch["flags"] & EXCHANGE_HEAD_CUT) != 0
        self._health.lose(Loss.PARSE_ERROR, int(np.count_nonzero(~lines.fine)))
        self._health.lose(Loss.HEAD_CUT, int(np.count_nonzero(cut & lines.fine & ~targets.whole)))
        kind, status, error = batch["role"], batch["status"], batch["error"]
        calls = Calls(
            service=service,
            kind=kind,
            scheme=schemes_of(batch),
            method=method,
            version=lines.version,
            route=self._groups.routes(kind, status, service, targets.path, whole=targets.whole, name=batch["name"]),
            status=status,
            error=np.where((status == 0) & (error == 0), np.uint16(Error.NO_RESPONSE), error),
            server=servers_of(batch, self._host(batch, heads, lines, targets), self._hosts),
        )
        return Parsed(self._groups.find(calls), targets.path, self._query(targets), _parents(heads))

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


def _asks_for_http2(batch: Batch) -> NDArray[np.intp]:
    """Requests that are answered as the first stream of HTTP/2, which tells of them (RFC 7540, 3.2)."""
    rows = tx.marked(batch["status"] == _SWITCHING_PROTOCOLS)
    return np.array([row for row in rows.tolist() if _UPGRADE.search(batch["head"][row].tobytes())], np.intp)


def _parents(heads: Heads) -> Parents:
    """Trace context where the kernel side has seen the field."""
    rows = tx.marked((heads.traceparent > 0) & (heads.traceparent <= heads.width - traceparent.SIZE))
    at = heads.traceparent[rows]
    # What comes after it in the head shows whether it ended there, unless it was put in from elsewhere.
    followed = at + traceparent.SIZE < heads.size[rows]
    return traceparent.parse(heads.flat, heads.start[rows] + at, followed, rows, len(heads))
