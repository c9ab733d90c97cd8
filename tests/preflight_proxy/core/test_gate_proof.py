"""What the portal and a forwarder prove: by the pass alone, on this connection alone, for this port alone."""

from __future__ import annotations

import msgspec.structs

from preflight_proxy.core.gate_proof import (
    CLAIM_BYTES,
    NONCE_CHARS,
    Claim,
    Side,
    claim_holds,
    pass_id,
    portal_proof,
    proof_of,
    read_claim,
)

PASS = "p" * 43
THEIRS, OURS = "1" * NONCE_CHARS, "2" * NONCE_CHARS
CLAIM = Claim(pass_id(PASS), OURS, 8788, proof_of(Side.FORWARDER, PASS, THEIRS, OURS, 8788))
LINE = f"AP2 {CLAIM.pass_id} {OURS} 08788 {CLAIM.proof}\n".encode()


def test_a_line_is_read_as_it_is_written() -> None:
    assert len(LINE) == CLAIM_BYTES
    assert read_claim(LINE) == CLAIM


def test_what_is_not_that_line_is_no_claim() -> None:
    for wrong in (b"", LINE[:-1], LINE + b"\n", LINE.replace(b"AP2", b"AP1"), LINE.replace(b"08788", b"-8788")):
        assert read_claim(wrong) is None, wrong


def test_a_claim_holds_for_its_pass_its_nonces_and_its_port_alone() -> None:
    assert claim_holds(CLAIM, PASS, THEIRS)
    assert not claim_holds(CLAIM, "q" * 43, THEIRS)
    assert not claim_holds(CLAIM, PASS, "3" * NONCE_CHARS)
    assert not claim_holds(msgspec.structs.replace(CLAIM, port=443), PASS, THEIRS)
    assert not claim_holds(msgspec.structs.replace(CLAIM, nonce=THEIRS), PASS, THEIRS)


def test_one_sides_proof_is_not_the_others() -> None:
    answer = portal_proof(CLAIM, PASS, THEIRS)
    assert answer == proof_of(Side.PORTAL, PASS, THEIRS, OURS, 8788).encode()
    assert not claim_holds(msgspec.structs.replace(CLAIM, proof=answer.decode()), PASS, THEIRS)


def test_neither_name_nor_line_shows_the_pass() -> None:
    assert PASS not in pass_id(PASS)
    assert PASS.encode() not in LINE
