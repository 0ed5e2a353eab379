"""Libraries whose functions are probed: one file each, and one line here.

In: what a process has mapped. Out: where in which file the functions are that the kernel side wants to see.
"""

from autoinstr.libraries.base import PROBES, Function, Library, Place
from autoinstr.libraries.find import File, Found, Identity, find, identity_of, mapped_files
from autoinstr.libraries.gnutls import GNUTLS
from autoinstr.libraries.go_http import GO_HTTP
from autoinstr.libraries.go_tls import GO_TLS
from autoinstr.libraries.goroutines import GOROUTINES
from autoinstr.libraries.openssl import OPENSSL
from autoinstr.libraries.unread import Unread

LIBRARIES: tuple[Library, ...] = (OPENSSL, GNUTLS, GO_TLS, GO_HTTP, GOROUTINES)

__all__ = [
    "LIBRARIES",
    "PROBES",
    "File",
    "Found",
    "Function",
    "Identity",
    "Library",
    "Place",
    "Unread",
    "find",
    "identity_of",
    "mapped_files",
]
