"""Reading a ledger that another process may be writing: never blocks it, never changes the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.account_name import is_kept
from preflight_proxy.core.ledger.projection import check_sums
from preflight_proxy.core.ledger.rows import Account, Entry, QuarantinedEndpoint, Reservation
from preflight_proxy.ledger import schema, tables

READER_BUSY_S = 5.0
"""How long a reader waits while a writer that crashed is being recovered from."""


class Snapshot(msgspec.Struct, frozen=True):
    """A ledger as a reader finds it."""

    accounts: list[Account]
    pending: list[Reservation]
    quarantined: list[QuarantinedEndpoint]


def read_snapshot(path: Path) -> Snapshot:
    """Return accounts, pending reservations and quarantined endpoints of a ledger that a proxy may be writing.

    The time does not depend on the number of calls.

    Raises:
        LedgerError: There is none, or it cannot be read.
    """
    with closing(_reader(path)) as connection:
        return _snapshot(connection, path)


def has_accounts(data: Path) -> bool:
    """Return whether the ledger of a data folder has accounts that are not removed, so that a start need not name one.

    Raises:
        LedgerError: It cannot be read.
    """
    ledger = data / "ledger.sqlite3"
    return ledger.is_file() and any(map(is_kept, read_snapshot(ledger).accounts))


def read_whole(path: Path) -> tuple[Snapshot, list[Entry]]:
    """Return a ledger with all its entries, as it was at one moment.

    Raises:
        LedgerError: There is none, it cannot be read, or an account's posted amount is not the sum of its entries.
    """
    with closing(_reader(path)) as connection:
        snapshot, entries = _snapshot(connection, path), list(_entries(connection, path))
    try:
        check_sums({account.id: account for account in snapshot.accounts}, entries)
    except ValueError as exc:
        raise LedgerError(f"the ledger {path} does not balance: {exc}") from exc
    return snapshot, entries


def read_after(path: Path, after: int) -> tuple[Snapshot, list[Entry]]:
    """Return a ledger with its entries after an id, as it was at one moment. The time depends on how many these are.

    Raises:
        LedgerError: There is none, or it cannot be read.
    """
    with closing(_reader(path)) as connection:
        return _snapshot(connection, path), list(_entries(connection, path, after))


def _snapshot(connection: sqlite3.Connection, path: Path) -> Snapshot:
    """Read the balances; the connection goes on seeing the same moment."""
    try:
        connection.execute("BEGIN")
        state = tables.read_state(connection)
        return Snapshot(list(state.accounts.values()), state.pending(), tables.read_quarantine(connection))
    except (sqlite3.Error, ValueError) as exc:
        raise LedgerError(f"the ledger {path} cannot be read: {exc}") from exc


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a ledger that a proxy may be writing, in order.

    Raises:
        LedgerError: There is none, or it cannot be read.
    """
    with closing(_reader(path)) as connection:
        yield from _entries(connection, path)


def _entries(connection: sqlite3.Connection, path: Path, after: int = 0) -> Iterator[Entry]:
    try:
        yield from tables.read_entries(connection, after)
    except sqlite3.Error as exc:
        raise LedgerError(f"the ledger {path} cannot be read: {exc}") from exc


def _reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}")
    # A log without its index cannot be read from a directory that is not writable; a file without a log can.
    frozen = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"
        connection = sqlite3.connect(uri, uri=True, timeout=READER_BUSY_S, isolation_level=None)
        version = schema.schema_version(connection)
        if not 1 <= version <= schema.VERSION:
            connection.close()
            other = "a newer version of this program" if version else "another program, or holds nothing yet"
            raise LedgerError(f"the ledger {path} was written by {other}")
        return connection if version == schema.VERSION else _migrated_copy(connection)
    except sqlite3.Error as exc:
        raise LedgerError(f"the ledger {path} cannot be read: {exc}") from exc


def _migrated_copy(earlier: sqlite3.Connection) -> sqlite3.Connection:
    """Return a temporary database with the newest tables: who only reads a ledger of an earlier version does not change it."""
    with closing(earlier):
        copy = sqlite3.connect("", isolation_level=None)  # SQLite deletes the file of an unnamed database
        earlier.backup(copy)
    copy.execute("PRAGMA journal_mode = MEMORY").close()
    schema.migrate(copy)
    return copy
