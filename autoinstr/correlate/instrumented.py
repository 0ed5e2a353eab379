"""Services that tell OpenTelemetry of themselves: theirs are the spans, ours are the metrics.

In: requests. Out: which of them are to be spans. A service is one of these once it was seen to send spans somewhere, or
when nearly all of its calls have trace context that it has made itself. What trace it is in is kept: others' spans go
on with it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Follower, Group, Kind, Requests

TRACES_PATH = np.frombuffer(b"/v1/traces", np.uint8)  # of OTLP over HTTP
TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"  # over gRPC
RPC_SERVICE = "rpc.service"
# Calls with trace context of its own before it counts, and their least share: somebody may try out a header by hand.
MIN_CALLS = 50
MIN_SHARE = 0.9


class Instrumented:
    """What was learned of services."""

    def __init__(self) -> None:
        self.services: set[int] = set()
        self._groups = Follower[Group]()
        self._service = np.zeros(0, np.int64)  # by group
        self._client = np.zeros(0, np.bool_)
        self._sends = np.zeros(0, np.bool_)  # by group: it says so
        self._quiet = np.zeros(0, np.bool_)  # by group
        self._calls: dict[int, tuple[int, int]] = {}  # by service: with trace context of its own, and all

    def learn(self, requests: Requests, own: NDArray[np.bool_], groups: list[Group]) -> None:
        """Look at a batch."""
        self._know(groups)
        group = requests.group
        tells = self._sends[group]
        may_send = np.flatnonzero((requests.text_size >= len(TRACES_PATH)) & self._client[group])
        if len(may_send):
            end = requests.text_at[may_send] + requests.text_size[may_send]
            last = requests.text[end[:, None] - np.arange(len(TRACES_PATH), 0, -1)]
            tells[may_send] |= (last == TRACES_PATH).all(axis=1)
        new = set(self._service[group[tells]].tolist()) if tells.any() else set()
        if own.any() or self._calls:
            new |= self._counted(own, group)
        if new - self.services:
            self.services |= new
            self._quiet = np.isin(self._service, list(self.services))

    def _counted(self, own: NDArray[np.bool_], group: NDArray[np.int32]) -> set[int]:
        """Services whose calls, since the first one with trace context of its own, nearly all had some."""
        client = self._client[group]
        service = self._service[group[client]]
        found: set[int] = set()
        for one, made in zip(*np.unique(service, return_counts=True), strict=True):
            with_own = int(np.count_nonzero(own[client] & (service == one)))
            number = int(one)
            if not with_own and number not in self._calls:
                continue
            before = self._calls.get(number, (0, 0))
            counts = before[0] + with_own, before[1] + int(made)
            self._calls[number] = counts
            if counts[0] >= MIN_CALLS and counts[0] >= MIN_SHARE * counts[1]:
                found.add(number)
        return found

    def forget(self, gone: Collection[int]) -> None:
        """These services are no more, and their indices are for others."""
        self.services.difference_update(gone)
        for service in gone:
            self._calls.pop(service, None)

    def without(self, sampled: NDArray[np.bool_], group: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Of these rows those that are spans of ours."""
        return sampled & ~self._quiet[group] if self.services else sampled

    def _know(self, groups: list[Group]) -> None:
        new, anew = self._groups.more(groups)
        if anew:
            self._service = np.zeros(0, np.int64)
            self._client = self._sends = np.zeros(0, np.bool_)
        elif not new:
            return
        service = np.array([group.service for group in new], np.int64)
        self._service = np.concatenate((self._service, service))
        self._client = np.concatenate((self._client, np.array([group.kind is Kind.CLIENT for group in new], np.bool_)))
        sends = [
            group.kind is Kind.CLIENT and group.metric_attributes.get(RPC_SERVICE) == TRACE_SERVICE for group in new
        ]
        self._sends = np.concatenate((self._sends, np.array(sends, np.bool_)))
        self._quiet = np.isin(self._service, list(self.services))
