"""An OTLP backend that costs next to nothing: reads requests over HTTP, says yes, counts bytes by path.

Usage: sink.py PORT. A GET tells the counts as JSON.
In a process of its own, so that its CPU is not taken for the agent's.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from typing import BinaryIO

YES = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%s"
BUFFER = 1 << 20

taken: Counter[str] = Counter()
lock = threading.Lock()


def skip(stream: BinaryIO, size: int, buffer: memoryview) -> None:
    while size:
        size -= stream.readinto(buffer[: min(size, len(buffer))])


def skip_chunks(stream: BinaryIO, buffer: memoryview) -> int:
    total = 0
    while size := int(stream.readline(), 16):
        skip(stream, size, buffer)
        stream.readline()
        total += size
    stream.readline()
    return total


def serve(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(BUFFER))
    with connection, connection.makefile("rb") as stream:
        while line := stream.readline():
            method, path, _ = line.decode().split()
            size, chunked = 0, False
            while (line := stream.readline()).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    size = int(value)
                chunked = chunked or (name.lower() == b"transfer-encoding" and b"chunked" in value)
            if chunked:
                size = skip_chunks(stream, buffer)
            else:
                skip(stream, size, buffer)
            with lock:
                taken[path] += size
                body = json.dumps(taken).encode() if method == "GET" else b""
            connection.sendall(YES % (len(body), body))


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


main()
