"""OTLP over HTTP/protobuf: one POST a request, on a kept connection.

In: an `Endpoint`, then bytes. Out: a `Reply`. Built on urllib3 (connections, TLS, proxies); redirects are not followed,
and of an answer no more than MAX_ANSWER is read, whatever the server sends.
"""

from __future__ import annotations

import email.utils
import gzip
import ssl
import time
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from autoinstr.errors import UsageError
from autoinstr.export.otlp.client import Reply
from autoinstr.export.otlp.settings import PREFIX, Endpoint

RETRYABLE = frozenset({429, 502, 503, 504})  # OTLP specification, "Retryable Response Codes"
MAX_ANSWER = 64 * 1024
GZIP_LEVEL = 1  # 3 microseconds a span for a fifth of the bytes; level 9 takes three times as long for 5 % less


class HttpTransport:
    def __init__(self, endpoint: Endpoint, user_agent: str, rejected: Callable[[bytes], tuple[int, str]]) -> None:
        self._url = endpoint.target
        self._gzip = endpoint.gzip
        self._rejected = rejected
        self._headers = {"user-agent": user_agent, **dict(endpoint.headers), "content-type": "application/x-protobuf"}
        if endpoint.gzip:
            self._headers["content-encoding"] = "gzip"
        self._pool = _pool(endpoint)

    def pack(self, data: bytes) -> bytes:
        return gzip.compress(data, GZIP_LEVEL, mtime=0) if self._gzip else data

    def send(self, packed: bytes, timeout: float) -> Reply:
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=packed,
                headers=self._headers,
                timeout=urllib3.Timeout(total=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            body = response.read(MAX_ANSWER + 1)
            _finish(response, complete=len(body) <= MAX_ANSWER)
        except (HTTPError, OSError) as error:
            return Reply(ok=False, retry=True, problem=str(error))
        if response.status // 100 == 2:
            rejected, message = self._rejected(body)
            return Reply(ok=True, rejected=rejected, problem=message)
        return Reply(
            ok=False,
            retry=response.status in RETRYABLE,
            retry_after=retry_after(response.headers.get("retry-after"), time.time()),
            problem=f"HTTP {response.status} {response.reason or ''}".strip(),
        )

    def close(self) -> None:
        self._pool.clear()


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After field: a number, or a date (RFC 9110, 10.2.3). None: absent or nonsense."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _finish(response: BaseHTTPResponse, *, complete: bool) -> None:
    """Give the connection back for the next request, unless there is more on it than is worth reading."""
    if complete:
        response.drain_conn()
        response.release_conn()
    else:
        response.close()


def _pool(endpoint: Endpoint) -> urllib3.PoolManager:
    context = _tls(endpoint) if endpoint.secure else None
    parts = urlsplit(endpoint.target)
    proxy = None if urllib.request.proxy_bypass(parts.netloc) else urllib.request.getproxies().get(parts.scheme)
    if proxy:
        return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", num_pools=1, ssl_context=context)
    return urllib3.PoolManager(num_pools=1, ssl_context=context)


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=endpoint.certificate)
        if endpoint.client_certificate:
            context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    except ssl.SSLError as error:
        raise UsageError(f"{PREFIX}CERTIFICATE, CLIENT_CERTIFICATE or CLIENT_KEY can't be used: {error}") from error
    return context
