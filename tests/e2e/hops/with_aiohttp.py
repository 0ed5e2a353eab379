"""aiohttp, as server and client."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator

import aiohttp
import hop
from aiohttp import web

BY_NAME = hop.NEXT.replace("127.0.0.1", "localhost")
kept: set[asyncio.Task[None]] = set()  # that run on after the response
session: aiohttp.ClientSession


async def call(served: str, base: str = hop.NEXT) -> None:
    async with session.get(base + hop.make(served)) as response:
        await response.read()


async def call_anew(served: str) -> None:
    connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector) as once, once.get(BY_NAME + hop.make(served)) as response:
        await response.read()


def call_by_thread(served: str) -> None:
    urllib.request.urlopen(hop.NEXT + hop.make(served)).read()


async def call_later(served: str) -> None:
    await asyncio.sleep(hop.LATE)
    await call(served)


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
            await asyncio.get_running_loop().run_in_executor(None, call_by_thread, path)
        case "name":
            await call_anew(path)
        case _:
            await call(path)


async def answer(request: web.Request) -> web.Response:
    await serve(request.path)
    return web.Response(text="ok")


async def poll() -> None:
    while True:
        await asyncio.sleep(hop.OFTEN)
        await call("-")


async def lifetime(_: web.Application) -> AsyncIterator[None]:
    global session
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        if hop.BACKGROUND:
            kept.add(asyncio.create_task(poll()))
        yield


app = web.Application()
app.router.add_get("/{rest:.*}", answer)
app.cleanup_ctx.append(lifetime)
web.run_app(app, host="127.0.0.1", port=int(hop.PORT), ssl_context=hop.server_context(), print=None, access_log=None)
