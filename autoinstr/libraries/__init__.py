"""Libraries whose functions are probed: one file each, and one line here.

In: what a process has mapped. Out: where in which file the functions are that the kernel side wants to see.
"""

from autoinstr.libraries.base import Function, Library
from autoinstr.libraries.find import File, Found, find, mapped_files
from autoinstr.libraries.gnutls import GNUTLS
from autoinstr.libraries.openssl import OPENSSL
from autoinstr.libraries.unread import Unread

LIBRARIES: tuple[Library, ...] = (OPENSSL, GNUTLS)

__all__ = ["LIBRARIES", "File", "Found", "Function", "Library", "Unread", "find", "mapped_files"]
