"""The ledger's state in memory, and the change that one command makes to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from preflight_proxy.core.ledger.rows import (
    Account,
    Entry,
    KeyBase,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)


@dataclass(frozen=True, slots=True)
class Change:
    """The rows that one command adds or replaces. All of them are committed together, or none.

    Attributes:
        quarantined: endpoints that are disabled by it.
        cleared: (model, tag) of endpoints that are enabled again.
        overrun_pusd: what it posts above the reservation; nearly always 0.
        key_base: the base of a foreign key, new or lost.
    """

    account: Account | None = None
    reservation: Reservation | None = None
    entry: Entry | None = None
    quarantined: tuple[QuarantinedEndpoint, ...] = ()
    cleared: tuple[tuple[str, str], ...] = ()
    overrun_pusd: int = 0
    key_base: KeyBase | None = None


@dataclass(slots=True)
class LedgerState:
    """The ledger in memory; changed only by `apply`.

    Attributes:
        reservations: the PENDING ones, by id, oldest first.
        assumed: ended ones whose cost was assumed, which `Adjust` may still correct.
        key_bases: of foreign keys, by id, oldest first.
        key_posted_pusd: what the calls of each base have posted together, over all accounts.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    assumed: dict[str, Reservation] = field(default_factory=dict)
    quarantined: dict[tuple[str, str], QuarantinedEndpoint] = field(default_factory=dict)
    next_entry_id: int = 1
    key_bases: dict[int, KeyBase] = field(default_factory=dict)
    key_posted_pusd: dict[int, int] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Apply a change that is committed."""
        if change.account is not None:
            self.accounts[change.account.id] = change.account
        if change.reservation is not None:
            self.put(change.reservation)
        if change.entry is not None:
            assert change.entry.entry_id == self.next_entry_id, "entries are numbered without a gap"
            self.next_entry_id += 1
            if change.reservation is not None and change.reservation.key_base is not None:
                self.key_posted_pusd[change.reservation.key_base] += change.entry.cost_pusd
        if change.key_base is not None:
            self.key_bases[change.key_base.id] = change.key_base
            self.key_posted_pusd.setdefault(change.key_base.id, 0)
        for row in change.quarantined:
            self.quarantined[row.model, row.tag] = row
        for endpoint in change.cleared:
            self.quarantined.pop(endpoint, None)

    def put(self, reservation: Reservation) -> None:
        """Store the row of one reservation; only `apply` and `state_of` call this."""
        if reservation.state is ReservationState.PENDING:
            self.reservations[reservation.id] = reservation
            return
        self.reservations.pop(reservation.id, None)
        if reservation.assumed:
            self.assumed[reservation.id] = reservation
        else:
            self.assumed.pop(reservation.id, None)

    def pending(self, account: str | None = None) -> list[Reservation]:
        """Return the PENDING reservations of an account, or of all, oldest first."""
        return [r for r in self.reservations.values() if account is None or r.account == account]

    def base_of(self, upstream: str, key_hash: str) -> KeyBase | None:
        """Return the base of a foreign key whose usage is evidence; None if there is none."""
        sought = (upstream, key_hash, None)
        return next((b for b in self.key_bases.values() if (b.upstream, b.key_hash, b.lost) == sought), None)

    def account(self, account: str) -> Account:
        """Return the account of this id.

        Raises:
            ValueError: There is none.
        """
        require(account in self.accounts, f"there is no account {account!r}")
        return self.accounts[account]

    def pending_reservation(self, reservation_id: str) -> Reservation:
        """Return the PENDING reservation of this id.

        Raises:
            ValueError: It has ended, or never existed.
        """
        require(reservation_id in self.reservations, f"ended: no reservation {reservation_id} is pending")
        return self.reservations[reservation_id]


def state_of(
    accounts: Iterable[Account],
    reservations: Iterable[Reservation],
    quarantined: Iterable[QuarantinedEndpoint],
    next_entry_id: int,
    key_bases: Iterable[KeyBase] = (),
    key_posted_pusd: Mapping[int, int] | None = None,
) -> LedgerState:
    """Return the state that these rows of the store make up.

    Args:
        accounts: all of them.
        reservations: those PENDING or assumed; others are ignored.
        quarantined: all disabled endpoints.
        next_entry_id: one more than the last entry's.
        key_bases: all of them.
        key_posted_pusd: what the calls of each have posted; 0 for those that are left out.

    Raises:
        ValueError: The rows contradict each other: an account's pending or assumed amount is not the sum of its reservations.
    """
    state = LedgerState(next_entry_id=next_entry_id)
    state.accounts = {account.id: account for account in accounts}
    for reservation in reservations:
        state.put(reservation)
    state.key_bases = {base.id: base for base in key_bases}
    state.key_posted_pusd = {base_id: (key_posted_pusd or {}).get(base_id, 0) for base_id in state.key_bases}
    state.quarantined = {(row.model, row.tag): row for row in quarantined}
    for account in state.accounts.values():
        pending_pusd = sum(r.reserved_pusd for r in state.pending(account.id))
        assumed_pusd = sum(r.posted_pusd for r in state.assumed.values() if r.account == account.id)
        sums = (("pending", pending_pusd, account.pending_pusd), ("assumed", assumed_pusd, account.assumed_pusd))
        for name, sum_pusd, amount_pusd in sums:
            require(sum_pusd == amount_pusd, f"account {account.id}: {name} is not the sum of its reservations")
    return state


def require(condition: bool, message: str) -> None:
    """Reject a command or a row that contradicts the ledger.

    Raises:
        ValueError: The condition is false.
    """
    if not condition:
        raise ValueError(message)
