"""The little protocol of paths, for the servers written in Python."""

from __future__ import annotations

import time
from typing import NamedTuple


class Wish(NamedTuple):
    """What a path asks for."""

    status: int = 200
    delay: float = 0.0  # seconds
    body: bytes = b""
    chunked: bool = False


def parts(path: str) -> dict[str, str]:
    words = path.partition("?")[0].strip("/").split("/")
    return dict(zip(words[::2], words[1::2], strict=False))


def read(path: str) -> Wish:
    found = parts(path)
    status = int(found.get("s", 200))
    body = b"" if status in (204, 304) else b"x" * int(found.get("b", 0))
    return Wish(status, int(found.get("d", 0)) / 1000, body, found.get("c") == "1")


def clock(begun: int) -> tuple[str, str]:
    """The field that tells when a handler began and when its answer was ready."""
    return "Clock", f"{begun} {time.monotonic_ns()}"


def pieces(body: bytes, size: int = 100) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]
