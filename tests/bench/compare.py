"""What became worse between two runs of the price list, by more than its noise.

Usage: compare.py OLD.json NEW.json. Exit status 1 if something did.

Noise is the larger of the two spreads (most less least), and at least one percent. Only figures that do not follow the
machine's speed are looked at: ratios within a round, bytes, hits. Both runs should be of the same machine. Parts of
fewer than three rounds do not tell their noise, and are not compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from figures import FIGURES, Figure, Part, Spread

AUTOINSTR = "autoinstr"
FEWEST_ROUNDS = 3
LEAST_NOISE = 0.01


def cells(parts: dict[str, Part]) -> Iterator[tuple[str, Part]]:
    """Names and figures of what autoinstr has a share in: not of other agents."""
    for name, part in parts.items():
        if part["rounds"] < FEWEST_ROUNDS:
            continue
        variants = part.get("variants", {})
        if AUTOINSTR in variants:
            yield name, variants[AUTOINSTR]
        elif variants:
            yield from ((f"{name}, {found['title']}", found) for found in variants.values())
        else:
            yield name, part


def worse(figure: Figure, old: Spread, new: Spread) -> bool:
    noise = max(abs(old["median"]) * LEAST_NOISE, *(one["most"] - one["least"] for one in (old, new)))
    return (old["median"] - new["median"]) * figure.better > noise


def main() -> int:
    parser = argparse.ArgumentParser(description="What became worse by more than its noise.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    chosen = parser.parse_args()
    old, new = (dict(cells(json.loads(path.read_text())["parts"])) for path in (chosen.old, chosen.new))
    compared, found = 0, 0
    for name in [name for name in old if name in new]:
        for figure in FIGURES:
            if not figure.better or figure.key not in old[name] or figure.key not in new[name]:
                continue
            before, after = old[name][figure.key], new[name][figure.key]
            compared += 1
            if worse(figure, before, after):
                found += 1
                print(f"worse: {name}: {figure.key}: {shown(figure, before)} -> {shown(figure, after)}")
    print(f"{found} of {compared} figures are worse by more than their noise")
    return 1 if found else 0


def shown(figure: Figure, found: Spread) -> str:
    middle, least, most = (figure.text(found[name]) for name in ("median", "least", "most"))
    return f"{middle} ({least} .. {most})"


if __name__ == "__main__":
    sys.exit(main())
