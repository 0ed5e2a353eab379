"""README names everything that can be set, and everything that comes out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from autoinstr import semconv
from autoinstr.cli.main import COMMANDS, make_parser
from autoinstr.health import Loss, Orphan
from autoinstr.red import names

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "autoinstr").rglob("*.py"))
# prefixes that the code puts names together from; the names are found in what it says to users
VARIABLES = sorted(set(re.findall(r"\b(?:OTEL|AUTOINSTR)_[A-Z_]*[A-Z]\b", SOURCES)) - {"OTEL_METRIC_OVERFLOW"})
PREFIXES = [semconv.HTTP_SERVER, semconv.HTTP_CLIENT, semconv.RPC_SERVER, semconv.RPC_CLIENT]
METRICS = [semconv.REQUEST_DURATION, semconv.REQUEST_BODY_SIZE, semconv.RESPONSE_BODY_SIZE, semconv.CALL_DURATION]
CONSTANTS = [value for name, value in vars(semconv).items() if name.isupper() and "." in value]
NAMES = [name for name in CONSTANTS if name not in PREFIXES + METRICS]
NAMES += chain(*map(dict.values, (names.DURATIONS, names.REQUEST_SIZES, names.RESPONSE_SIZES, names.OLD_RPC_DURATIONS)))


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from flags(command)
        else:
            yield from (flag for flag in action.option_strings if flag.startswith("--"))


def has(word: str) -> bool:
    """As a whole: `--port` is not documented by `--prometheus-port`."""
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)", README) is not None


@pytest.mark.parametrize("flag", sorted(set(flags(make_parser())) - {"--help", "--version"}))
def test_flag(flag: str) -> None:
    assert has(flag)


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_command(command: str) -> None:
    assert has(f"autoinstr {command}")


@pytest.mark.parametrize("variable", VARIABLES)
def test_environment_variable(variable: str) -> None:
    assert has(variable)


@pytest.mark.parametrize("name", NAMES)
def test_attribute_or_metric(name: str) -> None:
    assert has(name)


@pytest.mark.parametrize("one", [*Loss, *Orphan], ids=lambda one: one.label)
def test_loss_or_orphan(one: Loss | Orphan) -> None:
    assert has(f"`{one.label}`")


@pytest.mark.parametrize("name", sorted(set(re.findall(r'(?:\.did\(\s*|gauges\[|work\[)"(\w+)"', SOURCES))))
def test_self_metric(name: str) -> None:
    assert has(f"autoinstr.{name}")


@pytest.mark.parametrize("target", re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
def test_make_target_is_listed(target: str) -> None:
    assert f"make {target}" in README or target in ("help", "lint", "clean")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:|#)([^)]+)\)", README))
def test_link(link: str) -> None:
    assert (ROOT / link).exists()
