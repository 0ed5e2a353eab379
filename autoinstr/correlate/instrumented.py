"""Services that tell OpenTelemetry of themselves: theirs are the spans, ours are the metrics.

In: requests. Out: which of them are to be spans. A service is one of these once it was seen to make trace context by
itself, or to send spans somewhere. What trace it is in is kept: others' spans go on with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoinstr.model import Group, Kind, Requests

TRACES_PATH = np.frombuffer(b"/v1/traces", np.uint8)  # of OTLP over HTTP
TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"  # over gRPC
RPC_SERVICE = "rpc.service"


class Instrumented:
    """What was learned of services."""

    def __init__(self) -> None:
        self.services: set[int] = set()
        self._service = np.zeros(0, np.int64)  # by group
        self._client = np.zeros(0, np.bool_)
        self._sends = np.zeros(0, np.bool_)  # by group: it says so
        self._quiet = np.zeros(0, np.bool_)  # by group

    def learn(self, requests: Requests, own: NDArray[np.bool_], groups: list[Group]) -> None:
        """Look at a batch."""
        self._know(groups)
        group = requests.group
        tells = own | self._sends[group]
        may_send = np.flatnonzero((requests.text_size >= len(TRACES_PATH)) & self._client[group])
        if len(may_send):
            end = requests.text_at[may_send] + requests.text_size[may_send]
            last = requests.text[end[:, None] - np.arange(len(TRACES_PATH), 0, -1)]
            tells[may_send] |= (last == TRACES_PATH).all(axis=1)
        if tells.any():
            new = set(self._service[group[tells]].tolist()) - self.services
            if new:
                self.services |= new
                self._quiet = np.isin(self._service, list(self.services))

    def without(self, sampled: NDArray[np.bool_], group: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Of these rows those that are spans of ours."""
        return sampled & ~self._quiet[group] if self.services else sampled

    def _know(self, groups: list[Group]) -> None:
        known = len(self._service)
        if len(groups) == known:
            return
        new = groups[known:]
        service = np.array([group.service for group in new], np.int64)
        self._service = np.concatenate((self._service, service))
        self._client = np.concatenate((self._client, np.array([group.kind is Kind.CLIENT for group in new], np.bool_)))
        sends = [
            group.kind is Kind.CLIENT and group.metric_attributes.get(RPC_SERVICE) == TRACE_SERVICE for group in new
        ]
        self._sends = np.concatenate((self._sends, np.array(sends, np.bool_)))
        self._quiet = np.isin(self._service, list(self.services))
