"""Where the page is served: what `--ui` says, and how that is written as an address of a page.

In: text. Out: host and port. Pure.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from autoinstr.errors import UsageError

HOST, PORT = "127.0.0.1", 8377
DEFAULT_PAGE = f"{HOST}:{PORT}"


class Address(NamedTuple):
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def loopback(self) -> bool:
        """Can only this machine's own processes reach it?"""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(text: str) -> Address:
    """`8377`, `127.0.0.1`, `0.0.0.0:8377`, `[::1]:8377`, `localhost:8377`; empty: the default."""
    found = re.fullmatch(r"(?:(?P<port>\d+)|(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+)(?::(?P<at>\d+))?)?", text.strip())
    if not found:
        raise UsageError(f"{text!r} is not an address: write 8377, 127.0.0.1:8377 or [::1]:8377")
    port = int(found["port"] or found["at"] or PORT)
    if port > 65535:
        raise UsageError(f"{text!r} is not an address: ports go up to 65535")
    return Address((found["host"] or HOST).strip("[]"), port)
