"""The ledger's file: its writing connection, and the thread that keeps its write-ahead log short (M21)."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Literal

import structlog

from preflight_proxy import schema
from preflight_proxy.errors import LedgerError

Durability = Literal["process", "power"]

CHECKPOINT_S = 1.0
"""How often the log is moved into the file: also the most that a loss of power takes with durability "process"."""
WAL_PAGES_MAX = 64 * 1024
"""A log of 64 MiB that never empties, because commits never pause: the writer waits a moment, and it starts again."""
BUSY_S = 5.0
"""How long a commit waits for such a checkpoint before it fails."""
PAGE_BYTES = 1024
"""A commit writes whole pages: small ones make a call's three commits write 13 kB instead of 37 kB."""
CACHE_KB = 32 * 1024
"""Enough that a run's indexes stay in memory: a page that fell out is read back in the middle of a commit."""

_log = structlog.get_logger("preflight_proxy.store")


def connect(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open the writing connection to a ledger that is locked, with the newest tables.

    Raises:
        LedgerError: The file cannot be opened or written, or holds something else.
    """
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, cached_statements=64)
    except sqlite3.Error as exc:
        raise LedgerError(f"the ledger {path} cannot be opened: {exc}") from exc
    try:
        schema.check_own(connection)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ValueError("SQLite cannot keep its log there, for want of memory that processes share")
        connection.execute("PRAGMA wal_autocheckpoint = 0").close()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute(f"PRAGMA fullfsync = {int(durability == 'power')}")
        connection.execute("PRAGMA checkpoint_fullfsync = 1")
        connection.execute("PRAGMA foreign_keys = ON")
        schema.migrate(connection)
    except BaseException as exc:
        connection.close()
        if isinstance(exc, sqlite3.Error | ValueError):
            raise LedgerError(
                f"the ledger {path} cannot be used: {exc}. Without it nothing is sent. Put back a copy of it, or name another "
                "folder, where budgets begin anew; costs.jsonl beside it still lists what was posted"
            ) from exc
        raise
    return connection


def note_boot(connection: sqlite3.Connection, boot_id: str, durability: Durability) -> bool:
    """Note this boot, and freeze every account if commits of an earlier one may be lost. True if so.

    A system that tells no boot id counts as restarted: commits that may be lost are not taken for kept.
    """
    before = schema.read_meta(connection)
    known = "boot_id" in before
    changed = known and before.get("durability") != "power" and (before["boot_id"] != boot_id or boot_id == "")
    connection.execute("BEGIN IMMEDIATE")
    if changed:
        connection.execute("UPDATE accounts SET usage_unread = 1")
    connection.execute(schema.PUT_META, ("boot_id", boot_id))
    connection.execute(schema.PUT_META, ("durability", durability))
    connection.execute("COMMIT")
    return changed


class Checkpointer:
    """The thread that moves the log into the file, on a connection of its own.

    Attributes:
        dirty: set by the writer after a commit; without it nothing is done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = threading.Event()
        self.dirty = False
        self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)) as connection:
            failed = False
            while not self._stopped.wait(CHECKPOINT_S):
                if not self.dirty:
                    continue
                self.dirty = False
                try:
                    checkpoint(connection)
                    failed = False
                except sqlite3.Error as exc:
                    # The commits stand in the log all the same. A full disk will fail the commits themselves.
                    if not failed:
                        _log.warning("ledger.checkpoint_failed", error=str(exc))
                    failed = True


def checkpoint(connection: sqlite3.Connection, wal_pages_max: int = WAL_PAGES_MAX) -> None:
    """Move the log into the file without holding up the writer; only where the log stays too long, it waits a moment.

    Raises:
        sqlite3.Error: The file cannot be written.
    """
    _busy, pages, _moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > wal_pages_max:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").close()
