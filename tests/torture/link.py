"""Another host: a network namespace with a link to this one.

In: nothing. Out: `Link`, with both addresses, of a private network, and the namespace's name and file. Root.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from types import TracebackType


def ip(*words: str, quiet: bool = False) -> None:
    """ip(8); AssertionError with its words if it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert quiet or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"


class Link:
    """While it is entered, the namespace is there."""

    def __init__(self) -> None:
        number = secrets.randbelow(1 << 14)
        self.name = f"odd-{os.getpid()}-{number:x}"
        self.device = f"odd{number:x}"
        network = f"10.{213 + (number >> 12)}.{number >> 4 & 0xFF}.{(number & 0xF) << 4}"
        base, last = network.rsplit(".", 1)
        self.here, self.there = (f"{base}.{int(last) + host}" for host in (1, 2))

    @property
    def file(self) -> Path:
        """What setns(2) takes."""
        return Path("/var/run/netns", self.name)

    def inside(self, *command: str) -> list[str]:
        """The command, to be run on the other host."""
        return ["ip", "netns", "exec", self.name, *command]

    def __enter__(self) -> Link:
        ip("netns", "add", self.name)
        try:
            ip("link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            ip("addr", "add", f"{self.here}/28", "dev", self.device)
            ip("link", "set", self.device, "up")
            for words in (
                ("addr", "add", f"{self.there}/28", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", self.name, *words)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ip("netns", "del", self.name, quiet=True)
        ip("link", "del", self.device, quiet=True)
