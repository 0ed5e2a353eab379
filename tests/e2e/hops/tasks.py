"""What hops on asyncio share: the ways in which they make requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import hop

BY_NAME = hop.NEXT.replace("127.0.0.1", "localhost")
Call = Callable[[str], Awaitable[None]]
kept: set[asyncio.Task[None]] = set()  # that run on after the response


def keep(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    kept.add(task)
    task.add_done_callback(kept.discard)


async def later(call: Call, served: str) -> None:
    await asyncio.sleep(hop.LATE)
    await call(served)


async def serve(path: str, call: Call, anew: Call, handed: Call) -> None:
    """`anew`: over a connection of its own, by name. `handed`: by a thread."""
    match hop.way(path):
        case "fan":
            await asyncio.gather(*(call(path) for _ in range(3)))
        case "twice":
            await call(path)
            await call(path)
        case "late":
            keep(later(call, path))
        case "pause":
            await asyncio.sleep(hop.PAUSE)
            await call(path)
        case "handed":
            await handed(path)
        case "name":
            await anew(path)
        case _:
            await call(path)


async def poll(call: Call) -> None:
    """Requests for none."""
    while True:
        await asyncio.sleep(hop.OFTEN)
        await call("-")
