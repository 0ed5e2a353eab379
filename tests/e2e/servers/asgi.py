"""ASGI application, for uvicorn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from protocol import clock, pieces, read


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] != "http":
        return
    begun = time.monotonic_ns()
    wish = read(scope["path"])
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(wish.delay)
    without_body = wish.status in (204, 304)
    fields = [] if wish.chunked or without_body else [(b"content-length", b"%d" % len(wish.body))]
    fields.append(tuple(part.encode() for part in clock(begun)))
    await send({"type": "http.response.start", "status": wish.status, "headers": fields})
    for piece in pieces(wish.body) if wish.chunked else [wish.body]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
