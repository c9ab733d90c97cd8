"""What a sub-key's usage proves about calls whose cost upstream never told (M13, M21).

A key's usage lags: at any moment it holds every call that ended `KEY_USAGE_LAG_S` ago or earlier, and perhaps later ones. So
what all unknown calls of that age cost together is at most

    usage - usage at opening - what was posted `KEY_USAGE_LAG_S` ago

and when that is nothing, they cost nothing: proof, not guess.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from preflight_proxy.core.ledger.commands import Assume, Void
from preflight_proxy.core.ledger.rows import Reservation

KEY_USAGE_LAG_S = 60.0
"""A key's usage is taken to be complete for calls that ended this long ago. Upstream publishes no figure; seconds were seen."""
GENERATION_S_MAX = 120.0
"""A generation that is still not found after this time is looked for no longer; the key's usage decides."""
CALL_S_MAX = 30 * 60.0
"""No call lasts longer, here or upstream: a generation whose end nobody saw may go on, and be billed, for as long (M13, M17)."""
NOTHING_PUSD = 1000
"""Up to a nano-dollar is nothing: usage is a sum of binary fractions on its way to us."""

ROUNDING_PUSD = 1_000_000
"""A key's usage may be rounded by so much: below what is posted by less, it has not fallen."""


@dataclass(slots=True)
class PostedHistory:
    """What an account had posted, and when: enough to ask for the figure of a minute ago."""

    at_s: list[float] = field(default_factory=list)
    posted_pusd: list[int] = field(default_factory=list)

    def note(self, now_s: float, posted_pusd: int, keep_s: float) -> None:
        """Remember today's figure; forget what is older than `keep_s`, but for the last one before."""
        self.at_s.append(now_s)
        self.posted_pusd.append(posted_pusd)
        old = bisect_right(self.at_s, now_s - keep_s) - 1
        if old > 0:
            del self.at_s[:old], self.posted_pusd[:old]

    def backdate(self, cost_pusd: int) -> None:
        """Count a cost that was booked just now as if it always had been: what it stands for, the usage has held for long.

        Without this the same dollar of usage would explain one unknown call after the other, until the lag has passed.
        """
        self.posted_pusd = [posted_pusd + cost_pusd for posted_pusd in self.posted_pusd]

    def at(self, moment_s: float) -> int | None:
        """What was posted at a moment; None if the history begins later."""
        index = bisect_right(self.at_s, moment_s) - 1
        return self.posted_pusd[index] if index >= 0 else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one unknown reservation ends: voided where `cost_pusd` is None, else assumed at that cost."""

    reservation: Reservation
    cost_pusd: int | None

    @property
    def command(self) -> Void | Assume:
        """The command that books it."""
        if self.cost_pusd is None:
            return Void(self.reservation.id, "the key's usage shows no charge")
        return Assume(self.reservation.id, self.cost_pusd)


def judge(
    unknown: Sequence[Reservation], bound_pusd: int | None, *, last_word: bool, nothing_pusd: int = NOTHING_PUSD
) -> list[Verdict]:
    """Decide unknown reservations by what they can have cost together.

    Args:
        unknown: Reservations old enough for the evidence, in any order.
        bound_pusd: At most this for all of them; None where the key's usage is no evidence.
        last_word: True once nothing better will come.
        nothing_pusd: A bound up to this is none.

    Returns:
        Verdicts for all of them, or none at all while better evidence may come. Assumed costs are at most their reservations,
        and together at most `bound_pusd`; without evidence each is assumed in full.
    """
    if bound_pusd is not None and bound_pusd <= nothing_pusd:
        return [Verdict(reservation, None) for reservation in unknown]
    if not last_word:
        return []
    verdicts: list[Verdict] = []
    for reservation in sorted(unknown, key=lambda each: (_has_id(each), each.created_at_s, each.id)):
        cost_pusd = reservation.reserved_pusd if bound_pusd is None else min(reservation.reserved_pusd, bound_pusd)
        if bound_pusd is not None:
            bound_pusd -= cost_pusd
        assumed = cost_pusd > 0 or (_has_id(reservation) and reservation.reserved_pusd > 0)
        verdicts.append(Verdict(reservation, cost_pusd if assumed else None))
    return verdicts


def _has_id(reservation: Reservation) -> bool:
    """OpenRouter began to serve it, so it takes what the others leave, and a rest of nothing is no proof."""
    return reservation.generation_id is not None
