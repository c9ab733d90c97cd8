"""The tables of ledger.sqlite3, version by version.

Migrations are numbered and only ever added to. What the ledger promises, the tables enforce once more: amounts are not negative, an
entry is never changed, a reservation ends once.
"""

from __future__ import annotations

import sqlite3

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.rows import OPENROUTER
from preflight_proxy.ledger.schema import PUT_META, read_meta

_FIRST = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE accounts (
        id TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        limit_pusd INTEGER NOT NULL CHECK (limit_pusd >= 0),
        posted_pusd INTEGER NOT NULL CHECK (posted_pusd >= 0),
        pending_pusd INTEGER NOT NULL CHECK (pending_pusd >= 0),
        assumed_pusd INTEGER NOT NULL CHECK (assumed_pusd >= 0),
        recovered_pusd INTEGER NOT NULL CHECK (recovered_pusd >= 0),
        overrun_pusd INTEGER NOT NULL CHECK (overrun_pusd >= 0),
        frozen_reason TEXT,
        usage_unread INTEGER NOT NULL,
        models TEXT,
        token_hash TEXT NOT NULL UNIQUE,
        key_hash TEXT NOT NULL,
        key_is_own INTEGER NOT NULL,
        key_usage_base_pusd INTEGER,
        budget_file TEXT,
        budget_mode TEXT NOT NULL,
        calls INTEGER NOT NULL,
        refused INTEGER NOT NULL
    )""",
    """CREATE TABLE reservations (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts (id),
        state TEXT NOT NULL CHECK (state IN ('pending', 'posted', 'voided')),
        reserved_pusd INTEGER NOT NULL CHECK (reserved_pusd >= 0),
        posted_pusd INTEGER NOT NULL CHECK (posted_pusd >= 0),
        api TEXT NOT NULL,
        model TEXT NOT NULL,
        tags TEXT NOT NULL,
        bound INTEGER NOT NULL,
        streamed INTEGER NOT NULL,
        created_at_s REAL NOT NULL,
        generation_id TEXT,
        tag TEXT,
        unknown_since_s REAL,
        assumed INTEGER NOT NULL,
        digest TEXT NOT NULL
    )""",
    "CREATE INDEX reservations_generation ON reservations (generation_id) WHERE generation_id IS NOT NULL",
    """CREATE TABLE entries (
        entry_id INTEGER PRIMARY KEY,
        reservation_id TEXT REFERENCES reservations (id),
        account TEXT NOT NULL REFERENCES accounts (id),
        kind TEXT NOT NULL,
        cost_pusd INTEGER NOT NULL,
        at_s REAL NOT NULL,
        line TEXT NOT NULL
    )""",
    """CREATE TABLE quarantine (
        model TEXT NOT NULL, tag TEXT NOT NULL, reason TEXT NOT NULL, at_s REAL NOT NULL, PRIMARY KEY (model, tag)
    ) WITHOUT ROWID""",
    """CREATE TRIGGER reservations_end_once BEFORE UPDATE ON reservations
        WHEN old.state <> 'pending' AND NOT (old.assumed AND new.state = 'posted' AND NOT new.assumed)
        BEGIN SELECT RAISE(ABORT, 'a reservation ends once'); END""",
    """CREATE TRIGGER entries_stay_as_they_are BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
    """CREATE TRIGGER entries_stay BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
)

_GENERATIONS = (
    """CREATE TRIGGER generations_are_one_calls BEFORE INSERT ON reservations
        WHEN new.generation_id IS NOT NULL
            AND EXISTS (SELECT 1 FROM reservations WHERE generation_id = new.generation_id)
        BEGIN SELECT RAISE(ABORT, 'a generation belongs to one call'); END""",
    """CREATE TRIGGER generations_stay_one_calls BEFORE UPDATE ON reservations
        WHEN new.generation_id IS NOT NULL AND new.generation_id IS NOT old.generation_id
            AND EXISTS (SELECT 1 FROM reservations WHERE generation_id = new.generation_id AND id <> new.id)
        BEGIN SELECT RAISE(ABORT, 'a generation belongs to one call'); END""",
)
"""No unique index: a ledger of an earlier version may hold an id twice."""

_QUARANTINE_BY_UPSTREAM = (
    "ALTER TABLE quarantine RENAME TO quarantine_before",
    """CREATE TABLE quarantine (
        model TEXT NOT NULL, tag TEXT NOT NULL, reason TEXT NOT NULL, at_s REAL NOT NULL, upstream TEXT NOT NULL,
        PRIMARY KEY (upstream, model, tag)
    ) WITHOUT ROWID""",
    f"INSERT INTO quarantine SELECT model, tag, reason, at_s, '{OPENROUTER}' FROM quarantine_before",  # noqa: S608
    "DROP TABLE quarantine_before",
)

_KEY_BASES = (
    """CREATE TABLE key_bases (
        id INTEGER PRIMARY KEY,
        upstream TEXT NOT NULL,
        key_hash TEXT NOT NULL,
        usage_pusd INTEGER NOT NULL CHECK (usage_pusd >= 0),
        byok_pusd INTEGER NOT NULL CHECK (byok_pusd >= 0),
        at_s REAL NOT NULL,
        lost TEXT
    )""",
    """CREATE TRIGGER key_bases_stay_as_they_are
        BEFORE UPDATE OF id, upstream, key_hash, usage_pusd, byok_pusd, at_s ON key_bases
        BEGIN SELECT RAISE(ABORT, 'a base is read once'); END""",
    "ALTER TABLE reservations ADD COLUMN key_base INTEGER REFERENCES key_bases (id)",
    "CREATE INDEX reservations_key_base ON reservations (key_base) WHERE key_base IS NOT NULL",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _GENERATIONS, _QUARANTINE_BY_UPSTREAM, _KEY_BASES)
"""Statements by version: the first takes an empty file to version 1."""


def check_own(connection: sqlite3.Connection) -> None:
    """Accept an empty file, and one that holds our tables; nothing is changed.

    Raises:
        ValueError: It holds the tables of something else.
        sqlite3.Error: The file cannot be read.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if names and not names >= {"meta", "accounts"}:
        raise ValueError("it holds the tables of another program, and was left as it is")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to the newest version, in one transaction.

    Raises:
        LedgerError: A newer version of this program wrote the file.
        sqlite3.Error: The file cannot be read or written, or holds something else.
    """
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger has schema {version}; this program knows up to {len(MIGRATIONS)}: use a newer one"
        )
    connection.execute("BEGIN IMMEDIATE")
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(PUT_META, ("schema_version", str(len(MIGRATIONS))))
    connection.execute("COMMIT")


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 for an empty file."""
    if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0] == 0:
        return 0
    return int(read_meta(connection).get("schema_version", "0"))
