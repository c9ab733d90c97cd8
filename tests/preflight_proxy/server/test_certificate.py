"""What serves TLS, from texts; nothing of them on a disk or in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight_proxy.core.secret import Secret
from preflight_proxy.server.certificate import PEM_BYTES_MAX, tls_context
from tests.support.tls import new_authority


def open_fds() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_certificate_and_its_key_are_taken_and_no_descriptor_is_left() -> None:
    authority, before = new_authority(), open_fds()
    context = tls_context(authority.certificate, authority.key)
    assert context.minimum_version.name == "TLSv1_2"
    assert open_fds() == before


def test_a_key_of_another_certificate_is_refused_and_not_shown() -> None:
    one, other, before = new_authority(), new_authority(), open_fds()
    for certificate, key in (
        (one.certificate, other.key),
        ("no certificate", one.key),
        (one.certificate, Secret("no key")),
        (one.certificate, Secret("k" * (PEM_BYTES_MAX + 1))),
        (one.certificate, Secret("\udcff")),
    ):
        with pytest.raises(ValueError, match="cannot be used together") as caught:
            tls_context(certificate, key)
        assert caught.value.__cause__ is None
    assert open_fds() == before


def test_an_encrypted_key_asks_nobody_at_a_terminal() -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    authority = new_authority()
    plain = load_pem_private_key(authority.key.reveal().encode(), None)
    locked = plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")).decode()
    with pytest.raises(ValueError, match="cannot be used together"):
        tls_context(authority.certificate, Secret(locked))
