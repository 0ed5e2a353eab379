"""Ports of this machine that nobody has, for whoever has to be told which."""

from __future__ import annotations

import socket


def free_port(address: str = "127.0.0.1") -> int:
    return free_ports(1, address)[0]


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """All different."""
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
