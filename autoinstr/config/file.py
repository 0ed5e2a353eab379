"""The configuration file: YAML, `${ENV}` expanded, checked against the schema below.

In: a path and the environment. Out: `FileSettings` in the words of `options.py`. Every error names file, line, key and
what is allowed. Environment variables are put into values after the file was read, so no value can change its shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from autoinstr.config import options
from autoinstr.errors import UsageError
from autoinstr.selection import Selection, Selector

MAX_FILE = 1 << 20

_VARIABLE = re.compile(r"\$(?:\$\{|\{([A-Za-z_]\w*)(?::-([^}]*))?\}|\{[^}]*\}?)")


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    pass


class ServiceName(_Strict):
    """Of what a selector matches."""

    name: str = ""
    namespace: str = ""


class Entry(_Strict):
    """One selector: all keys that are given must hold."""

    port: int | str | list[int | str] = msgspec.field(default_factory=list)
    exe: str | list[str] = msgspec.field(default_factory=list)
    cmd: str | list[str] = msgspec.field(default_factory=list)
    pid: int | str | list[int | str] = msgspec.field(default_factory=list)


class SelectEntry(Entry):
    """One selector and the name of what it matches."""

    service: str | ServiceName = ""


class RouteFile(_Strict):
    patterns: list[str] = []
    services: dict[str, list[str]] = {}
    unmatched: Literal["heuristic", "wildcard"] = "heuristic"
    max_children: int = 10


class PrometheusFile(_Strict):
    host: str | None = None
    port: int | str | None = None


class UiFile(_Strict):
    address: str | int | None = None
    memory: str | int | None = None
    token: str | None = None
    store: str | None = None


class SamplerFile(_Strict):
    name: str | None = None
    arg: str | int | float | None = None


class MetricsFile(_Strict):
    interval: str | int | float | None = None
    temporality: str | None = None
    histogram: str | None = None
    cardinality_limit: int | str | None = None
    old_rpc_names: bool | None = None


class KubernetesFile(_Strict):
    node: str | None = None
    labels: str | list[str] | None = None


class OtlpFile(_Strict):
    """The OTEL_EXPORTER_OTLP_* variables of the same names."""

    endpoint: str | None = None
    protocol: str | None = None
    headers: dict[str, str] | str | None = None
    timeout: int | str | None = None  # ms, as in the variable
    compression: str | None = None
    insecure: bool | str | None = None
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    traces_endpoint: str | None = None
    metrics_endpoint: str | None = None
    logs_endpoint: str | None = None


class File(_Strict):
    """The whole file."""

    select: list[SelectEntry] = []
    exclude: list[Entry] = []
    exclude_agents: bool = True
    export: str | list[str] | None = None
    format: str | None = None
    prometheus: PrometheusFile = msgspec.field(default_factory=PrometheusFile)
    ui: UiFile = msgspec.field(default_factory=UiFile)
    otlp: OtlpFile = msgspec.field(default_factory=OtlpFile)
    routes: RouteFile = msgspec.field(default_factory=RouteFile)
    queries: bool | None = None
    probes: str | list[str] | None = None
    sampler: SamplerFile = msgspec.field(default_factory=SamplerFile)
    propagate: str | list[str] | None = None
    request_logs: str | bool | None = None  # YAML reads off as false
    metrics: MetricsFile = msgspec.field(default_factory=MetricsFile)
    service_name: str | None = None
    resource: dict[str, str | int | float | bool] | None = None
    kubernetes: KubernetesFile = msgspec.field(default_factory=KubernetesFile)
    ring_size: str | int | None = None
    log_level: str | None = None


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What the file says."""

    selection: Selection
    settings: dict[str, Any]  # by the names of `Config`
    environment: dict[str, str]  # OTEL_* variables that it stands for


def read_file(path: str, environment: Mapping[str, str]) -> FileSettings:
    """Read, expand and check."""
    try:
        text = Path(path).read_bytes()[:MAX_FILE].decode()
    except OSError as error:
        raise UsageError(f"configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"configuration file {path}: not UTF-8 text (byte {error.start})") from None
    return parse_text(text, path, environment)


def parse_text(text: str, path: str, environment: Mapping[str, str]) -> FileSettings:
    """The same, from the file's text."""
    document = _Document(path, environment)
    return document.settings(text)


class _Document:
    """One file: its node tree gives the line of every value."""

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._root: yaml.Node | None = None
        self._expanded: set[int] = set()  # an alias is the same node again

    def settings(self, text: str) -> FileSettings:
        loader = yaml.SafeLoader(text)
        try:
            self._root = loader.get_single_node()
            if self._root is None:
                return FileSettings(Selection(), {}, {})
            self._expand(self._root, loader, [])
            data = loader.construct_document(self._root)
            file = msgspec.convert({} if data is None else data, File, strict=False)  # "80" from a quoted "${PORT}"
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            hint = (
                '; inside {} or [] quote a variable: "${NAME}"'
                if "${" in "".join(text.splitlines()[line - 1 : line])
                else ""
            )
            raise UsageError(f"{self._path}, line {line}: not YAML: {error.problem}{hint}") from None
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, msgspec.ValidationError):
                raise self._invalid(error) from None
            raise UsageError(f"{self._path}: not YAML that can be used: {error}") from None
        finally:
            loader.dispose()
        return self._translate(file)

    # --- errors

    def _error(self, keys: list[str | int], message: str) -> UsageError:
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
        return UsageError(f"{self._path}, line {self._line(keys)}: {where + ': ' if where else ''}{message}")

    def _line(self, keys: list[str | int]) -> int:
        node, line = self._root, 0
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                pair = next(((name, value) for name, value in node.value if name.value == key), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = node.start_mark.line
        return line + 1

    def _invalid(self, error: msgspec.ValidationError) -> UsageError:
        """msgspec's message ends with the place: "... - at `$.select[0].port`"."""
        message, _, place = str(error).partition(" - at `$")
        keys: list[str | int] = []
        for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", place):
            keys.append(int(index) if index.isdecimal() else name or index)
        if unknown := re.search(r"unknown field `(.*?)`", message):
            allowed = ", ".join(_fields_at(keys))
            return self._error([*keys, unknown[1]], f"unknown key; allowed here: {allowed}")
        return self._error(keys, _plain(message))

    # --- ${ENV}

    def _expand(self, node: yaml.Node, loader: yaml.SafeLoader, keys: list[str | int]) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if key.value in seen:
                    raise UsageError(f"{self._path}, line {key.start_mark.line + 1}: {key.value}: given twice")
                seen.add(key.value)
                self._expand(value, loader, [*keys, key.value])
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._expand(value, loader, [*keys, index])
        elif isinstance(node, yaml.ScalarNode) and "${" in node.value and id(node) not in self._expanded:
            self._expanded.add(id(node))
            node.value = _VARIABLE.sub(lambda found: self._variable(found, keys), node.value)
            if node.style is None:  # not quoted: ${PORT} is a number if its value is one
                node.tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]

    def _variable(self, found: re.Match[str], keys: list[str | int]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] is None:
            raise self._error(keys, f"{found[0]} is not a variable: write ${{NAME}} or ${{NAME:-default}}")
        value = self._environment.get(found[1], "")
        if value:
            return value
        if found[2] is not None:
            return found[2]
        if found[1] not in self._environment:
            raise self._error(
                keys, f"environment variable {found[1]} is not set; ${{{found[1]}:-default}} gives it a default"
            )
        return ""

    # --- into the words of options.py

    def _translate(self, file: File) -> FileSettings:
        selection = Selection(
            selectors=tuple(self._selector("select", i, entry) for i, entry in enumerate(file.select)),
            exclude=tuple(self._selector("exclude", i, entry) for i, entry in enumerate(file.exclude)),
            include_agents=not file.exclude_agents,
        )
        settings: dict[str, Any] = {}
        for option in options.OPTIONS:
            value: Any = file
            for key in option.file.split("."):
                value = getattr(value, key)
            if value is not None:
                settings[option.name] = self._option(option, value)
        settings["routes"] = self._routes(file.routes)
        return FileSettings(selection, settings, _otlp(file.otlp))

    def _option(self, option: options.Option, value: Any) -> Any:
        if isinstance(value, dict) or (isinstance(value, bool) and option.parse is options.parse_bool):
            return value
        text = ",".join(value) if isinstance(value, list) else str(value)
        try:
            return option.parse(text)
        except UsageError as error:
            raise self._error(list(option.file.split(".")), str(error)) from None

    def _selector(self, name: str, index: int, entry: Entry) -> Selector:
        place: list[str | int] = [name, index]
        made: dict[str, Selector] = {}
        for key in ("port", "exe", "cmd", "pid"):
            value = getattr(entry, key)
            values = [str(one) for one in (value if isinstance(value, list) else [value])]
            if not values:
                continue
            try:
                made[key] = options.make_selector(key, values, "", "")
            except UsageError as error:
                raise self._error([*place, key], str(error).removeprefix(": ")) from None
        if not made:
            raise self._error(place, "selects nothing: give at least one of port, exe, cmd, pid")
        service = getattr(entry, "service", "")
        service = ServiceName(service) if isinstance(service, str) else service
        return Selector(
            origin=f"{name}[{index}]",
            ports=made["port"].ports if "port" in made else (),
            exe=made["exe"].exe if "exe" in made else (),
            cmd=made["cmd"].cmd if "cmd" in made else (),
            pid=made["pid"].pid if "pid" in made else (),
            service_name=service.name,
            service_namespace=service.namespace,
        )

    def _routes(self, file: RouteFile) -> options.Routes:
        for index, pattern in enumerate(file.patterns):
            if not pattern.startswith("/"):
                raise self._error(
                    ["routes", "patterns", index], f"{pattern!r}: a pattern begins with /, as /user/{{id}}"
                )
        for service, patterns in file.services.items():
            for index, pattern in enumerate(patterns):
                if not pattern.startswith("/"):
                    raise self._error(["routes", "services", service, index], f"{pattern!r}: a pattern begins with /")
        if file.max_children < 1:
            raise self._error(["routes", "max_children"], "at least 1")
        by_service = {service: tuple(patterns) for service, patterns in file.services.items()}
        return options.Routes(tuple(file.patterns), by_service, file.unmatched, file.max_children)


def _otlp(file: OtlpFile) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in file.__struct_fields__:
        value = getattr(file, name)
        if isinstance(value, dict):
            from urllib.parse import quote  # noqa: PLC0415 - seldom needed

            value = ",".join(f"{key}={quote(text)}" for key, text in value.items())
        if value is not None:
            found[f"OTEL_EXPORTER_OTLP_{name.upper()}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _plain(message: str) -> str:
    """msgspec speaks of Python's types: say it in YAML's."""
    words = {"`str`": "text", "`int`": "a number", "`float`": "a number", "`bool`": "true or false"}
    words |= {"`array`": "a list", "`object`": "a mapping", "`null`": "nothing", "Expected": "expected"}
    for ours, plain in words.items():
        message = message.replace(ours, plain)
    return message.replace(" | ", " or ").replace("`", "")


def _fields_at(keys: list[str | int]) -> list[str]:
    """The keys that the schema allows at a place of the file."""
    kind: Any = File
    for key in keys:
        if isinstance(key, int) or key == "...":
            continue
        kind = {one.name: one.type for one in msgspec.structs.fields(kind)}[key]
        inner = [kind, *getattr(kind, "__args__", ())]
        kind = next(one for one in inner if isinstance(one, type) and issubclass(one, msgspec.Struct))
    return [one.encode_name for one in msgspec.structs.fields(kind)]
