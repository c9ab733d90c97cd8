"""May this call leave now, with which bound, at which reservation: one look at the account (M9, M18).

    worst case fits in what is available                    admit
    on some of its endpoints it does                        admit, on these alone
    on one of them it would, were nothing pending           wait, `WAIT_S_MAX` in all
    a lower bound, not below the floor, fits                admit, clamped
    the floor would fit were nothing pending                wait
    else                                                    refuse

A refusal never latches: the next call is looked at afresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from preflight_proxy.core.admission.queue import WAIT_S_MAX
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.refusals.refusals import Code, Refusal

if TYPE_CHECKING:
    from preflight_proxy.core.pricing.quote import Quote


@dataclass(frozen=True, slots=True)
class Admission:
    """The call fits.

    Attributes:
        bound: the output bound it leaves with.
        reserve_pusd: its worst case with that bound.
        clamped: the bound is lower than what was asked.
        tags: the endpoints that this is enough for; no other may serve the call.
    """

    bound: int
    reserve_pusd: int
    clamped: bool
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """The call fits as soon as this much is available, which others hold now."""

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
    """Decide one call; nothing is changed, and nothing is remembered.

    Args:
        account: as it stands now.
        quote: of this call. The account's allowed models were checked before it was made.
        busy: the account had another call in the last 60 s. A clamp then takes half of what is available, so that calls beside
            this one find something; or its floor where half is less than that, or the last dollars could never be used.
        has_unknown: outcomes of the account are undecided, as after a restart: what is posted is not the last word.
        waited_s: how long this call has waited, for anything.
        cheapest_pusd: the cheapest call that the account is known to make; with less than that left it is spent.
    """
    if account.frozen is not None:
        return _frozen(account, quote, waited_s)
    if (whole := quote.within(account.available_pusd, quote.bound)) is not None:
        return Admission(quote.bound, whole.worst_pusd(quote.bound), clamped=False, tags=whole.tags)
    least_pusd, settled_pusd = quote.least_pusd, account.limit_pusd - account.posted_pusd
    may_wait = (
        waited_s < WAIT_S_MAX
    )  # with nothing pending, settled equals available, and neither wait below is reached
    if may_wait and least_pusd <= settled_pusd:
        return Wait(least_pusd)
    if (clamped := _clamped(account.available_pusd, quote, busy=busy)) is not None:
        return clamped
    if may_wait and quote.cheapest_pusd <= settled_pusd:
        return Wait(quote.cheapest_pusd)
    spent = settled_pusd < cheapest_pusd and not has_unknown
    return refusal(Code.SPENT if spent else Code.DOES_NOT_FIT, account, quote.cheapest_pusd)


def unread_refusal(account: Account) -> Code | None:
    """Why a call is refused whatever it asks; None if that depends on the call.

    At exactly nothing left a model without a price is still served (M18); below it, nothing is.
    """
    if account.frozen_reason is not None:
        return Code.FROZEN
    return Code.SPENT if account.limit_pusd < account.posted_pusd else None


def _clamped(available_pusd: int, quote: Quote, *, busy: bool) -> Admission | None:
    share_pusd = min(available_pusd, max(available_pusd // 2, quote.cheapest_pusd)) if busy else available_pusd
    bound = quote.bound_within(share_pusd)
    if bound is None or (fitting := quote.within(share_pusd, bound)) is None:
        return None
    return Admission(bound, fitting.worst_pusd(bound), clamped=True, tags=fitting.tags)


def _frozen(account: Account, quote: Quote, waited_s: float) -> Wait | Refusal:
    """Frozen by a person: refused. Frozen because the key's usage is still being read: that ends by itself (M21)."""
    if account.frozen_reason is None and waited_s < WAIT_S_MAX:
        return Wait(quote.least_pusd)
    return refusal(Code.FROZEN, account, quote.cheapest_pusd)
