"""OpenSSL 1.1 and 3, BoringSSL, LibreSSL: SSL_read(3), SSL_write(3), SSL_do_handshake(3), SSL_free(3).

SSL_accept and SSL_connect end in SSL_do_handshake; SSL_peek moves nothing.
"""

from functools import partial

from autoinstr.libraries.base import Function, Inner, Library, exported

INNER = (
    Inner(("SSL_write", "SSL_write_ex"), Function("ssl_write_internal", "tls_write_ex", "tls_return")),
    Inner(("SSL_read", "SSL_read_ex"), Function("ssl_read_internal", "tls_read_ex", "tls_return")),
)
OPENSSL = Library(
    name="openssl",
    functions=(
        Function("SSL_do_handshake", "tls_handshake", "tls_return"),
        Function("SSL_write", "tls_write", "tls_return"),
        Function("SSL_write_ex", "tls_write_ex", "tls_return"),
        Function("SSL_read", "tls_read", "tls_return"),
        Function("SSL_read_ex", "tls_read_ex", "tls_return"),
        Function("SSL_free", "tls_free"),
    ),
    shared=("libssl.so.*",),
    programs=("node",),
    hits=4,
    rare=("tls_handshake", "tls_free"),
    places=partial(exported, inner=INNER),
)
