"""GnuTLS 3: gnutls_record_recv(3), gnutls_record_send(3), gnutls_handshake(3), gnutls_deinit(3)."""

from autoinstr.libraries.base import Function, Library

GNUTLS = Library(
    name="gnutls",
    functions=(
        Function("gnutls_handshake", "tls_handshake", "tls_return"),
        Function("gnutls_record_recv", "tls_read", "tls_return"),
        Function("gnutls_record_recv_seq", "tls_read", "tls_return"),
        Function("gnutls_record_send", "tls_write", "tls_return"),
        Function("gnutls_deinit", "tls_free"),
    ),
    shared=("libgnutls.so.*",),
)
