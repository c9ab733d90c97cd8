"""What is booked for an account whose proxy has died for good: the usage of its key alone is left to tell (M13, M21).

Nobody has the key's secret any more, so no generation can be asked for; but nobody can begin a call with it either. Once every
call that was begun must have ended, and the figure cannot lag behind any of them, what it shows beyond the books is what the
pending calls cost together, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from preflight_proxy.core.evidence.evidence import CALL_S_MAX, KEY_USAGE_LAG_S, judge
from preflight_proxy.core.ledger.commands import Command, Recover
from preflight_proxy.core.ledger.rows import Account, Reservation


@dataclass(frozen=True, slots=True)
class EvidenceTimes:
    """How long evidence takes (M13).

    Attributes:
        call_s_max: The longest call, here or upstream.
        lag_s: A key's usage is complete for calls that ended this long ago.
    """

    call_s_max: float = CALL_S_MAX
    lag_s: float = KEY_USAGE_LAG_S


@dataclass(frozen=True, slots=True)
class UnsettledAccount:
    """An account with calls whose cost nobody has learnt, or with commits that the machine may have lost.

    Attributes:
        pending: Its pending reservations.
        known_at_s: From this moment on, seconds since the epoch, its key's usage holds every call.
    """

    account: Account
    pending: tuple[Reservation, ...]
    known_at_s: float

    @property
    def has_evidence(self) -> bool:
        """Whether the key's usage can be compared with the books at all."""
        return self.account.key_is_own and self.account.key_usage_base_pusd is not None


def unsettled_account(
    account: Account, pending: Sequence[Reservation], last_s: float, clocks: EvidenceTimes
) -> UnsettledAccount | None:
    """Return what is open of an account; None if nothing is.

    Args:
        account: As the ledger has it.
        pending: Its pending reservations.
        last_s: When its last entry was written; 0 if it has none.
        clocks: See there.
    """
    if not pending and not account.usage_unread:
        return None
    begun_s = [reservation.created_at_s for reservation in pending]
    ends_s = [_ended_by_s(reservation, clocks) for reservation in pending]
    if account.usage_unread:  # what was begun in the last second before the power went may stand nowhere
        ends_s.append(max([last_s, *begun_s]) + clocks.call_s_max)
    return UnsettledAccount(account, tuple(pending), max([last_s, *ends_s]) + clocks.lag_s)


def _ended_by_s(reservation: Reservation, clocks: EvidenceTimes) -> float:
    if reservation.unknown_since_s is not None:
        return reservation.unknown_since_s
    return reservation.created_at_s + clocks.call_s_max


def settle(loose: UnsettledAccount, usage_pusd: int | None) -> Iterator[Command]:
    """Yield the commands that end every pending reservation of an account and lift what waits for its key's usage.

    Args:
        loose: The account; the usage was read at or after its `known_at_s`.
        usage_pusd: What its key has used; None where that key is gone: then each call is taken to have cost all it could.
    """
    bound_pusd = None
    if usage_pusd is not None and loose.has_evidence:
        bound_pusd = usage_pusd - (loose.account.key_usage_base_pusd or 0) - loose.account.posted_pusd
    verdicts = judge(loose.pending, bound_pusd, last_word=True)
    yield from (verdict.command for verdict in verdicts)
    if loose.account.usage_unread:
        booked_pusd = sum(verdict.cost_pusd or 0 for verdict in verdicts)
        yield Recover(loose.account.id, max(0, (bound_pusd or 0) - booked_pusd))
