"""Decides when a refusal gets a final status, because a client repeats a call that 402 told it to stop (M19 (repeated refusal)).

Refusals are remembered per trial token, in memory: after a restart the first refusal has the usual status again.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.core.recent import Recent

REPEAT_S = 600.0
"""The same body within this time is a repetition. The longest pause between retries that was seen in a client is well below."""
ESCALATION_GRACE_S = 5.0
"""Calls that were already sent when the account was spent or frozen get the usual status for this long."""
DIGESTS_MAX = 64
"""Bodies remembered per token: more than an agent retries side by side."""
REFUSED_TOKENS_MAX = 4096
"""Tokens remembered; the one longest without a refusal is forgotten first."""


class _TokenRefusals(msgspec.Struct):
    first_s: float
    last_s: Recent[str, float] = msgspec.field(default_factory=lambda: Recent(DIGESTS_MAX))
    """By the body's digest."""


class Escalation:
    """Which tokens were refused for budget, when, and for which bodies. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._tokens: Recent[str, _TokenRefusals] = Recent(REFUSED_TOKENS_MAX)

    def seen(self, token_hash: str, digest: str, account_spent_or_frozen: bool, now_s: float) -> bool:
        """Note one refusal for budget; return True if it must be escalated.

        Args:
            token_hash: whose call.
            digest: of its body.
            account_spent_or_frozen: no call will be admitted as things stand, whatever its body.
            now_s: now.
        """
        refusals = self._tokens.get(token_hash) or _TokenRefusals(now_s)
        self._tokens.put(token_hash, refusals)
        last_s = refusals.last_s.get(digest)
        refusals.last_s.put(digest, now_s)
        is_repeated = last_s is not None and now_s - last_s <= REPEAT_S
        return is_repeated or (account_spent_or_frozen and now_s - refusals.first_s >= ESCALATION_GRACE_S)

    def clear(self, token_hash: str) -> None:
        """Forget a token's refusals: a call was admitted, the limit changed, or the account was unfrozen."""
        self._tokens.forget(token_hash)
