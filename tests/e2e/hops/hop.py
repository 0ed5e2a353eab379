"""What hops in Python share: their arguments, and the log of what they serve and make."""

from __future__ import annotations

import itertools
import os
import ssl
import sys
from pathlib import Path

NAME, PORT, LOG, NEXT, *FILES = sys.argv[1:]
"""Of TLS: certificate and key."""
BACKGROUND = bool(os.environ.get("HOP_BACKGROUND"))
PAUSE = 0.002
LATE = 0.005
OFTEN = 0.01
_log = Path(LOG).open("a", buffering=1)  # noqa: SIM115 - as long as the process lives
_made = itertools.count(1)


def way(path: str) -> str:
    """What a request asks for."""
    return path.split("/")[1]


def make(served: str, prefix: str = "/") -> str:
    """The path of a request that is going to be made for the one of that path; "-": for none."""
    path = f"{prefix}{NAME}-{next(_made)}"
    _log.write(f"{served} {path}\n")
    return path


def server_context() -> ssl.SSLContext | None:
    if not FILES:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*FILES)
    return context
