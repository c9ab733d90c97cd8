"""Decides whether a call is sent now, with which bound and reservation (M9 (clamp), M18 (waiting)).

    worst case fits in what is available                    admit
    on some of its endpoints it does                        admit, on these alone
    on one it would if nothing were pending                 wait, `CALL_WAIT_S_MAX` in all
    a lower bound, not below the floor, fits                admit, clamped
    the floor would fit if nothing were pending             wait
    else                                                    refuse

A refusal has no effect on later calls.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.pricing.quote import Quote
from preflight_proxy.core.refusals.refusals import Code, Refusal


class Admission(msgspec.Struct, frozen=True, gc=False):
    """The call fits.

    Attributes:
        bound: the output bound to send.
        reserve_pusd: its worst case with that bound.
        clamped: the bound is lower than asked.
        tags: the endpoints for which the reservation is enough; no other may serve the call.
    """

    bound: int
    reserve_pusd: int
    clamped: bool
    tags: tuple[str, ...]


class Wait(msgspec.Struct, frozen=True, gc=False):
    """The call fits as soon as this much is available; other calls have reserved it now."""

    needed_pusd: int


def admit(
    account: Account,
    quote: Quote,
    *,
    busy: bool,
    has_unknown: bool,
    waited_s: float,
    cheapest_pusd: int = 1,
) -> Admission | Wait | Refusal:
    """Decide one call. Nothing is changed or remembered.

    Args:
        account: as it stands now.
        quote: of this call. The account's allowed models were checked before it was made.
        busy: the account had another call in the last 60 s. A clamp then takes half of what is available, which leaves something
            for parallel calls; or its floor if half is less, so that the last dollars can be used.
        has_unknown: outcomes of the account are unknown, as after a restart, so the posted amount may change.
        waited_s: how long this call has waited in all.
        cheapest_pusd: the cheapest call that the account is known to make; with less left the account is spent.
    """
    may_wait = waited_s < CALL_WAIT_S_MAX
    if account.frozen is not None:  # by a person, or while the key's usage is still being read (M21 (restart))
        if account.frozen_reason is None and may_wait:
            return Wait(quote.least_pusd)
        return refusal(Code.FROZEN, account, quote.cheapest_pusd)
    if (fitting := quote.within(account.available_pusd, quote.bound)) is not None:
        tags, reserve_pusd = fitting
        return Admission(quote.bound, reserve_pusd, clamped=False, tags=tags)
    # with nothing pending, settled equals available, and neither wait below is reached
    least_pusd, settled_pusd = quote.least_pusd, account.limit_pusd - account.posted_pusd
    if may_wait and least_pusd <= settled_pusd:
        return Wait(least_pusd)
    if (clamped := _clamped(account.available_pusd, quote, busy=busy)) is not None:
        return clamped
    if may_wait and quote.cheapest_pusd <= settled_pusd:
        return Wait(quote.cheapest_pusd)
    spent = settled_pusd < cheapest_pusd and not has_unknown
    return refusal(Code.SPENT if spent else Code.DOES_NOT_FIT, account, quote.cheapest_pusd)


def unread_refusal(account: Account) -> Code | None:
    """Return why every call is refused; None if it depends on the call.

    With exactly 0 left a free model is still served (M18); below 0 no call is.
    """
    if account.frozen_reason is not None:
        return Code.FROZEN
    return Code.SPENT if account.limit_pusd < account.posted_pusd else None


def _clamped(available_pusd: int, quote: Quote, *, busy: bool) -> Admission | None:
    share_pusd = min(available_pusd, max(available_pusd // 2, quote.cheapest_pusd)) if busy else available_pusd
    bound = quote.bound_within(share_pusd)
    if bound is None or (fitting := quote.within(share_pusd, bound)) is None:
        return None
    tags, reserve_pusd = fitting
    return Admission(bound, reserve_pusd, clamped=True, tags=tags)
