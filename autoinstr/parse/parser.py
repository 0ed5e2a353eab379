"""The parse stage: batches of exchanges become batches of requests.

In: EXCHANGE records, the service of each, the offset between the kernel's clock and Unix time. Out: `Requests`, whose
groups are in the `Groups` given. Knows no protocol (`registry.py`), does no I/O, reads no clock, and never raises
because of what a record holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoinstr.capture.abi import (
    TRACE_DECIDED,
    TRACE_KEPT,
    TRACE_ORPHAN_MASK,
    TRACE_ORPHAN_SHIFT,
    TRACE_OWN,
    TRACE_SAMPLED,
    Role,
)
from autoinstr.health import Health, Loss
from autoinstr.model import Name, Places, Renamed, Requests, Service
from autoinstr.parse import texts as tx
from autoinstr.parse.base import Batch, Context, Parsed, some
from autoinstr.parse.groups import Groups
from autoinstr.parse.registry import PROTOCOLS
from autoinstr.parse.routes import RouteOptions
from autoinstr.parse.traceparent import Parents, no_parents
from autoinstr.turns import step

# Rows worked on at a time: their intermediate arrays fit a core's cache, and the fixed cost still counts little.
CHUNK = 4096

_LARGEST = np.uint64(1 << 62)


class Parser:
    """Holds what the protocols have learned: tables of routes, hosts and methods, each bounded."""

    def __init__(
        self,
        groups: Groups,
        routes: RouteOptions,
        health: Health,
        *,
        services: Sequence[Service] = (),
        names: Mapping[int, Name] | None = None,
        queries: bool = False,
    ) -> None:
        """`services` is the list that indices of services point into; without it they have no names.
        `names`: what programs call their requests, by key; grows while we run.

        Raises UsageError for route patterns that can't be used.
        """
        context = Context(groups, routes, health, services, {} if names is None else names, queries)
        self._context = context
        self._health = health
        self._protocols = {int(protocol): make(context) for protocol, make in PROTOCOLS.items()}
        self._known = np.zeros(256, np.bool_)  # by protocol
        self._known[list(self._protocols)] = True
        self._needs_all = np.zeros(256, np.bool_)
        self._needs_all[[number for number, one in self._protocols.items() if one.needs_all]] = True

    def begin_anew(self, services: Sequence[Service]) -> None:
        """Indices of services point into another list from now on, groups are others. What else was learned stays."""
        self._context.services = services
        self._context.groups.begin_anew()
        for protocol in self._protocols.values():
            protocol.begin_anew()

    def parse(self, batch: Batch, service: NDArray[np.int32], wall_offset: int) -> Requests:
        """The requests of a batch, in its order.

        `service`: (n,) index of the service of each exchange; -1: none, it is not told. `wall_offset`: ns to add to
        CLOCK_MONOTONIC to get Unix time. Exchanges of an unknown protocol or role are left out, and counted.
        """
        protocol = batch["protocol"]
        known = self._known.take(protocol)
        known &= (batch["role"] == Role.SERVER) | (batch["role"] == Role.CLIENT)
        if not known.all():
            self._health.lose(Loss.PARSE_ERROR, len(batch) - int(np.count_nonzero(known)))
        known &= (service >= 0) | self._needs_all.take(protocol)
        if not known.all():
            batch, service = some(batch, known), service[known]
        if not len(batch):
            nothing = Parsed(np.empty(0, np.int32), tx.no_texts(0), tx.no_texts(0), no_parents(0))
            return _requests(batch, nothing, wall_offset)
        parts = [
            self._chunk(batch[start : start + CHUNK], service[start : start + CHUNK])
            for start in range(0, len(batch), CHUNK)
        ]
        parsed = _joined(parts, range(0, len(batch), CHUNK))
        return _requests(batch if parsed.rows is None else some(batch, parsed.rows), parsed, wall_offset)

    def _chunk(self, batch: Batch, service: NDArray[np.int32]) -> Parsed:
        protocol = batch["protocol"]
        if (protocol == protocol[0]).all():
            return self._protocols[int(protocol[0])].parse(batch, service)
        parts: list[Parsed] = []
        order: list[NDArray[np.intp]] = []
        for number in sorted(set(protocol.tolist())):
            rows = tx.marked(protocol == number)
            part = self._protocols[number].parse(some(batch, rows), service[rows])
            order.append(rows if part.rows is None else rows[part.rows])
            part.rows = order[-1]
            parts.append(part)
        return _joined(parts, [0] * len(parts)).take(np.argsort(np.concatenate(order)))


def _joined(parts: list[Parsed], starts: Sequence[int]) -> Parsed:
    """All rows of all parts, in order; the exchanges of each begin at `starts` of all."""
    if len(parts) == 1:
        return parts[0]
    parents = [part.parents for part in parts]
    rows = None
    if any(part.rows is not None for part in parts):
        told = [np.arange(len(part.group)) if part.rows is None else part.rows for part in parts]
        rows = np.concatenate([some + start for some, start in zip(told, starts, strict=True)])
    return Parsed(
        np.concatenate([part.group for part in parts]),
        tx.concatenate([part.text for part in parts]),
        tx.concatenate([part.query for part in parts]),
        Parents(
            np.concatenate([some.valid for some in parents]),
            np.concatenate([some.trace for some in parents]),
            np.concatenate([some.span for some in parents]),
            np.concatenate([some.flags for some in parents]),
        ),
        rows,
        _all_renamed([part.renamed for part in parts if part.renamed]),
    )


@step
def _requests(batch: Batch, parsed: Parsed, wall_offset: int) -> Requests:
    """Add what every protocol's exchanges have in common."""
    start = _signed(batch["request_start"])
    # Without a response the request's own end is the last that was seen of it.
    ended = np.maximum(batch["request_end"], batch["request_start"])
    end = _signed(np.where(batch["response_end"] > 0, batch["response_end"], ended))
    text, query, parents = parsed.text, parsed.query, parsed.parents
    return Requests(
        group=parsed.group,
        start=start + np.int64(wall_offset),
        end=np.maximum(start, end) + np.int64(wall_offset),
        request_size=_signed(batch["request_body"]),
        response_size=_signed(batch["response_body"]),
        pid=batch["pid"].copy(),
        tid=batch["tid"].copy(),
        text=text.data,
        text_at=text.at,
        text_size=text.size,
        query=query.data,
        query_at=query.at,
        query_size=query.size,
        peer=tx.copied(batch["remote"]),
        peer_port=batch["remote_port"].copy(),
        has_parent=parents.valid & (batch["trace"]["flags"] & TRACE_KEPT == 0),
        parent_trace=parents.trace,
        parent_span=parents.span,
        parent_flags=parents.flags,
        places=_places(batch["trace"], parsed.renamed),
    )


@step
def _places(trace: Batch, renamed: Renamed | None) -> Places:
    flags = trace["flags"]
    return Places(
        trace_id=tx.copied(trace["id"]),
        span_id=tx.copied(trace["span"]),
        parent_id=tx.copied(trace["parent"]),
        decided=flags & TRACE_DECIDED != 0,
        sampled=flags & TRACE_SAMPLED != 0,
        own=flags & TRACE_OWN != 0,
        orphan=((flags & TRACE_ORPHAN_MASK) >> TRACE_ORPHAN_SHIFT).astype(np.uint8),
        peer_pid=trace["peer"].copy(),
        renamed=renamed,
    )


def _all_renamed(parts: list[Renamed]) -> Renamed | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return Renamed(
        np.concatenate([part.known_as for part in parts]),
        np.concatenate([part.trace_id for part in parts]),
        np.concatenate([part.flags for part in parts]),
    )


def _signed(column: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Counts and times as signed numbers; what no clock or body reaches is cut to half of what they hold."""
    return np.minimum(column, _LARGEST).astype(np.int64)
