"""The HTTP side of the page: its files, and /api/. GET and HEAD only: nothing can be changed.

In: requests from anyone who can reach the port. Out: files of this package, known when it starts, and answers as JSON.
Who may ask: whoever is on this machine, if that is all that can connect; else who has the token. Never another site in
a user's browser, by whatever name it reaches us (DNS rebinding), and nothing is taken from a path.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import zlib
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from importlib.resources.abc import Traversable
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from msgspec.json import encode

from autoinstr.address import Address
from autoinstr.health import Health, Loss
from autoinstr.serving import Handler, Server, packed
from autoinstr.web.api import Api, WrongQuestion

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 32  # a browser opens six
MAX_TARGET = 4096  # bytes of a request's target
MAX_PARAMETERS = 32
COOKIE = "autoinstr-token"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
JSON = "application/json"
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class WebServer:
    """OSError or OverflowError: it can't listen there. `token`: needed unless only this machine can connect; a new one
    if it is empty.
    """

    def __init__(self, address: Address, token: str, api: Api, health: Health) -> None:
        self.token = "" if address.loopback and not token else token or secrets.token_urlsafe(18)
        self._server = _Server(address, self.token, api, health)
        self._server.start("ui")
        self.address = Address(address.host, self._server.port)

    @property
    def link(self) -> str:
        """What a user opens."""
        return self.address.url + (f"?token={self.token}" if self.token else "")

    def close(self, deadline: float) -> None:
        self._server.close(deadline)


class _Server(Server):
    def __init__(self, address: Address, token: str, api: Api, health: Health) -> None:
        self.token = token
        self.api = api
        self.health = health
        self.files = read_files()
        super().__init__(address.host, address.port, _Handler, MAX_CONNECTIONS)


def read_files() -> dict[str, tuple[str, bytes]]:
    """Path in a request -> content type, gzip: the page as it was built."""
    found: dict[str, tuple[str, bytes]] = {}

    def walk(folder: Traversable, path: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                walk(entry, f"{path}{entry.name}/")
            elif (kind := TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
                found[path + entry.name] = kind, packed([entry.read_bytes()])

    walk(resources.files("autoinstr.web") / "static", "/")
    found["/"] = found["/index.html"]
    return found


class _Handler(Handler):
    server: _Server

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        path, _, query = self.path.partition("?")
        if len(self.path) > MAX_TARGET:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")
        elif not self._by_a_good_name():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "open this page by its address, or by localhost")
        elif self._from_another_site():
            self._refuse(HTTPStatus.FORBIDDEN, "another site may not ask")
        elif path == "/" and "token=" in query and self._knows(dict(parse_qsl(query)).get("token", "")):
            self._let_in()
        elif not self._may_ask():
            self._refuse(HTTPStatus.UNAUTHORIZED, "a token is needed: open the address that autoinstr printed")
        elif path.startswith("/api/"):
            self._answer(path.removeprefix("/api/"), query)
        elif path in self.server.files:
            kind, body = self.server.files[path]
            self._send_packed(body, kind)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    # --- who asks

    def _by_a_good_name(self) -> bool:
        """Without a token, the name in Host must be one that nobody else can let point at us."""
        if self.server.token:
            return True
        try:
            name = urlsplit(f"//{self.headers.get('host', '')}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or is_address(name)

    def _from_another_site(self) -> bool:
        """Browsers say so. A link that leads here is no harm."""
        origin = self.headers.get("origin")
        if origin is not None and origin != f"http://{self.headers.get('host', '')}":
            return True
        site, mode = self.headers.get("sec-fetch-site", "none"), self.headers.get("sec-fetch-mode", "navigate")
        link = mode == "navigate" and not self.path.startswith("/api/")
        return site not in ("none", "same-origin") and not link

    def _may_ask(self) -> bool:
        if not self.server.token:
            return True
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._knows(token.strip()):
            return True
        try:
            cookies = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and self._knows(cookies[COOKIE].value)

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode())

    def _let_in(self) -> None:
        """The token leaves the address for a cookie that no script can read and no other site can send."""
        cookie = f"{COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        self.send(
            b"", "text/plain", status=HTTPStatus.SEE_OTHER, headers={**SECURITY, "Location": "/", "Set-Cookie": cookie}
        )

    # --- answers

    def _answer(self, question: str, query: str) -> None:
        api = self.server.api
        if question not in api.questions:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such question; docs/api.md has them")
            return
        try:
            asked = dict(parse_qsl(query, max_num_fields=MAX_PARAMETERS))
            body = encode(api.ask(question, asked))
        except WrongQuestion as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"the parameters can't be read: {error}")
            return
        except Exception:  # the boundary of one request
            logger.exception("/api/%s failed", question)
            self.server.health.lose(Loss.INTERNAL)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; autoinstr's log says why")
            return
        self._send_packed(packed([body]), JSON)

    def _send_packed(self, body: bytes, kind: str) -> None:
        if "gzip" in self.headers.get("accept-encoding", ""):
            self.send(body, kind, headers={**SECURITY, "Content-Encoding": "gzip"})
        else:
            self.send(zlib.decompress(body, wbits=31), kind, headers=SECURITY)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself: garbage, other methods."""
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.send(encode({"error": why}), JSON, status=status, headers=SECURITY)


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
