"""`make score` in its short form: a few servers and clients, and not one request told wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_cell_is_right(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests/score/run.py"), "--short", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    score = json.loads((tmp_path / "score.json").read_text())
    ran = [cell for cell in score["cells"] if not cell["reason"]]
    assert {cell["row"] for cell in ran} >= {"uvicorn", "requests"}
    assert all(cell["right"] and cell["requests"] for cell in ran)
    page = (tmp_path / "score.html").read_text()
    assert "<script" not in page
    assert "100 %" in page
