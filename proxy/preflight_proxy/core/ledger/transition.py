"""The only place where a balance changes: a pure function from the ledger's state and a command to a change.

`LedgerState` holds the accounts, the pending reservations. `transition` returns a `Change` (the
new rows; nothing is applied), or a `Refusal`. The store commits the change in one transaction, and only then is it
applied to the state (`LedgerState.apply`). So memory is never ahead of the disk.

    command       pending becomes     account                               entry
    Reserve       (new) pending       pending + reserved                    -
    Post          ended               pending - reserved, posted + cost     posted; above reserved: overrun, quarantine (M14)
    Void          ended               pending - reserved                    voided, cost 0
    Assume        ended               pending - reserved, posted + cost     assumed; at most what was reserved
    Recover       -                   posted + cost                         recovered; none where the cost is 0

After every change: posted = the sum of the account's entries; pending = the sum of its pending reservations; neither is negative.
At every admission: posted + pending <= limit. Later, only a true cost (overrun, recovery) or a lowered limit can take
an account above it. M14 (overrun): the bill is above the reservation.
"""

from __future__ import annotations

from msgspec.structs import replace

from preflight_proxy.core.ledger.account_changes import account_changed
from preflight_proxy.core.ledger.commands import (
    Assume,
    ClearQuarantine,
    Command,
    KeepKeyFigure,
    LoseKeyBase,
    MarkUnknown,
    NoteKeyBase,
    Post,
    Quarantine,
    Recover,
    Reserve,
    SetGeneration,
    Void,
)
from preflight_proxy.core.ledger.cost_line import clean
from preflight_proxy.core.ledger.rows import (
    Account,
    EntryKind,
    KeyBase,
    KeyFigure,
    QuarantinedEndpoint,
    Reservation,
)
from preflight_proxy.core.ledger.settle import end, identified, recover
from preflight_proxy.core.ledger.state import Change, LedgerState
from preflight_proxy.core.refusals.refusals import Code, Refusal


def transition(state: LedgerState, command: Command, at_s: float) -> Change | Refusal:
    """Return what a command changes; the state itself stays as it is.

    Args:
        state: the ledger before.
        command: what to do.
        at_s: now, in seconds since the epoch.

    Returns:
        The change to commit and apply. For `Reserve` it may be a refusal: nothing changes.

    Raises:
        ValueError: The command contradicts the ledger (a second end, an id in use, an unknown account, a bad amount), which is
            an error of the caller. Nothing changes.
    """
    match command:
        case Reserve():
            return _reserve(state, command, at_s)
        case SetGeneration(reservation_id, generation_id, tag):
            pending = state.pending_reservation(reservation_id)
            return (
                Change(reservation=identified(pending, generation_id, tag))
                if pending.generation_id is None
                else Change()
            )
        case MarkUnknown():
            return _mark_unknown(state, command, at_s)
        case Post(reservation_id, cost_pusd, call, label, is_miscount):
            return end(
                state, reservation_id, EntryKind.POSTED, cost_pusd, call, at_s, label=label, is_miscount=is_miscount
            )
        case Void(reservation_id, reason, call):
            return end(state, reservation_id, EntryKind.VOIDED, 0, call, at_s, reason)
        case Assume(reservation_id, cost_pusd, call):
            return end(state, reservation_id, EntryKind.ASSUMED, cost_pusd, call, at_s)
        case Recover():
            return recover(state, command, at_s)
        case Quarantine(model, tag, reason):
            return Change(quarantined=(QuarantinedEndpoint(model, tag, reason, at_s),))
        case ClearQuarantine(model, tag):
            return Change(cleared=((model, tag),))
        case NoteKeyBase(upstream, key_hash, usage_pusd, byok_pusd):
            return Change(key_base=KeyBase(len(state.key_bases) + 1, upstream, key_hash, usage_pusd, byok_pusd, at_s))
        case KeepKeyFigure():
            return Change(key_figures=_figures(state, command, at_s))
        case LoseKeyBase(base_id, reason):
            base = state.key_bases[base_id]
            return Change(key_base=replace(base, lost=base.lost or clean(reason)))
        case _:
            return Change(account=account_changed(state, command), identity_changed=True)


def may_send(state: LedgerState, reservation_id: str, reserved_under: Account) -> bool:
    """Return whether the call may be sent now (M10 (check before sending)). No await may lie between this and the first byte.

    Its reservation must be pending, its account neither frozen nor changed, and none of its endpoints quarantined (M14).

    Args:
        state: the ledger now.
        reservation_id: the call's.
        reserved_under: the account as it was when the reservation was committed.
    """
    reservation = state.reservations.get(reservation_id)
    if reservation is None or reservation.unknown_since_s is not None:
        return False
    if state.quarantined and any((reservation.model, tag) in state.quarantined for tag in reservation.tags):
        return False
    account = state.accounts[reservation.account]
    if reservation.key_base is not None and state.key_bases[reservation.key_base].key_hash != account.key_hash:
        return False
    is_same = (account.models, account.token_hash, account.key_hash) == (
        reserved_under.models,
        reserved_under.token_hash,
        reserved_under.key_hash,
    )
    return is_same and account.frozen is None and account.available_pusd >= 0


def refusal(code: Code, account: Account, needed_pusd: int = 0) -> Refusal:
    """Return a refusal with the account's balance."""
    return Refusal(
        code=code,
        limit_pusd=account.limit_pusd,
        posted_pusd=account.posted_pusd,
        pending_pusd=account.pending_pusd,
        available_pusd=account.available_pusd,
        needed_pusd=needed_pusd,
        rate=account.rate,
    )


def _reserve(state: LedgerState, command: Reserve, at_s: float) -> Change | Refusal:
    account, reserved_pusd = state.account(command.account), command.reserved_pusd
    if command.reservation_id in state.reservations:
        raise ValueError(f"reservation id {command.reservation_id} was used before")
    if reserved_pusd < 0 or command.exposure_pusd < 0:
        raise ValueError("neither a reservation nor an exposure is negative")
    if account.frozen is not None:
        return refusal(Code.FROZEN, account, reserved_pusd)
    if state.quarantined and any((command.model, tag) in state.quarantined for tag in command.tags):
        return refusal(Code.QUARANTINED, account, reserved_pusd)
    if reserved_pusd > account.available_pusd:
        return refusal(Code.DOES_NOT_FIT, account, reserved_pusd)
    exposure_pusd, pending = command.exposure_pusd, state.pending_exposure(account.id)
    if pending.count and exposure_pusd > pending.exposure_max_pusd(account.limit_pusd):
        return refusal(Code.DOES_NOT_FIT, account, reserved_pusd)
    charged = replace(account, pending_pusd=account.pending_pusd + reserved_pusd, rate=command.rate or account.rate)
    assert charged.posted_pusd + charged.pending_pusd <= charged.limit_pusd, "an admission passes no limit"
    reservation = Reservation(
        id=command.reservation_id,
        account=command.account,
        reserved_pusd=reserved_pusd,
        api=command.api,
        model=clean(command.model),
        tags=command.tags,
        bound=command.bound,
        streamed=command.streamed,
        created_at_s=at_s,
        digest=command.digest,
        key_base=command.key_base,
        seq=state.next_seq,
        exposure_pusd=exposure_pusd,
        purpose=command.purpose,
        cache_read_tokens=command.cache_read_tokens,
    )
    return Change(account=charged, reservation=reservation)


def _figures(state: LedgerState, command: KeepKeyFigure, at_s: float) -> tuple[KeyFigure, ...]:
    usage_pusd, upstream, key_hash = command.usage_pusd, command.upstream, command.key_hash
    users = (a for a in state.accounts.values() if a.key_hash == key_hash and not a.key_is_own and not a.usage_unread)
    return tuple(
        KeyFigure(user.id, upstream, key_hash, usage_pusd, user.posted_pusd - user.recovered_pusd, at_s)
        for user in users
        if usage_pusd is not None or _is_of_another(state.key_figures.get(user.id), upstream)
    )


def _is_of_another(figure: KeyFigure | None, upstream: str) -> bool:
    return figure is not None and figure.upstream != upstream


def _mark_unknown(state: LedgerState, command: MarkUnknown, at_s: float) -> Change:
    pending = state.pending_reservation(command.reservation_id)
    if pending.unknown_since_s is not None:
        return Change()
    marked = replace(pending, unknown_since_s=max(at_s, command.ended_by_s))
    return Change(reservation=identified(marked, command.call.generation_id, command.call.tag))
