"""aiohttp, as server and client."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator

import aiohttp
import hop
import tasks
from aiohttp import web

session: aiohttp.ClientSession


async def call(served: str, base: str = hop.NEXT) -> None:
    async with session.get(base + hop.make(served)) as response:
        await response.read()


async def call_anew(served: str) -> None:
    connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
    async with (
        aiohttp.ClientSession(connector=connector) as once,
        once.get(tasks.BY_NAME + hop.make(served)) as response,
    ):
        await response.read()


async def call_by_thread(served: str) -> None:
    def work() -> None:
        urllib.request.urlopen(hop.NEXT + hop.make(served)).read()

    await asyncio.get_running_loop().run_in_executor(None, work)


async def answer(request: web.Request) -> web.Response:
    await tasks.serve(request.path, call, call_anew, call_by_thread)
    return web.Response(text="ok")


async def lifetime(_: web.Application) -> AsyncIterator[None]:
    global session
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        if hop.BACKGROUND:
            tasks.keep(tasks.poll(call))
        yield


app = web.Application()
app.router.add_get("/{rest:.*}", answer)
app.cleanup_ctx.append(lifetime)
web.run_app(app, host="127.0.0.1", port=int(hop.PORT), ssl_context=hop.server_context(), print=None, access_log=None)
