"""The ledger on disk: SQLite, one writing connection, one INSERT per transition of a call (M21).

A commit is acknowledged when `Store.commit` returns: it then survives kill -9 of this process at any instant; with durability
"power" also a loss of power. A second connection, in a thread of its own, writes the projection and moves the write-ahead log into
the file: done on the writing connection that would hold up commits for a fifth of a second.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import structlog
from msgspec.structs import astuple, replace

from preflight_proxy.base.clock import Clock
from preflight_proxy.base.config import Durability
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Command, Reserve
from preflight_proxy.core.ledger.projection import marks_of
from preflight_proxy.core.ledger.rows import OPENROUTER, Account, Entry, Reservation
from preflight_proxy.core.ledger.state import Change
from preflight_proxy.core.ledger.transition import transition
from preflight_proxy.core.refusals.refusals import Refusal
from preflight_proxy.ledger import file, tables
from preflight_proxy.ledger.disk_reserve import DiskReserve
from preflight_proxy.ledger.file import COSTS
from preflight_proxy.ledger.files import CostLog, read_listing

LEDGER_LOOK_S = 1.0
"""How often a projection is written, and how often it is checked whether the ledger is still in its place."""
GONE = "the ledger is gone from its place: it was deleted, moved or replaced"

Statement = tuple[str, tables.Row]

_log = structlog.get_logger("preflight_proxy.ledger.store")


class GenerationTakenError(ValueError):
    """Upstream named a call by the id of another call of this ledger (M16). Nothing has changed."""


class Store:
    """The durable ledger. Used from one thread; opening it takes the lock, loads the state and completes costs.jsonl.

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
        cost_log: costs.jsonl beside the ledger.
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
        self._durability = durability
        self._unprojected: set[str] = set()
        self._closed = self.poisoned = False
        self.on_poisoned: Callable[[str], None] = lambda _why: None
        file.refuse_lost(path)
        with ExitStack() as undo:
            self._lock = file.LedgerLock(path)
            undo.callback(self._lock.release)
            self._connection = file.connect(path, durability)
            undo.callback(self._connection.close)
            self._cursor = self._connection.cursor()
            try:
                boot_id = file.boot_id() if boot_id is None else boot_id
                self.cost_log = CostLog(path.with_name(COSTS))
                is_new_boot, marks = file.boot_changed(self._connection, boot_id), tables.read_marks(self._connection)
                # The machine may have lost parts of the file, so that the mark says nothing.
                listing = read_listing(path.with_name(COSTS), (0, 0) if is_new_boot else marks.listed)
                self.boot_changed = file.note_start(self._connection, boot_id, durability, listing.last_id)
                self.state = tables.read_state(self._connection, upstream)
                self.state.next_entry_id = max(self.state.next_entry_id, file.last_entry_id(self._connection) + 1)
                file.make_costs_file(path, self._connection)
                self.cost_log.complete(listing, self.entries(listing.through))
                self._project_all()
                self._place = file.identities(path)
                self._space = DiskReserve(path.with_name(path.name + "-space"))
                self._checkpointer = file.Checkpointer(path)
            except (sqlite3.Error, ValueError, OSError) as exc:
                raise LedgerError(f"the ledger {path} cannot be used: {exc}") from exc
            undo.pop_all()

    def commit(self, command: Command) -> Change | Refusal:
        """Make one transition durable, then apply it to the state in memory.

        Returns:
            What changed; a refusal, which changes nothing, for `Reserve` alone.

        Raises:
            ValueError: The command contradicts the ledger; nothing has changed.
            GenerationTakenError: The id is another call's.
            LedgerError: The change could not be made durable, or an earlier one could not. The state is as before; what the disk
                holds of this change is known after a restart.
        """
        if self.poisoned or self._space.is_used:
            self._check_open(command)
        change = transition(self.state, command, self._clock.epoch_s())
        if isinstance(change, Refusal):
            return change
        if change.quarantined:
            out_of_use = tuple(replace(row, upstream=self._upstream) for row in change.quarantined)
            change = replace(change, quarantined=out_of_use)
        if statements := self._statements(change):
            synced = change.quarantined != ()
            try:
                self._transact(statements, synced=synced)
            except Exception as exc:
                self._write_again(exc, statements, synced=synced)
            self._checkpointer.dirty = True
        self.state.apply(change)
        if change.account is not None:
            self._unprojected.add(change.account.id)
        return change

    def note(self, account: Account) -> None:
        """Take in an account with other counts of calls. They are kept in memory until the next projection."""
        self.state.accounts[account.id] = account
        self._unprojected.add(account.id)

    def _check_open(self, command: Command) -> None:
        if self.poisoned:
            raise LedgerError("the ledger could not be written; nothing is posted until the proxy is started again")
        if self._space.is_used and isinstance(command, Reserve):
            raise LedgerError(
                "the disk is full; nothing new is reserved until there is room and the proxy is started again"
            )

    def _statements(self, change: Change) -> list[Statement]:
        """The rows of a change: one for each transition of a call, unless it is an overrun."""
        statements: list[Statement] = []
        account, reservation, entry = change.account, change.reservation, change.entry
        if account is not None and change.identity_changed:
            statements.append((tables.PUT_ACCOUNT, tables.account_row(account)))
        if reservation is not None:
            before = self.state.reservations.get(reservation.id)
            if before is None:
                statements.append((tables.ADD_RESERVATION, tables.reservation_row(reservation)))
            else:
                seq, tag, since_s = reservation.seq, reservation.tag, reservation.unknown_since_s
                if reservation.generation_id != before.generation_id:
                    statements.append((tables.ADD_GENERATION, (seq, reservation.generation_id, tag)))
                if since_s != before.unknown_since_s:
                    statements.append((tables.ADD_UNKNOWN, (seq, since_s, tag)))
        if entry is not None:
            statements.append((tables.ADD_ENTRY, tables.entry_row(entry)))
        if change.key_base is not None:
            statements.append((tables.PUT_KEY_BASE, astuple(change.key_base)))
        for figure in change.key_figures:
            statements.append((tables.PUT_KEY_FIGURE, astuple(figure)))
        for row in change.quarantined:
            statements.append((tables.PUT_QUARANTINE, astuple(row)))
        for endpoint in change.cleared:
            statements.append((tables.CLEAR_QUARANTINE, (*endpoint, self._upstream)))
        return statements

    def _write_again(self, failure: Exception, statements: list[Statement], *, synced: bool) -> None:
        """Roll back, and write once more if the disk was full and its reserve makes room; else nothing has changed."""
        self._roll_back()
        is_full = isinstance(failure, sqlite3.OperationalError) and failure.sqlite_errorcode == sqlite3.SQLITE_FULL
        if is_full and self._space.use():
            try:
                return self._transact(statements, synced=synced)
            except Exception as exc:
                self._roll_back()
                failure = exc
        is_of_generation = any(sql == tables.ADD_GENERATION for sql, _row in statements)
        if isinstance(failure, sqlite3.IntegrityError) and is_of_generation:
            raise GenerationTakenError("this generation id is another call's") from failure
        raise self._poison(failure) from failure

    def _transact(self, statements: list[Statement], *, synced: bool) -> None:
        if synced:  # an endpoint that billed above a reservation stays disabled after a loss of power too
            self._cursor.execute("PRAGMA synchronous = FULL")
        first, *more = statements
        if not more:
            self._cursor.execute(*first)
        else:
            self._cursor.execute("BEGIN IMMEDIATE")
            for statement in statements:
                self._cursor.execute(*statement)
            self._cursor.execute("COMMIT")
        if synced and self._durability == "process":
            self._cursor.execute("PRAGMA synchronous = NORMAL")

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

    async def watch(self, every_s: float = LEDGER_LOOK_S) -> None:
        """Have projections written, and poison the store once its file is gone from its place; returns when it is poisoned.

        What is committed to a file without a name is lost at the end of the process, and the next one would begin whole budgets.
        """
        while not self.poisoned:
            await asyncio.sleep(every_s)
            self.project()
            if not await asyncio.to_thread(self.is_in_place):
                self.poison(GONE)

    def project(self) -> None:
        """Have the accounts that changed since the last projection written by the checkpointing thread."""
        if self._unprojected and not self.poisoned:
            self._checkpointer.offer(self._projection(self._unprojected))
            self._unprojected = set()

    def _projection(self, account_ids: Iterable[str]) -> tables.Projection:
        marks = marks_of(self.state, self.cost_log.mark)
        return {tables.MARKS: marks} | {account_id: self.state.accounts[account_id] for account_id in account_ids}

    def _project_all(self) -> None:
        text = tables.projection_text(self._projection(self.state.accounts))
        self._connection.execute(tables.PUT_PROJECTION, (text,))

    def pending(self, account: str | None = None) -> list[Reservation]:
        """The pending reservations of an account, or of all, oldest first."""
        return self.state.pending(account)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The entries after an id, in order.

        Raises:
            LedgerError: The file cannot be read.
        """
        try:
            yield from tables.read_entries(self._connection, after)
        except sqlite3.Error as exc:
            raise self._unreadable(exc) from exc

    def complete_costs(self) -> None:
        """Append the lines to costs.jsonl that it lacks. A failure is logged, not raised."""
        path = self._path.with_name(COSTS)
        listing = read_listing(path, self.cost_log.mark)
        self.cost_log.complete(listing, self.entries(listing.through))

    def is_anothers(self, generation_id: str, reservation_id: str) -> bool:
        """True if upstream's id is that of another call, of whatever account, ended or not.

        Raises:
            LedgerError: The file cannot be read.
        """
        known = self._find("generation_id = ?", generation_id)
        return known is not None and known.id != reservation_id

    def generation(self, account: str, generation_id: str) -> Reservation | None:
        """The account's reservation that upstream knows by this id, ended or not; None if it has none.

        Raises:
            LedgerError: The file cannot be read.
        """
        return self._find("generation_id = ? AND account = ?", generation_id, account)

    def _find(self, where: str, *values: object) -> Reservation | None:
        try:
            return next(tables.read_reservations(self._connection, where, *values), None)
        except sqlite3.Error as exc:
            raise self._unreadable(exc) from exc

    def _unreadable(self, exc: sqlite3.Error) -> LedgerError:
        return LedgerError(f"the ledger {self._path} cannot be read: {exc}")

    def close(self) -> None:
        """Write the projection, move the log into the file, and release the lock. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._checkpointer.stop()
        self._space.close()
        if not self.is_in_place():
            self.poison(GONE)
        try:
            if not self.poisoned:
                self._project_all()
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        except sqlite3.Error as exc:
            _log.error("ledger.close_failed", error=str(exc))
        finally:
            self._connection.close()
            self._lock.release()
