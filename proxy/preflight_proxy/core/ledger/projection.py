"""What a start needs instead of all rows: the balances at one moment, and the fold of the rows that came after it.

The tables of reservations and entries only grow. About once a second the store writes a projection: the accounts as they were, and
the marks up to which they count. The ledger is the projection, changed by every row after its marks. So the time of a start depends
on the rows of the last second, and not on the length of the ledger. No row before the marks is read, and none is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from preflight_proxy.core.ledger.cost_line import tokens_of
from preflight_proxy.core.ledger.rows import Account, Entry, EntryKind, KeyBase, QuarantinedEndpoint, Reservation
from preflight_proxy.core.ledger.settle import recovered, settled
from preflight_proxy.core.ledger.state import Change, KeyPosted, LedgerState, require
from preflight_proxy.core.refusals.outcomes import NONE_YET

IN_ROW = (
    *("id", "run", "limit_pusd", "frozen_reason", "usage_unread", "models", "token_hash", "key_hash", "key_is_own"),
    *("key_usage_base_pusd", "budget_file", "budget_mode"),
)
"""The fields of an account that are in its row, which is written with each command that changes them."""
PROJECTED = tuple(name for name in Account.__struct_fields__ if name not in IN_ROW)
"""The fields that change with calls: they are in the projection."""


class Marks(msgspec.Struct, frozen=True):
    """Up to which rows a projection counts.

    Attributes:
        entry_id: the last entry that the balances include.
        seq: the last reservation that they include.
        pending: the numbers of the reservations that were pending.
        key_posted: for each key base what its calls had posted, and the assumed part.
        listed: costs.jsonl had the lines of all entries up to the first number in as many bytes as the second says.
    """

    entry_id: int = 0
    seq: int = 0
    pending: tuple[int, ...] = ()
    key_posted: dict[int, tuple[int, int]] = {}
    listed: tuple[int, int] = (0, 0)


def marks_of(state: LedgerState, listed: tuple[int, int]) -> Marks:
    """Return the marks of a projection of the state as it is."""
    return Marks(
        state.next_entry_id - 1,
        state.next_seq - 1,
        tuple(reservation.seq for reservation in state.reservations.values()),
        {base: (posted.posted_pusd, posted.assumed_pusd) for base, posted in state.key_posted.items()},
        listed,
    )


def projected(row: Account, before: Account | None) -> Account:
    """Return the account of a row with its balance and its counts as they were projected.

    Args:
        row: the account's row, which is newer: limit, freeze, token and key.
        before: the projected account; None if the account was opened after the projection.
    """
    if before is None:
        return row
    account = replace(row, **{name: getattr(before, name) for name in PROJECTED})
    # A new token begins new counts (`OpenAccount`).
    return account if before.token_hash == row.token_hash else replace(account, outcomes=NONE_YET)


def fold(
    marks: Marks,
    accounts: Iterable[Account],
    pending: Iterable[Reservation],
    new: Iterable[Reservation],
    entries: Iterable[Entry],
    key_bases: Iterable[KeyBase] = (),
    quarantined: Iterable[QuarantinedEndpoint] = (),
) -> LedgerState:
    """Return the state that a projection and the rows after it make up.

    Args:
        marks: up to where the accounts count.
        accounts: all of them, as `projected`.
        pending: the reservations that were pending at the marks, oldest first, with their generation ids and unknown marks of now.
        new: the reservations after the marks, in order, likewise.
        entries: the entries after the marks, in order.
        key_bases: all of them.
        quarantined: all disabled endpoints.

    Raises:
        ValueError: The rows contradict each other or the projection: rows are missing, or a sum is not the sum of its parts.
    """
    state = LedgerState(next_entry_id=marks.entry_id + 1, next_seq=marks.seq + 1)
    for base in key_bases:
        state.apply(Change(key_base=base))
    state.key_posted |= {base: KeyPosted(*sums) for base, sums in marks.key_posted.items()}
    state.apply(Change(quarantined=tuple(quarantined)))
    state.accounts = {account.id: account for account in accounts}
    for reservation in pending:
        state.put(reservation)
    require(len(state.reservations) == len(marks.pending), "pending reservations are missing")
    for account in state.accounts.values():
        pending_pusd = sum(reservation.reserved_pusd for reservation in state.pending(account.id))
        require(
            pending_pusd == account.pending_pusd, f"account {account.id}: pending is not the sum of its reservations"
        )
    for reservation in new:
        require(reservation.seq == state.next_seq, "reservations are missing")
        account = state.account(reservation.account)
        charged = replace(account, pending_pusd=account.pending_pusd + reservation.reserved_pusd)
        state.apply(Change(charged, reservation))
    for entry in entries:
        require(entry.entry_id == state.next_entry_id, "entries are missing")
        state.apply(_of_entry(state, entry))
    return state


def _of_entry(state: LedgerState, entry: Entry) -> Change:
    account = state.account(entry.account)
    if entry.kind is EntryKind.RECOVERED:
        return Change(recovered(account, entry.cost_pusd, entry.at_s), entry=entry)
    reservation = state.pending_reservation(entry.reservation_id or "")
    after = settled(account, reservation, entry.kind, entry.cost_pusd, tokens_of(entry.line), entry.at_s)
    return Change(after, reservation, entry)


def check_sums(accounts: Mapping[str, Account], entries: Iterable[Entry]) -> None:
    """Check the balances against all entries. It takes as long as the ledger is: for audits, not for starts.

    Raises:
        ValueError: An account's posted amount is not the sum of its entries.
    """
    sums: dict[str, int] = {}
    for entry in entries:
        sums[entry.account] = sums.get(entry.account, 0) + entry.cost_pusd
    for account in accounts.values():
        require(
            sums.get(account.id, 0) == account.posted_pusd,
            f"account {account.id}: posted is not the sum of its entries",
        )
