"""Which attributes of a span come from its request rather than from its group; the one place that decides.

In: a group. Out: the keys of what its requests bring themselves. Address texts: in, 16 bytes; out, text.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from autoinstr.model import Group, Kind
from autoinstr.semconv import (
    CLIENT_ADDRESS,
    CLIENT_PORT,
    HTTP_REQUEST_BODY_SIZE,
    HTTP_RESPONSE_BODY_SIZE,
    NETWORK_PEER_ADDRESS,
    NETWORK_PEER_PORT,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_PATH,
    URL_SCHEME,
)

_IPV4 = bytes(10) + b"\xff\xff"
NO_ADDRESS = bytes(16)
_DEFAULT_PORTS = {"http": 80, "https": 443}
PATH_START = "/"  # what begins otherwise, "*" of OPTIONS and the target of CONNECT, has no URL


@dataclass(frozen=True, slots=True)
class Keys:
    """Attributes of single requests. Each is there if the request has it: a text, an address, a port."""

    request_size: str  # always there
    response_size: str
    text: str  # "": the requests' text is no attribute
    address: str
    port: str


def keys_of(group: Group) -> Keys:
    """The other end is the client of a server, and the peer of a client. All protocols so far are carried by HTTP."""
    server = group.kind is Kind.SERVER
    return Keys(
        request_size=HTTP_REQUEST_BODY_SIZE,
        response_size=HTTP_RESPONSE_BODY_SIZE,
        text=group.text_key,
        address=CLIENT_ADDRESS if server else NETWORK_PEER_ADDRESS,
        port=CLIENT_PORT if server else NETWORK_PEER_PORT,
    )


def url_before_path(group: Group) -> str:
    """`https://shop:8443`, if a client's requests have a url.full; else "". RFC 3986, 3.2.3: no default port."""
    attributes = group.span_attributes
    scheme, host, port = (attributes.get(key) for key in (URL_SCHEME, SERVER_ADDRESS, SERVER_PORT))
    if group.kind is not Kind.CLIENT or group.text_key != URL_PATH or not scheme or not host:
        return ""
    name = f"[{host}]" if ":" in str(host) else host
    return f"{scheme}://{name}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(str(scheme)) else "")


def address_text(raw: bytes) -> str:
    """16 bytes: dotted for IPv4 (::ffff:a.b.c.d), else canonical IPv6 (RFC 5952)."""
    if raw[:12] == _IPV4:
        return f"{raw[12]}.{raw[13]}.{raw[14]}.{raw[15]}"
    return str(IPv6Address(raw))
