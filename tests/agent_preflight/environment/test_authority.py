"""A run's authority: what it may vouch for, and who believes it."""

from __future__ import annotations

import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent_preflight.environment.authority import HOST, LIFETIME, make_authority, write_bundle

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_the_authority_may_sign_for_one_name_only() -> None:
    authority = make_authority("run-1", NOW)
    root = x509.load_pem_x509_certificate(authority.root.encode())
    names = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical
    assert names.value.permitted_subtrees == [x509.DNSName(HOST)]
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    assert "run-1" in root.subject.rfc4514_string()


def test_its_one_certificate_is_for_that_name_and_the_life_of_a_run() -> None:
    authority = make_authority("run-1", NOW)
    root = x509.load_pem_x509_certificate(authority.root.encode())
    leaf = x509.load_pem_x509_certificate(authority.certificate.encode())
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert leaf.not_valid_after_utc == NOW + LIFETIME
    assert leaf.not_valid_before_utc == NOW - timedelta(hours=1)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_only_the_authority_may_sign_certificates() -> None:
    authority = make_authority("run-1", NOW)
    for text, signs in ((authority.root, True), (authority.certificate, False)):
        extensions = x509.load_pem_x509_certificate(text.encode()).extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert (usage.value.key_cert_sign, usage.value.digital_signature) == (signs, not signs)
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is signs


def test_two_runs_have_different_keys_and_no_key_is_shown() -> None:
    one, other = make_authority("a", NOW), make_authority("a", NOW)
    assert one.key != other.key
    assert one.root != other.root
    assert "PRIVATE" not in repr(one)
    assert "PRIVATE" not in one.root + one.certificate


def test_a_long_run_id_fits() -> None:
    assert "BEGIN" in make_authority("r" * 128, NOW).root


def test_the_bundle_has_the_public_roots_and_ours_and_anybody_may_read_it(tmp_path: Path) -> None:
    authority, path = make_authority("run-1", NOW), tmp_path / "ca-bundle.pem"
    write_bundle(path, authority)
    text = path.read_text()
    assert text.startswith(certifi.contents().rstrip())
    assert authority.root in text
    assert "PRIVATE" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    public = ssl.create_default_context(cadata=certifi.contents())
    ours = ssl.create_default_context(cafile=str(path))
    assert len(ours.get_ca_certs()) == len(public.get_ca_certs()) + 1


@pytest.mark.wire
def test_cryptography_is_loaded_only_to_make_an_authority() -> None:
    code = "import agent_preflight.environment.authority, sys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
