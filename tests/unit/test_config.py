"""Settings: which place wins, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoinstr.config import OPTIONS, Config, load, require_selectors
from autoinstr.config.file import File, parse_text
from autoinstr.config.options import parse_duration, parse_size
from autoinstr.errors import UsageError


def config(tmp_path: Path, text: str = "", environment: dict[str, str] | None = None, **flags: Any) -> Config:
    if text:
        path = tmp_path / "autoinstr.yaml"
        path.write_text(text)
        flags["config"] = str(path)
    return load(flags, environment or {})


def mistake(text: str, **environment: str) -> str:
    with pytest.raises(UsageError) as raised:
        parse_text(text, "a.yaml", environment)
    return str(raised.value)


def test_defaults() -> None:
    assert load({}, {}) == Config(selection=load({}, {}).selection)
    assert load({}, {}).exports == ("console", "ui")
    assert load({}, {}).sampler == "parentbased_always_on"


def test_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = "format: json\nmetrics: {interval: 5s}\nsampler: {name: always_off}\nlog_level: debug\n"
    environment = {"OTEL_METRIC_EXPORT_INTERVAL": "2000", "OTEL_TRACES_SAMPLER": "always_on"}
    found = config(tmp_path, text, environment, sampler="traceidratio", sampler_arg="0.5")
    assert (found.format, found.log_level) == ("json", "debug")
    assert found.metric_interval == 2
    assert (found.sampler, found.sampler_arg) == ("traceidratio", "0.5")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_place_in_the_file_and_a_field(option: Any) -> None:
    value: Any = File()
    for key in option.file.split("."):
        value = getattr(value, key)
    assert value is None, "absent unless given"
    assert option.name in Config.__dataclass_fields__


class TestExports:
    def test_otlp_if_an_endpoint_is_set(self) -> None:
        for name in ("ENDPOINT", "TRACES_ENDPOINT", "METRICS_ENDPOINT"):
            assert load({}, {f"OTEL_EXPORTER_OTLP_{name}": "http://localhost:4317"}).exports == ("otlp",)

    def test_empty_endpoint_is_none(self) -> None:
        assert load({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}).exports == ("console", "ui")

    def test_endpoint_of_the_file(self, tmp_path: Path) -> None:
        found = config(tmp_path, "otlp: {endpoint: 'http://a:4318', headers: {X-Key: 'a b'}}")
        assert found.exports == ("otlp",)
        assert found.environment["OTEL_EXPORTER_OTLP_HEADERS"] == "X-Key=a%20b"

    def test_environment_over_the_file(self, tmp_path: Path) -> None:
        found = config(tmp_path, "otlp: {endpoint: 'http://a'}", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"})
        assert found.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://b"

    def test_several(self) -> None:
        assert load({"exports": ["otlp", "console,otlp"]}, {}).exports == ("otlp", "console")

    def test_prometheus_port_adds_the_exporter(self) -> None:
        assert load({"prometheus_port": "9000"}, {}).exports == ("console", "prometheus")
        assert load({"exports": ["prometheus"], "prometheus_port": "9000"}, {}).exports == ("prometheus",)
        assert load({"exports": ["none"], "prometheus_port": "9000"}, {}).exports == ("none",)

    def test_an_address_of_the_page_adds_it(self, tmp_path: Path) -> None:
        assert load({"ui": "8400"}, {}).exports == ("console", "ui")
        assert load({"ui": "8400", "exports": ["otlp"]}, {}).exports == ("otlp", "ui")
        assert load({"ui": "8400", "exports": ["none"]}, {}).exports == ("none",)
        assert load({}, {"AUTOINSTR_EXPORT": "ui"}).exports == ("ui",)
        found = config(tmp_path, "ui: {address: '[::1]:9', memory: 64MiB, token: abc}\nexport: otlp")
        assert (found.exports, found.ui, found.ui_memory, found.ui_token) == (
            ("otlp", "ui"),
            "[::1]:9",
            64 << 20,
            "abc",
        )

    @pytest.mark.parametrize(
        ("flag", "value"),
        [("ui", "a b"), ("ui", "host:99999"), ("ui", "http://x"), ("ui_memory", "8"), ("ui_memory", "big")],
    )
    def test_wrong_settings_of_the_page(self, flag: str, value: str) -> None:
        with pytest.raises(UsageError, match=f"--{flag.replace('_', '-')}: "):
            load({flag: value}, {})

    def test_none_is_alone(self) -> None:
        with pytest.raises(UsageError, match="none goes with no other"):
            load({"exports": ["none", "otlp"]}, {})

    def test_unknown(self) -> None:
        with pytest.raises(UsageError, match=r"--export: 'zipkin' is not one of otlp, console, prometheus, ui, none"):
            load({"exports": ["zipkin"]}, {})


class TestSelection:
    def test_every_flag_is_a_selector(self) -> None:
        found = load({"port": ["8080,9000-9100", "80"], "exe": ["*/nginx"], "pid": ["7"]}, {}).selection
        assert [str(selector) for selector in found.selectors] == [
            "--port 8080,9000-9100",
            "--port 80",
            "--exe */nginx",
            "--pid 7",
        ]
        assert found.ports == ((8080, 8080), (9000, 9100), (80, 80))

    def test_flags_replace_environment_replaces_file(self, tmp_path: Path) -> None:
        text = "select: [{exe: a}]\nexclude: [{exe: x}]\n"
        assert str(config(tmp_path, text).selection.selectors[0]) == "select[0].exe"
        environment = {"AUTOINSTR_EXE": "b, c", "AUTOINSTR_EXCLUDE_EXE": "y"}
        found = config(tmp_path, text, environment)
        assert [selector.exe for selector in found.selection.selectors] == [("b",), ("c",)]
        found = config(tmp_path, text, environment, cmd=["d"], exclude_exe=["z"])
        assert [selector.cmd for selector in found.selection.selectors] == [("d",)]
        assert [selector.exe[0] for selector in found.selection.exclude] == ["z", "y", "x"], "exclusions add up"

    def test_keys_of_an_entry(self, tmp_path: Path) -> None:
        text = """
select:
  - port: [8080, "9000-9010"]
    exe: "*/python3*"
    service: {name: shop, namespace: prod}
  - pid: 12
    service: cart
exclude_agents: false
"""
        found = config(tmp_path, text).selection
        first, second = found.selectors
        assert first.keys == ("exe", "port")
        assert (first.service_name, first.service_namespace) == ("shop", "prod")
        assert (second.pid, second.service_name) == ((12,), "cart")
        assert found.include_agents

    def test_nothing_selected_teaches(self) -> None:
        with pytest.raises(UsageError, match=r"(?s)--port 8080.*--exe.*--config"):
            require_selectors(load({}, {}))

    @pytest.mark.parametrize("ports", ["x", "0", "70000", "9-8", "1,,2", "", "80-"])
    def test_wrong_ports(self, ports: str) -> None:
        with pytest.raises(UsageError, match="--port"):
            load({"port": [ports]}, {})

    def test_wrong_pid(self) -> None:
        with pytest.raises(UsageError, match=r"--pid: 'nginx' is not a number"):
            load({"pid": ["nginx"]}, {})


class TestMistakesInTheFile:
    def test_unknown_key_says_line_and_what_is_allowed(self) -> None:
        said = mistake("select:\n  - exe: a\n  - prot: 80\n")
        assert said == ("a.yaml, line 3: select[1].prot: unknown key; allowed here: port, exe, cmd, pid, service")

    def test_unknown_key_at_the_top(self) -> None:
        assert mistake("format: json\nexports: [otlp]\n").startswith(
            "a.yaml, line 2: exports: unknown key; allowed here: select, exclude, exclude_agents, export"
        )

    def test_wrong_type(self) -> None:
        assert mistake("select: {port: 80}") == "a.yaml, line 1: select: expected a list, got a mapping"
        said = mistake("routes:\n  max_children: many\n")
        assert said == "a.yaml, line 2: routes.max_children: expected a number, got text"

    def test_wrong_value(self) -> None:
        assert mistake("a: 1\nformat: xml".replace("a: 1\n", "\n")).startswith(
            "a.yaml, line 2: format: 'xml' is not one"
        )
        assert mistake("select:\n- port: 8O80\n").startswith("a.yaml, line 2: select[0].port: '8O80' is not a list of")
        assert mistake("metrics:\n  interval: soon\n").startswith("a.yaml, line 2: metrics.interval: 'soon' is not a")
        assert mistake("routes: {unmatched: guess}").startswith("a.yaml, line 1: routes.unmatched: ")

    def test_empty_entry(self) -> None:
        said = mistake("select:\n  - exe: a\n  - service: b\n")
        assert said == "a.yaml, line 3: select[1]: selects nothing: give at least one of port, exe, cmd, pid"

    def test_route_without_a_slash(self) -> None:
        assert mistake("routes:\n  patterns:\n    - /a\n    - b\n").startswith(
            "a.yaml, line 4: routes.patterns[1]: 'b'"
        )

    def test_not_yaml(self) -> None:
        assert mistake("select: [\n  a: {\n").startswith("a.yaml, line 3: not YAML: ")
        assert "not YAML" in mistake("a: !!python/object:os.system {}\n")

    def test_given_twice(self) -> None:
        assert mistake("format: json\nformat: text\n") == "a.yaml, line 2: format: given twice"

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"none\.yaml: No such file"):
            load({"config": str(tmp_path / "none.yaml")}, {})

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
    def test_empty_file(self, text: str) -> None:
        assert parse_text(text, "a.yaml", {}).selection.selectors == ()

    @pytest.mark.parametrize("text", ["[1]", "1", "a", "? [a]\n: b", "&a [*a]", "{[1]: 2}", "select: &a [*a]"])
    def test_strange_yaml_is_a_usage_error(self, text: str) -> None:
        mistake(text)


class TestVariables:
    def test_expanded_with_type(self) -> None:
        found = parse_text(
            "select: [{port: '${P}'}]\nprometheus: {port: \"${Q}\"}\nqueries: ${T}\nservice_name: ${S:-shop}\n",
            "a.yaml",
            {"P": "80,90", "Q": "9999", "T": "true"},
        )
        assert found.selection.ports == ((80, 80), (90, 90))
        assert found.settings["prometheus_port"] == 9999
        assert found.settings["service_name"] == "shop"
        assert found.settings["queries"] is True

    def test_unquoted_in_braces(self) -> None:
        assert mistake("prometheus: {port: ${Q}}\n", Q="1").endswith('inside {} or [] quote a variable: "${NAME}"')

    def test_value_cannot_change_the_shape(self) -> None:
        found = parse_text("service_name: ${S}\n", "a.yaml", {"S": "a\nformat: json"})
        assert found.settings["service_name"] == "a\nformat: json"
        assert "format" not in found.settings

    def test_unset(self) -> None:
        said = mistake("format: text\nservice_name: a-${NOPE}\n")
        assert said.startswith("a.yaml, line 2: service_name: environment variable NOPE is not set")

    def test_not_a_variable(self) -> None:
        assert "write ${NAME} or ${NAME:-default}" in mistake("service_name: ${1x}\n")

    def test_escaped(self) -> None:
        assert parse_text("service_name: $${S}\n", "a.yaml", {}).settings["service_name"] == "${S}"


def test_resource_of_all_places(tmp_path: Path) -> None:
    found = config(tmp_path, "resource: {a: 1, b: file}", {"OTEL_RESOURCE_ATTRIBUTES": "b=x%20y,service.name=all"})
    assert found.resource == {"a": 1, "b": "x y", "service.name": "all"}
    assert found.service_name == "all"
    assert load({}, {"OTEL_SERVICE_NAME": "one", "OTEL_RESOURCE_ATTRIBUTES": "service.name=all"}).service_name == "one"


def test_routes(tmp_path: Path) -> None:
    found = config(tmp_path, "routes: {patterns: [/a/:id], services: {shop: ['/b/{x}']}, unmatched: wildcard}").routes
    assert (found.patterns, found.by_service, found.mode) == (("/a/:id",), {"shop": ("/b/{x}",)}, "wildcard")


def test_durations_and_sizes() -> None:
    assert [parse_duration(text) for text in ("500ms", "10s", "2m", "1.5")] == [0.5, 10, 120, 1.5]
    assert [parse_size(text) for text in ("4MiB", "512k", "65536")] == [4 << 20, 512 << 10, 65536]
    for text in ("0", "5 parsecs", "-1s"):
        with pytest.raises(UsageError):
            parse_duration(text)
    for text in ("3MiB", "1k", "1GiB"):
        with pytest.raises(UsageError):
            parse_size(text)
