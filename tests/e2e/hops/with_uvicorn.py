"""uvicorn and httpx; the first argument is the event loop: asyncio or uvloop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import uvicorn

LOOP = sys.argv.pop(1)

import hop  # noqa: E402 - reads the other arguments

BY_NAME = hop.NEXT.replace("127.0.0.1", "localhost")
kept: set[asyncio.Task[None]] = set()  # that run on after the response
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=64), timeout=20)


async def call(served: str) -> None:
    await client.get(hop.NEXT + hop.make(served))


async def call_anew(served: str) -> None:
    async with httpx.AsyncClient(timeout=20, verify=False) as once:
        await once.get(BY_NAME + hop.make(served))


async def call_later(served: str) -> None:
    await asyncio.sleep(hop.LATE)
    await call(served)


def call_by_thread(served: str) -> None:
    with httpx.Client(timeout=20, verify=False) as once:
        once.get(hop.NEXT + hop.make(served))


async def serve(path: str) -> None:
    match hop.way(path):
        case "fan":
            await asyncio.gather(*(call(path) for _ in range(3)))
        case "late":
            task = asyncio.create_task(call_later(path))
            kept.add(task)
            task.add_done_callback(kept.discard)
        case "pause":
            await asyncio.sleep(hop.PAUSE)
            await call(path)
        case "handed":
            await asyncio.to_thread(call_by_thread, path)
        case "name":
            await call_anew(path)
        case _:
            await call(path)


async def poll() -> None:
    while True:
        await asyncio.sleep(hop.OFTEN)
        with suppress(httpx.HTTPError):
            await call("-")


async def live(receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Before the first request, and after the last."""
    await receive()
    if hop.BACKGROUND:
        kept.add(asyncio.create_task(poll()))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await serve(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


files = dict(zip(("ssl_certfile", "ssl_keyfile"), hop.FILES, strict=False))
uvicorn.run(app, host="127.0.0.1", port=int(hop.PORT), loop=LOOP, log_level="warning", **files)
