"""HTTP/1 heads read one at a time, in plain Python: what the parse stage must find by array work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SLOT = 192
KNOWN = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}


@dataclass
class Seen:
    fine: bool = False
    method: str = "_OTHER"
    original: str = ""
    path: bytes = b""
    query: bytes = b""
    whole: bool = True
    version: str = ""
    host: bytes | None = None


def read(record: Any) -> Seen:  # noqa: PLR0912 - in one piece it is easier to hold against the RFC
    """`record`: one element of an EXCHANGE array."""
    head = bytes(record["head"][: min(int(record["head_size"]), 256)])
    if record["traceparent"] == SLOT:
        head = head[:SLOT]
    line, feed, rest = head.partition(b"\n")
    seen = Seen(host=host_field(feed + rest))
    if feed:
        line = line.removesuffix(b"\r")
        match = re.fullmatch(rb"([^ ]+) (.+) HTTP/1\.([0-9])", line, re.DOTALL)
        complete = True
    else:
        match = re.match(rb"([^ ]+) ([^ ]+)( ?)", line)
        complete = bool(match and match[3])
    if not match or len(match[1]) >= 64 or b"?" in match[1]:
        return seen
    seen.fine = True
    method, target = match[1], match[2]
    if feed:
        seen.version = f"1.{match[3].decode()}"
    if method.decode("latin-1") in KNOWN:
        seen.method = method.decode()
    elif len(method) <= 16 and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", method):
        seen.original = method.decode()
    path, question, query = target.partition(b"?")
    authority = None
    if not target.startswith(b"/"):
        if method == b"CONNECT":
            path, question, query, authority = b"", b"", b"", target
        elif scheme := re.match(rb"https?://", ascii_lower(path)):
            authority, slash, path = path[scheme.end() :].partition(b"/")
            if not slash and not complete and not question:
                authority = None  # cut in the middle
            path = b"/" + path
        elif complete is False and method == b"CONNECT":
            authority = None
    if authority is not None and not complete and method == b"CONNECT":
        authority = None
    if authority is not None and 0 < len(authority) <= 128:
        seen.host = authority
    seen.whole = complete or bool(question) or b"#" in path
    if b"#" in path:
        path, query = path.partition(b"#")[0], b""
    seen.path, seen.query = escape(path), redact(escape(query.partition(b"#")[0]))
    return seen


def ascii_lower(text: bytes) -> bytes:
    """Lower case by the bit that makes it, as the scheme is compared."""
    return bytes(byte | 32 for byte in text[:8]) + text[8:]


def host_field(rest: bytes) -> bytes | None:
    match = re.search(rb"\nhost:( ?)([\x21-\x7e]*)(?=[^\x21-\x7e])", rest, re.IGNORECASE)
    return match[2] if match and len(match[2]) < 128 else None


def escape(text: bytes) -> bytes:
    return b"".join(bytes([byte]) if 32 < byte < 127 else b"%%%02X" % byte for byte in text)


def redact(query: bytes) -> bytes:
    out = b""
    for index, piece in enumerate(re.split(b"([&;])", query)):
        if index % 2:
            out += piece
            continue
        key, equals, value = piece.partition(b"=")
        hidden = looks_secret(key) or len(key) > 40 or (not equals and out.endswith(b";"))
        if not hidden:
            out += piece
        elif equals:
            out += key + equals + (b"REDACTED" if value else b"")
        else:
            out += b"REDACTED" if piece else b""
    return out


def looks_secret(key: bytes) -> bool:
    from autoinstr.parse.redact import _looks_secret  # noqa: PLC0415 - the list itself has its own tests

    return _looks_secret(key)


def parent(record: Any) -> tuple[bytes, bytes, int] | None:
    at, size = int(record["traceparent"]), int(record["head_size"])
    if not 0 < at <= 256 - 55:
        return None
    head = bytes(record["head"])
    value = head[at : at + 55]
    match = re.fullmatch(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", value)
    if not match or match[1] == b"ff" or not match[2].strip(b"0") or not match[3].strip(b"0"):
        return None
    end = min(size, SLOT if at == SLOT else 256)
    if at + 55 < end and head[at + 55] > 32 and not (head[at + 55] == ord("-") and match[1] != b"00"):
        return None
    flags = int(match[4], 16)
    return bytes.fromhex(match[2].decode()), bytes.fromhex(match[3].decode()), flags if match[1] == b"00" else flags & 1
