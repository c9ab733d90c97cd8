"""Ends a reservation, and posts what only the key's usage shows.

M13 (unknown cost), M14 (overrun), M15 (one end), M21 (restart of the machine).
"""

from __future__ import annotations

from msgspec.structs import replace

from preflight_proxy.core.budget_text import RECENT_ACTIONS, UNLABELLED, Action
from preflight_proxy.core.ledger.commands import Recover
from preflight_proxy.core.ledger.cost_line import LineTokens, clean, entry_of
from preflight_proxy.core.ledger.rows import Account, CallFacts, EntryKind, QuarantinedEndpoint, Reservation
from preflight_proxy.core.ledger.state import Change, LedgerState, require


def end(
    state: LedgerState,
    reservation_id: str,
    kind: EntryKind,
    cost_pusd: int,
    call: CallFacts,
    at_s: float,
    reason: str = "",
    label: str = UNLABELLED,
    *,
    is_miscount: bool = False,
) -> Change:
    """End a pending reservation: posted, voided or assumed.

    Args:
        state: the ledger.
        reservation_id: which.
        kind: `POSTED` at the cost that upstream reported; `VOIDED` if the caller has the proof that nothing was charged (M13);
            `ASSUMED` without a report, at no more than was reserved.
        cost_pusd: in pico-USD; above the reservation it is an overrun (M14).
        call: what upstream reported.
        at_s: now, in seconds since the epoch.
        reason: why it is voided.
        label: what a posted call was for.
        is_miscount: an excess over the reservation comes from prompt tokens alone, at listed prices (M14).

    Raises:
        ValueError: It is not pending, or the amount is not allowed.
    """
    pending = state.pending_reservation(reservation_id)
    overrun_pusd = cost_pusd - pending.reserved_pusd
    if cost_pusd < 0:
        raise ValueError("a cost is not negative")
    if kind is EntryKind.ASSUMED and overrun_pusd > pending.exposure_pusd:
        raise ValueError("more than a call can cost is never assumed")
    ended = identified(pending, call.generation_id, call.tag)
    account = settled(state.accounts[pending.account], pending, kind, cost_pusd, call, at_s, label)
    entry = entry_of(state.next_entry_id, at_s, account.id, kind, cost_pusd, ended, call, reason, state.tags)
    if overrun_pusd <= 0 or is_miscount or kind is EntryKind.ASSUMED:
        return Change(account, ended, entry, overrun_pusd=max(0, overrun_pusd))
    # If it is not known which endpoint served the call, each quoted one may have billed it.
    tags = (ended.tag,) if ended.tag else ended.tags
    reason = f"billed {cost_pusd} pico-USD, reserved {ended.reserved_pusd} ({ended.generation_id or ended.id})"
    quarantined = tuple(QuarantinedEndpoint(ended.model, tag, reason, at_s) for tag in tags)
    return Change(account, ended, entry, quarantined=quarantined, overrun_pusd=overrun_pusd)


def settled(
    account: Account,
    reservation: Reservation,
    kind: EntryKind,
    cost_pusd: int,
    tokens: CallFacts | LineTokens,
    at_s: float,
    label: str = UNLABELLED,
) -> Account:
    """Return an account after one of its pending reservations has ended; see `end`."""
    counts = tokens if tokens.prompt_tokens else _NO_TOKENS  # a call without prompt tokens is in no total
    is_posted = kind is EntryKind.POSTED
    overrun_pusd = cost_pusd - reservation.reserved_pusd
    is_overrun = overrun_pusd > 0
    is_of_agent = not reservation.purpose
    is_action = is_posted and is_of_agent
    after = replace(
        account,
        pending_pusd=account.pending_pusd - reservation.reserved_pusd,
        posted_pusd=account.posted_pusd + cost_pusd,
        assumed_pusd=account.assumed_pusd + (cost_pusd if kind is EntryKind.ASSUMED else 0),
        overrun_pusd=account.overrun_pusd + (overrun_pusd if is_overrun else 0),
        calls=account.calls + (is_of_agent and kind is not EntryKind.VOIDED),
        prompt_tokens=account.prompt_tokens + counts.prompt_tokens,
        cached_tokens=account.cached_tokens + counts.cached_tokens,
        cache_write_tokens=account.cache_write_tokens + counts.cache_write_tokens,
        completion_tokens=account.completion_tokens + counts.completion_tokens,
        cache_hit_requests=account.cache_hit_requests + bool(counts.cached_tokens),
        actions=(*account.actions[1 - RECENT_ACTIONS :], Action(label, cost_pusd)) if is_action else account.actions,
        actions_count=account.actions_count + is_action,
        last_entry_s=at_s if at_s > account.last_entry_s else account.last_entry_s,
    )
    assert after.pending_pusd >= 0, "pending is a sum of reservations"
    return _byte_counted(after, reservation, tokens) if is_overrun else after


def _byte_counted(account: Account, reservation: Reservation, tokens: CallFacts | LineTokens) -> Account:
    """Return an account whose prompts count by their bytes where a call was billed above its reservation (M14 (overrun)).

    Not so where the tokens were as quoted, and the cache that was to be read had not the prefix any more.
    """
    if 0 < tokens.prompt_tokens <= reservation.cache_read_tokens:
        return account
    tag = tokens.tag or reservation.tag
    places = [f"{reservation.model} {each}" for each in ((tag,) if tag else reservation.tags)]
    return replace(account, byte_counted=tuple(sorted({*account.byte_counted, *places})))


_NO_TOKENS = LineTokens()


def recover(state: LedgerState, command: Recover, at_s: float) -> Change:
    """Post what the key's usage shows above the ledger, and unfreeze the account (M21)."""
    cost_pusd = command.cost_pusd
    require(cost_pusd >= 0, "a recovered amount is not negative")
    account = replace(state.account(command.account), usage_unread=False)
    if cost_pusd == 0:
        return Change(account, identity_changed=True)
    kind = EntryKind.RECOVERED
    entry = entry_of(state.next_entry_id, at_s, account.id, kind, cost_pusd, None, command.call, tags=state.tags)
    return Change(recovered(account, cost_pusd, at_s), entry=entry, identity_changed=True)


def recovered(account: Account, cost_pusd: int, at_s: float) -> Account:
    """Return an account after a recovered amount was posted."""
    return replace(
        account,
        posted_pusd=account.posted_pusd + cost_pusd,
        recovered_pusd=account.recovered_pusd + cost_pusd,
        last_entry_s=max(account.last_entry_s, at_s),
    )


def identified(reservation: Reservation, generation_id: str | None, tag: str | None) -> Reservation:
    """Return the reservation with upstream's id of the call and the endpoint that served it, as far as they were not known."""
    new_id = clean(generation_id) if generation_id and reservation.generation_id is None else reservation.generation_id
    new_tag = clean(tag) if tag and reservation.tag is None else reservation.tag
    if new_id == reservation.generation_id and new_tag == reservation.tag:
        return reservation
    return replace(reservation, generation_id=new_id, tag=new_tag)
