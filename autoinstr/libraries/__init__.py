"""Libraries whose functions are probed: one file each, and one line here.

In: what a process has mapped. Out: where in which file the functions are that the kernel side wants to see.
"""

from autoinstr.libraries.base import HAS_NODE, HAS_PYTHON, HAS_UVLOOP, Function, Library, Place
from autoinstr.libraries.find import GONE, File, Found, Identity, find, identity_of, mapped_files
from autoinstr.libraries.gnutls import GNUTLS
from autoinstr.libraries.go_http import GO_HTTP
from autoinstr.libraries.go_propagate import GO_PROPAGATE
from autoinstr.libraries.go_propagate_http2 import GO_PROPAGATE_HTTP2
from autoinstr.libraries.go_tls import GO_TLS
from autoinstr.libraries.goroutines import GOROUTINES
from autoinstr.libraries.nghttp2 import NGHTTP2
from autoinstr.libraries.nghttp2_calls import NGHTTP2_CALLS
from autoinstr.libraries.node import NODE
from autoinstr.libraries.openssl import OPENSSL
from autoinstr.libraries.python import PYTHON
from autoinstr.libraries.python_layout import Layout, find_layout, has_greenlets
from autoinstr.libraries.unknown import met
from autoinstr.libraries.unread import Unread
from autoinstr.libraries.uvloop import UVLOOP

LIBRARIES: tuple[Library, ...] = (
    *(OPENSSL, GNUTLS, GO_TLS, GO_HTTP, GOROUTINES),
    *(PYTHON, UVLOOP, NODE, NGHTTP2_CALLS),
)
# Of use only to connections older than the agent: looked for, and probed, for a while, where a process is as old.
OF_OLDER: tuple[Library, ...] = (NGHTTP2,)

# Looked for only where it is asked for.
IF_ASKED: tuple[Library, ...] = (GO_PROPAGATE, GO_PROPAGATE_HTTP2)

__all__ = [
    "GONE",
    "HAS_NODE",
    "HAS_PYTHON",
    "HAS_UVLOOP",
    "IF_ASKED",
    "LIBRARIES",
    "OF_OLDER",
    "File",
    "Found",
    "Function",
    "Identity",
    "Layout",
    "Library",
    "Place",
    "Unread",
    "find",
    "find_layout",
    "has_greenlets",
    "identity_of",
    "mapped_files",
    "met",
]
