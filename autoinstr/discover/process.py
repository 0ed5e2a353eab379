"""One process as /proc shows it, read piece by piece as it is asked for.

In: a pid of the agent's own PID namespace. Out: its executable, command line, environment, descriptors, mapped files,
and files inside its own root. Reads never raise: a process may end, or be somebody else's, at any moment; `denied`
says that a permission was missing. Must never write, and never follow a link out of the process's root.
"""

from __future__ import annotations

import os
import re
import stat as stat_
import time
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

DELETED = " (deleted)"
KERNEL_THREAD = 0x00200000  # PF_KTHREAD in the flags of /proc/<pid>/stat
TICKS = os.sysconf("SC_CLK_TCK")
MAX_DESCRIPTORS = 16384  # of one process that are looked at: more are connections, all alike
MAX_TEXT = 1 << 20  # of a /proc file that grows with what the process chose: command line, environment
MAX_MAPS = 8 << 20  # of /proc/<pid>/maps: about 80,000 mappings
MAX_FILE = 64 << 10  # of a file inside the process's root

_SOCKET = re.compile(r"socket:\[(\d+)\]\Z")
# /proc counts from boot. Fixed for the life of the agent, so that setting the clock makes no process a new one.
_BOOT = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def from_monotonic(at: int) -> float:
    """The kernel's CLOCK_MONOTONIC nanoseconds as the seconds since the epoch that `Stat.start` has."""
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return _BOOT + asleep + at / 1e9


class Stat(NamedTuple):
    """What tells one process from the next that gets its pid, and who its parent is."""

    parent: int
    start: float  # seconds since the epoch
    name: str  # the kernel's short name: changes when it executes something else
    kernel_thread: bool


def read_bytes(path: str, limit: int = MAX_TEXT) -> bytes:
    """The file's first bytes; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks: list[bytes] = []
        while limit > 0 and (chunk := os.read(descriptor, min(limit, 65536))):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def parse_stat(text: bytes) -> Stat:
    """/proc/<pid>/stat; the name may hold spaces and parentheses."""
    name, _, rest = text.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    start = _BOOT + int(fields[19]) / TICKS
    return Stat(int(fields[1]), start, name.decode(errors="replace"), bool(int(fields[6]) & KERNEL_THREAD))


def read_stat(pid: int) -> Stat | None:
    """None: there is no such process, or it has ended and only waits for its parent."""
    try:
        text = read_bytes(f"/proc/{pid}/stat")
    except OSError:
        return None
    return None if text.rpartition(b")")[2][1:2] in b"ZX" else parse_stat(text)


def all_pids() -> list[int]:
    """Every process of this PID namespace."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - twice as fast


def read_children(pid: int) -> list[int]:
    """Its direct children; empty where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            children += map(int, read_bytes(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:
        return children
    return children


def may_look_at_others() -> bool:
    """Has the agent CAP_SYS_PTRACE (19)? Some processes can't be looked at even so: the kernel protects them."""
    found = re.search(rb"CapEff:\s*([0-9a-f]+)", read_bytes("/proc/self/status"))
    return bool(found and int(found[1], 16) >> 19 & 1)


class Process:
    """A process; every property is read once, when first asked for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.denied = False

    def _read(self, name: str, limit: int = MAX_TEXT) -> bytes:
        try:
            return read_bytes(f"/proc/{self.pid}/{name}", limit)
        except PermissionError:
            self.denied = True
        except OSError:
            pass  # it ended
        return b""

    def link(self, name: str) -> str:
        """Where a link of its /proc directory leads; empty if that can't be said."""
        try:
            return os.readlink(f"/proc/{self.pid}/{name}")  # noqa: PTH115 - half of a scan is this line
        except PermissionError:
            self.denied = True
        except OSError:
            pass  # it ended, or is a kernel thread
        return ""

    @cached_property
    def root(self) -> str:
        """Its root directory as the agent sees it: "/" also for a process in a mount namespace of its own."""
        return self.link("root") or "/"

    def _inside(self, path: str) -> str:
        """`path` without the root of a chroot, which the kernel shows in front."""
        root = self.root
        return path[len(root) :] if root != "/" and path.startswith(root + "/") else path

    @cached_property
    def exe(self) -> str:
        """Its executable, inside its own root; what it was started as where the agent may not read the link."""
        path = self._inside(self.link("exe").removesuffix(DELETED))
        if not path and self.denied and self.command and self.command[0].startswith("/"):
            return self.command[0].split(" ")[0]
        return path

    @cached_property
    def directory(self) -> str:
        """Its working directory, inside its own root."""
        return self._inside(self.link("cwd").removesuffix(DELETED)) or "/"

    @cached_property
    def command(self) -> tuple[str, ...]:
        """The command line; one text if the process wrote a title over it."""
        text = self._read("cmdline").rstrip(b"\0 ")
        return tuple(text.decode(errors="replace").split("\0")) if text else ()

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment that it was started with."""
        pairs = (part.partition("=") for part in self._read("environ").decode(errors="replace").split("\0"))
        return {name: value for name, equals, value in pairs if equals}

    @cached_property
    def stat(self) -> Stat | None:
        return read_stat(self.pid)

    @cached_property
    def maps(self) -> bytes:
        """Its mappings, as /proc/<pid>/maps has them."""
        return self._read("maps", MAX_MAPS)

    @cached_property
    def cgroup(self) -> str:
        return self._read("cgroup").decode(errors="replace")

    @cached_property
    def mountinfo(self) -> str:
        return self._read("mountinfo").decode(errors="replace")

    @cached_property
    def network(self) -> str:
        """Its network namespace: `net:[4026531840]`; empty if that can't be said."""
        return self.link("ns/net")

    def descriptors(self) -> Iterator[tuple[str, str]]:
        """Its descriptors' numbers, and what they are: `socket:[123]`, `anon_inode:[io_uring]`, a path ..."""
        try:
            names = os.listdir(f"/proc/{self.pid}/fd")  # noqa: PTH208
        except PermissionError:
            self.denied = True
            return
        except OSError:
            return
        for name in names[:MAX_DESCRIPTORS]:
            yield name, self.link(f"fd/{name}")

    def sockets(self) -> set[int]:
        """Inodes of its sockets."""
        return {int(found[1]) for _, link in self.descriptors() if (found := _SOCKET.match(link))}

    def read_file(self, path: str, limit: int = MAX_FILE) -> bytes:
        """A regular file inside its own root; empty if there is none.

        The process may be hostile: no link is followed out of its root, and nothing that could block is opened.
        """
        try:
            descriptor = os.open(
                f"/proc/{self.pid}/root{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError:
            return b""
        try:
            return os.read(descriptor, limit) if stat_.S_ISREG(os.fstat(descriptor).st_mode) else b""
        except OSError:
            return b""
        finally:
            os.close(descriptor)
