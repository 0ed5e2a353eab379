"""How much memory there is to compile in."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoinstr.attach.compiler import ROOM, memory_left

MIB = 1 << 20


@pytest.mark.parametrize(
    ("group", "files", "left"),
    [
        ("0::/\n", {"memory.max": 256 * MIB, "memory.current": 50 * MIB}, 206 * MIB),
        ("0::/pod/x\n", {"pod/x/memory.max": 256 * MIB, "pod/x/memory.current": 0}, 256 * MIB),
        ("0::/\n", {"memory.max": "max", "memory.current": 1}, 1000 * MIB),
        (
            "7:cpu:/a\n4:memory:/a\n",
            {"memory/a/memory.limit_in_bytes": 300 * MIB, "memory/a/memory.usage_in_bytes": MIB},
            299 * MIB,
        ),
        ("0::/../..\n", {}, 1000 * MIB),
    ],
)
def test_what_is_left(tmp_path: Path, group: str, files: dict[str, int | str], left: int) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "sys" / "fs" / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {1000 << 10} kB\n")
    (proc / "self" / "cgroup").write_text(group)
    for name, value in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{value}\n")
    assert memory_left(proc, groups) == left


def test_a_machine_that_tells_nothing_has_enough(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("")
    (tmp_path / "meminfo").write_text("")
    assert memory_left(tmp_path, tmp_path) == ROOM
