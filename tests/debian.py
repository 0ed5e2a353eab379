"""Debian's packages for tests: of this machine, installed if they are missing, and of any other suite and architecture.

In: names of suite and package. Out: unpacked files; nothing of another suite is installed. Uses apt with directories of
its own for those, below `.cache/apt`, and checks signatures with Debian's keyring.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CACHE = Path(__file__).resolve().parents[1] / ".cache"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
STABLE = "bookworm"  # what is not a kernel comes from here
PATH = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# linux-image-7.x is empty: the kernel is in packages that it depends on
PARTS = r"linux-(?:image|binary|modules)-\d\S*"


class Missing(Exception):  # noqa: N818 - says what the machine or the network lacks
    """This machine or its network can't provide what is needed."""


def run(*command: str | Path, **options: Any) -> str:
    """Its standard output. Missing, with its last words, if it fails."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    except OSError as error:
        raise Missing(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise Missing(f"{command[0]} ... {command[-1]} failed: {(done.stdout + done.stderr)[-2000:].strip()}")
    return str(done.stdout)


def install(programs: dict[str, str]) -> None:
    """Install the packages of those programs (or files) that are not there: {program: package}."""
    lacking = sorted({package for program, package in programs.items() if not there(program)})
    if not lacking:
        return
    print(f"==> installing {' '.join(lacking)}", flush=True)
    wait = ("-o", "DPkg::Lock::Timeout=120")  # somebody else may be installing, as new machines do by themselves
    run("apt-get", *wait, "-qq", "update")
    run("apt-get", *wait, "-qq", "-y", "install", "--no-install-recommends", *lacking)


def there(program: str) -> bool:
    return bool(shutil.which(program, path=PATH)) or Path(program).is_file()


def mirror() -> str:
    """Where this machine has Debian's packages from, or Debian's own."""
    for path in (*Path("/etc/apt").glob("*.list"), *Path("/etc/apt/sources.list.d").glob("*")):
        if found := re.search(r"https?://\S+/debian(?=/?\s)", path.read_text()):
            return found[0]
    return MIRROR


class Suite:
    """One suite for one architecture, this machine's if none is named."""

    def __init__(self, name: str, architecture: str = "") -> None:
        self.name = name
        self.folder = CACHE / "apt" / f"{name}-{architecture or 'own'}"
        url = mirror() + ("-security" if name.endswith("-security") else "")
        self.options = [
            *("-o", f"Dir::Etc::sourcelist={self.folder}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null"),
            *("-o", "Dir::Etc::preferencesparts=/dev/null", "-o", f"Dir::State={self.folder}/state"),
            *("-o", f"Dir::State::status={self.folder}/status", "-o", f"Dir::Cache={self.folder}/cache"),
            *("-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root", "-o", "APT::Update::Error-Mode=any"),
        ]
        if architecture:
            self.options += ["-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures::={architecture}"]
        if (self.folder / "updated").exists():
            return
        install({str(KEYRING): "debian-archive-keyring"})
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {url} {name} main\n")
        (self.folder / "status").touch()
        run("apt-get", *self.options, "-qq", "update")
        (self.folder / "updated").touch()

    def newest(self, pattern: str) -> str:
        """Name of the newest package that the regular expression matches as a whole."""
        names = run("apt-cache", *self.options, "pkgnames", "linux-image-").split()
        fitting = [name for name in names if re.fullmatch(pattern, name) and not re.search("cloud|rt|dbg|uns", name)]
        if not fitting:
            raise Missing(f"{self.name} has no package {pattern}")
        return max(fitting, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])

    def parts(self, package: str) -> list[str]:
        """The package, and what of the kernel is in packages that it depends on."""
        known = [package]
        for name in known:  # grows meanwhile
            depends = re.search(r"^Depends:(.*)", run("apt-cache", *self.options, "show", name), re.MULTILINE)
            known += [part for part in re.findall(PARTS, depends[1] if depends else "") if part not in known]
        return known

    def unpack(self, packages: Sequence[str], folder: Path, *, with_dependencies: bool = False) -> Path:
        """The packages' files, below the folder. Nothing is configured: no script of theirs runs."""
        debs = self.folder / "debs"
        shutil.rmtree(debs, ignore_errors=True)
        (debs / "partial").mkdir(parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        if with_dependencies:
            only = ("-o", f"Dir::Cache::archives={debs}", "--no-install-recommends", "--download-only", "-y")
            run("apt-get", *self.options, *only, "-qq", "install", *packages)
        else:
            run("apt-get", *self.options, "-qq", "download", *packages, cwd=debs)
        for deb in debs.glob("*.deb"):
            run("dpkg", "-x", deb, folder)
        shutil.rmtree(debs)
        return folder
