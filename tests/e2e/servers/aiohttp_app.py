"""aiohttp's server. Arguments: port; for TLS also certificate and key."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time

from aiohttp import web
from protocol import clock, pieces, read


async def answer(request: web.Request) -> web.StreamResponse:
    begun = time.monotonic_ns()
    wish = read(request.path)
    await request.read()
    await asyncio.sleep(wish.delay)
    if not wish.chunked:
        return web.Response(status=wish.status, body=wish.body, headers=[clock(begun)])
    response = web.StreamResponse(status=wish.status, headers=[clock(begun)])
    if wish.status not in (204, 304):
        response.enable_chunked_encoding()
    await response.prepare(request)
    if request.method != "HEAD":
        for piece in pieces(wish.body):
            await response.write(piece)
    await response.write_eof()
    return response


app = web.Application(client_max_size=1 << 30)
app.router.add_route("*", "/{rest:.*}", answer)
context = None
if sys.argv[2:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), ssl_context=context, print=None, access_log=None)
