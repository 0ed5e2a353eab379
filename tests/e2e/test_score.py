"""`make score` in its short form: a few servers and clients, and not one request told wrongly, nor one wrong parent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def short(folder: Path, *parts: str) -> tuple[dict[str, Any], str]:
    """What it has written: score.json and the page."""
    command = [sys.executable, str(ROOT / "tests/score/run.py"), "--short", "--output", str(folder), *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "score.json").read_text()), (folder / "score.html").read_text()


def test_every_cell_is_right(tmp_path: Path) -> None:
    score, page = short(tmp_path, "--shapes", "", "--rows", "nginx,uvicorn,requests,grpc-go,grpcio")
    ran = [cell for cell in score["cells"] if not cell["reason"]]
    assert {cell["row"] for cell in ran} >= {"uvicorn", "requests"}
    assert all(cell["right"] and cell["requests"] for cell in ran)
    assert "<script" not in page
    assert "100 %" in page


def test_no_parent_is_wrong(tmp_path: Path) -> None:
    score, page = short(tmp_path, "--traces", "chain,threads,aiohttp,node")
    joins = [join for trial in score["traces"] for join in trial["joins"]]
    assert {"threads", "aiohttp", "node", "1-go"} <= {join["hop"] for join in joins}
    assert {"plain", "served", "background", "fan"} <= {join["way"] for join in joins}
    assert all(join["good"] and join["spans"] for join in joins)
    assert "Whole traces" in page
