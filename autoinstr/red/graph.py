"""Who calls whom: requests between two services, as Tempo's metrics generator names them.

In: batches of traced requests, and which service is at the other end of each. Out: series, for RED's readers too.
A request between two targets is told by both ends: counted where it is served, with a duration from each side. A call
to somebody who is no target is told by its client alone, under the name that it asked for; a request from nowhere is
no edge. Requests that the kernel side only counted have no other end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from autoinstr.health import Health, Loss
from autoinstr.model import Attributes, Follower, Group, Kind, Service, Traced
from autoinstr.red.measure import Count, Measure
from autoinstr.red.table import Row, SeriesTable
from autoinstr.semconv import (
    GRAPH,
    GRAPH_CLIENT,
    GRAPH_CONNECTION_TYPE,
    GRAPH_SERVER,
    SERVER_ADDRESS,
    VIRTUAL_NODE,
)
from autoinstr.turns import step

NANOSECONDS = 10**9
_NO_EDGE = -1


class ServiceGraph:
    """All edges. `bounds` and the rest as of `Red`."""

    def __init__(self, health: Health, limit: int, bounds: tuple[float, ...], *, exponential: bool) -> None:
        self._health = health
        self.table = table = SeriesTable(limit)
        self.served, self.called = (
            Measure(
                table,
                {GRAPH: f"{GRAPH}_{side}_seconds"},
                f"Duration of requests between two services, as the {side} saw it",
                unit="s",
                per_unit=NANOSECONDS,
                bounds=bounds,
                exponential=exponential,
            )
            for side in ("server", "client")
        )
        self.total = Count(table, {GRAPH: f"{GRAPH}_total"}, "Requests between two services")
        self.failed = Count(table, {GRAPH: f"{GRAPH}_failed_total"}, "Requests between two services that failed")
        self.measures = (self.served, self.called, self.total, self.failed)
        self._row_of: dict[int, int] = {}  # by client's and server's service
        self._groups = Follower[Group]()
        self._elsewhere = np.zeros(0, np.int32)  # by group: the edge to who is no target
        self._client = np.zeros(0, np.bool_)  # by group
        self._fails = np.zeros(0, np.bool_)
        self._service = np.zeros(0, np.int64)

    @step
    def add(self, traced: Traced, groups: list[Group], services: Sequence[Service], peer: NDArray[np.int32]) -> None:
        """Count a batch. `peer`: (n,) index of the service at the other end; -1: it is no target, or not known."""
        self._learn(groups, services)
        group = traced.requests.group
        row = np.where((peer < 0) & self._client[group], self._elsewhere[group], np.int32(_NO_EDGE))
        known = np.flatnonzero(peer >= 0)
        if len(known):
            row[known] = self._edges(group[known], peer[known].astype(np.int64), services)
        told = np.flatnonzero(row >= 0)
        if not len(told):
            return
        row, group = row[told], group[told]
        client, counts = self._client[group], ~self._client[group] | (peer[told] < 0)
        duration = (traced.requests.end - traced.requests.start)[told]
        rows = len(self.table.rows)
        self.called.add(row[client], duration[client], rows)
        self.served.add(row[~client], duration[~client], rows)
        self.total.add(row[counts], rows)
        self.failed.add(row[counts & self._fails[group]], rows)

    def forget(self, gone: Collection[int]) -> NDArray[np.intp]:
        """The rows of these services go; those that stay move up: where they were before."""
        kept = self.table.forget(gone)
        place = {before: now for now, before in enumerate(kept.tolist())}
        self._row_of = {
            key: place[row]
            for key, row in self._row_of.items()
            if row in place and key >> 32 not in gone and key & 0xFFFFFFFF not in gone
        }
        self._groups = Follower()
        return kept

    def _edges(
        self, group: NDArray[np.int32], peer: NDArray[np.int64], services: Sequence[Service]
    ) -> NDArray[np.int32]:
        """The edge of each request between two targets."""
        own, client = self._service[group], self._client[group]
        keys, at = np.unique(np.where(client, own << 32 | peer, peer << 32 | own), return_inverse=True)
        return np.array([self._edge(key, services) for key in keys.tolist()], np.int32)[at]

    def _edge(self, key: int, services: Sequence[Service]) -> int:
        if (row := self._row_of.get(key)) is None:
            client, server = key >> 32, key & 0xFFFFFFFF
            row = self._find(server, services[client].name, services[server].name, "")
            self._row_of[key] = row
        return row

    def _find(self, service: int, client: str, server: str, connection_type: str) -> int:
        attributes: Attributes = {GRAPH_CLIENT: client, GRAPH_SERVER: server, GRAPH_CONNECTION_TYPE: connection_type}
        row, folded = self.table.find(Row(service, GRAPH, attributes))
        self._health.lose(Loss.CARDINALITY, int(folded))
        return row

    def _learn(self, groups: list[Group], services: Sequence[Service]) -> None:
        new, anew = self._groups.more(groups)
        if anew:
            self._elsewhere, self._service = np.zeros(0, np.int32), np.zeros(0, np.int64)
            self._client = self._fails = np.zeros(0, np.bool_)
        elif not new:
            return
        self._client = np.append(self._client, np.array([group.kind is Kind.CLIENT for group in new], np.bool_))
        self._fails = np.append(self._fails, np.array([group.failed for group in new], np.bool_))
        self._service = np.append(self._service, np.array([group.service for group in new], np.int64))
        self._elsewhere = np.append(
            self._elsewhere, np.array([self._edge_elsewhere(group, services) for group in new], np.int32)
        )

    def _edge_elsewhere(self, group: Group, services: Sequence[Service]) -> int:
        address = group.metric_attributes.get(SERVER_ADDRESS)
        if group.kind is not Kind.CLIENT or not isinstance(address, str):
            return _NO_EDGE
        return self._find(group.service, services[group.service].name, address, VIRTUAL_NODE)
