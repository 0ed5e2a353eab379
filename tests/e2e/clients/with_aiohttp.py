"""aiohttp's client, one session."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def main() -> bool:
    failed = False
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        for line in Path(sys.argv[1]).read_text().splitlines():
            method, url, size, kind = line.split()
            body = b"z" * int(size)
            data = pieces(body) if kind == "chunked" else body or None
            begun = time.monotonic_ns()
            try:
                async with session.request(method, url, data=data, allow_redirects=False) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                print(url, error, file=sys.stderr)
                failed = True
            print(url, time.monotonic_ns() - begun)
    return failed


print("up", flush=True)
sys.stdin.readline()
sys.exit(asyncio.run(main()))
