"""The httpx library, one client; with a second argument `http2` it speaks that."""

from __future__ import annotations

import os
import ssl
import sys
import time
from pathlib import Path

import httpx

failed = False
http2 = "http2" in sys.argv  # and nothing else then
client = httpx.Client(
    timeout=20, http1=not http2, http2=http2, verify=ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
)
print("up", flush=True)
sys.stdin.readline()
for line in Path(sys.argv[1]).read_text().splitlines():
    method, url, size, kind = line.split()
    body = b"z" * int(size)
    data = iter([body]) if kind == "chunked" else body
    begun = time.monotonic_ns()
    try:
        client.request(method, url, content=data)
    except httpx.HTTPError as error:
        print(url, error, file=sys.stderr)
        failed = True
    print(url, time.monotonic_ns() - begun)
sys.exit(failed)
