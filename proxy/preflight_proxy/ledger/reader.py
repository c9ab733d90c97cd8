"""Reading a ledger that another process may be writing: never blocks it, never changes the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.account_name import is_kept
from preflight_proxy.core.ledger.rows import Account, Entry, QuarantinedEndpoint, Reservation
from preflight_proxy.ledger import schema

READER_BUSY_S = 5.0
"""How long a reader waits while a writer that crashed is being recovered from."""
ENTRIES_PER_READ = 1000
"""Entries read at a time, so that a long history does not fill the memory."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ledger as a reader finds it."""

    accounts: list[Account]
    pending: list[Reservation]
    quarantined: list[QuarantinedEndpoint]


def read_snapshot(path: Path) -> Snapshot:
    """Return accounts, pending reservations and quarantined endpoints of a ledger that a proxy may be writing.

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
        LedgerError: There is none, or it cannot be read.
    """
    with closing(_reader(path)) as connection:
        return _snapshot(connection, path), list(entries_of(connection))


def _snapshot(connection: sqlite3.Connection, path: Path) -> Snapshot:
    """Read the rows that change; the connection goes on seeing the same moment."""
    try:
        connection.execute("BEGIN")
        return Snapshot(
            schema.read_accounts(connection),
            schema.read_reservations(connection, "state = 'pending'"),
            schema.read_quarantine(connection),
        )
    except sqlite3.Error as exc:
        raise LedgerError(f"the ledger {path} cannot be read: {exc}") from exc


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a ledger that a proxy may be writing, in order.

    Raises:
        LedgerError: There is none, or it cannot be read.
    """
    with closing(_reader(path)) as connection:
        yield from entries_of(connection)


def _reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}")
    # A log without its index cannot be read from a directory that is not writable; a file without a log can.
    frozen = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"
        connection = sqlite3.connect(uri, uri=True, timeout=READER_BUSY_S, isolation_level=None)
        version = schema.schema_version(connection)
        if not 1 <= version <= len(schema.MIGRATIONS):
            connection.close()
            other = "a newer version of this program" if version else "another program, or holds nothing yet"
            raise LedgerError(f"the ledger {path} was written by {other}")
    except sqlite3.Error as exc:
        raise LedgerError(f"the ledger {path} cannot be read: {exc}") from exc
    return connection


def entries_of(connection: sqlite3.Connection) -> Iterator[Entry]:
    """Yield all entries in order, read a slice at a time.

    Raises:
        LedgerError: The file cannot be read.
    """
    sql = f"SELECT {schema.ENTRY_COLUMNS} FROM entries WHERE entry_id > ? ORDER BY entry_id LIMIT {ENTRIES_PER_READ}"  # noqa: S608
    last_id = 0
    while True:
        try:
            rows = connection.execute(sql, (last_id,)).fetchall()
        except sqlite3.Error as exc:
            raise LedgerError(f"the ledger cannot be read: {exc}") from exc
        yield from map(schema.entry_of, rows)
        if len(rows) < ENTRIES_PER_READ:
            return
        last_id = rows[-1][0]
