"""What `make wheel` builds works from any directory, by way of the source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import autoinstr

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a virtual environment that has the wheel, and from this one only what the wheel depends on."""
    home = tmp_path_factory.mktemp("venv")
    made = run("/usr/bin/python3", "-m", "venv", "--system-site-packages", home, cwd=home)
    assert made.returncode == 0, made.stderr
    installed = run(home / "bin/pip", "install", "--no-deps", "--no-index", wheel, cwd=home)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    # a path file inside that folder is not followed, so the editable project stays out of sight
    library = next(home.glob("lib/python3*/site-packages"))
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin/autoinstr"


def test_the_kernel_side_travels_inside(wheel: Path) -> None:
    packed = {name.removeprefix("autoinstr/") for name in zipfile.ZipFile(wheel).namelist()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "bpf").rglob("*") if path.suffix in (".c", ".h")}
    assert sources and sources <= packed


def test_the_page_travels_inside(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "autoinstr/web/static").rglob("*") if path.is_file()}
    assert {"autoinstr/web/static/index.html", "autoinstr/web/static/vendor/uPlot.LICENSE.txt"} <= files <= packed


def test_version_from_another_directory(program: Path, tmp_path: Path) -> None:
    result = run(program, "--version", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert autoinstr.__version__ in result.stdout


def test_check_from_another_directory(program: Path, tmp_path: Path) -> None:
    result = run(program, "check", "--json", cwd=tmp_path)
    assert result.returncode in (0, 1) and not result.stderr, result.stderr
    where = run(program.with_name("python"), "-c", "import autoinstr; print(autoinstr.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(program.parents[1]))


@pytest.mark.skipif(os.geteuid() != 0, reason="eBPF programs need root")
def test_run_from_another_directory(program: Path, tmp_path: Path) -> None:
    """The installed kernel side compiles and attaches."""
    agent = subprocess.Popen(
        [program, "run", "--pid", str(os.getpid()), "--export", "none"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert agent.stderr
    said = []
    for line in agent.stderr:
        said.append(line)
        if line.startswith("ready"):
            break
    agent.terminate()
    assert agent.wait(timeout=10) == 0, "".join(said)
    agent.stderr.close()
