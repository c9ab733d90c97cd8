"""Settles an account whose proxy is dead, by the usage of its key alone (M13 (unknown cost), M21 (restart)).

The key's secret is lost, so no generation can be looked up and no call can begin with the key. Once every call must have ended and
the usage includes all of them, the difference between usage and ledger is exactly what the pending calls cost together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from preflight_proxy.core.evidence.evidence import CALL_S_MAX, KEY_USAGE_LAG_S, judge
from preflight_proxy.core.ledger.commands import Command, Recover
from preflight_proxy.core.ledger.rows import Account, Reservation


class EvidenceTimes(msgspec.Struct, frozen=True):
    """How long evidence takes (M13).

    Attributes:
        call_s_max: The longest call, here or upstream.
        lag_s: A key's usage includes all calls that ended this long ago.
    """

    call_s_max: float = CALL_S_MAX
    lag_s: float = KEY_USAGE_LAG_S


class UnsettledAccount(msgspec.Struct, frozen=True):
    """An account with calls of unknown cost, or with commits that the machine may have lost.

    Attributes:
        pending: Its pending reservations.
        known_at_s: From this moment on, in seconds since the epoch, its key's usage includes every call.
    """

    account: Account
    pending: tuple[Reservation, ...]
    known_at_s: float

    @property
    def has_evidence(self) -> bool:
        """True if the key's usage can be compared with the ledger."""
        return self.account.key_is_own and self.account.key_usage_base_pusd is not None


def unsettled_account(
    account: Account, pending: Sequence[Reservation], clocks: EvidenceTimes
) -> UnsettledAccount | None:
    """Return the account with what must be settled; None if nothing must be.

    Args:
        account: As in the ledger.
        pending: Its pending reservations.
        clocks: See there.
    """
    if not pending and not account.usage_unread:
        return None
    last_s = account.last_entry_s
    begun_s = [reservation.created_at_s for reservation in pending]
    ends_s = [_ended_by_s(reservation, clocks) for reservation in pending]
    if account.usage_unread:  # a call of the last second before a power cut may not be in the ledger
        ends_s.append(max([last_s, *begun_s]) + clocks.call_s_max)
    return UnsettledAccount(account, tuple(pending), max([last_s, *ends_s]) + clocks.lag_s)


def _ended_by_s(reservation: Reservation, clocks: EvidenceTimes) -> float:
    if reservation.unknown_since_s is not None:
        return reservation.unknown_since_s
    return reservation.created_at_s + clocks.call_s_max


def settle(unsettled: UnsettledAccount, usage_pusd: int | None) -> Iterator[Command]:
    """Yield the commands that end every pending reservation of an account and lift the freeze that waits for its key's usage.

    Args:
        unsettled: The account; the usage was read at or after its `known_at_s`.
        usage_pusd: What its key has used; None if that key was deleted: then each call is charged its whole reservation.
    """
    bound_pusd = None
    if usage_pusd is not None and unsettled.has_evidence:
        bound_pusd = usage_pusd - (unsettled.account.key_usage_base_pusd or 0) - unsettled.account.posted_pusd
    verdicts = judge(unsettled.pending, bound_pusd, last_word=True)
    yield from (verdict.command for verdict in verdicts)
    if unsettled.account.usage_unread:
        charged_pusd = sum(verdict.cost_pusd or 0 for verdict in verdicts)
        yield Recover(unsettled.account.id, max(0, (bound_pusd or 0) - charged_pusd))
