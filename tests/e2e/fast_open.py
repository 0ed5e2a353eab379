"""What puppets do over TCP Fast Open: the client's request is written before its connection is there."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time

import hosts
from conversation import TCP_FASTOPEN_CONNECT

THINKING = 0.3  # seconds: longer than it takes until the client's socket is connected
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def serve(namespace: str, address: str) -> int:
    """The port."""
    hosts.enter(namespace)
    listener = socket.create_server((address, 0), backlog=100)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 100)

    def answer() -> None:
        while True:
            sock = listener.accept()[0]
            sock.recv(1000)
            time.sleep(THINKING)
            sock.sendall(RESPONSE)
            sock.recv(1)  # the client's end
            sock.close()

    threading.Thread(target=answer, daemon=True).start()
    return int(listener.getsockname()[1])


def call(address: str, port: int, paths: list[str]) -> None:
    """Each on a connection of its own."""
    for path in paths:
        with socket.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)  # the first write connects
            sock.connect((address, port))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: there\r\n\r\n".encode())
            assert sock.recv(1000) == RESPONSE


def call_late(address: str, port: int, paths: list[str]) -> None:
    """The same by a thread that only gets the CPU when nobody else wants it: it is behind what its sockets do."""
    cpu = min(os.sched_getaffinity(0))
    rival = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        for thread in (rival.pid, 0):
            os.sched_setaffinity(thread, {cpu})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        call(address, port, paths)
    finally:
        rival.kill()
        rival.wait()
