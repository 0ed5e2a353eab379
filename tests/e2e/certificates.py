"""An authority of the tests' own, and what it has certified: for servers on the loopback interface, and for clients.

Out: files, made once by the first process that asks, shared with those that it starts, and removed with it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import ssl
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

SHARED = "TEST_CERTIFICATES"  # in the environment: their folder
FILES = ("authority.pem", "certificate.pem", "key.pem")
NAMES = ("127.0.0.1", "::1", "localhost", "puppet.test", "score.test")


class Certificates(NamedTuple):
    authority: Path
    certificate: Path  # for servers and clients alike
    key: Path


@cache
def certificates() -> Certificates:
    if folder := os.environ.get(SHARED):
        return Certificates(*(Path(folder, name) for name in FILES))

    import trustme  # noqa: PLC0415 - the kernels' guests do without
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    os.environ[SHARED] = folder = tempfile.mkdtemp(prefix="certificates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Certificates(*(Path(folder, name) for name in FILES))
    authority = trustme.CA()
    issued = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(made.authority)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(made.certificate, append=True)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    form = serialization.PrivateFormat.PKCS8  # all that Java reads
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return made


def trusting() -> dict[str, str]:
    """What to put into the environment of a client so that it trusts them."""
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
    return dict.fromkeys(names, str(certificates().authority))


@cache
def client_context(*protocols: str) -> ssl.SSLContext:
    """`protocols`: what it offers by ALPN."""
    context = ssl.create_default_context(cafile=str(certificates().authority))
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@cache
def server_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates().certificate, certificates().key)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context
