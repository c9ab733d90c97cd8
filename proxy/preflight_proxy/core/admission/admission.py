"""Decides whether a call is sent now, with which bound and reservation (M9 (clamp), M18 (waiting), M24 (exposure)).

    worst case fits in what is available                    admit
    on some of its endpoints it does                        admit, on these alone
    on one it would if nothing were pending                 wait, `CALL_WAIT_S_MAX` in all
    a lower bound, not below the floor, fits                admit, clamped
    the floor would fit if nothing were pending             wait
    else                                                    refuse

A call that may cost more than its reservation waits while other calls are pending whose exposure, with its own, is above a quarter
of the limit. A refusal has no effect on later calls.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.ledger.state import NOTHING_PENDING, Pending
from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.pricing.quote import CacheRead, Quote, Quotes
from preflight_proxy.core.refusals.refusals import Code, Refusal


class Admission(msgspec.Struct, frozen=True, gc=False):
    """The call fits.

    Attributes:
        bound: the output bound to send.
        reserve_pusd: its worst case with that bound.
        clamped: the bound is lower than asked.
        tags: the endpoints for which the reservation is enough; no other may serve the call.
        exposure_pusd: what it can cost above the reservation if upstream counts more prompt tokens than measured.
        cache_read: what the reservation expects of a cache; None: nothing.
    """

    bound: int
    reserve_pusd: int
    clamped: bool
    tags: tuple[str, ...]
    exposure_pusd: int = 0
    cache_read: CacheRead | None = None


class Wait(msgspec.Struct, frozen=True, gc=False):
    """The call fits as soon as this much is available; other calls have reserved it now."""

    needed_pusd: int


class Weigh(msgspec.Struct, frozen=True, gc=False):
    """The call fits, but its exposure is above the limit: its prompt is to be weighed first."""


def admit(
    account: Account,
    quotes: Quotes,
    *,
    pending: Pending = NOTHING_PENDING,
    busy: bool,
    has_unknown: bool,
    waited_s: float,
    cheapest_pusd: int = 1,
    may_weigh: bool = False,
) -> Admission | Wait | Weigh | Refusal:
    """Decide one call. Nothing is changed or remembered.

    Args:
        account: as it stands now.
        quotes: of this call. The account's allowed models were checked before it was made.
        pending: the account's other calls.
        busy: the account had another call in the last 60 s. A clamp then takes half of what is available, which leaves something
            for parallel calls; or its floor if half is less, so that the last dollars can be used.
        has_unknown: outcomes of the account are unknown, as after a restart, so the posted amount may change.
        waited_s: how long this call has waited in all.
        cheapest_pusd: the cheapest call that the account is known to make; with less left the account is spent.
        may_weigh: the prompt can be weighed.
    """
    may_wait = waited_s < CALL_WAIT_S_MAX
    if account.frozen is not None:  # by a person, or while the key's usage is still being read (M21 (restart))
        if account.frozen_reason is None and may_wait:
            return Wait(quotes.least_pusd)
        return refusal(Code.FROZEN, account, quotes.cheapest_pusd)
    available_pusd, exposure_max_pusd = account.available_pusd, pending.exposure_max_pusd(account.limit_pusd)
    for way in quotes.ways:
        if (fitting := within(available_pusd, way, way.bound, quotes.proven, exposure_max_pusd)) is not None:
            return fitting
    measured, is_alone = quotes.first, pending.count == 0
    if is_alone and (exposed := within(available_pusd, measured, measured.bound, quotes.proven, None)) is not None:
        return Weigh() if may_weigh else exposed
    may_wait = may_wait and (not is_alone or account.pending_pusd > 0)  # else nothing will settle; a weighing does
    least_pusd, settled_pusd = quotes.least_pusd, account.limit_pusd - account.posted_pusd
    if may_wait and least_pusd <= settled_pusd:
        return Wait(least_pusd)
    for way in quotes.ways:
        if (clamped := _clamped(available_pusd, way, quotes.proven, exposure_max_pusd, busy=busy)) is not None:
            return clamped
    if is_alone and (exposed := _clamped(available_pusd, measured, quotes.proven, None, busy=busy)) is not None:
        return Weigh() if may_weigh else exposed
    if may_wait and quotes.cheapest_pusd <= settled_pusd:
        return Wait(quotes.cheapest_pusd)
    spent = settled_pusd < cheapest_pusd and not has_unknown
    needed_pusd = quotes.cheapest_pusd if is_alone else _needed_beside(quotes, exposure_max_pusd)
    return refusal(Code.SPENT if spent else Code.DOES_NOT_FIT, account, needed_pusd)


def unread_refusal(account: Account) -> Code | None:
    """Return why every call is refused; None if it depends on the call.

    With exactly 0 left a free model is still served (M18); below 0 no call is.
    """
    if account.frozen_reason is not None:
        return Code.FROZEN
    return Code.SPENT if account.limit_pusd < account.posted_pusd else None


def _needed_beside(quotes: Quotes, exposure_max_pusd: int) -> int:
    """Return the least available amount with which a call is admitted at its floor, with so little exposure (M24)."""
    floor, proven = quotes.first.floor, quotes.proven
    exposed = (
        (line.pusd(floor), proven.line(tag))
        for way in quotes.ways
        for tag, line in zip(way.tags, way.worst, strict=True)
    )
    return min(pusd for pusd, most in exposed if most.pusd(floor) - pusd <= exposure_max_pusd)


def _clamped(
    available_pusd: int, way: Quote, proven: Quote, exposure_max_pusd: int | None, *, busy: bool
) -> Admission | None:
    share_pusd = min(available_pusd, max(available_pusd // 2, way.cheapest_pusd)) if busy else available_pusd
    bound = way.bound_within(share_pusd)
    return None if bound is None else within(share_pusd, way, bound, proven, exposure_max_pusd)


def within(amount_pusd: int, way: Quote, bound: int, proven: Quote, exposure_max_pusd: int | None) -> Admission | None:
    """Return the call at an output bound, on the endpoints where it costs and exposes at most so much; None if there is none.

    A prompt that is calibrated on one endpoint costs more on the others, so the last dollars can be used only there (M7).
    """
    tags, reserve_pusd, worst_pusd = [], -1, -1
    proven_lines = way.worst if way is proven else [proven.line(tag) for tag in way.tags]
    for tag, line, proven_line in zip(way.tags, way.worst, proven_lines, strict=True):
        cost_pusd = line.pusd(bound)
        proven_pusd = cost_pusd if proven_line is line else proven_line.pusd(bound)
        is_exposed = exposure_max_pusd is not None and proven_pusd - cost_pusd > exposure_max_pusd
        if cost_pusd <= amount_pusd and not is_exposed:
            tags.append(tag)
            reserve_pusd, worst_pusd = max(reserve_pusd, cost_pusd), max(worst_pusd, proven_pusd)
    if not tags:
        return None
    return Admission(bound, reserve_pusd, bound < way.bound, tuple(tags), worst_pusd - reserve_pusd, way.cache_read)
