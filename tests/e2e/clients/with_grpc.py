"""grpcio as a client, by threads, or with `aio` by asyncio."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

SERVICE = "/autoinstr.test.Echo"
NO_TRACE = "-"
KINDS = {"Unary": "unary_unary", "Upload": "stream_unary", "Download": "unary_stream", "Chat": "stream_stream"}
kind, requests = sys.argv[1:]
channels: dict[str, Any] = {}
failed = False


def channel(scheme: str, address: str) -> Any:
    module, key = grpc.aio if kind == "aio" else grpc, scheme + address
    if key not in channels:
        if scheme == "grpcs":
            trusted = grpc.ssl_channel_credentials(Path(os.environ["SSL_CERT_FILE"]).read_bytes())
            channels[key] = module.secure_channel(address, trusted)
        else:
            channels[key] = module.insecure_channel(address)
    return channels[key]


def plan(line: str) -> tuple[str, str, Any, bytes, dict[str, Any]]:
    method, url, size, _, trace = line.split()
    place = urlsplit(url)
    metadata = [] if trace == NO_TRACE else [("traceparent", trace)]
    call = getattr(channel(place.scheme, place.netloc), KINDS[method])(f"{SERVICE}/{method}")
    return method, url, call, f"{place.path} {'z' * int(size)}".encode(), {"metadata": metadata}


def judge(url: str, begun: int, code: Any) -> None:
    global failed  # noqa: PLW0603
    print(url, time.monotonic_ns() - begun)
    if code.value[0] != int(urlsplit(url).path.split("/")[2]):
        print(url, code, file=sys.stderr)
        failed = True


def run(line: str) -> None:
    method, url, call, message, options = plan(line)
    question: Any = iter([message] * 3) if method in ("Upload", "Chat") else message
    begun, code = time.monotonic_ns(), grpc.StatusCode.OK
    try:
        answer = call(question, timeout=20, **options)
        if isinstance(answer, Iterator):
            for _ in answer:
                pass
    except grpc.RpcError as error:
        code = error.code()
    judge(url, begun, code)


async def thrice(message: bytes) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield message


async def run_aio(lines: list[str]) -> None:
    for line in lines:
        method, url, call, message, options = plan(line)
        question: Any = thrice(message) if method in ("Upload", "Chat") else message
        begun, code = time.monotonic_ns(), grpc.StatusCode.OK
        try:
            answer = call(question, timeout=20, **options)
            if method in ("Download", "Chat"):
                async for _ in answer:
                    pass
            else:
                await answer
        except grpc.RpcError as error:
            code = error.code()
        judge(url, begun, code)
    for one in channels.values():
        await one.close()


print("up", flush=True)
sys.stdin.readline()
lines = Path(requests).read_text().splitlines()
if kind == "aio":
    asyncio.run(run_aio(lines))
else:
    for line in lines:
        run(line)
sys.exit(failed)
