"""The protocols that are known: one line each. Only this file names them."""

from __future__ import annotations

from autoinstr.capture.abi import Protocol
from autoinstr.parse.base import MakeParser
from autoinstr.parse.protocols.http1 import Http1
from autoinstr.parse.protocols.http2 import Http2

PROTOCOLS: dict[Protocol, MakeParser] = {
    Protocol.HTTP1: Http1,
    Protocol.HTTP2: Http2,
}
