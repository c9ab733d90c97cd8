"""A run's own certificate authority: clients inside a trial accept the gate as `openrouter.ai`.

C10 (agents with the address built in) is why.

The authority signs one certificate, and its own key is dropped at once, so it can never sign anything else. The certificate and
its key stay in the runner's memory as long as the run. The runner sends them to the proxy over the control socket with each
account, also after a restart of the proxy. Nothing secret is written to a disk.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from preflight_proxy.core.secret import Secret

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

HOST = "openrouter.ai"
"""The one name for which the authority may sign a certificate."""
LIFETIME = timedelta(days=7)
"""As long as a trial's sub-key: after that nothing of the run is of use."""
SKEW = timedelta(hours=1)
"""How far a container's clock may be behind."""


class Authority(msgspec.Struct, frozen=True):
    """What a run's gates need to be accepted as `openrouter.ai` by the run's own agents.

    Attributes:
        root: PEM text of the authority's own certificate; public.
        certificate: PEM text of the certificate for `openrouter.ai`; public.
        key: PEM text of that certificate's private key.
    """

    root: str
    certificate: str
    key: Secret


def make_authority(run_id: str, now: datetime) -> Authority:
    """Make an authority and the one certificate that it signs, and drop the authority's key.

    Args:
        run_id: Named in the authority, so that a person who finds it knows what it is.
        now: The beginning of the run, with its time zone.
    """
    from cryptography import x509  # loaded by runs in containers alone
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = f"agent-preflight {run_id}"[:64]
    root = _builder(issuer, issuer, root_key, root_key, now, is_root=True).add_extension(
        x509.NameConstraints(permitted_subtrees=[x509.DNSName(HOST)], excluded_subtrees=None), critical=True
    )
    leaf = (
        _builder(HOST, issuer, key, root_key, now, is_root=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    )
    key_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    root_text, leaf_text = (
        builder.sign(root_key, SHA256()).public_bytes(Encoding.PEM).decode() for builder in (root, leaf)
    )
    return Authority(root_text, leaf_text, Secret(key_text))


def write_bundle(path: Path, authority: Authority) -> None:
    """Write the public roots and the run's own to a file that agents of any user id may read; C17 (modes of files).

    The variables that name the file *replace* a client's roots, so with ours alone the client would reach no other host.
    """
    import certifi

    path.write_text(f"{certifi.contents().rstrip()}\n\n# agent-preflight, this run alone\n{authority.root}", "ascii")
    path.chmod(0o644)


def _builder(
    subject: str,
    issuer: str,
    key: EllipticCurvePrivateKey,
    issuer_key: EllipticCurvePrivateKey,
    now: datetime,
    *,
    is_root: bool,
) -> x509.CertificateBuilder:
    """Return what both certificates have. Only the root's key may sign certificates."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject_name, issuer_name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)
    )
    usage = x509.KeyUsage(
        digital_signature=not is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_root,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
        .add_extension(usage, critical=True)
    )
