"""Where fields lie in structures of Go modules, by version: what `scripts/go_layouts.go` has found in their sources.

In: a module, its version as the program's build information tells it. Out: bytes from the beginning of the structure.
A version that is not in the table is not known, and nothing is guessed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_suffix(".json")


@cache
def _table() -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = json.loads(TABLE.read_text())
    return found


def layout(module: str, version: str) -> dict[str, int]:
    """By the names that the script gives; empty: not known."""
    return _table().get(module, {}).get(version, {})


def go_layout(version: tuple[int, ...]) -> dict[str, int]:
    """Of Go itself: the last version of each minor one stands for all of it."""
    for text, found in _table().get("golang.org/toolchain", {}).items():
        if text.split(".")[:2] == [str(number) for number in version[:2]]:
            return found
    return {}
