"""Asks an agent's JSON API: see docs/api.md.

In: the address of the page, as it was printed, or a part of it. Out: plain objects; AutoinstrError if nobody answers.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from autoinstr.address import parse_address
from autoinstr.errors import AutoinstrError

TIMEOUT = 10.0


class Client:
    def __init__(self, address: str, token: str = "") -> None:
        """`address`: `8377`, `host:8377` or `http://host:8377/?token=...`."""
        parts = urlsplit(address if "://" in address else "")
        self.url = f"{parts.scheme}://{parts.netloc}/" if parts.netloc else parse_address(address).url
        self._token = parse_qs(parts.query).get("token", [token])[0]
        # Straight there: what is on this machine is not to be asked of a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, question: str, **asked: object) -> dict[str, Any]:
        given = {name: value for name, value in asked.items() if value not in ("", None)}
        request = urllib.request.Request(f"{self.url}api/{question}?{urlencode(given)}")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise AutoinstrError(f"{self.url}: {_reason(error)}") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            raise AutoinstrError(
                f"no agent answers at {self.url} ({why}): start one with `autoinstr run --ui --port 8080`, or say here"
                " which processes to watch: `autoinstr top --port 8080`"
            ) from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError):
        return str(error)
