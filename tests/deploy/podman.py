"""Debian's Podman, unpacked and not installed, with storage of its own: how its containers look from outside.

    with Podman(folder) as podman:
        podman("load", "-i", archive)

Needs root, apt and runc. Storage, settings and state are below one folder, which is removed at the end.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from machine import attempt, run

PACKAGES = ("podman", "conmon", "golang-github-containers-image", "golang-github-containers-common", "libgpgme11")
LIBRARIES = ("libsubid4", "libassuan0")
# Limits that a machine without CAP_SYS_RESOURCE can set
CONTAINERS = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
seccomp_profile = "{0}/usr/share/containers/seccomp.json"
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["{0}/usr/bin/conmon"]
events_logger = "none"
runtime = "runc"
"""
STORAGE = """[storage]
driver = "overlay"
graphroot = "{0}/storage"
runroot = "{0}/run"
"""


class Podman:
    def __init__(self, cache: Path, folder: Path) -> None:
        self.programs = cache / "podman"
        self.folder = folder
        if not (self.programs / "usr/bin/podman").exists():
            packages = cache / "podman-packages"
            packages.mkdir(parents=True, exist_ok=True)
            run("apt-get", "-oAPT::Sandbox::User=root", "download", *PACKAGES, *LIBRARIES, cwd=packages)
            for package in packages.glob("*.deb"):
                run("dpkg", "-x", package, self.programs)
        home = folder / "home/.config/containers"
        home.mkdir(parents=True)
        shutil.copy(self.programs / "etc/containers/policy.json", home)
        (folder / "containers.conf").write_text(CONTAINERS.format(self.programs))
        (folder / "storage.conf").write_text(STORAGE.format(folder))
        self._environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "LD_LIBRARY_PATH": str(self.programs / "usr/lib" / f"{os.uname().machine}-linux-gnu"),
        }

    def __call__(self, *arguments: str | Path) -> str:
        return run(self.programs / "usr/bin/podman", *arguments, env=self._environment).strip()

    def __enter__(self) -> Podman:
        return self

    def __exit__(self, *_: object) -> None:
        self("rm", "-fa", "-t", "1")
        attempt("umount", self.folder / "storage/overlay")
        shutil.rmtree(self.folder, ignore_errors=True)
