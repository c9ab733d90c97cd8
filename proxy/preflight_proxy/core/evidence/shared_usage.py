"""What several calls of an account may have cost between them, where nobody knows yet which of them did (M13, M15).

A key's usage tells what its calls cost together. Where one call's share is taken for known by an assumption, and its own truth
comes later and is lower, the difference was another's: of those that were decided while the assumption stood. So what such a truth
frees stays in the books as `recovered`, as far as the others can have cost it, until their truth comes or can come no more.

What holds after each verdict and each truth: either posted is at least what the usage showed, or each call that was decided so
counts, what is kept for it included, with its whole reservation.
"""

from __future__ import annotations

from preflight_proxy.core.evidence.evidence import Verdict


class SharedUsage:
    """The calls of one account whose shares may still move.

    Attributes:
        kept_pusd: The part of the account's recovered amount that is kept for them.
    """

    def __init__(self) -> None:
        self._gaps_pusd: dict[str, int] = {}
        self._awaited: set[str] = set()
        self._kept_in_pusd: dict[str, int] = {}
        self.kept_pusd = 0

    def decided(self, verdicts: list[Verdict]) -> None:
        """Take in verdicts that were made together by the key's usage."""
        self._awaited |= {
            verdict.reservation.id
            for verdict in verdicts
            if verdict.cost_pusd is not None and verdict.reservation.generation_id is not None
        }
        if not self._awaited:
            return  # nothing that these verdicts rest on can move
        for verdict in verdicts:
            self._gaps_pusd[verdict.reservation.id] = verdict.reservation.reserved_pusd - (verdict.cost_pusd or 0)

    def told(self, reservation_id: str, delta_pusd: int) -> int:
        """The truth of an assumed call has come: by how much what is kept for the others must change, in pico-USD.

        Args:
            reservation_id: The call's.
            delta_pusd: Its cost less what was assumed.
        """
        self._gaps_pusd.pop(reservation_id, None)
        before_pusd = self.kept_pusd
        if before_pusd == 0:
            self._kept_in_pusd.clear()  # what was put somewhere before stays as it is booked
        self.kept_pusd = min(sum(self._gaps_pusd.values()), max(0, before_pusd - delta_pusd))
        change_pusd = self.kept_pusd - before_pusd
        self.given_up(reservation_id)
        return change_pusd

    def placed(self, account: str, change_pusd: int) -> dict[str, int]:
        """By how much the recovered amount of each account changes, where what is kept in all changes by `change_pusd`.

        Calls of several accounts may share a key. What more is kept is kept in `account`; what is kept no longer is taken back from
        wherever it was put.
        """
        changes = {account: change_pusd} if change_pusd > 0 else {}
        for name, kept_pusd in self._kept_in_pusd.items():
            taken_pusd = min(kept_pusd, -change_pusd)
            if taken_pusd > 0:
                changes[name] = -taken_pusd
                change_pusd += taken_pusd
        for name, each_pusd in changes.items():
            self._kept_in_pusd[name] = self._kept_in_pusd.get(name, 0) + each_pusd
        return changes

    def given_up(self, reservation_id: str) -> None:
        """The call's truth is waited for no longer. Once none is, everything stays as it is booked."""
        self._awaited.discard(reservation_id)
        if not self._awaited:
            self._gaps_pusd.clear()
            self.kept_pusd = 0
