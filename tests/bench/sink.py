"""An OTLP backend that costs next to nothing: reads requests over HTTP, says yes, looks at nothing.

Usage: sink.py PORT. In a process of its own, so that its CPU is not taken for the agent's.
"""

from __future__ import annotations

import socket
import sys
import threading

YES = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


def serve(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with connection, connection.makefile("rb") as stream:
        while line := stream.readline():
            size = 0
            while (line := stream.readline()).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    size = int(value)
            while size:
                size -= stream.readinto(buffer[: min(size, len(buffer))])
            connection.sendall(YES)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


main()
