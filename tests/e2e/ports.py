"""Ports of this machine that nobody has, for whoever has to be told which."""

from __future__ import annotations

import random
import socket
from pathlib import Path

# what the kernel gives to clients begins above, as a rule: such a port may be taken again before a server is up
_FIRST_OF_CLIENTS = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
_PORTS = range(10_000, max(_FIRST_OF_CLIENTS, 30_000))
_order = random.Random()  # of its own: hypothesis gives all workers the same state of the common one
_given: set[int] = set()


def _is_free(port: int, address: str) -> bool:
    try:
        socket.create_server((address, port)).close()
    except OSError:
        return False
    return True


def free_port(address: str = "127.0.0.1") -> int:
    """One that was not given before."""
    while True:
        port = _order.choice(_PORTS)
        if port not in _given and _is_free(port, address):
            _given.add(port)
            return port


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """All different."""
    return [free_port(address) for _ in range(count)]
