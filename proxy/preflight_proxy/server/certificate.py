"""Makes a TLS context from a certificate and its key, given as text; neither is written to a disk (C10, TLS at the gate)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from preflight_proxy.core.secret import Secret

PEM_BYTES_MAX = 16 * 1024
"""A certificate or a key; both are below 2 KiB, and a pipe holds at least this much before anybody reads."""


def tls_context(certificate: str, key: Secret) -> ssl.SSLContext:
    """Return a server's context for TLS 1.2 and 1.3, and for HTTP/1.1 inside.

    Args:
        certificate: PEM text, chain included.
        key: PEM text of its private key, not encrypted.

    Raises:
        ValueError: They are no certificate and key that belong together. Nothing of them is shown.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _readable(certificate) as certificate_path, _readable(key.reveal()) as key_path:
            context.load_cert_chain(certificate_path, key_path, password="")
    except (OSError, ValueError):
        raise ValueError("the gate's certificate and key cannot be used together") from None
    return context


@contextmanager
def _readable(text: str) -> Iterator[str]:
    """A path from which this process can read the text once: OpenSSL takes only paths, so it gets one end of a pipe."""
    content = text.encode()
    if len(content) > PEM_BYTES_MAX:
        raise ValueError("a certificate or key is too long")
    read_end, write_end = os.pipe()
    try:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(content)
        yield f"/dev/fd/{read_end}"
    finally:
        os.close(read_end)
