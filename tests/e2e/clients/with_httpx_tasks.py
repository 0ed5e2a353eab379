"""The httpx library in tasks, one client for all: over TLS, whose socket was read is not whose session goes on next."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx

TASKS = 3


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def work(client: httpx.AsyncClient, lines: Iterator[str]) -> bool:
    failed = False
    for line in lines:
        method, url, size, kind = line.split()
        body = b"z" * int(size)
        begun = time.monotonic_ns()
        try:
            await client.request(method, url, content=pieces(body) if kind == "chunked" else body)
        except httpx.HTTPError as error:
            print(url, error, file=sys.stderr)
            failed = True
        print(url, time.monotonic_ns() - begun)
    return failed


async def main() -> bool:
    lines = iter(Path(sys.argv[1]).read_text().splitlines())
    trusted = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    async with httpx.AsyncClient(timeout=20, verify=trusted) as client:
        return any(await asyncio.gather(*(work(client, lines) for _ in range(TASKS))))


print("up", flush=True)
sys.stdin.readline()
sys.exit(asyncio.run(main()))
