"""asyncio's own streams, as server and client: HTTP by hand, and little else."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import hop
import tasks

place = urlsplit(hop.NEXT)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []


async def message(reader: asyncio.StreamReader) -> bytes:
    """The head of the next message; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if found:
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    return head


async def call(served: str) -> None:
    reader, writer = idle.pop() if idle else await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"GET {hop.make(served)} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    assert b" 200 " in await message(reader)
    idle.append((reader, writer))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All requests of a connection, in one task."""
    while head := await message(reader):
        path = head.split(b" ", 2)[1].decode()
        way = hop.way(path)
        if way != "after":
            await tasks.serve(path, call, call, call)
        writer.write(ANSWER)
        if way == "after":
            await tasks.later(call, path)
    writer.close()


async def main() -> None:
    context: ssl.SSLContext | None = hop.server_context()
    server = await asyncio.start_server(serve, "127.0.0.1", int(hop.PORT), ssl=context, backlog=128)
    if hop.BACKGROUND:
        tasks.keep(tasks.poll(call))
    await server.serve_forever()


asyncio.run(main())
