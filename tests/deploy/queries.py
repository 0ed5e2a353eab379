"""Queries of the shipped dashboards, as Grafana would send them, and a Prometheus API to send them to."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

GRAFANA = Path(__file__).resolve().parents[2] / "compose/grafana"


class Query(NamedTuple):
    where: str  # "service: Duration"
    language: str  # type of its data source
    text: str


def of_dashboards(job: str, window: str = "1m") -> list[Query]:
    """Every query of every panel and variable, with Grafana's own variables filled in."""
    found = []
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for one in board["templating"]["list"]:
            found.append(Query(f"{path.stem}: ${one['name']}", one["datasource"]["type"], one["query"]["query"]))
        for panel in board["panels"]:
            for target in panel["targets"]:
                text = target.get("expr") or target["queryType"]
                found.append(Query(f"{path.stem}: {panel['title']}", target["datasource"]["type"], text))
    return [query._replace(text=fill_in(query.text, job, window)) for query in found]


def of_data_sources(instance: str, service: str, trace: str = "", window: str = "1m") -> Iterator[Query]:
    """What a trace leads to, of that process, service and trace id."""
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    (tempo,) = (one["jsonData"] for one in sources if one["type"] == "tempo")
    (tag,) = tempo["tracesToMetrics"]["tags"]
    for one in tempo["tracesToMetrics"]["queries"]:
        text = one["query"].replace("$$", "$").replace("$__tags", f'{tag["value"]}="{instance}"')
        yield Query(f"trace to metrics: {one['name']}", "prometheus", fill_in(text, "", window))
    logs = tempo["tracesToLogsV2"]
    (tag,) = logs["tags"]
    text = logs["query"].replace("$$", "$").replace("${__tags}", f'{tag["value"]}="{service}"')
    yield Query("trace to logs", "loki", text.replace("${__trace.traceId}", trace))


def fill_in(text: str, job: str, window: str) -> str:
    text = re.sub(r"\$__(rate_)?interval|\$__range", window, text)
    text = text.replace("$service", job.rpartition("/")[2])
    return text.replace("$job", re.escape(job).replace("\\", "\\\\") if '=~"$job"' in text else job)


class Api:
    """Prometheus' own, or Mimir's."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, text: str) -> list[dict[str, Any]]:
        """An instant vector; of `label_values(metric, label)`, Grafana's own, the values as such."""
        if values := re.fullmatch(r"label_values\((.+), (\w+)\)", text):
            return [{"value": [0, one]} for one in self._get(f"label/{values[2]}/values", {"match[]": values[1]})]
        return list(self._get("query", {"query": text})["result"])

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


def sensible(query: Query, result: list[dict[str, Any]]) -> bool:
    """Something came out, and a figure is one: not NaN, not below zero, shares not above one."""
    if query.text.startswith("label_values"):
        return bool(result)
    figures = [float(one["value"][1]) for one in result]
    at_most = 1.0 if "Failed" in query.where or "Ring" in query.where else float("inf")
    return (
        bool(figures)
        and any(0 <= figure <= at_most for figure in figures)
        and not any(figure < 0 for figure in figures)
    )
