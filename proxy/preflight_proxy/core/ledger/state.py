"""The ledger's state in memory, and the change that one command makes to it."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from preflight_proxy.core.ledger.rows import (
    Account,
    Entry,
    EntryKind,
    KeyBase,
    KeyFigure,
    QuarantinedEndpoint,
    Reservation,
)


class Change(msgspec.Struct, frozen=True, gc=False):
    """The rows that one command adds or replaces. All of them are committed together, or none.

    Attributes:
        account: the account afterwards.
        reservation: the reservation afterwards; ended if there is an entry too.
        identity_changed: the account differs in more than its balance and its counts.
        quarantined: endpoints that are disabled by it.
        cleared: (model, tag) of endpoints that are enabled again.
        overrun_pusd: what it posts above the reservation; nearly always 0.
        key_base: the base of a foreign key, new or lost.
        key_figures: what a foreign key has used, for accounts that use it.
    """

    account: Account | None = None
    reservation: Reservation | None = None
    entry: Entry | None = None
    identity_changed: bool = False
    quarantined: tuple[QuarantinedEndpoint, ...] = ()
    cleared: tuple[tuple[str, str], ...] = ()
    overrun_pusd: int = 0
    key_base: KeyBase | None = None
    key_figures: tuple[KeyFigure, ...] = ()


EXPOSED_PART = 4
"""While several calls are pending, their exposure is at most the limit divided by this (M24)."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """The pending calls of an account's agent: how many, and the sum of what they may cost above their reservations.

    A weighing costs no more than its reservation, so it does not count.
    """

    count: int = 0
    exposure_pusd: int = 0

    def exposure_max_pusd(self, limit_pusd: int) -> int:
        """The most that one more call may cost above its reservation beside these; a call that is alone, up to the limit (M24).

        Args:
            limit_pusd: of the account.
        """
        return max(0, limit_pusd // EXPOSED_PART - self.exposure_pusd) if self.count else limit_pusd


NOTHING_PENDING = Pending()


class KeyPosted(msgspec.Struct):
    """What the calls of one key base have cost together, over all accounts.

    Attributes:
        posted_pusd: the sum of their entries.
        assumed_pusd: the part that upstream never reported.
    """

    posted_pusd: int = 0
    assumed_pusd: int = 0


class LedgerState(msgspec.Struct, eq=False):
    """The ledger in memory; changed only by `apply`. What became of calls is counted in the accounts besides.

    Attributes:
        tags: of the run, for its cost lines: a JSON object, which a start sets; UNSET where it has none.
        reservations: the pending ones, by id, oldest first.
        next_seq: the number of the next reservation.
        key_bases: of foreign keys, by id, oldest first.
        key_posted: what the calls of each base have cost.
        key_figures: of foreign keys, by the account that uses one. An account with another key has none of the former.
    """

    accounts: dict[str, Account] = {}
    reservations: dict[str, Reservation] = {}
    quarantined: dict[tuple[str, str], QuarantinedEndpoint] = {}
    next_entry_id: int = 1
    next_seq: int = 1
    key_bases: dict[int, KeyBase] = {}
    key_posted: dict[int, KeyPosted] = {}
    key_figures: dict[str, KeyFigure] = {}
    tags: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    _of_account: defaultdict[str, dict[str, Reservation]] = msgspec.field(default_factory=lambda: defaultdict(dict))
    _unknown: Counter[str] = msgspec.field(default_factory=Counter)
    _exposure_pusd: Counter[str] = msgspec.field(default_factory=Counter)
    _weighings: Counter[str] = msgspec.field(default_factory=Counter)

    def apply(self, change: Change) -> None:
        """Apply a change that is committed."""
        if change.account is not None:
            self.accounts[change.account.id] = change.account
            if change.identity_changed:
                self._drop_figure_of_another_key(change.account)
        reservation, entry = change.reservation, change.entry
        if entry is not None:
            assert entry.entry_id == self.next_entry_id, "entries are numbered without a gap"
            self.next_entry_id += 1
            if reservation is not None:
                self._remove(reservation, entry)
        elif reservation is not None:
            self.put(reservation)
        if change.key_base is not None:
            self.key_bases[change.key_base.id] = change.key_base
            self.key_posted.setdefault(change.key_base.id, KeyPosted())
        for figure in change.key_figures:
            self.key_figures[figure.account] = figure
        for row in change.quarantined:
            self.quarantined[row.model, row.tag] = row
        for endpoint in change.cleared:
            self.quarantined.pop(endpoint, None)

    def _drop_figure_of_another_key(self, account: Account) -> None:
        figure = self.key_figures.get(account.id)
        if figure is not None and figure.key_hash != account.key_hash:
            del self.key_figures[account.id]

    def put(self, reservation: Reservation) -> None:
        """Store a pending reservation, new or changed; only `apply` and the fold of a start call this."""
        before = self.reservations.get(reservation.id)
        if reservation.unknown_since_s is not None and (before is None or before.unknown_since_s is None):
            self._unknown[reservation.account] += 1
        if reservation.exposure_pusd and before is None:
            self._exposure_pusd[reservation.account] += reservation.exposure_pusd
        if reservation.purpose and before is None:
            self._weighings[reservation.account] += 1
        self.reservations[reservation.id] = reservation
        self._of_account[reservation.account][reservation.id] = reservation
        if reservation.seq >= self.next_seq:
            self.next_seq = reservation.seq + 1

    def _remove(self, reservation: Reservation, entry: Entry) -> None:
        before = self.reservations.pop(reservation.id)
        del self._of_account[reservation.account][reservation.id]
        if before.unknown_since_s is not None:
            self._unknown[reservation.account] -= 1
        if before.exposure_pusd:
            self._exposure_pusd[reservation.account] -= before.exposure_pusd
        if before.purpose:
            self._weighings[reservation.account] -= 1
        if reservation.key_base is not None:
            posted = self.key_posted[reservation.key_base]
            posted.posted_pusd += entry.cost_pusd
            posted.assumed_pusd += entry.cost_pusd if entry.kind is EntryKind.ASSUMED else 0

    def pending(self, account: str | None = None) -> list[Reservation]:
        """Return the pending reservations of an account, or of all, oldest first."""
        return list((self.reservations if account is None else self._of_account.get(account, {})).values())

    def pending_exposure(self, account: str) -> Pending:
        """Return how many calls of an account are pending, and what they may cost above their reservations (M24)."""
        of_account = self._of_account.get(account)
        count = len(of_account) - self._weighings.get(account, 0) if of_account else 0
        return Pending(count, self._exposure_pusd[account]) if count else NOTHING_PENDING

    def unknown_count(self, account: str) -> int:
        """Return how many pending calls of an account have an unknown outcome."""
        return self._unknown.get(account, 0)

    def base_of(self, upstream: str, key_hash: str) -> KeyBase | None:
        """Return the base of a foreign key whose usage is evidence; None if there is none."""
        for base in self.key_bases.values():
            if base.lost is None and base.key_hash == key_hash and base.upstream == upstream:
                return base
        return None

    def account(self, account: str) -> Account:
        """Return the account of this id.

        Raises:
            ValueError: There is none.
        """
        try:
            return self.accounts[account]
        except KeyError:
            raise ValueError(f"there is no account {account!r}") from None

    def pending_reservation(self, reservation_id: str) -> Reservation:
        """Return the pending reservation of this id.

        Raises:
            ValueError: It has ended, or never existed.
        """
        try:
            return self.reservations[reservation_id]
        except KeyError:
            raise ValueError(f"ended: no reservation {reservation_id} is pending") from None


def require(condition: bool, message: str) -> None:
    """Reject a command or a row that contradicts the ledger.

    Raises:
        ValueError: The condition is false.
    """
    if not condition:
        raise ValueError(message)
