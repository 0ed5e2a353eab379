"""One `Config` from four places: flags over environment over file over defaults.

In: what argparse found, the environment, perhaps the path of a file. Out: `Config`, checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from autoinstr.config.options import (
    EXCLUDING,
    OPTIONS,
    SELECTING,
    Config,
    checked,
    make_selector,
    number,
    parse_bool,
)
from autoinstr.errors import UsageError
from autoinstr.selection import Selection, Selector

_TEACH = """say which processes to watch. For example:
  autoinstr run --port 8080              what listens on port 8080
  autoinstr run --port 8080,9000-9100    several ports
  autoinstr run --exe '*/nginx'          an executable
  autoinstr run --cmd '*shop.main:app*'  a command line
  autoinstr run --pid 4711               one process and its children
  autoinstr run --config autoinstr.yaml  selectors and service names from a file
`autoinstr targets --port 1-65535` lists everything that listens on this host."""


def load(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """The settings of this run. `flags`: what was given on the command line, by name, absent or None if it was not."""
    path = flags.get("config") or environment.get("AUTOINSTR_CONFIG", "")
    settings: dict[str, Any] = {}
    from_file = None
    if path:
        from autoinstr.config.file import read_file  # noqa: PLC0415 - costs 50 ms, not needed without a file

        from_file = read_file(path, environment)
        settings |= from_file.settings
    settings |= _from_environment(environment)
    settings |= _from_flags(flags)
    selection = _select(flags, environment, from_file.selection if from_file else Selection())
    otel = (from_file.environment if from_file else {}) | {
        name: value for name, value in environment.items() if name.startswith("OTEL_") and value.strip()
    }
    resource = (from_file.settings.get("resource", {}) if from_file else {}) | settings.get("resource", {})
    settings["resource"] = resource
    settings["exports"] = _exports(settings, otel)
    settings.setdefault("service_name", resource.get("service.name", ""))
    known = {one.name for one in fields(Config)}
    values = {name: value for name, value in settings.items() if name in known}
    return Config(selection=selection, environment=otel, **values)


def _exports(settings: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, ...]:
    exports: tuple[str, ...] = settings.get("exports", ())
    if not exports:
        endpoint = re.compile(r"OTEL_EXPORTER_OTLP_(TRACES_|METRICS_)?ENDPOINT")
        alone = not {"prometheus_port", "ui"} & settings.keys()
        console = ("console", "ui") if alone else ("console",)
        exports = ("otlp",) if any(endpoint.fullmatch(name) for name in environment) else console
    if settings.get("request_logs", "off") != "off" and "otlp" not in exports:
        raise UsageError("request logs are sent by OTLP: set OTEL_EXPORTER_OTLP_ENDPOINT, or --export otlp")
    if "none" in exports and len(exports) > 1:
        raise UsageError(f"export {', '.join(exports)}: none goes with no other exporter")
    for name, setting in (("prometheus", "prometheus_port"), ("ui", "ui")):
        if setting in settings and name not in exports and "none" not in exports:
            exports = (*exports, name)
    return exports


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in OPTIONS:
        for variable in option.environment:
            if text := environment.get(variable, "").strip():
                found[option.name] = checked(option.parse, text, f"environment variable {variable}")
                break
    interval = environment.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    if interval and "metric_interval" not in found:
        found["metric_interval"] = checked(_milliseconds, interval, "environment variable OTEL_METRIC_EXPORT_INTERVAL")
    return found


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in OPTIONS:
        value = flags.get(option.name)
        if value is None or value == []:
            continue
        text = ",".join(value) if isinstance(value, list) else value
        flag = "--export" if option.name == "exports" else f"--{option.name.replace('_', '-')}"
        found[option.name] = checked(option.parse, text, flag) if isinstance(text, str) else text
    return found


def _milliseconds(text: str) -> float:
    return number(1, 1 << 31)(text) / 1000


# --- which processes


def _select(flags: Mapping[str, Any], environment: Mapping[str, str], from_file: Selection) -> Selection:
    """Selectors of the first place that has any; exclusions of all places."""
    by_flag = [selector for key, *_ in SELECTING for selector in _by_flag(key, flags.get(key) or [], f"--{key}")]
    by_environment = [
        selector
        for key, variable, separator, _ in SELECTING
        for selector in _by_flag(key, _split(environment.get(variable, ""), separator), variable, "=")
    ]
    key, variable, separator, _ = EXCLUDING
    patterns = [*(flags.get(key) or []), *_split(environment.get(variable, ""), separator)]
    exclude = tuple(Selector(f"--exclude-exe {pattern}", exe=(pattern,)) for pattern in patterns)
    agents = flags.get("include_agents") or checked(
        parse_bool, environment.get("AUTOINSTR_INCLUDE_AGENTS", ""), "environment variable AUTOINSTR_INCLUDE_AGENTS"
    )
    return Selection(
        selectors=tuple(by_flag or by_environment or from_file.selectors),
        exclude=(*exclude, *from_file.exclude),
        include_agents=bool(agents or from_file.include_agents),
    )


def _split(text: str, separator: str) -> list[str]:
    parts = text.split(separator) if separator else [text]
    return [part.strip() for part in parts if part.strip()]


def _by_flag(key: str, values: Sequence[str], where: str, joint: str = " ") -> list[Selector]:
    return [make_selector(key, [value], f"{where}{joint}{value}", where) for value in values]


def require_selectors(config: Config) -> None:
    """Teach how to select, if nothing is selected."""
    if not config.selection.selectors:
        raise UsageError(_TEACH)
