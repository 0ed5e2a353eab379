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
import tasks  # noqa: E402

client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=64), timeout=20)


async def call(served: str) -> None:
    await client.get(hop.NEXT + hop.make(served))


async def call_for_none(served: str) -> None:
    with suppress(httpx.HTTPError):
        await call(served)


async def call_anew(served: str) -> None:
    async with httpx.AsyncClient(timeout=20, verify=False) as once:
        await once.get(tasks.BY_NAME + hop.make(served))


async def call_by_thread(served: str) -> None:
    def work() -> None:
        with httpx.Client(timeout=20, verify=False) as once:
            once.get(hop.NEXT + hop.make(served))

    await asyncio.to_thread(work)


async def live(receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Before the first request, and after the last."""
    await receive()
    if hop.BACKGROUND:
        tasks.keep(tasks.poll(call_for_none))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await tasks.serve(scope["path"], call, call_anew, call_by_thread)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


files = dict(zip(("ssl_certfile", "ssl_keyfile"), hop.FILES, strict=False))
uvicorn.run(app, host="127.0.0.1", port=int(hop.PORT), loop=LOOP, log_level="warning", **files)
