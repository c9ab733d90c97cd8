"""The ledger's state in memory, and the change that one transition makes to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from preflight_proxy.core.ledger.rows import Account, Entry, KeyBase, QuarantinedEndpoint, Reservation, ReservationState


@dataclass(frozen=True, slots=True)
class Change:
    """The rows that one transition adds or replaces; all of them become durable together, or none.

    Attributes:
        overrun_pusd: what this change posted above the reservation; 0 nearly always.
        quarantined: endpoints that go out of use with it.
        cleared: (model, tag) of endpoints that come back into use.
        key_base: a foreign key's base, new or lost.
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
    """The ledger's state in memory; changed by `apply` alone.

    Attributes:
        reservations: the PENDING ones, by id, oldest first.
        assumed: ended ones whose cost was assumed, which an adjustment may still correct.
        key_bases: of foreign keys, by id, oldest first.
        key_posted_pusd: what the calls of each base have posted together, whatever their accounts.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    assumed: dict[str, Reservation] = field(default_factory=dict)
    quarantined: dict[tuple[str, str], QuarantinedEndpoint] = field(default_factory=dict)
    next_entry_id: int = 1
    key_bases: dict[int, KeyBase] = field(default_factory=dict)
    key_posted_pusd: dict[int, int] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Take in a change that is durable."""
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
        """Take in one reservation's row; `apply` and `state_of` alone call this."""
        if reservation.state is ReservationState.PENDING:
            self.reservations[reservation.id] = reservation
            return
        self.reservations.pop(reservation.id, None)
        if reservation.assumed:
            self.assumed[reservation.id] = reservation
        else:
            self.assumed.pop(reservation.id, None)

    def pending(self, account: str | None = None) -> list[Reservation]:
        """The PENDING reservations of an account, or of all, oldest first."""
        return [r for r in self.reservations.values() if account is None or r.account == account]

    def base_of(self, upstream: str, key_hash: str) -> KeyBase | None:
        """The base of a foreign key whose usage is evidence; None if there is none."""
        asked = (upstream, key_hash, None)
        return next((b for b in self.key_bases.values() if (b.upstream, b.key_hash, b.lost) == asked), None)

    def account(self, account: str) -> Account:
        """The account of this id.

        Raises:
            ValueError: There is none.
        """
        found = self.accounts.get(account)
        if found is None:
            raise ValueError(f"there is no account {account!r}")
        return found

    def held(self, reservation_id: str) -> Reservation:
        """The PENDING reservation of this id.

        Raises:
            ValueError: It has ended, or never was.
        """
        found = self.reservations.get(reservation_id)
        if found is None:
            raise ValueError(f"ended: no reservation {reservation_id} is pending")
        return found


def state_of(
    accounts: Iterable[Account],
    reservations: Iterable[Reservation],
    quarantined: Iterable[QuarantinedEndpoint],
    next_entry_id: int,
    key_bases: Iterable[KeyBase] = (),
    key_posted_pusd: Mapping[int, int] | None = None,
) -> LedgerState:
    """Return the book that these durable rows make up.

    Args:
        accounts: all of them.
        reservations: those PENDING or assumed; others are left aside.
        quarantined: all endpoints out of use.
        next_entry_id: one more than the last entry's.
        key_bases: all of them.
        key_posted_pusd: what the calls of each have posted; those that have posted nothing may be left out.

    Raises:
        ValueError: The rows contradict each other: an account's pending amount is not the sum of its reservations.
    """
    book = LedgerState(next_entry_id=next_entry_id)
    book.accounts = {account.id: account for account in accounts}
    for reservation in reservations:
        book.put(reservation)
    book.key_bases = {base.id: base for base in key_bases}
    book.key_posted_pusd = {base_id: (key_posted_pusd or {}).get(base_id, 0) for base_id in book.key_bases}
    book.quarantined = {(row.model, row.tag): row for row in quarantined}
    for account in book.accounts.values():
        held_pusd = sum(r.reserved_pusd for r in book.pending(account.id))
        assumed_pusd = sum(r.posted_pusd for r in book.assumed.values() if r.account == account.id)
        require(held_pusd == account.pending_pusd, f"account {account.id}: pending is not the sum of its reservations")
        require(
            assumed_pusd == account.assumed_pusd, f"account {account.id}: assumed is not the sum of its reservations"
        )
    return book


def require(holds: bool, message: str) -> None:
    """Refuse a command that contradicts the books.

    Raises:
        ValueError: It does not hold.
    """
    if not holds:
        raise ValueError(message)
