"""How a reservation ends, and how a later truth corrects the books (M13-M15, M21)."""

from __future__ import annotations

from dataclasses import replace

from preflight_proxy.core.ledger.commands import Adjust, Assume, Post, Recover, Void
from preflight_proxy.core.ledger.cost_line import clean, cost_line
from preflight_proxy.core.ledger.rows import (
    CallFacts,
    Entry,
    EntryKind,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.ledger.state import Change, LedgerState, require


def post(book: LedgerState, command: Post, at_s: float) -> Change:
    """End with the cost that upstream told; what lies above the reservation is overrun (M14)."""
    change = _end(book, book.held(command.reservation_id), EntryKind.POSTED, command.cost_pusd, command.call, at_s)
    return _with_overrun(change, at_s)


def void(book: LedgerState, command: Void, at_s: float) -> Change:
    """End at no cost; the caller holds the proof (M13)."""
    held = book.held(command.reservation_id)
    return _end(book, held, EntryKind.VOIDED, 0, command.call, at_s, command.reason)


def assume(book: LedgerState, command: Assume, at_s: float) -> Change:
    """End without upstream's word, at no more than was reserved."""
    held = book.held(command.reservation_id)
    require(command.cost_pusd <= held.reserved_pusd, "more than was reserved is never assumed")
    return _end(book, held, EntryKind.ASSUMED, command.cost_pusd, command.call, at_s)


def _end(
    book: LedgerState,
    held: Reservation,
    kind: EntryKind,
    cost_pusd: int,
    call: CallFacts,
    at_s: float,
    reason: str = "",
) -> Change:
    require(cost_pusd >= 0, "a cost is not negative")
    account = book.accounts[held.account]
    assumed = kind is EntryKind.ASSUMED
    ended = replace(
        held,
        generation_id=_known(call.generation_id, held.generation_id),
        tag=_known(call.tag, held.tag),
        state=ReservationState.VOIDED if kind is EntryKind.VOIDED else ReservationState.POSTED,
        posted_pusd=cost_pusd,
        assumed=assumed,
    )
    settled = replace(
        account,
        pending_pusd=account.pending_pusd - held.reserved_pusd,
        posted_pusd=account.posted_pusd + cost_pusd,
        assumed_pusd=account.assumed_pusd + (cost_pusd if assumed else 0),
        calls=account.calls + (kind is not EntryKind.VOIDED),
    )
    assert settled.pending_pusd >= 0, "pending is a sum of reservations"
    entry = _entry(book, settled.id, kind, cost_pusd, ended, call, at_s, reason)
    return Change(account=settled, reservation=ended, entry=entry)


def _with_overrun(change: Change, at_s: float) -> Change:
    ended, account = change.reservation, change.account
    assert ended is not None, "an end changes its reservation"
    assert account is not None, "an end changes its account"
    overrun_pusd = ended.posted_pusd - ended.reserved_pusd
    if overrun_pusd <= 0:
        return change
    # Where nobody told which endpoint served, each that was quoted may have been the one.
    tags = (ended.tag,) if ended.tag else ended.tags
    reason = f"billed {ended.posted_pusd} pico-USD, reserved {ended.reserved_pusd} ({ended.generation_id or ended.id})"
    return replace(
        change,
        account=replace(account, overrun_pusd=account.overrun_pusd + overrun_pusd),
        quarantined=tuple(QuarantinedEndpoint(ended.model, tag, reason, at_s) for tag in tags),
        overrun_pusd=overrun_pusd,
    )


def recover(book: LedgerState, command: Recover, at_s: float) -> Change:
    """Post what the key's usage shows beyond the books, and let the account go on."""
    cost_pusd = command.cost_pusd
    require(cost_pusd >= 0, "a recovered amount is not negative")
    account = book.account(command.account)
    recovered = replace(
        account,
        posted_pusd=account.posted_pusd + cost_pusd,
        recovered_pusd=account.recovered_pusd + cost_pusd,
        usage_unread=False,
    )
    if cost_pusd == 0:
        return Change(account=recovered)
    entry = _entry(book, account.id, EntryKind.RECOVERED, cost_pusd, None, command.call, at_s)
    return Change(account=recovered, entry=entry)


def adjust(book: LedgerState, command: Adjust, at_s: float) -> Change:
    """Replace an assumed cost by the truth, once; or correct what was recovered (M15)."""
    if command.reservation_id is None:
        return _adjust_recovered(book, command, at_s)
    held = book.assumed.get(command.reservation_id)
    if held is None:
        raise ValueError("ended: only an assumed cost is adjusted, and only once")
    truth_pusd = held.posted_pusd + command.delta_pusd
    require(truth_pusd >= 0, "a cost is not negative")
    account, call = book.accounts[held.account], command.call
    known = replace(identified(held, call.generation_id, call.tag), posted_pusd=truth_pusd, assumed=False)
    adjusted = replace(
        account,
        posted_pusd=account.posted_pusd + command.delta_pusd,
        assumed_pusd=account.assumed_pusd - held.posted_pusd,
    )
    entry = _entry(book, account.id, EntryKind.ADJUSTED, command.delta_pusd, known, call, at_s)
    return _with_overrun(Change(account=adjusted, reservation=known, entry=entry), at_s)


def _adjust_recovered(book: LedgerState, command: Adjust, at_s: float) -> Change:
    account, delta_pusd = book.account(command.account), command.delta_pusd
    require(account.recovered_pusd + delta_pusd >= 0, "no more can be taken back than was recovered")
    adjusted = replace(
        account,
        posted_pusd=account.posted_pusd + delta_pusd,
        recovered_pusd=account.recovered_pusd + delta_pusd,
    )
    return Change(
        account=adjusted, entry=_entry(book, account.id, EntryKind.ADJUSTED, delta_pusd, None, command.call, at_s)
    )


def identified(held: Reservation, generation_id: str | None, tag: str | None) -> Reservation:
    """Return the reservation with what upstream called the call, where it told."""
    return replace(held, generation_id=_known(generation_id, held.generation_id), tag=_known(tag, held.tag))


def _known(told: str | None, before: str | None) -> str | None:
    return clean(told) if told else before


def _entry(
    book: LedgerState,
    account: str,
    kind: EntryKind,
    cost_pusd: int,
    reservation: Reservation | None,
    call: CallFacts,
    at_s: float,
    reason: str = "",
) -> Entry:
    entry_id = book.next_entry_id
    line = cost_line(entry_id, at_s, account, kind, cost_pusd, reservation, call, reason)
    return Entry(entry_id, reservation.id if reservation else None, account, kind, cost_pusd, at_s, line)
