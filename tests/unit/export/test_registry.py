"""One file or folder and one registry line an exporter."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.export.support import SERVER, SERVICE, make_context, make_traced, soon

import autoinstr.export
from autoinstr.config import EXPORTERS as KNOWN_TO_THE_COMMAND_LINE
from autoinstr.errors import UsageError
from autoinstr.export.base import EXPORTERS, create

NO_EXPORTERS = {"__init__", "base", "limited_log"}


def test_folder_and_registry_agree() -> None:
    folder = Path(autoinstr.export.__file__).parent
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - NO_EXPORTERS == set(EXPORTERS)
    assert {module.rpartition(".")[2] for module in EXPORTERS.values()} == set(EXPORTERS)
    assert set(KNOWN_TO_THE_COMMAND_LINE) == set(EXPORTERS)


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_exporter_is_what_it_is_called_and_closes(name: str) -> None:
    exporter = create(name, make_context(output=open("/dev/null", "w"), prometheus_port=0, ui="127.0.0.1:0"))  # noqa: PTH123, SIM115
    assert exporter.name == name
    if not exporter.wants_spans:
        exporter.spans(make_traced(1), [SERVER], [SERVICE])
    exporter.close(soon(1))


def test_an_unknown_exporter_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"zipkin.*otlp, console"):
        create("zipkin", make_context())
