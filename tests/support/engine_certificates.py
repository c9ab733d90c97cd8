"""Certificates of an engine at a port, as `DOCKER_CERT_PATH` and docker's contexts hold them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def certificates(folder: Path) -> ssl.SSLContext:
    """Fill a folder with `ca.pem`, `cert.pem` and `key.pem`, and return what an engine at 127.0.0.1 serves with.

    It speaks to nobody who does not show a certificate of this authority's.
    """
    folder.mkdir()
    root_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    root = _signed("the test's authority", root_key, "the test's authority", root_key, is_authority=True)
    leaf = _signed("127.0.0.1", key, "the test's authority", root_key, is_authority=False)
    (folder / "ca.pem").write_bytes(root)
    (folder / "cert.pem").write_bytes(leaf)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _signed(
    name: str, key: EllipticCurvePrivateKey, by: str, by_key: EllipticCurvePrivateKey, *, is_authority: bool
) -> bytes:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return made.sign(by_key, SHA256()).public_bytes(Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
