"""The ledger on disk: SQLite, one writing connection, one transaction per transition (M21).

A commit is acknowledged when `Store.commit` returns: it then survives kill -9 of this process at any instant; with durability
"power" also a loss of power. A second connection, in a thread of its own, moves the write-ahead log into the file: done on the
writing connection that would hold up commits for a fifth of a second.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import astuple, replace
from pathlib import Path

import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Command, Conclude, Refuse, Reserve
from preflight_proxy.core.ledger.rows import OPENROUTER, Entry, Reservation
from preflight_proxy.core.ledger.state import Change, LedgerState, state_of
from preflight_proxy.core.ledger.transition import transition
from preflight_proxy.core.refusals.refusals import Refusal
from preflight_proxy.ledger import file, schema
from preflight_proxy.ledger.disk_reserve import DiskReserve
from preflight_proxy.ledger.file import COSTS, Durability
from preflight_proxy.ledger.files import last_listed
from preflight_proxy.ledger.reader import entries_of

PLACE_LOOK_S = 1.0
"""How often it is checked whether the ledger is still in its place."""
GONE = "the ledger is gone from its place: it was deleted, moved or replaced"

_log = structlog.get_logger("preflight_proxy.ledger.store")


class Store:
    """The durable ledger. Used from one thread; opening it loads the state and takes the lock.

    Args:
        path: the SQLite file; made if absent, its directory must exist.
        durability: "process" survives the death of the process, "power" also that of the machine (0.4 ms and more per commit).
        clock: the moments of entries.
        boot_id: which boot of the machine this is; read from the system by default.
        upstream: the origin of the API that calls go to: endpoints go out of use there, and those of others are not looked at.

    Attributes:
        state: the ledger's state; to be read, and changed through `commit` alone.
        poisoned: a commit has failed or the file is gone, nothing is committed any more until a restart.
        on_poisoned: Called once, with the reason.
        boot_changed: the machine restarted since the last commit, and those commits were not made to survive that: every account
            is frozen until its key's usage was read (`Recover`).

    Raises:
        LedgerError: Another proxy holds the file; it cannot be read or written; its sums do not match its entries.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "process",
        clock: Clock,
        boot_id: str | None = None,
        upstream: str = OPENROUTER,
    ) -> None:
        self._path = path
        self._upstream = upstream
        self._clock = clock
        self._uncounted: set[str] = set()
        self._closed = self.poisoned = False
        self.on_poisoned: Callable[[str], None] = lambda _why: None
        file.refuse_lost(path)
        with ExitStack() as undo:
            self._lock = file.LedgerLock(path)
            undo.callback(self._lock.release)
            self._connection = file.connect(path, durability)
            undo.callback(self._connection.close)
            try:
                boot_id = file.boot_id() if boot_id is None else boot_id
                listed_id = last_listed(path.with_name(COSTS))
                self.boot_changed = file.note_start(self._connection, boot_id, durability, listed_id)
                self.state = _load(self._connection, upstream)
                self._outcomes = {account.id: account.outcomes for account in self.state.accounts.values()}
                file.make_costs_file(path, self._connection)
                self._place = file.identities(path)
                self._space = DiskReserve(path.with_name(path.name + "-space"))
                self._checkpointer = file.Checkpointer(path)
            except (sqlite3.Error, ValueError, OSError) as exc:
                raise LedgerError(f"the ledger {path} cannot be used: {exc}") from exc
            undo.pop_all()

    def commit(self, command: Command) -> Change | Refusal:
        """Make one transition durable, then apply it to the state in memory.

        What became of a call (`Refuse`, `Conclude`) is kept in memory and becomes durable with the account's next change.

        Returns:
            What changed; a refusal, which changes nothing, for `Reserve` alone.

        Raises:
            ValueError: The command contradicts the ledger; nothing has changed.
            LedgerError: The change could not be made durable, or an earlier one could not. The state is as before; what the disk
                holds of this change is known after a restart.
        """
        if isinstance(command, Refuse | Conclude):
            return self._count(command)
        if self.poisoned:
            raise LedgerError("the ledger could not be written; nothing is posted until the proxy is started again")
        if self._space.is_used and isinstance(command, Reserve):
            raise LedgerError(
                "the disk is full; nothing new is reserved until there is room and the proxy is started again"
            )
        change = transition(self.state, command, self._clock.epoch_s())
        if isinstance(change, Refusal):
            return change
        if change.quarantined:
            out_of_use = tuple(replace(row, upstream=self._upstream) for row in change.quarantined)
            change = replace(change, quarantined=out_of_use)
        self._write(change)
        self.state.apply(change)
        return change

    def _count(self, command: Refuse | Conclude) -> Change | Refusal:
        change = transition(self.state, command, self._clock.epoch_s())
        assert isinstance(change, Change)
        self.state.apply(change)
        self._uncounted.add(command.account)
        return change

    def _write(self, change: Change) -> None:
        try:
            try:
                self._transact(change)
            except sqlite3.OperationalError as exc:
                self._roll_back()
                if exc.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._space.use():
                    raise
                self._transact(change)
        except sqlite3.IntegrityError as exc:
            self._roll_back()
            new = change.reservation
            if new is not None and new.id not in self.state.reservations and new.id not in self.state.assumed:
                raise ValueError(f"reservation id {new.id} was used before") from exc
            raise self._poison(exc) from exc
        except Exception as exc:
            self._roll_back()
            raise self._poison(exc) from exc
        self._checkpointer.dirty = True
        if change.account is not None:
            self._uncounted.discard(change.account.id)
            self._outcomes[change.account.id] = change.account.outcomes

    def _transact(self, change: Change) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._rows(change)
        self._connection.execute("COMMIT")

    def _rows(self, change: Change) -> None:
        execute = self._connection.execute
        if change.account is not None:
            execute(schema.PUT_ACCOUNT, schema.account_row(change.account))
            if change.account.outcomes is not self._outcomes.get(change.account.id):
                execute(schema.PUT_META, schema.outcomes_row(change.account))
        if (reservation := change.reservation) is not None:
            if reservation.id in self.state.reservations or reservation.id in self.state.assumed:
                execute(schema.SET_RESERVATION, schema.reservation_update(reservation))
            else:
                execute(schema.ADD_RESERVATION, schema.reservation_row(reservation))
        if change.entry is not None:
            execute(schema.ADD_ENTRY, schema.entry_row(change.entry))
        if change.key_base is not None:
            execute(schema.PUT_KEY_BASE, schema.key_base_row(change.key_base))
        for row in change.quarantined:
            execute(schema.PUT_QUARANTINE, astuple(row))
        for endpoint in change.cleared:
            execute("DELETE FROM quarantine WHERE model = ? AND tag = ? AND upstream = ?", (*endpoint, self._upstream))

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as exc:
            _log.error("ledger.rollback_failed", error=str(exc))

    def _poison(self, exc: Exception) -> LedgerError:
        self.poison(str(exc))
        return LedgerError(f"the ledger {self._path} cannot be written ({exc}); nothing is posted until a restart")

    def poison(self, why: str) -> None:
        """Close the ledger to every change until a restart."""
        if self.poisoned:
            return
        self.poisoned = True
        _log.error("ledger.poisoned", path=str(self._path), error=why)
        self.on_poisoned(why)

    @property
    def reserves(self) -> bool:
        """Whether a new call can be reserved: every commit has succeeded, and the disk has room."""
        return not (self.poisoned or self._space.is_used)

    def is_in_place(self) -> bool:
        """Whether the names of the ledger and of SQLite's files beside it still lead to those that are open. Thread-safe."""
        return file.identities(self._path) == self._place

    async def watch_place(self, every_s: float = PLACE_LOOK_S) -> None:
        """Poison the store once its file is gone from its place; returns then, or when it is poisoned for another reason.

        What is committed to a file without a name is lost at the end of the process, and the next one would begin whole budgets.
        """
        while not self.poisoned:
            await asyncio.sleep(every_s)
            if not await asyncio.to_thread(self.is_in_place):
                self.poison(GONE)

    def pending(self, account: str | None = None) -> list[Reservation]:
        """The PENDING reservations of an account, or of all, oldest first."""
        return self.state.pending(account)

    def entries(self) -> Iterator[Entry]:
        """All entries, in order.

        Raises:
            LedgerError: The file cannot be read.
        """
        return entries_of(self._connection)

    def last_entry_s(self, account: str) -> float:
        """When the account's last entry was written, in seconds since the epoch; 0 if it has none.

        Raises:
            LedgerError: The file cannot be read.
        """
        try:
            (last_s,) = self._connection.execute(
                "SELECT ifnull(max(at_s), 0) FROM entries WHERE account = ?", (account,)
            ).fetchone()
        except sqlite3.Error as exc:
            raise LedgerError(f"the ledger {self._path} cannot be read: {exc}") from exc
        return float(last_s)

    def reservation(self, reservation_id: str) -> Reservation | None:
        """A reservation, ended or not; None if there never was one of this id."""
        return next(iter(self._reservations("id = ?", reservation_id)), None)

    def is_anothers(self, generation_id: str, reservation_id: str) -> bool:
        """True if upstream's id is that of another call, of whatever account, ended or not."""
        return bool(self._reservations("generation_id = ? AND id <> ?", generation_id, reservation_id))

    def generation(self, account: str, generation_id: str) -> Reservation | None:
        """The account's reservation that upstream knows by this id; None if it has none."""
        return next(iter(self._reservations("generation_id = ? AND account = ?", generation_id, account)), None)

    def _reservations(self, where: str, *values: object) -> list[Reservation]:
        try:
            return schema.read_reservations(self._connection, where, *values)
        except sqlite3.Error as exc:
            raise LedgerError(f"the ledger {self._path} cannot be read: {exc}") from exc

    def close(self) -> None:
        """Write the counts in memory, move the log into the file, and release the lock. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._checkpointer.stop()
        self._space.close()
        if not self.is_in_place():
            self.poison(GONE)
        try:
            if not self.poisoned:
                for account in sorted(self._uncounted):
                    self._write(Change(account=self.state.accounts[account]))
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        except (sqlite3.Error, LedgerError) as exc:
            _log.error("ledger.close_failed", error=str(exc))
        finally:
            self._connection.close()
            self._lock.release()


def _load(connection: sqlite3.Connection, upstream: str) -> LedgerState:
    """Read the ledger's state, and check it against the entries.

    Raises:
        ValueError: The sums do not match the entries.
    """
    accounts = schema.read_accounts(connection)
    sums = dict(connection.execute("SELECT account, sum(cost_pusd) FROM entries GROUP BY account"))
    for account in accounts:
        if sums.get(account.id, 0) != account.posted_pusd:
            raise ValueError(f"account {account.id}: posted is not the sum of its entries")
    open_ones = schema.read_reservations(connection, "state = 'pending' OR assumed")
    out_of_use = [row for row in schema.read_quarantine(connection) if row.upstream == upstream]
    bases, posted_pusd = schema.read_key_bases(connection), schema.read_key_posted_pusd(connection)
    return state_of(accounts, open_ones, out_of_use, schema.next_entry_id(connection), bases, posted_pusd)
