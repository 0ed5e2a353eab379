"""The shape that ARCHITECTURE.md draws is the shape of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "autoinstr"


def test_import_contracts_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("folder", sorted({str(p.parent.relative_to(ROOT)) for p in PACKAGE.rglob("*.py")}))
def test_every_folder_is_a_package(folder: str) -> None:
    """Namespace folders would escape the import contracts."""
    assert (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", sorted(str(p.relative_to(ROOT)) for p in PACKAGE.rglob("*.py")))
def test_every_module_says_what_it_is(path: str) -> None:
    text = (ROOT / path).read_text()
    assert not text.strip() or text.startswith('"""')
