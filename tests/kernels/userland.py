"""What runs in a guest: this machine's own files, or a Debian root of another architecture with the same in it.

In: the name of an architecture. Out: `Userland`: images of file systems, and the Python that has autoinstr installed.
"""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debian import STABLE, Suite, run
from kernels import ARCHITECTURES, CACHE, Architecture

CHECKOUT = CACHE.parents[1]
SOURCES = [CHECKOUT / name for name in ("autoinstr", "bpf", "tests")]
# what a root of another architecture is made of; its Python is that of the suite
PACKAGES = ("base-files", "coreutils", "dash", "nginx-light", "python3", "python3-bpfcc")
PYTHON = "3.11"
VENV = Path("/opt/autoinstr")
SCRIPT = f"#!{VENV}/bin/python\nimport sys\nfrom autoinstr.cli.main import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class Userland:
    python: Path
    image: Path  # holds these folders at their own paths
    folders: Sequence[Path]
    root: Path | None = None  # an image; None: this machine's root


def userland(machine: str) -> Userland:
    """Images as of now: the checkout may have changed since the last time."""
    own = machine == platform.machine()
    folders = [*this_python(), *SOURCES] if own else SOURCES
    image = image_of(folders, CACHE / f"hot-{machine}.img")
    if own:
        return Userland(CHECKOUT / ".venv/bin/python", image, folders)
    return Userland(VENV / "bin/python", image, folders, foreign_root(machine))


def this_python() -> list[Path]:
    """What Python reads by the thousand files."""
    places = (Path(sysconfig.get_path("stdlib")), Path("/usr/lib/python3"), CHECKOUT / ".venv")
    return [path for path in places if path.is_dir()]


def image_of(folders: Sequence[Path], target: Path) -> Path:
    staging = target.with_suffix(".files")
    shutil.rmtree(staging, ignore_errors=True)
    for folder in folders:
        place = staging / folder.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        run("cp", "-a", "--reflink=auto", folder, place)
    make_image(staging, target)
    shutil.rmtree(staging)
    return target


def make_image(folder: Path, target: Path) -> None:
    size = sum(path.lstat().st_size + 4096 for path in folder.rglob("*")) // (1 << 20)
    target.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", folder, target, f"{size * 5 // 4 + 64}M")


def foreign_root(machine: str) -> Path:
    """Made once: Debian's packages, and Python's beside them."""
    target = CACHE / f"root-{machine}.img"
    if not target.exists():
        architecture = ARCHITECTURES[machine]
        print(f"==> making a Debian root for {machine}", flush=True)
        root = CACHE / f"root-{machine}"
        shutil.rmtree(root, ignore_errors=True)
        for name in ("bin", "lib", "lib64", "sbin"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        Suite(STABLE, architecture.debian).unpack(PACKAGES, root, with_dependencies=True)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        virtual_environment(architecture, root / VENV.relative_to("/"))
        part = target.with_suffix(".part")
        make_image(root, part)
        part.rename(target)
        shutil.rmtree(root)
    return target


def virtual_environment(architecture: Architecture, folder: Path) -> None:
    """As `make install` leaves one, without running any program of that architecture."""
    packages = folder / f"lib/python{PYTHON}/site-packages"
    needs = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    platforms = [part for tag in architecture.wheels for part in ("--platform", tag)]
    only = ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "--no-compile"]
    run(sys.executable, "-m", "pip", "install", "-q", "--target", packages, *platforms, *only, *needs)
    (packages / "checkout.pth").write_text(f"{CHECKOUT}\n")
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/python").symlink_to("/usr/bin/python3")
    (folder / "bin/autoinstr").write_text(SCRIPT)
    (folder / "bin/autoinstr").chmod(0o755)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")
