"""The price list in its short form: figures are rough, counts are exact. And what a comparison of two of them says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
PARTS = ("nginx", "flask")


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run's bench.json; it fails if a request is missing in the metrics, or too many are in them."""
    if lacking := [program for program in ("nginx", "wrk", "gcc") if not shutil.which(program)]:
        pytest.skip(f"needs {', '.join(lacking)}")
    output = tmp_path_factory.mktemp("bench") / "bench.json"
    done = run("run.py", "--short", *(word for part in PARTS for word in ("--only", part)), "--output", output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.mark.parametrize("part", PARTS)
def test_price(prices: Path, part: str) -> None:
    found = json.loads(prices.read_text())["parts"][part]
    watched = found["variants"]["autoinstr"]
    assert found["wrong"] == []
    for key in ("rate", "app_us", "p50_us", "exported_bytes", "pss_bytes", "map_bytes"):
        assert watched[key]["median"] > 0, key
    assert watched["hits"]["median"] >= 2  # a system call has two, and a request needs one at least


def worsened(prices: Path, change: float) -> Path:
    """The same prices as if of three rounds, but for nginx's throughput."""
    found: dict[str, Any] = json.loads(prices.read_text())
    found["parts"]["nginx"]["rounds"] = 3
    found["parts"]["nginx"]["variants"]["autoinstr"]["throughput_ratio"] = {
        "median": 0.9 + change,
        "least": 0.89 + change,
        "most": 0.92 + change,
    }
    path = prices.with_name(f"changed{change}.json")
    path.write_text(json.dumps(found))
    return path


@pytest.mark.parametrize(("change", "worse"), [(0.1, 0), (-0.02, 0), (-0.04, 1)])
def test_comparison_tells_noise_from_what_is_worse(prices: Path, change: float, worse: int) -> None:
    done = run("compare.py", worsened(prices, 0), worsened(prices, change))
    assert done.returncode == worse, done.stdout + done.stderr
    assert ("worse: nginx: throughput_ratio" in done.stdout) == bool(worse)


def test_what_does_not_tell_its_noise_is_not_compared(prices: Path) -> None:
    assert "0 of 0 figures" in run("compare.py", prices, prices).stdout
