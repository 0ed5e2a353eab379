"""The standard OTLP settings: environment variables in; a checked `Endpoint` a signal and the spans' `Batching` out.

Rules are those of the OpenTelemetry specification ("OTLP Exporter Configuration"): a variable of the signal
(OTEL_EXPORTER_OTLP_TRACES_...) wins over the general one, an empty variable is an unset one, durations are
milliseconds, a general HTTP endpoint gets /v1/traces appended, a signal's own is used as it is. Where we decide:

- protocol unset: `http/protobuf`, as the specification says, unless the endpoint's port is 4317. That is gRPC's port
  everywhere, an HTTP exporter gets nothing but an error from it, and whoever wrote it there wants gRPC.
- a gRPC endpoint without a port: 443 with https, else 4317.

Every mistake is a UsageError that names the variable. Must never print the value of a header: they are secrets.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from autoinstr.errors import UsageError

PREFIX = "OTEL_EXPORTER_OTLP_"
PROTOCOLS = ("grpc", "http/protobuf")
HTTP_PORT = 4318
GRPC_PORT = 4317
DEFAULT_TIMEOUT_MS = 10_000

# Room for half a second of 50,000 spans a second; a dead backend may cost no more memory than this.
QUEUE_BYTES = 8 * 1024 * 1024
# Of small batches of a quiet service, so that the list itself stays small. Reached after an hour of no backend.
QUEUE_BATCHES = 8192
# Collectors refuse gRPC messages over 4 MiB; those encoded here end below 1.25 MiB.
REQUEST_BYTES = 1_250_000
REQUEST_SPANS = 8192
# The specification's 5 s suits an application's own few spans; here a span should be seen soon.
DELAY_MS = 1_000
BATCH_TIMEOUT_MS = 30_000

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token of RFC 9110, 5.6.2
HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
GRPC_TARGET = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|passthrough):")  # forms that gRPC itself understands


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one signal is sent. `target` is a URL for HTTP and a gRPC target (host:port) for gRPC."""

    signal: str  # "traces", "metrics" or "logs"
    protocol: str  # one of PROTOCOLS
    target: str
    secure: bool
    headers: tuple[tuple[str, str], ...]
    certificate: str | None  # paths of PEM files
    client_certificate: str | None
    client_key: str | None
    gzip: bool
    timeout: float  # seconds, for one export with all its retries


@dataclass(frozen=True, slots=True)
class Batching:
    """Bounds of the span queue, and how many spans one request carries."""

    queue_bytes: int
    queue_batches: int
    queue_spans: int | None
    request_bytes: int
    request_spans: int
    delay: float  # seconds that spans may wait for others to share a request with
    timeout: float  # seconds, for one export; the endpoint's own timeout counts if it is shorter


class Variables:
    """Environment variables of one signal: the signal's own name before the general one."""

    def __init__(self, signal: str, environ: Mapping[str, str]) -> None:
        self._names = {"own": f"{PREFIX}{signal.upper()}_", "general": PREFIX}
        self._environ = environ

    def find(self, key: str) -> tuple[str, str]:
        """Value ("" if unset) and the name of the variable that it came from."""
        for prefix in self._names.values():
            value = self._environ.get(prefix + key, "").strip()
            if value:
                return value, prefix + key
        return "", self._names["general"] + key

    def is_own(self, name: str) -> bool:
        return name.startswith(self._names["own"])


def read_endpoint(signal: str, environ: Mapping[str, str]) -> Endpoint:
    """Settings of one signal. UsageError: a value that can't be used."""
    variables = Variables(signal, environ)
    url, url_name = variables.find("ENDPOINT")
    protocol = _protocol(variables, url)
    if protocol == "grpc":
        target, secure = _grpc_target(url, url_name, variables)
    else:
        target, secure = _http_url(url, url_name, signal, own=variables.is_own(url_name))
    key, key_name = _file(variables, "CLIENT_KEY")
    client_certificate, _ = _file(variables, "CLIENT_CERTIFICATE")
    if key and not client_certificate:
        raise UsageError(f"{key_name} is set, but {key_name.removesuffix('KEY')}CERTIFICATE is not: a key needs both")
    return Endpoint(
        signal=signal,
        protocol=protocol,
        target=target,
        secure=secure,
        headers=_headers(variables, url if protocol != "grpc" else ""),
        certificate=_file(variables, "CERTIFICATE")[0],
        client_certificate=client_certificate,
        client_key=key,
        gzip=_choice(variables, "COMPRESSION", ("gzip", "none"), "none") == "gzip",
        timeout=_number(*variables.find("TIMEOUT"), default=DEFAULT_TIMEOUT_MS) / 1000,
    )


def read_batching(environ: Mapping[str, str]) -> Batching:
    """Bounds of the span queue; OTEL_BSP_MAX_QUEUE_SIZE only narrows ours, which are in bytes."""

    def number(name: str, default: int, least: int = 1) -> int:
        return _number(environ.get(name, "").strip(), name, default, least)

    queue_spans = number("OTEL_BSP_MAX_QUEUE_SIZE", 0) or None
    return Batching(
        queue_bytes=QUEUE_BYTES,
        queue_batches=QUEUE_BATCHES,
        queue_spans=queue_spans,
        request_bytes=REQUEST_BYTES,
        request_spans=min(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", REQUEST_SPANS), queue_spans or REQUEST_SPANS),
        delay=number("OTEL_BSP_SCHEDULE_DELAY", DELAY_MS, least=0) / 1000,
        timeout=number("OTEL_BSP_EXPORT_TIMEOUT", BATCH_TIMEOUT_MS) / 1000,
    )


def _protocol(variables: Variables, url: str) -> str:
    value, name = variables.find("PROTOCOL")
    if value == "http/json":
        raise UsageError(f"{name}=http/json is not supported; use http/protobuf, which the same endpoint accepts")
    if value and value not in PROTOCOLS:
        raise UsageError(f"{name}={value}: unknown protocol; use one of {', '.join(PROTOCOLS)}")
    if value:
        return value
    host_and_port = url.rpartition("://")[2].partition("/")[0]
    return "grpc" if host_and_port.endswith(f":{GRPC_PORT}") else "http/protobuf"


def _http_url(url: str, name: str, signal: str, *, own: bool) -> tuple[str, bool]:
    if not url:
        return f"http://localhost:{HTTP_PORT}/v1/{signal}", False
    parts = _split(url, name)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{name}={_shown(url)}: not a URL; write it as http://host:{HTTP_PORT} or https://host")
    path = parts.path if own else f"{parts.path.rstrip('/')}/v1/{signal}"
    netloc = parts.netloc.rpartition("@")[2]  # user and password travel as a header
    return parts._replace(netloc=netloc, path=path or "/", fragment="").geturl(), parts.scheme == "https"


def _grpc_target(url: str, name: str, variables: Variables) -> tuple[str, bool]:
    insecure = _choice(variables, "INSECURE", ("true", "false"), "false") == "true"
    if not url:
        return f"localhost:{GRPC_PORT}", False
    if GRPC_TARGET.match(url):
        return url, not (insecure or url.startswith("unix"))
    has_scheme = "://" in url
    parts = _split(url if has_scheme else f"//{url}", name)
    if (has_scheme and parts.scheme not in ("http", "https")) or not parts.hostname:
        raise UsageError(f"{name}={_shown(url)}: not an endpoint; write it as http://host:{GRPC_PORT} or https://host")
    secure = parts.scheme == "https" if has_scheme else not insecure
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else GRPC_PORT)}", secure


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # urlsplit checks the number only when it is asked for
    except ValueError as error:
        raise UsageError(f"{name}={_shown(url)}: {error}") from error
    return parts


def _shown(url: str) -> str:
    """The URL without a password in it."""
    return re.sub(r"//[^/@]*@", "//***@", url)


def _headers(variables: Variables, url: str) -> tuple[tuple[str, str], ...]:
    value, name = variables.find("HEADERS")
    headers: dict[str, str] = {}
    user = urlsplit(url).netloc.rpartition("@")[0] if "@" in url else ""
    if user:
        headers["authorization"] = "Basic " + base64.b64encode(unquote(user).encode()).decode()
    for number, item in enumerate((part.strip() for part in value.split(",")), 1):
        if not item:
            continue
        key, equals, text = item.partition("=")
        key, text = unquote(key.strip()).lower(), unquote(text.strip())
        if not equals or not HEADER_NAME.fullmatch(key):
            raise UsageError(f"{name}: entry {number} is not name=value; write it as name=value,name2=value2")
        if not HEADER_VALUE.fullmatch(text):
            raise UsageError(f"{name}: the value of {key} has characters that a header can't carry")
        headers[key] = text
    return tuple(headers.items())


def _file(variables: Variables, key: str) -> tuple[str | None, str]:
    value, name = variables.find(key)
    if not value:
        return None, name
    try:
        content = Path(value).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}={value}: can't be read: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise UsageError(f"{name}={value}: not a PEM file")
    return value, name


def _choice(variables: Variables, key: str, allowed: tuple[str, ...], default: str) -> str:
    value, name = variables.find(key)
    if value and value.lower() not in allowed:
        raise UsageError(f"{name}={value}: use one of {', '.join(allowed)}")
    return value.lower() or default


def _number(value: str, name: str, default: int, least: int = 1) -> int:
    if not value:
        return default
    if not value.isascii() or not value.isdigit() or int(value) < least:
        unit = "a whole number of milliseconds" if name.endswith(("TIMEOUT", "DELAY")) else "a whole number"
        raise UsageError(f"{name}={value}: must be {unit}, at least {least}")
    return int(value)
