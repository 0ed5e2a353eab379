"""TLS in files whose functions are not found: so that nobody takes silence for absence.

In: a file that a process has mapped. Out: the name of the TLS library in it that can't be read, by the name of the file
or by words that the library leaves in its read-only data, symbols or not. Remembered by file: a hundred processes share
one.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict

from autoinstr.elf import read_section
from autoinstr.libraries.base import Library
from autoinstr.libraries.find import GONE, File, Identity, find, identity_of, open_file

MAX_FILES = 4096  # remembered
MAX_DATA = 32 << 20  # bytes of read-only data that are looked at

_NAMED = re.compile(r"lib(ssl|gnutls|mbedtls|wolfssl|s2n|boringssl|rustls)[^/]*\.so[^/]*\Z")
# names of source files in error messages, and names of cipher suites as only one library spells them
_MARKS = {
    b"ssl/ssl_lib.c": "OpenSSL or BoringSSL",
    b"/rustls-": "rustls",
    b"TLS-ECDHE-RSA-WITH-AES": "Mbed TLS",
}


class Unread:
    """Looks at files, and remembers them. `libraries`: those that can be read."""

    def __init__(self, libraries: tuple[Library, ...]) -> None:
        self._libraries = libraries
        self._known: OrderedDict[Identity, str] = OrderedDict()

    def tls_in(self, file: File) -> str:
        """Empty: none, or it can be read, or nothing is known."""
        key = identity_of(file)
        if key in self._known:
            return self._known[key]
        said = self._look(file)
        if key and said is not None:
            self._known[key] = said
            if len(self._known) > MAX_FILES:
                self._known.popitem(last=False)
        return said or ""

    def _look(self, file: File) -> str | None:
        """None: it is not there any more."""
        base, refused = file.path.removesuffix(" (deleted)").rpartition("/")[2], False
        for path in file.opened:
            try:
                if any(one.library.group == "tls" for one in find(path, self._libraries)):
                    return ""
                if _NAMED.match(base):
                    return base
                library = marked(path)
                return f"{library} in {base}" if library else ""
            except ValueError as error:
                return str(error)
            except GONE:
                continue  # the mapping is gone, or the path leads elsewhere
            except OSError:
                refused = True
        return (base if _NAMED.match(base) else "") if refused else None


def marked(path: str) -> str:
    """The library that has left its words in this file; OSError if it can't be read."""
    descriptor = open_file(path)
    try:
        data = read_section(descriptor, ".rodata", MAX_DATA)
    finally:
        os.close(descriptor)
    return next((name for mark, name in _MARKS.items() if mark in data), "")
