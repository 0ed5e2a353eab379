"""A whole system of small services, each a process of its own, that call each other over real sockets.

In: how many. Out: their configuration for the agent, an address to call, and who calls whom, how often. Five layers: a
gateway, and behind it services that call a few of the next layer.
"""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass, field
from itertools import pairwise

LAYERS = (1, 5, 14, 20, 20)  # of 60
PARTS = ("gateway", "checkout", "catalogue-search", "inventory", "payment-provider-adapter", "shipping", "accounts")
BACKLOG = 128


@dataclass
class Small:
    """One service."""

    name: str
    socket: socket.socket
    calls: list[int] = field(default_factory=list)  # numbers of others
    pid: int = 0


class Many:
    def __init__(self, layers: tuple[int, ...] = LAYERS) -> None:
        self.services = [Small(self._name(number), _listen()) for number in range(sum(layers))]
        begin = 0
        for size, below in pairwise(layers):
            for number in range(size):
                some = {(number * below // size + step) % below for step in range(below // size + 1)}
                self.services[begin + number].calls = sorted(begin + size + one for one in some)
            begin += size
        self.ports = [int(service.socket.getsockname()[1]) for service in self.services]
        for service in self.services:
            service.pid = os.fork()
            if not service.pid:
                self._serve(service)
        for service in self.services:
            service.socket.close()

    @staticmethod
    def _name(number: int) -> str:
        return PARTS[0] if not number else f"{PARTS[1 + number % (len(PARTS) - 1)]}-{number}"

    def configuration(self) -> str:
        """Of the agent: names by port."""
        return "select:\n" + "".join(
            f"  - {{port: {port}, service: {service.name}}}\n"
            for service, port in zip(self.services, self.ports, strict=True)
        )

    def calls(self, requests: int) -> dict[tuple[str, str], int]:
        """Who has called whom how often, after so many requests to the first one."""
        arrived = [0] * len(self.services)
        arrived[0] = requests
        found = {}
        for number, service in enumerate(self.services):
            for other in service.calls:
                arrived[other] += arrived[number]
                found[service.name, self.services[other].name] = arrived[number]
        return found

    def request(self) -> None:
        _call(self.ports[0], "")

    def _serve(self, service: Small) -> None:
        """For ever: each request is answered after the services behind have answered."""
        for other in self.services:
            if other is not service:
                other.socket.close()
        while True:
            connection, _ = service.socket.accept()
            head = connection.recv(4096).decode()
            trace = "".join(line + "\r\n" for line in head.split("\r\n") if line.startswith("traceparent:"))
            for other in service.calls:
                _call(self.ports[other], trace)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            connection.close()

    def end(self) -> None:
        for service in self.services:
            os.kill(service.pid, signal.SIGKILL)
            os.waitpid(service.pid, 0)


def _listen() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(BACKLOG)
    return listening


def _call(port: int, trace: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET /work HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{trace}\r\n".encode())
        while connection.recv(4096):
            pass
