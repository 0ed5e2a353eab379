"""Writes dashboards/*.json, which Grafana loads: python3 compose/grafana/make_dashboards.py

A panel is one line here and forty there. Queries use the names that Mimir and Prometheus both give; with `job` as the
service (namespace/name) and `instance` as the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
METRICS = {"type": "prometheus", "uid": "prometheus"}
TRACES = {"type": "tempo", "uid": "tempo"}
LOGS = {"type": "loki", "uid": "loki"}
SERVER, CLIENT = "http_server_request_duration_seconds", "http_client_request_duration_seconds"
WIDTH = 24


def rate(metric: str, by: str, where: str = "", over: str = "$__rate_interval") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{over}]))"


def quantile(share: float, metric: str, by: str, where: str = "", over: str = "$__rate_interval") -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le', where, over)})"


def failed(metric: str, by: str, where: str = "", over: str = "$__rate_interval") -> str:
    """Share of requests that failed, 0 also where none did."""
    wrong = rate(f"{metric}_count", by, f'{where}{", " if where else ""}error_type!=""', over)
    every = rate(f"{metric}_count", by, where, over)
    return f"({wrong} or 0 * {every}) / {every}"


def panel(
    title: str, queries: dict[str, str] | str, unit: str = "short", kind: str = "timeseries", **more: Any
) -> dict[str, Any]:
    """`queries`: legend -> PromQL."""
    named = {"": queries} if isinstance(queries, str) else queries
    instant = kind in ("table", "stat")
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": METRICS,
            "expr": expr,
            "legendFormat": legend or "__auto",
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if kind == "table" else {}),
            **({"exemplar": True} if more.get("exemplars") else {}),
        }
        for number, (legend, expr) in enumerate(named.items())
    ]
    found = {
        "title": title,
        "type": kind,
        "datasource": METRICS,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {},
        "size": (more.get("width", 8), more.get("height", 8)),
    }
    if kind == "timeseries":
        found["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    elif kind == "stat":
        found["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none"}
    elif kind == "table":
        found["transformations"] = [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": more.get("columns", {})}},
        ]
    return found


def log_panel(title: str, query: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "logs",
        "datasource": LOGS,
        "targets": [{"refId": "A", "datasource": LOGS, "expr": query, "queryType": "range"}],
        "options": {"showTime": True, "sortOrder": "Descending", "wrapLogMessage": True, "enableLogDetails": True},
        "fieldConfig": {"defaults": {}, "overrides": []},
        "size": (24, 8),
    }


def variable(name: str, query: str, *, several: bool, part: str = "") -> dict[str, Any]:
    """A list to choose from, above the panels; or, out of sight, `part` (a regular expression) of the answer."""
    return {
        "name": name,
        "type": "query",
        "datasource": METRICS,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "includeAll": several,
        "multi": several,
        **({"regex": part, "hide": 2} if part else {}),
        **({"allValue": ".+", "current": {"text": "All", "value": "$__all"}} if several else {}),
    }


def dashboard(
    uid: str, title: str, panels: Iterable[dict[str, Any]], variables: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Panels from left to right, in rows as high as the highest."""
    placed, x, y, high = [], 0, 0, 0
    for number, one in enumerate(panels):
        width, height = one.pop("size")
        if x + width > WIDTH:
            x, y, high = 0, y + high, 0
        placed.append({"id": number + 1, **one, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, high = x + width, max(high, height)
    return {
        "uid": uid,
        "title": title,
        "tags": ["autoinstr"],
        "schemaVersion": 41,
        "timezone": "browser",
        "time": {"from": "now-15m", "to": "now"},
        "refresh": "15s",
        "templating": {"list": list(variables)},
        "links": [{"type": "dashboards", "tags": ["autoinstr"], "asDropdown": False, "title": "", "keepTime": True}],
        "annotations": {"list": []},
        "panels": placed,
    }


CHOSEN = 'job=~"$job"'
ONE = 'job="$job"'
LAST = "5m"
GRAPH, EDGE = "traces_service_graph_request", "client, server, connection_type"
BETWEEN = rate(f"{GRAPH}_total", EDGE, over=LAST)
REQUEST_LOGS = '{service_name="$service"} | span_id != ""'

overview = dashboard(
    "autoinstr-overview",
    "Services",
    [
        panel("Requests a second", f"sum(rate({SERVER}_count{{{CHOSEN}}}[{LAST}]))", "reqps", "stat", height=4),
        panel("Failed", failed(SERVER, "", CHOSEN, LAST), "percentunit", "stat", height=4),
        panel("95 % are faster than", quantile(0.95, SERVER, "", CHOSEN, LAST), "s", "stat", height=4),
        panel("Requests a second", {"{{job}}": rate(f"{SERVER}_count", "job", CHOSEN)}, "reqps"),
        panel("Failed", {"{{job}}": failed(SERVER, "job", CHOSEN)}, "percentunit"),
        panel("95 % are faster than", {"{{job}}": quantile(0.95, SERVER, "job", CHOSEN)}, "s", exemplars=True),
        panel(
            "Services, last 5 minutes",
            {
                "rate": rate(f"{SERVER}_count", "job", CHOSEN, LAST),
                "failed": failed(SERVER, "job", CHOSEN, LAST),
                "median": quantile(0.5, SERVER, "job", CHOSEN, LAST),
                "p95": quantile(0.95, SERVER, "job", CHOSEN, LAST),
            },
            kind="table",
            width=24,
            columns={
                "job": "service",
                "Value #A": "requests/s",
                "Value #B": "failed",
                "Value #C": "median s",
                "Value #D": "95 % s",
            },
        ),
    ],
    [variable("job", f"label_values({SERVER}_count, job)", several=True)],
)

service = dashboard(
    "autoinstr-service",
    "One service",
    [
        panel(
            "Requests a second, by route",
            {"{{http_request_method}} {{http_route}}": rate(f"{SERVER}_count", "http_request_method, http_route", ONE)},
            "reqps",
        ),
        panel(
            "Failed, by route",
            {"{{http_request_method}} {{http_route}}": failed(SERVER, "http_request_method, http_route", ONE)},
            "percentunit",
        ),
        panel(
            "By status",
            {"{{http_response_status_code}}": rate(f"{SERVER}_count", "http_response_status_code", ONE)},
            "reqps",
        ),
        panel(
            "Duration",
            {name: quantile(share, SERVER, "", ONE) for name, share in (("half", 0.5), ("95 %", 0.95), ("99 %", 0.99))},
            "s",
            exemplars=True,
        ),
        panel(
            "95 % are faster than, by route",
            {"{{http_request_method}} {{http_route}}": quantile(0.95, SERVER, "http_request_method, http_route", ONE)},
            "s",
        ),
        panel(
            "Bytes a second",
            {
                "received": f"sum(rate(http_server_request_body_size_bytes_sum{{{ONE}}}[$__rate_interval]))",
                "sent": f"sum(rate(http_server_response_body_size_bytes_sum{{{ONE}}}[$__rate_interval]))",
            },
            "Bps",
        ),
        panel(
            "Calls a second, by whom it calls",
            {"{{server_address}}": rate(f"{CLIENT}_count", "server_address", ONE)},
            "reqps",
        ),
        panel("Failed calls", {"{{server_address}}": failed(CLIENT, "server_address", ONE)}, "percentunit"),
        panel(
            "95 % of calls are faster than",
            {"{{server_address}}": quantile(0.95, CLIENT, "server_address", ONE)},
            "s",
            exemplars=True,
        ),
        log_panel("Requests: failed and slow ones, or those that the agent was told to log", REQUEST_LOGS),
        panel("Processes", f"target_info{{{ONE}}}", kind="table", width=24, columns={"instance": "process"}),
    ],
    [
        variable("job", f"label_values({SERVER}_count, job)", several=False),
        variable("service", f"label_values({SERVER}_count{{{ONE}}}, job)", several=False, part="/([^/]+)$/"),
    ],
)

service_map = dashboard(
    "autoinstr-map",
    "Service map",
    [
        {
            "title": "Who calls whom",
            "type": "nodeGraph",
            "datasource": TRACES,
            "targets": [{"refId": "A", "datasource": TRACES, "queryType": "serviceMap"}],
            "fieldConfig": {"defaults": {}, "overrides": []},
            "options": {},
            "size": (24, 14),
        },
        panel(
            "Between services, last 5 minutes",
            {
                "rate": BETWEEN,
                "failed": f"({rate(f'{GRAPH}_failed_total', EDGE, over=LAST)} or 0 * {BETWEEN}) / {BETWEEN}",
                "p95": quantile(0.95, f"{GRAPH}_server_seconds", EDGE, 'connection_type=""', LAST),
            },
            kind="table",
            width=24,
            height=10,
            columns={
                "client": "who",
                "server": "whom",
                "connection_type": "who is not watched",
                "Value #A": "requests/s",
                "Value #B": "failed",
                "Value #C": "95 % s",
            },
        ),
        panel(
            "Calls, by the address that was called, last 5 minutes",
            {
                "rate": rate(f"{CLIENT}_count", "job, server_address, server_port", "", LAST),
                "failed": failed(CLIENT, "job, server_address, server_port", "", LAST),
                "p95": quantile(0.95, CLIENT, "job, server_address, server_port", "", LAST),
            },
            kind="table",
            width=24,
            height=10,
            columns={
                "job": "who",
                "server_address": "whom",
                "server_port": "port",
                "Value #A": "calls/s",
                "Value #B": "failed",
                "Value #C": "95 % s",
            },
        ),
    ],
)

agent = dashboard(
    "autoinstr-agent",
    "The agent",
    [
        panel(
            "Requests told a second",
            {"{{instance}}": rate("autoinstr_requests_total", "instance")},
            "reqps",
        ),
        panel("Lost", {"{{loss}}": "sum by (loss) (increase(autoinstr_lost_total[$__rate_interval]))"}),
        panel(
            "CPU",
            {"{{instance}}": rate("autoinstr_cpu_seconds_total", "instance")},
            "percentunit",
        ),
        panel(
            "CPU per request",
            {
                "{{instance}}": rate("autoinstr_cpu_seconds_total", "instance")
                + " / "
                + rate("autoinstr_requests_total", "instance")
            },
            "s",
        ),
        panel("Memory", {"{{instance}}": "sum by (instance) (autoinstr_memory_bytes)"}, "bytes"),
        panel(
            "Ring between kernel and agent",
            {"{{instance}}": "max by (instance) (autoinstr_ring_fill_ratio)"},
            "percentunit",
        ),
        panel("Processes watched", {"{{instance}}": "sum by (instance) (autoinstr_targets)"}),
        panel(
            "Wake-ups a second",
            {"{{instance}}": rate("autoinstr_wakeups_total", "instance")},
            "short",
        ),
        panel(
            "New connections a second",
            {"{{instance}}": rate("autoinstr_connections_total", "instance")},
            "cps",
        ),
        log_panel("What it says", '{service_name="autoinstr"}'),
    ],
)

ALL = {"overview": overview, "service": service, "map": service_map, "agent": agent}

if __name__ == "__main__":
    for name, content in ALL.items():
        (HERE / "dashboards" / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
