"""Who listens on which TCP port: /proc/<pid>/net/tcp{,6} of each network namespace, joined with socket inodes.

In: processes. Out: inode -> port of every listening socket of a namespace, read once per namespace and scan.
Must never read the tables to their end: the kernel lists listening sockets first, connections (many) after them.
"""

from __future__ import annotations

import os

from autoinstr.discover.process import Process

LISTEN = b"0A"
MAX_TABLE = 4 << 20  # about 25,000 listening sockets


def parse_table(text: bytes) -> tuple[dict[int, int], bool]:
    """inode -> port of the listening sockets at the head of the table; whether the first other line was met."""
    found: dict[int, int] = {}
    for line in text.splitlines():
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[0] == b"sl":
            continue
        if fields[3] != LISTEN:
            return found, True
        found[int(fields[9])] = int(fields[1].rpartition(b":")[2], 16)
    return found, False


def read_table(path: str) -> dict[int, int]:
    """Listening sockets of one table; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while len(text) < MAX_TABLE and (chunk := os.read(descriptor, 16384)):
            text += chunk
            if parse_table(chunk.partition(b"\n")[2])[1]:
                break  # connections begin
        return parse_table(text)[0]
    finally:
        os.close(descriptor)


class Listeners:
    """The listening sockets of all network namespaces, as of one scan."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[int, int]] = {}

    def table(self, process: Process) -> dict[int, int]:
        """inode -> port in the process's network namespace."""
        if not process.network:
            return {}
        if process.network not in self._tables:
            sockets: dict[int, int] = {}
            for name in ("tcp", "tcp6"):
                try:
                    sockets |= read_table(f"/proc/{process.pid}/net/{name}")
                except OSError:
                    continue  # it ended (the next one of the namespace is asked), or there is no IPv6
            if not sockets and process.link("ns/net") != process.network:
                return {}
            self._tables[process.network] = sockets
        return self._tables[process.network]

    def ports(self, process: Process) -> tuple[int, ...]:
        """Ports that the process listens on, in order."""
        table = self.table(process)
        if not table:
            return ()
        return tuple(sorted({table[inode] for inode in process.sockets() & table.keys()}))
