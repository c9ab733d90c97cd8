"""What a sub-key's usage proves about calls whose cost upstream never reported (M13 (unknown cost), M21 (restart)).

A key's usage lags: at any moment it includes every call that ended `KEY_USAGE_LAG_S` ago or earlier, and perhaps later ones. So
what all unknown calls of that age cost together is at most

    usage - usage at opening - what was posted `KEY_USAGE_LAG_S` ago

and if that is nothing, it is proved that they cost nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from preflight_proxy.core.ledger.commands import Assume, Void
from preflight_proxy.core.ledger.rows import Account, KeyFigure, Reservation

KEY_USAGE_LAG_S = 60.0
"""A key's usage is taken to be complete for calls that ended this long ago. Upstream publishes no figure; seconds were seen."""
GENERATION_S_MAX = 120.0
"""A generation that is still not found after this time is looked for no longer; the key's usage decides."""
CALL_S_MAX = 30 * 60.0
"""No call lasts longer. A generation whose end was not seen may go on, and be billed, for as long (M13, M17 (longest call))."""
NOTHING_PUSD = 1000
"""Up to a nano-dollar counts as nothing: upstream sums usage as binary fractions."""

ROUNDING_PUSD = 1_000_000
"""A key's usage may be rounded by so much: below what is posted by less, it has not fallen."""


def lost_at_most(account: Account, figures: Iterable[tuple[Account, KeyFigure]], usage_pusd: int | None) -> int:
    """Return what calls of an account on a foreign key can have cost that a restart of the machine took from the ledger (M21).

    It is what the key's usage shows above the ledger since the last figure that was kept, at most what the account has left. What
    other programs spent with the key is in it too. Without evidence it is all that is left.

    Args:
        account: nothing of it is pending.
        figures: of all accounts that use its key, each with its account.
        usage_pusd: what the key has used now, BYOK included; None if it cannot be read.
    """
    figures = tuple(figures)
    available_pusd = max(0, account.available_pusd)
    kept_pusd = next((figure.usage_pusd for user, figure in figures if user.id == account.id), None)
    if usage_pusd is None or kept_pusd is None or usage_pusd < kept_pusd - ROUNDING_PUSD:
        return available_pusd
    since_pusd = sum(user.posted_pusd - user.recovered_pusd - figure.posted_pusd for user, figure in figures)
    return max(0, min(usage_pusd - kept_pusd - since_pusd, available_pusd))


class PostedHistory(msgspec.Struct):
    """What an account had posted, and when, to know the amount of a minute ago."""

    at_s: list[float] = []
    posted_pusd: list[int] = []

    def note(self, now_s: float, posted_pusd: int, keep_s: float) -> None:
        """Remember the amount of now; forget those older than `keep_s`, except the last of them."""
        self.at_s.append(now_s)
        self.posted_pusd.append(posted_pusd)
        old = bisect_right(self.at_s, now_s - keep_s) - 1
        if old > 0:
            del self.at_s[:old], self.posted_pusd[:old]

    def backdate(self, cost_pusd: int) -> None:
        """Add this cost to every point of the history, because the key's usage already included it.

        Without this the same dollar of usage would explain one unknown call after another, until the lag has passed.
        """
        self.posted_pusd = [posted_pusd + cost_pusd for posted_pusd in self.posted_pusd]

    def at(self, moment_s: float) -> int | None:
        """Return what was posted at a moment; None if the history begins later."""
        index = bisect_right(self.at_s, moment_s) - 1
        return self.posted_pusd[index] if index >= 0 else None


class Verdict(msgspec.Struct, frozen=True):
    """How one unknown reservation ends: voided if `cost_pusd` is None, else assumed at that cost."""

    reservation: Reservation
    cost_pusd: int | None

    @property
    def command(self) -> Void | Assume:
        """The command that ends the reservation so."""
        if self.cost_pusd is None:
            return Void(self.reservation.id, "the key's usage shows no charge")
        return Assume(self.reservation.id, self.cost_pusd)


def judge(
    unknown: Sequence[Reservation], bound_pusd: int | None, *, last_word: bool, nothing_pusd: int = NOTHING_PUSD
) -> list[Verdict]:
    """Decide unknown reservations by what they can have cost together.

    Args:
        unknown: Reservations old enough for the evidence, in any order.
        bound_pusd: At most this for all of them; None if the key's usage is no evidence.
        last_word: True once no better evidence will come.
        nothing_pusd: A bound up to this counts as 0.

    Returns:
        Verdicts for all of them; an empty list while better evidence may come. Assumed costs are at most their reservations with
        their exposures, and together at most `bound_pusd`; without evidence each is assumed at its reservation.
    """
    if bound_pusd is not None and bound_pusd <= nothing_pusd:
        return [Verdict(reservation, None) for reservation in unknown]
    if not last_word:
        return []
    verdicts: list[Verdict] = []
    for reservation in sorted(unknown, key=lambda r: (_has_id(r), r.created_at_s, r.id)):
        cost_pusd = reservation.reserved_pusd
        if bound_pusd is not None:
            cost_pusd = min(cost_pusd + reservation.exposure_pusd, bound_pusd)
        if bound_pusd is not None:
            bound_pusd -= cost_pusd
        assumed = cost_pusd > 0 or (_has_id(reservation) and reservation.reserved_pusd > 0)
        verdicts.append(Verdict(reservation, cost_pusd if assumed else None))
    return verdicts


def _has_id(reservation: Reservation) -> bool:
    """OpenRouter began to serve it. It gets what the others leave, and a rest of 0 is no proof that it cost nothing."""
    return reservation.generation_id is not None
