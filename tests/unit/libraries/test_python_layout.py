"""Where real Pythons keep their contexts: learned from the running process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoinstr.libraries import Layout, find_layout

IN_A_LOOP = """
import asyncio, sys

async def main():
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main())
"""
IN_A_THREAD = f"import threading; t = threading.Thread(target=lambda: exec({IN_A_LOOP!r}, {{}})); t.start(); t.join()"
WITHOUT = "import sys; print('up', flush=True); sys.stdin.readline()"


@contextmanager
def running(*command: str) -> Iterator[int]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        assert process.stdout.readline().startswith("up")
        yield process.pid
    finally:
        process.communicate("\n", timeout=20)


def layout_of(pid: int) -> Layout | None:
    return find_layout(pid, Path(f"/proc/{pid}/maps").read_bytes())


def interpreters() -> list[str]:
    """One a version, of those that this machine has."""
    found = {name: shutil.which(name) for name in (f"python3.{minor}" for minor in range(8, 16))}
    roots = Path.home().glob(".pyenv/versions/3.*/bin/python3")
    ones = [sys.executable, *filter(None, found.values()), *map(str, roots)]
    version = "import sys; print(sys.version_info[:2] >= (3, 8))"

    def runs(path: str) -> bool:
        done = subprocess.run([path, "-c", version], capture_output=True, text=True, check=False)
        return done.stdout.strip() == "True"

    return sorted({str(Path(one).resolve()): one for one in ones if runs(one)}.values())


@pytest.mark.parametrize("program", [IN_A_LOOP, IN_A_THREAD], ids=["main thread", "another thread"])
def test_every_interpreter_here(program: str) -> None:
    for path in interpreters():
        with running(path, "-c", program) as pid:
            layout = layout_of(pid)
        assert layout, path
        assert 0 < layout.state < 0x900, path
        assert 0 < layout.context < 0x400, path


def test_greenlets() -> None:
    """CPython 3.11 and newer: the stack of Python's frames, of which each greenlet has its own."""
    pytest.importorskip("gevent")
    program = "import gevent, sys; gevent.sleep(0.001); print('up', flush=True); sys.stdin.readline()"
    with running(sys.executable, "-c", program) as pid:
        layout = layout_of(pid)
        assert layout
        assert 0 < layout.stack < 0x400


def test_nothing_is_found_where_there_is_nothing() -> None:
    with running(sys.executable, "-c", WITHOUT) as pid:
        assert layout_of(pid) is None
    with running("sh", "-c", "echo up; read line") as pid:
        assert layout_of(pid) is None


def test_memory_that_looks_like_threads_leads_nowhere() -> None:
    """Addresses of themselves everywhere, and pointers to nothing."""
    program = """
import ctypes, mmap, sys
room = mmap.mmap(-1, 1 << 16)
at = ctypes.addressof(ctypes.c_char.from_buffer(room))
words = (ctypes.c_uint64 * (len(room) // 8)).from_buffer(room)
for n in range(len(words)):
    words[n] = at + 8 * n if n % 3 else at
print("up", flush=True)
sys.stdin.readline()
"""
    with running(sys.executable, "-c", program) as pid:
        assert layout_of(pid) is None


def test_a_process_that_has_ended() -> None:
    with running("sh", "-c", "echo up; read line") as pid:
        maps = Path(f"/proc/{pid}/maps").read_bytes()
    with pytest.raises(OSError, match=r"."):
        find_layout(pid, maps)
