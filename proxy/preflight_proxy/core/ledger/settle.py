"""Ends a reservation, and corrects a cost when the truth comes later.

M13 (unknown cost), M14 (overrun), M15 (one end), M21 (restart of the machine).
"""

from __future__ import annotations

from dataclasses import replace

from preflight_proxy.core.ledger.commands import Adjust, Recover
from preflight_proxy.core.ledger.cost_line import clean, entry_of
from preflight_proxy.core.ledger.rows import (
    Account,
    CallFacts,
    Entry,
    EntryKind,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.ledger.state import Change, LedgerState, require


def end(
    state: LedgerState,
    reservation_id: str,
    kind: EntryKind,
    cost_pusd: int,
    call: CallFacts,
    at_s: float,
    reason: str = "",
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

    Raises:
        ValueError: It is not pending, or the amount is not allowed.
    """
    pending = state.pending_reservation(reservation_id)
    require(cost_pusd >= 0, "a cost is not negative")
    is_assumed = kind is EntryKind.ASSUMED
    require(not is_assumed or cost_pusd <= pending.reserved_pusd, "more than was reserved is never assumed")
    account = state.accounts[pending.account]
    ended = replace(
        identified(pending, call.generation_id, call.tag),
        state=ReservationState.VOIDED if kind is EntryKind.VOIDED else ReservationState.POSTED,
        posted_pusd=cost_pusd,
        assumed=is_assumed,
    )
    settled = replace(
        account,
        pending_pusd=account.pending_pusd - pending.reserved_pusd,
        posted_pusd=account.posted_pusd + cost_pusd,
        assumed_pusd=account.assumed_pusd + (cost_pusd if is_assumed else 0),
        calls=account.calls + (kind is not EntryKind.VOIDED),
    )
    assert settled.pending_pusd >= 0, "pending is a sum of reservations"
    entry = entry_of(state.next_entry_id, at_s, settled.id, kind, cost_pusd, ended, call, reason)
    return _change(settled, ended, entry)


def _change(account: Account, ended: Reservation, entry: Entry) -> Change:
    """Return the change; a cost above the reservation disables the endpoint (M14)."""
    overrun_pusd = ended.posted_pusd - ended.reserved_pusd
    if overrun_pusd <= 0:
        return Change(account, ended, entry)
    # If it is not known which endpoint served the call, each quoted one may have billed it.
    tags = (ended.tag,) if ended.tag else ended.tags
    reason = f"billed {ended.posted_pusd} pico-USD, reserved {ended.reserved_pusd} ({ended.generation_id or ended.id})"
    return Change(
        replace(account, overrun_pusd=account.overrun_pusd + overrun_pusd),
        ended,
        entry,
        quarantined=tuple(QuarantinedEndpoint(ended.model, tag, reason, entry.at_s) for tag in tags),
        overrun_pusd=overrun_pusd,
    )


def recover(state: LedgerState, command: Recover, at_s: float) -> Change:
    """Post what the key's usage shows above the ledger, and unfreeze the account (M21)."""
    cost_pusd = command.cost_pusd
    require(cost_pusd >= 0, "a recovered amount is not negative")
    account = state.account(command.account)
    recovered = replace(
        account,
        posted_pusd=account.posted_pusd + cost_pusd,
        recovered_pusd=account.recovered_pusd + cost_pusd,
        usage_unread=False,
    )
    if cost_pusd == 0:
        return Change(account=recovered)
    kind = EntryKind.RECOVERED
    entry = entry_of(state.next_entry_id, at_s, account.id, kind, cost_pusd, None, command.call)
    return Change(account=recovered, entry=entry)


def adjust(state: LedgerState, command: Adjust, at_s: float) -> Change:
    """Replace an assumed cost by the true one, once; or correct the recovered amount of an account (M15)."""
    delta_pusd, call = command.delta_pusd, command.call
    corrected: Reservation | None = None
    if command.reservation_id is None:
        account = state.account(command.account)
        require(account.recovered_pusd + delta_pusd >= 0, "no more can be taken back than was recovered")
        adjusted = replace(account, recovered_pusd=account.recovered_pusd + delta_pusd)
    else:
        require(command.reservation_id in state.assumed, "ended: only an assumed cost is adjusted, and only once")
        assumed = state.assumed[command.reservation_id]
        cost_pusd = assumed.posted_pusd + delta_pusd
        require(cost_pusd >= 0, "a cost is not negative")
        account = state.accounts[assumed.account]
        corrected = replace(identified(assumed, call.generation_id, call.tag), posted_pusd=cost_pusd, assumed=False)
        adjusted = replace(account, assumed_pusd=account.assumed_pusd - assumed.posted_pusd)
    adjusted = replace(adjusted, posted_pusd=account.posted_pusd + delta_pusd)
    kind = EntryKind.ADJUSTED
    entry = entry_of(state.next_entry_id, at_s, account.id, kind, delta_pusd, corrected, call)
    return Change(account=adjusted, entry=entry) if corrected is None else _change(adjusted, corrected, entry)


def identified(reservation: Reservation, generation_id: str | None, tag: str | None) -> Reservation:
    """Return the reservation with upstream's id of the call and the endpoint that served it, where these are known."""
    return replace(
        reservation,
        generation_id=clean(generation_id) if generation_id else reservation.generation_id,
        tag=clean(tag) if tag else reservation.tag,
    )
