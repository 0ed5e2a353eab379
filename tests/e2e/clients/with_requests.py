"""The requests library, one session."""

from __future__ import annotations

import sys
from pathlib import Path

import requests

session = requests.Session()
print("up", flush=True)
sys.stdin.readline()
for line in Path(sys.argv[1]).read_text().splitlines():
    method, url, size, kind = line.split()
    body = b"z" * int(size)
    session.request(method, url, data=iter([body]) if kind == "chunked" else body, allow_redirects=False, timeout=20)
