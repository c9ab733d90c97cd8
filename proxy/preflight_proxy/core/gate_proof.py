r"""How the proxy's portal and a trial's forwarder show each other that they know the trial's pass, without saying it.

    portal:     NONCE                                32 characters, as soon as somebody connects
    forwarder:  AP2 ID NONCE PORT PROOF\n            which pass, a nonce of its own, the port of the gate, its proof
    portal:     PROOF                                64 characters; the agent's bytes follow

A proof is a keyed hash (the pass is the key) of who proves, both nonces and the port, so it is worth nothing on another
connection. Whoever listens in the proxy's place while that is away learns no pass, and is sent not one byte of an agent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from enum import Enum

import msgspec

NONCE_BYTES = 16
NONCE_CHARS = 2 * NONCE_BYTES
CLAIM_BYTES = 125
"""A forwarder's line, its newline included."""

_CLAIM = re.compile(rb"AP2 ([0-9a-f]{16}) ([0-9a-f]{32}) ([0-9]{5}) ([0-9a-f]{64})\n")


class Side(Enum):
    """Who proves."""

    FORWARDER = "forwarder"
    PORTAL = "portal"


class Claim(msgspec.Struct, frozen=True):
    """What a forwarder says first.

    Attributes:
        pass_id: Which pass it says that it knows.
        nonce: Its own, for the portal's proof.
        port: Where at the gate the agent connected; 0 for its watch.
        proof: That it knows the pass.
    """

    pass_id: str
    nonce: str
    port: int
    proof: str


def read_claim(line: bytes) -> Claim | None:
    """Read a forwarder's line; None if it has another form."""
    match = _CLAIM.fullmatch(line)
    if match is None:
        return None
    pass_id, nonce, port, proof = (part.decode("ascii") for part in match.groups())
    return Claim(pass_id, nonce, int(port), proof)


def pass_id(trial_pass: str) -> str:
    """Return the public name of a pass. The pass cannot be computed from it."""
    return hashlib.sha256(trial_pass.encode()).hexdigest()[:16]


def proof_of(side: Side, trial_pass: str, portal_nonce: str, forwarder_nonce: str, port: int) -> str:
    """Return what shows that `side` knows the pass."""
    text = f"{side.value} {portal_nonce} {forwarder_nonce} {port:05d}"
    return hmac.new(trial_pass.encode(), text.encode(), hashlib.sha256).hexdigest()


def claim_holds(claim: Claim, trial_pass: str, portal_nonce: str) -> bool:
    """Tell whether a forwarder that was sent this nonce knows the pass."""
    expected = proof_of(Side.FORWARDER, trial_pass, portal_nonce, claim.nonce, claim.port)
    return hmac.compare_digest(expected, claim.proof)


def portal_proof(claim: Claim, trial_pass: str, portal_nonce: str) -> bytes:
    """Return what the portal answers a claim that holds."""
    return proof_of(Side.PORTAL, trial_pass, portal_nonce, claim.nonce, claim.port).encode("ascii")
