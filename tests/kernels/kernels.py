"""The kernels that are tried, one line each, and what is particular to an architecture.

In: nothing. Out: `KERNELS`, by name, oldest first; `ARCHITECTURES`, by the name that uname(1) gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import debian

CACHE = debian.CACHE / "kernels"  # what was fetched and built


@dataclass(frozen=True)
class Architecture:
    debian: str
    go: str
    wheels: tuple[str, ...]  # platform tags of PyPI
    emulator: str
    package: str  # of the emulator
    options: tuple[str, ...]
    console: str


ARCHITECTURES = {
    "x86_64": Architecture(
        debian="amd64",
        go="amd64",
        wheels=("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        emulator="qemu-system-x86_64",
        package="qemu-system-x86",
        # With a thread for each CPU the guest dies (int3) when it patches its own code, as switching a tracepoint does.
        # Nehalem: numpy needs x86-64-v2, and what is newer is slower to emulate.
        options=("-M", "q35", "-cpu", "Nehalem", "-accel", "tcg,thread=single"),
        console="ttyS0",
    ),
    "aarch64": Architecture(
        debian="arm64",
        go="arm64",
        wheels=("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        emulator="qemu-system-aarch64",
        package="qemu-system-arm",
        options=("-M", "virt", "-cpu", "cortex-a57", "-accel", "tcg"),
        console="ttyAMA0",
    ),
}


@dataclass(frozen=True)
class Kernel:
    name: str
    suite: str  # of Debian
    package: str  # regular expression; the newest that matches is taken
    machine: str = "x86_64"
    boot: str = ""  # more kernel arguments
    lacks: tuple[str, ...] = ()  # what `autoinstr check` says is missing, by name


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel(
            *("5.10", "bullseye-security", r"linux-image-5\.10\.\d+-\d+-amd64"), lacks=("skipped runs", "map memory")
        ),
        Kernel("6.1", "bookworm-security", r"linux-image-6\.1\.\d+-\d+-amd64"),
        Kernel("6.12", "trixie-security", r"linux-image-6\.12\.\d+.*-amd64"),
        Kernel("7", "trixie-backports", r"linux-image-7\..*-amd64"),
        Kernel("7-preempt", "trixie-backports", r"linux-image-7\..*-amd64", boot="preempt=full"),
        Kernel("6.1-arm64", "bookworm-security", r"linux-image-6\.1\.\d+-\d+-arm64", machine="aarch64"),
    )
}
