"""Who may ask, what is served, and what clients can't do to it, over real sockets."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from unit.web.site import Site

from autoinstr.address import parse_address
from autoinstr.errors import UsageError
from autoinstr.health import Loss
from autoinstr.web.server import MAX_CONNECTIONS, read_files

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "autoinstr/web/static"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    one = Site()
    yield one
    one.server.close(time.monotonic() + 1)


@pytest.fixture
def guarded() -> Iterator[Site]:
    """Reachable from elsewhere, so it asks for a token."""
    one = Site("0.0.0.0:0")
    yield one
    one.server.close(time.monotonic() + 1)


class TestPage:
    def test_every_file_is_served_as_what_it_is(self, site: Site) -> None:
        for path, (kind, packed) in read_files().items():
            answer = site.get(path, accept_encoding="gzip")
            assert (answer.status, answer.headers["content-type"]) == (200, kind)
            name = "index.html" if path == "/" else path[1:]
            assert gzip.decompress(answer.body) == (STATIC / name).read_bytes() == gzip.decompress(packed)

    def test_without_compression(self, site: Site) -> None:
        assert b"<title>autoinstr</title>" in site.get("/").body

    def test_nothing_is_fetched_from_elsewhere(self) -> None:
        """Nor is anything inline, which the policy would not run."""
        page = (STATIC / "index.html").read_text()
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
        assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", page)
        for path in STATIC.glob("**/*.js"):
            if "vendor" not in path.parts:
                assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|eval\(", path.read_text()), path

    def test_libraries_come_with_their_licences(self) -> None:
        vendor = {path.name for path in (STATIC / "vendor").iterdir()}
        assert {"uPlot.LICENSE.txt", "dagre.LICENSE.txt", "README.txt"} <= vendor

    @pytest.mark.parametrize("path", ["/", "/app.js", "/api/map", "/api/nothing", "/nowhere"])
    def test_a_strict_policy_on_every_answer(self, site: Site, path: str) -> None:
        headers = site.get(path).headers
        policy = dict(part.split(maxsplit=1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers

    def test_head_has_no_body(self, site: Site) -> None:
        answer = site.get("/", "HEAD")
        assert (answer.status, answer.body) == (200, b"")


class TestApi:
    def test_an_answer(self, site: Site) -> None:
        answer = site.get("/api/services?minutes=5", accept_encoding="gzip")
        assert answer.headers["content-type"] == "application/json"
        assert [row["name"] for row in json.loads(gzip.decompress(answer.body))["services"]] == [
            "gateway",
            "shop",
            "stock",
        ]

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/services?minutes=x", 400),
            ("/api/spans?" + "&".join(f"a{i}=1" for i in range(50)), 400),
            ("/api/spans?text=%ff%00%", 200),
            ("/api/nothing", 404),
            ("/api/", 404),
            ("/api/services/", 404),
            ("/" + "x" * 5000, 414),
        ],
    )
    def test_wrong_questions(self, site: Site, path: str, status: int) -> None:
        answer = site.get(path)
        assert answer.status == status
        if status >= 400:
            assert json.loads(answer.body)["error"]

    def test_an_error_of_our_own_is_counted(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(site.server._server.api, "ask", lambda *_: 1 / 0)
        assert site.get("/api/map").status == 500
        assert site.health.lost[Loss.INTERNAL] == 1


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("127.0.0.1:8377", 200),
            ("localhost", 200),
            ("[::1]:1", 200),
            ("10.1.2.3", 200),
            ("evil.example", 421),
            ("localhost.evil.example:8377", 421),
            ("127.0.0.1.evil.example", 421),
            ("", 421),
            ("[", 421),
        ],
    )
    def test_names_that_others_can_point_here(self, site: Site, host: str, status: int) -> None:
        """DNS rebinding: a page of another site that lets its own name lead to this machine."""
        assert site.get("/api/map", host=host).status == status

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:1", ""])
    def test_foreign_origins(self, site: Site, origin: str) -> None:
        assert site.get("/api/map", origin=origin).status == 403

    def test_its_own_origin(self, site: Site) -> None:
        assert site.get("/api/map", origin=f"http://127.0.0.1:{site.port}").status == 200

    @pytest.mark.parametrize("mode", ["no-cors", "cors", "navigate", "websocket"])
    def test_other_sites_in_the_browser(self, site: Site, mode: str) -> None:
        asked = {"sec_fetch_site": "cross-site", "sec_fetch_mode": mode}
        assert site.get("/api/check", **asked).status == 403
        assert site.get("/", **asked).status == (200 if mode == "navigate" else 403)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "X"])
    def test_nothing_can_be_changed(self, site: Site, method: str) -> None:
        assert site.get("/api/map", method).status == 501

    def test_without_the_token_nothing_is_told(self, guarded: Site) -> None:
        for path in ("/", "/app.js", "/api/services", "/?token=wrong", "/?token="):
            assert guarded.get(path).status == 401
        assert guarded.get("/api/services", authorization="Bearer wrong").status == 401
        assert guarded.get("/api/services", cookie="autoinstr-token=wrong").status == 401
        assert guarded.get("/api/services", cookie='"').status == 401

    def test_the_token_becomes_a_cookie(self, guarded: Site) -> None:
        token = guarded.server.token
        assert len(token) >= 24 and guarded.server.link.endswith(f"/?token={token}")
        answer = guarded.get(f"/?token={token}")
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert guarded.get("/", cookie=cookie.partition(";")[0]).status == 200
        assert guarded.get("/api/map", authorization=f"Bearer {token}").status == 200

    def test_with_a_token_any_name_will_do(self, guarded: Site) -> None:
        token = guarded.server.token
        assert guarded.get("/api/map", host="box.example:8377", authorization=f"bearer {token}").status == 200

    def test_a_token_of_ones_own_is_asked_for_on_loopback_too(self) -> None:
        one = Site(token="mine")
        assert one.get("/").status == 401
        assert one.get("/api/map", authorization="Bearer mine").status == 200
        one.server.close(time.monotonic() + 1)


class TestAbuse:
    @pytest.mark.parametrize(
        "path",
        [
            "/../server.py",
            "/..%2f..%2fserver.py",
            "//etc/passwd",
            "/vendor/../../server.py",
            "/vendor",
            "/vendor/",
            "/%2e%2e/server.py",
            "/static/app.js",
            "/app.js/",
            "/app.js%00.css",
            "\\app.js",
            "/./app.js",
        ],
    )
    def test_tricks_with_paths(self, site: Site, path: str) -> None:
        answer = send(site, f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.0 404"), answer[:100]

    @pytest.mark.parametrize(
        "data",
        [
            b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 500 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: " + b"x" * 70_000 + b"\r\n\r\n",
            b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            bytes(range(256)) * 4 + b"\r\n\r\n",
        ],
    )
    def test_garbage(self, site: Site, data: bytes) -> None:
        answer = send(site, data)
        assert not answer.startswith(b"HTTP/1.0 2"), answer[:60]
        assert b"Traceback" not in answer
        assert site.get("/api/map").status == 200

    def test_slow_and_silent_clients(self, site: Site) -> None:
        """Who says nothing, or a byte at a time, or reads nothing keeps nobody else waiting."""
        with ExitStack() as stack:
            for number in range(500):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=5))
                one.sendall(
                    (b"", b"G", b"GET / HTTP/1.1\r\nHost: localh", b"GET /vendor/dagre.esm.js HTTP/1.0\r\n")[number % 4]
                )
                if number % 100 == 99:
                    began = time.monotonic()
                    assert site.get("/api/services").status == 200
                    assert time.monotonic() - began < 5
        assert len(site.server._server._open) <= MAX_CONNECTIONS


def send(site: Site, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as one:
        try:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            found = b""
            while part := one.recv(65536):
                found += part
            return found
        except ConnectionError:
            return b""


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "host", "port", "url", "loopback"),
        [
            ("", "127.0.0.1", 8377, "http://127.0.0.1:8377/", True),
            ("9000", "127.0.0.1", 9000, "http://127.0.0.1:9000/", True),
            ("[::1]:9", "::1", 9, "http://[::1]:9/", True),
            ("localhost", "localhost", 8377, "http://localhost:8377/", True),
            ("0.0.0.0:80", "0.0.0.0", 80, "http://0.0.0.0:80/", False),
            ("box.example", "box.example", 8377, "http://box.example:8377/", False),
        ],
    )
    def test_texts(self, text: str, host: str, port: int, url: str, loopback: bool) -> None:
        address = parse_address(text)
        assert (*address, address.url, address.loopback) == (host, port, url, loopback)

    @pytest.mark.parametrize("text", ["http://x", "a b", "host:99999", "::1", "x:y"])
    def test_others(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not an address"):
            parse_address(text)
