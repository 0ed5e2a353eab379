"""GnuTLS 3: gnutls_record_recv(3), gnutls_record_send(3), gnutls_handshake(3), gnutls_deinit(3).

What is written between gnutls_record_cork(3) and _uncork is seen when it is written, and not again when that sends it.
"""

from __future__ import annotations

from autoinstr import elf
from autoinstr.libraries.base import Function, Library, Place, exported

SEND, SEND2 = "gnutls_record_send", "gnutls_record_send2"
JUMP_SIZE = 64  # bytes of a function that only goes on as another one, at most


def gnutls_places(descriptor: int, functions: tuple[Function, ...]) -> list[Place]:
    """From 3.6.3 on gnutls_record_send goes on as gnutls_record_send2, so one of them is to be probed."""
    found = elf.functions(descriptor, [SEND, SEND2])
    jumps = SEND2 in found and found.get(SEND, (0, 0))[1] <= JUMP_SIZE
    unwanted = SEND if jumps else SEND2
    return exported(descriptor, tuple(function for function in functions if function.symbol != unwanted))


GNUTLS = Library(
    name="gnutls",
    functions=(
        Function("gnutls_handshake", "tls_handshake", "tls_return"),
        Function(SEND, "tls_write", "tls_return"),
        Function(SEND2, "tls_write", "tls_return"),
        Function("gnutls_record_send_range", "tls_write", "tls_return"),
        Function("gnutls_record_uncork", "tls_flush", "tls_return"),
        Function("gnutls_record_recv", "tls_read", "tls_return"),
        Function("gnutls_record_recv_seq", "tls_read", "tls_return"),
        Function("gnutls_deinit", "tls_free"),
    ),
    hits=4,
    rare=("tls_handshake", "tls_free"),
    shared=("libgnutls.so.*",),
    places=gnutls_places,
)
