"""The requests library, one session."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import requests

session = requests.Session()
failed = False
print("up", flush=True)
sys.stdin.readline()
for line in Path(sys.argv[1]).read_text().splitlines():
    method, url, size, kind = line.split()
    body = b"z" * int(size)
    data = iter([body]) if kind == "chunked" else body
    begun = time.monotonic_ns()
    try:
        session.request(method, url, data=data, allow_redirects=False, timeout=20)
    except requests.RequestException as error:
        print(url, error, file=sys.stderr)
        failed = True
    print(url, time.monotonic_ns() - begun)
sys.exit(failed)
