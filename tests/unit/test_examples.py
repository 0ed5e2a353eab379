"""The configuration samples are valid, and mean what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoinstr.config.file import read_file

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_sample_is_valid(path: Path) -> None:
    assert read_file(str(path), {}).selection.selectors


def test_environment_is_expanded() -> None:
    settings = read_file(str(EXAMPLES / "config.yaml"), {"COLLECTOR": "http://127.0.0.1:9999"})
    assert settings.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:9999"
    assert settings.selection.selectors[0].service_namespace == "development"
