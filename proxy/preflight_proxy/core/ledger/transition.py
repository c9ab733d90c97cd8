"""The ledger: the only place where a balance changes, as a pure function from a book and a command to a change.

`LedgerState` holds the accounts, the PENDING reservations and the few ended ones that may still be corrected. `transition` returns
a `Change` (the new rows; nothing is applied), or a `Refusal`. The store commits the change in one transaction, and only then is it
applied to the state (`LedgerState.apply`). So memory is never ahead of the disk.

    command       PENDING becomes     account                               entry
    Reserve       (new) PENDING       pending + reserved                    -
    Post          POSTED              pending - reserved, posted + cost     posted; above reserved: overrun and quarantine (M14)
    Void          VOIDED              pending - reserved                    voided, cost 0
    Assume        POSTED, assumed     pending - reserved, posted + cost     assumed; at most what was reserved
    Adjust        (ended, assumed)    posted + delta                        adjusted; once
    Recover       -                   posted + cost                         recovered; none where the cost is 0

What holds after every change: posted = the sum of the account's entries; pending = the sum of its PENDING reservations; neither is
negative. What held at every admission: posted + pending <= limit. Later, only the truth (overrun, adjustment, recovery) or a
lowered limit takes an account past it.
"""

from __future__ import annotations

from dataclasses import replace

from preflight_proxy.core.ledger.account_changes import account_changed
from preflight_proxy.core.ledger.commands import (
    Adjust,
    Assume,
    ClearQuarantine,
    Command,
    Conclude,
    Freeze,
    LoseKeyBase,
    MarkUnknown,
    NoteKeyBase,
    OpenAccount,
    Post,
    Quarantine,
    Recover,
    Refuse,
    Reserve,
    SetGeneration,
    SetLimit,
    Unfreeze,
    Void,
)
from preflight_proxy.core.ledger.cost_line import clean
from preflight_proxy.core.ledger.rows import (
    USAGE_UNREAD,
    Account,
    CallFacts,
    Entry,
    EntryKind,
    KeyBase,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.ledger.settle import adjust, assume, identified, post, recover, void
from preflight_proxy.core.ledger.state import Change, LedgerState, require, state_of
from preflight_proxy.core.refusals.refusals import Code, Refusal

__all__ = [
    "USAGE_UNREAD",
    "Account",
    "Adjust",
    "Assume",
    "CallFacts",
    "Change",
    "ClearQuarantine",
    "Command",
    "Conclude",
    "Entry",
    "EntryKind",
    "Freeze",
    "LedgerState",
    "LoseKeyBase",
    "MarkUnknown",
    "NoteKeyBase",
    "OpenAccount",
    "Post",
    "Quarantine",
    "QuarantinedEndpoint",
    "Recover",
    "Refuse",
    "Reservation",
    "ReservationState",
    "Reserve",
    "SetGeneration",
    "SetLimit",
    "Unfreeze",
    "Void",
    "may_send",
    "refusal",
    "state_of",
    "transition",
]


def transition(book: LedgerState, command: Command, at_s: float) -> Change | Refusal:
    """Decide what a command changes; the book itself is left as it is.

    Args:
        book: the state before.
        command: what is asked.
        at_s: now, in seconds since the epoch.

    Returns:
        The change to make durable and apply, or, for `Reserve` only, a refusal: expected, and nothing changes.

    Raises:
        ValueError: The command contradicts the books (a second end, an id in use, an unknown account, a bad amount): an error of
            the caller. Nothing changes.
    """
    match command:
        case Reserve():
            return _reserve(book, command, at_s)
        case SetGeneration(reservation_id, generation_id, tag):
            return Change(reservation=identified(book.held(reservation_id), generation_id, tag))
        case MarkUnknown():
            return _mark_unknown(book, command, at_s)
        case Post():
            return post(book, command, at_s)
        case Void():
            return void(book, command, at_s)
        case Assume():
            return assume(book, command, at_s)
        case Recover():
            return recover(book, command, at_s)
        case Adjust():
            return adjust(book, command, at_s)
        case Quarantine(model, tag, reason):
            return Change(quarantined=(QuarantinedEndpoint(model, tag, reason, at_s),))
        case ClearQuarantine(model, tag):
            return Change(cleared=((model, tag),))
        case NoteKeyBase(upstream, key_hash, usage_pusd, byok_pusd):
            return Change(key_base=KeyBase(len(book.key_bases) + 1, upstream, key_hash, usage_pusd, byok_pusd, at_s))
        case LoseKeyBase(base_id, reason):
            base = book.key_bases[base_id]
            return Change(key_base=replace(base, lost=base.lost or clean(reason)))
        case _:
            return Change(account=account_changed(book, command))


def may_send(book: LedgerState, reservation_id: str, reserved_under: Account) -> bool:
    """Whether the call may leave now: its reservation stands and its account is neither frozen nor changed (M10, step 2).

    Nor may one of its endpoints have gone out of use meanwhile (M14). No await may lie between this and the first byte.

    Args:
        book: the state now.
        reservation_id: the call's.
        reserved_under: the account as it was when the reservation was committed.
    """
    held = book.reservations.get(reservation_id)
    if held is None or held.unknown_since_s is not None:
        return False
    if any((held.model, tag) in book.quarantined for tag in held.tags):
        return False
    now = book.accounts[held.account]
    if held.key_base is not None and book.key_bases[held.key_base].key_hash != now.key_hash:
        return False
    same = (now.models, now.token_hash, now.key_hash) == (
        reserved_under.models,
        reserved_under.token_hash,
        reserved_under.key_hash,
    )
    return same and now.frozen is None and now.available_pusd >= 0


def refusal(code: Code, account: Account, needed_pusd: int = 0) -> Refusal:
    """Return a refusal that carries the account's balance as it stands."""
    return Refusal(
        code=code,
        limit_pusd=account.limit_pusd,
        spent_pusd=account.posted_pusd,
        reserved_pusd=account.pending_pusd,
        available_pusd=account.available_pusd,
        needed_pusd=needed_pusd,
    )


def _reserve(book: LedgerState, asked: Reserve, at_s: float) -> Change | Refusal:
    account = book.account(asked.account)
    used = asked.reservation_id in book.reservations or asked.reservation_id in book.assumed
    require(not used, f"reservation id {asked.reservation_id} was used before")
    require(asked.reserved_pusd >= 0, "a reservation is not negative")
    if account.frozen is not None:
        return refusal(Code.FROZEN, account, asked.reserved_pusd)
    if any((asked.model, tag) in book.quarantined for tag in asked.tags):
        return refusal(Code.QUARANTINED, account, asked.reserved_pusd)
    if asked.reserved_pusd > account.available_pusd:
        return refusal(Code.DOES_NOT_FIT, account, asked.reserved_pusd)
    reserved = replace(account, pending_pusd=account.pending_pusd + asked.reserved_pusd)
    assert reserved.posted_pusd + reserved.pending_pusd <= reserved.limit_pusd, "an admission passes no limit"
    return Change(account=reserved, reservation=_reservation(asked, at_s))


def _reservation(asked: Reserve, at_s: float) -> Reservation:
    return Reservation(
        id=asked.reservation_id,
        account=asked.account,
        state=ReservationState.PENDING,
        reserved_pusd=asked.reserved_pusd,
        posted_pusd=0,
        api=asked.api,
        model=clean(asked.model),
        tags=asked.tags,
        bound=asked.bound,
        streamed=asked.streamed,
        created_at_s=at_s,
        digest=asked.digest,
        key_base=asked.key_base,
    )


def _mark_unknown(book: LedgerState, command: MarkUnknown, at_s: float) -> Change:
    held = book.held(command.reservation_id)
    since_s = max(at_s, command.ended_by_s) if held.unknown_since_s is None else held.unknown_since_s
    marked = replace(held, unknown_since_s=since_s)
    return Change(reservation=identified(marked, command.call.generation_id, command.call.tag))
