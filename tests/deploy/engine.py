"""A Docker engine of the tests' own, started by hand; the firewall's settings, which it changes, are put back.

    with Engine(Path(".cache/containers")) as engine:
        engine.docker("build", "-t", "autoinstr:test", ".")

Debian's unstable `docker.io`, unpacked and not installed (stable's is too old for `CAP_BPF`), on the machine's
containerd and runc. Images can't be counted on to be pulled: `base` makes one by debootstrap. Needs root and apt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from debian import Suite, install
from machine import attempt, run, wait_for

HERE = Path(__file__).resolve().parent
PACKAGES = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "tini-static")
NEEDED = {"containerd": "containerd", "runc": "runc", "debootstrap": "debootstrap", "iptables": "iptables"}
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
BASE = "localhost/debian:12"
# Certificates and indexes of the machine: builds inside containers get their packages from the same places.
FROM_HOST = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/local/share/ca-certificates",
    "/etc/pip.conf",
    "/etc/apt/apt.conf.d",
)


class Engine:
    def __init__(self, cache: Path) -> None:
        install(NEEDED)
        self.programs = cache / "engine"
        if not (self.programs / "usr/bin/tini-static").exists():
            Suite("sid").unpack(PACKAGES, self.programs)
        self.cache = cache
        # Sockets' paths have to be short.
        self._run = Path(tempfile.mkdtemp(prefix="engine-"))
        self._forwarding = FORWARD.read_text()
        self._policy = run("iptables", "-S", "FORWARD").splitlines()[0].split()[-1]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self._run}/docker.sock",
            "DOCKER_CONFIG": str(self._run / "config"),
            "PATH": f"{self.programs}/usr/bin:{self.programs}/usr/sbin:{os.environ['PATH']}:/usr/sbin",
        }

    def __enter__(self) -> Engine:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def _begin(self) -> None:
        plugins = self._run / "config/cli-plugins"
        plugins.mkdir(parents=True)
        for plugin in (self.programs / "usr/libexec/docker/cli-plugins").iterdir():
            (plugins / plugin.name).symlink_to(plugin)
        address = self._run / "containerd.sock"
        config = self._run / "containerd.toml"
        config.write_text(f"version = 2\nroot = '{self.cache}/containerd'\nstate = '{self._run}/containerd'\n")
        self._start("containerd", "--config", config, "--address", address)
        wait_for(address.exists, "containerd listens")
        self._start(
            "dockerd",
            *("--containerd", address, "--host", self.environment["DOCKER_HOST"]),
            *("--data-root", self.cache / "docker", "--exec-root", self._run / "exec", "--pidfile", self._run / "pid"),
            *("--userland-proxy-path", self.programs / "usr/sbin/docker-proxy"),
            *("--init-path", self.programs / "usr/bin/tini-static"),
        )
        wait_for(lambda: attempt("docker", "info", env=self.environment), f"an engine: see {self._run}/dockerd.log")

    def _start(self, *command: str | Path) -> None:
        with (self._run / f"{command[0]}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen([*map(str, command)], env=self.environment, stdout=log, stderr=log, process_group=0)
            )

    def docker(self, *arguments: str | Path, **options: Any) -> str:
        return run("docker", *arguments, env=self.environment, **options)

    def base(self) -> str:
        """An image to build on: Debian 12, with this machine's certificates."""
        if self.docker("image", "ls", "-q", BASE):
            return BASE
        root = self.cache / "debian"
        if not (root / "usr").exists():
            run("debootstrap", "--variant=minbase", "bookworm", root)
        for path in map(Path, FROM_HOST):
            if path.exists():
                target = root / path.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if path.is_dir() else shutil.copy)(
                    path, target, **({"dirs_exist_ok": True} if path.is_dir() else {})
                )
        run("sh", "-c", f"tar -C {root} -c . | docker import - {BASE}", env=self.environment)
        return BASE

    def __exit__(self, *_: object) -> None:
        for container in self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", container)
        self.docker("network", "prune", "-f")
        self._end()

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(30)
        run("iptables", "-P", "FORWARD", self._policy)
        FORWARD.write_text(self._forwarding)
        shutil.rmtree(self._run, ignore_errors=True)
