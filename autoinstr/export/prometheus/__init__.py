"""Metrics for Prometheus to fetch: `/metrics` over HTTP, in its text format or in OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator

from autoinstr.export.base import Context, Exporter
from autoinstr.export.prometheus.exposition import render
from autoinstr.export.prometheus.server import MetricsServer
from autoinstr.model import Group, Overflow, Service, Snapshot, Traced


class Prometheus:
    """A pull exporter: it takes nothing that is pushed, and collects when it is asked."""

    name = "prometheus"
    wants_spans = False
    wants_metrics = False

    def __init__(self, server: MetricsServer) -> None:
        self._server = server

    @property
    def port(self) -> int:
        """The port that was bound: of interest where 0 was asked for."""
        return self._server.port

    def spans(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        pass

    def counted(self, overflow: Overflow, service: int, services: list[Service]) -> None:
        pass

    def metrics(self, snapshot: Snapshot, services: list[Service]) -> None:
        pass

    def close(self, deadline: float) -> None:
        self._server.close(deadline)


def create(context: Context) -> Exporter:
    """UsageError: the address can't be bound."""

    def page(open_metrics: bool) -> Iterator[bytes]:
        snapshot, services = context.collect()
        context.health.did("scrapes")
        return render(snapshot, services, open_metrics=open_metrics)

    return Prometheus(MetricsServer(context.prometheus_host, context.prometheus_port, page, context.health))
