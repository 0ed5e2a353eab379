"""WSGI application, for gunicorn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from protocol import clock, pieces, read


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    begun = time.monotonic_ns()
    wish = read(environ["PATH_INFO"])
    environ["wsgi.input"].read()
    time.sleep(wish.delay)
    without_body = wish.status in (204, 304)
    fields = [] if wish.chunked or without_body else [("Content-Length", str(len(wish.body)))]
    start_response(f"{wish.status} Whatever", [*fields, clock(begun)])
    if environ["REQUEST_METHOD"] == "HEAD" or without_body:
        return []
    return pieces(wish.body) if wish.chunked else [wish.body]
