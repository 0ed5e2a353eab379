"""gRPC in Python, by threads, or with `aio` by asyncio: the service that all gRPC servers here have.

`autoinstr.test.Echo` has the methods Unary, Upload (client-streaming), Download (server-streaming) and Chat. The first
message begins with a path of the little protocol, up to a space: `s` is the gRPC status to end with, `d` a delay, `b`
the size of an answer, `n` the number of answers of Download; Chat answers each message. Trailers have the `clock`.
Arguments: sync or aio, port, log (lines `METHOD PATH CODE`); for TLS also certificate and key.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from protocol import clock, parts

CODES = {code.value[0]: code for code in grpc.StatusCode}
kind, port, log_path, *files = sys.argv[1:]
log = Path(log_path).open("w", buffering=1)  # noqa: SIM115 - as long as the process lives


class Wish:
    def __init__(self, message: bytes) -> None:
        self.path = message.partition(b" ")[0].decode()
        found = parts(self.path)
        self.code, self.delay = int(found.get("s", 0)), int(found.get("d", 0)) / 1000
        self.answers = [b"x" * int(found.get("b", 0))] * int(found.get("n", 1))

    def end(self, method: str, begun: int, context: Any) -> None:
        log.write(f"{method} {self.path} {self.code}\n")
        name, value = clock(begun)
        context.set_trailing_metadata(((name.lower(), value),))
        if self.code:
            context.set_code(CODES[self.code])
            context.set_details("as was asked")


def unary(message: bytes, context: Any) -> bytes:
    begun, wish = time.monotonic_ns(), Wish(message)
    time.sleep(wish.delay)
    wish.end("Unary", begun, context)
    return wish.answers[0]


def upload(messages: Iterator[bytes], context: Any) -> bytes:
    begun, wish = time.monotonic_ns(), Wish(next(messages))
    for _ in messages:
        pass
    time.sleep(wish.delay)
    wish.end("Upload", begun, context)
    return wish.answers[0]


def download(message: bytes, context: Any) -> Iterator[bytes]:
    begun, wish = time.monotonic_ns(), Wish(message)
    time.sleep(wish.delay)
    yield from wish.answers
    wish.end("Download", begun, context)


def chat(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
    begun, wish = time.monotonic_ns(), None
    for message in messages:
        wish = wish or Wish(message)
        yield wish.answers[0]
    assert wish
    time.sleep(wish.delay)
    wish.end("Chat", begun, context)


async def unary_aio(message: bytes, context: Any) -> bytes:
    begun, wish = time.monotonic_ns(), Wish(message)
    await asyncio.sleep(wish.delay)
    wish.end("Unary", begun, context)
    return wish.answers[0]


async def upload_aio(messages: AsyncIterator[bytes], context: Any) -> bytes:
    begun, wish = time.monotonic_ns(), Wish(await anext(messages))
    async for _ in messages:
        pass
    await asyncio.sleep(wish.delay)
    wish.end("Upload", begun, context)
    return wish.answers[0]


async def download_aio(message: bytes, context: Any) -> AsyncIterator[bytes]:
    begun, wish = time.monotonic_ns(), Wish(message)
    await asyncio.sleep(wish.delay)
    for answer in wish.answers:
        yield answer
    wish.end("Download", begun, context)


async def chat_aio(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    begun, wish = time.monotonic_ns(), None
    async for message in messages:
        wish = wish or Wish(message)
        yield wish.answers[0]
    assert wish
    await asyncio.sleep(wish.delay)
    wish.end("Chat", begun, context)


def prepare(server: Any, *functions: Any) -> None:
    makers = (
        grpc.unary_unary_rpc_method_handler,
        grpc.stream_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    made = [make(function) for make, function in zip(makers, functions, strict=True)]
    handlers = dict(zip(("Unary", "Upload", "Download", "Chat"), made, strict=True))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("autoinstr.test.Echo", handlers),))
    address = f"127.0.0.1:{port}"
    if files:
        certificate, key = (Path(file).read_bytes() for file in files)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)


async def serve() -> None:
    server = grpc.aio.server()
    prepare(server, unary_aio, upload_aio, download_aio, chat_aio)
    await server.start()
    await server.wait_for_termination()


if kind == "aio":
    asyncio.run(serve())
else:
    server = grpc.server(ThreadPoolExecutor(16))
    prepare(server, unary, upload, download, chat)
    server.start()
    server.wait_for_termination()
