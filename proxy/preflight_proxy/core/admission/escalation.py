"""When a refusal must be said in a harder word: to clients that repeat a call although 402 told them to stop (M19).

Remembered per trial token, in memory: after a restart the first refusal is again the mild one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

REPEAT_S = 600.0
"""The same body within this time is a repetition; the longest pause between retries seen in a client is well below."""
GRACE_S = 5.0
"""Calls already on their way when the account was spent or frozen are refused in the mild word for this long."""
DIGESTS_MAX = 64
"""Bodies remembered per token: more than an agent keeps retrying side by side."""
TOKENS_MAX = 4096
"""Tokens remembered; the one longest without a refusal is forgotten first."""


@dataclass(slots=True)
class _TokenRefusals:
    first_s: float
    seen_s: OrderedDict[str, float] = field(default_factory=OrderedDict)


class Escalation:
    """Which tokens were refused for budget, when, and for which bodies. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, _TokenRefusals] = OrderedDict()

    def seen(self, token_hash: str, digest: str, account_spent_or_frozen: bool, now_s: float) -> bool:
        """Note one refusal for budget; True if it must be escalated.

        Args:
            token_hash: whose call.
            digest: of its body.
            account_spent_or_frozen: nothing more will be admitted as things stand, whatever the body.
            now_s: now.
        """
        refused = self._tokens.setdefault(token_hash, _TokenRefusals(now_s))
        self._tokens.move_to_end(token_hash)
        before_s = refused.seen_s.pop(digest, None)
        refused.seen_s[digest] = now_s
        if len(refused.seen_s) > DIGESTS_MAX:
            refused.seen_s.popitem(last=False)
        if len(self._tokens) > TOKENS_MAX:
            self._tokens.popitem(last=False)
        repeated = before_s is not None and now_s - before_s <= REPEAT_S
        return repeated or (account_spent_or_frozen and now_s - refused.first_s >= GRACE_S)

    def clear(self, token_hash: str) -> None:
        """Forget a token's refusals: a call was admitted, the limit changed, or the account was unfrozen."""
        self._tokens.pop(token_hash, None)
