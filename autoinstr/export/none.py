"""The exporter that sends nothing: to measure what the rest costs, or when only the page and the tables are wanted."""

from __future__ import annotations

from autoinstr.export.base import Context, Exporter
from autoinstr.model import Group, Overflow, Service, Snapshot, Traced


class Nothing:
    name = "none"
    wants_spans = False
    wants_metrics = False

    def spans(self, traced: Traced, groups: list[Group], services: list[Service]) -> None:
        pass

    def counted(self, overflow: Overflow, service: int, services: list[Service]) -> None:
        pass

    def metrics(self, snapshot: Snapshot, services: list[Service]) -> None:
        pass

    def close(self, deadline: float) -> None:
        pass


def create(context: Context) -> Exporter:
    return Nothing()
