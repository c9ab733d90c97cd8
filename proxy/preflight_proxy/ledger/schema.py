"""The tables of ledger.sqlite3, version by version, and their rows as values.

Migrations are numbered and only ever added to. What the ledger promises, the tables enforce once more: amounts are not negative, an
entry is never changed, a reservation ends once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from enum import Enum
from operator import attrgetter
from typing import Any

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.rows import (
    OPENROUTER,
    Account,
    Entry,
    EntryKind,
    KeyBase,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.refusals.outcomes import outcomes_text, read_outcomes

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

ACCOUNT_COLUMNS = (
    "id, run, limit_pusd, posted_pusd, pending_pusd, assumed_pusd, recovered_pusd, overrun_pusd, frozen_reason, usage_unread,"
    " models, token_hash, key_hash, key_is_own, key_usage_base_pusd, budget_file, budget_mode, calls, refused"
)
RESERVATION_COLUMNS = (
    "id, account, state, reserved_pusd, posted_pusd, api, model, tags, bound, streamed, created_at_s, generation_id, tag,"
    " unknown_since_s, assumed, digest, key_base"
)
RESERVATION_CHANGES = "state, posted_pusd, generation_id, tag, unknown_since_s, assumed"
"""All that may change after the reservation was made."""
OUTCOMES_PREFIX = "outcomes "
"""Of the names in `meta` under which an account's outcomes are kept."""
ENTRY_COLUMNS = "entry_id, reservation_id, account, kind, cost_pusd, at_s, line"
QUARANTINE_COLUMNS = "model, tag, reason, at_s, upstream"
KEY_BASE_COLUMNS = "id, upstream, key_hash, usage_pusd, byok_pusd, at_s, lost"


def _insert(table: str, columns: str) -> str:
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split()))})"  # noqa: S608


def _upsert(table: str, columns: str, key: str) -> str:
    updates = (f"{name} = excluded.{name}" for name in columns.split(", ") if name not in key.split(", "))
    return f"{_insert(table, columns)} ON CONFLICT ({key}) DO UPDATE SET {', '.join(updates)}"


PUT_ACCOUNT = _upsert("accounts", ACCOUNT_COLUMNS, "id")
ADD_RESERVATION = _insert("reservations", RESERVATION_COLUMNS)
SET_RESERVATION = f"UPDATE reservations SET {RESERVATION_CHANGES.replace(',', ' = ?,')} = ? WHERE id = ?"  # noqa: S608
ADD_ENTRY = _insert("entries", ENTRY_COLUMNS)
PUT_QUARANTINE = _upsert("quarantine", QUARANTINE_COLUMNS, "upstream, model, tag")
PUT_KEY_BASE = f"{_insert('key_bases', KEY_BASE_COLUMNS)} ON CONFLICT (id) DO UPDATE SET lost = excluded.lost"
PUT_META = _upsert("meta", "name, value", "name")
FLOOR, SKIPPED = "entry_id_floor", "entry_ids_skipped"
"""In meta: entry ids up to this one are used up, and so many of them are of entries that were lost with the machine's power."""


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """All of the ledger's facts about itself."""
    return dict(connection.execute("SELECT name, value FROM meta"))


def next_entry_id(connection: sqlite3.Connection) -> int:
    """Return the id of the next entry: above all that there are and all that were lost.

    Raises:
        ValueError: Entries are missing.
    """
    meta = read_meta(connection)
    last_id, count = connection.execute("SELECT ifnull(max(entry_id), 0), count(*) FROM entries").fetchone()
    last_id = max(last_id, int(meta.get(FLOOR, "0")))
    if last_id - int(meta.get(SKIPPED, "0")) != count:
        raise ValueError("entries are missing")
    return int(last_id) + 1


def _row_of(columns: str) -> Callable[[object], tuple[object, ...]]:
    """Return a function that makes the row of a value: enums as their value, sequences as JSON."""
    fields = attrgetter(*columns.split(", "))
    return lambda value: tuple([cell if type(cell) in _PLAIN else _cell(cell) for cell in fields(value)])


_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that SQLite takes as they are. Each commit writes about 70 cells, and few of them are of another type."""


def _cell(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case tuple() | list():
            return json.dumps(value)
        case _:
            return value


account_row = _row_of(ACCOUNT_COLUMNS)
reservation_row = _row_of(RESERVATION_COLUMNS)
reservation_update = _row_of(f"{RESERVATION_CHANGES}, id")
entry_row = _row_of(ENTRY_COLUMNS)
key_base_row = _row_of(KEY_BASE_COLUMNS)
"""The values of `PUT_ACCOUNT`, `ADD_RESERVATION`, `SET_RESERVATION`, `ADD_ENTRY` and `PUT_KEY_BASE`."""


def outcomes_row(account: Account) -> Sequence[object]:
    """The values of `PUT_META` for what became of an account's calls: kept in `meta`, because no decision needs it."""
    return OUTCOMES_PREFIX + account.id, outcomes_text(account.outcomes)


def read_accounts(connection: sqlite3.Connection) -> list[Account]:
    """All accounts, in the order of their opening."""
    sql = f"SELECT {ACCOUNT_COLUMNS}, value FROM accounts LEFT JOIN meta ON name = ? || id ORDER BY accounts.rowid"  # noqa: S608
    names = (*ACCOUNT_COLUMNS.split(", "), "outcomes")
    return [_account(dict(zip(names, row, strict=True))) for row in connection.execute(sql, (OUTCOMES_PREFIX,))]


def _account(row: dict[str, Any]) -> Account:
    models = row["models"]
    decoded = {
        "usage_unread": bool(row["usage_unread"]),
        "key_is_own": bool(row["key_is_own"]),
        "models": None if models is None else tuple(json.loads(models)),
        "outcomes": read_outcomes(row["outcomes"]),
    }
    return Account(**row | decoded)


def read_reservations(connection: sqlite3.Connection, where: str, *values: object) -> list[Reservation]:
    """The reservations that a condition picks, oldest first; what an earlier version's table lacks has its default."""
    columns = _known(connection, "reservations", RESERVATION_COLUMNS)
    sql = f"SELECT {columns} FROM reservations WHERE {where} ORDER BY created_at_s, id"  # noqa: S608
    names = columns.split(", ")
    return [_reservation(dict(zip(names, row, strict=True))) for row in connection.execute(sql, values)]


def _reservation(row: dict[str, Any]) -> Reservation:
    decoded = {
        "state": ReservationState(row["state"]),
        "tags": tuple(json.loads(row["tags"])),
        "streamed": bool(row["streamed"]),
        "assumed": bool(row["assumed"]),
    }
    return Reservation(**row | decoded)


def entry_of(row: Sequence[object]) -> Entry:
    """The entry of a row of `ENTRY_COLUMNS`."""
    entry_id, reservation_id, account, kind, cost_pusd, at_s, line = row
    return Entry(entry_id, reservation_id, account, EntryKind(kind), cost_pusd, at_s, line)  # type: ignore[arg-type]


def read_quarantine(connection: sqlite3.Connection) -> list[QuarantinedEndpoint]:
    """All endpoints out of use, of every upstream."""
    columns = _known(connection, "quarantine", QUARANTINE_COLUMNS)
    return [QuarantinedEndpoint(*row) for row in connection.execute(f"SELECT {columns} FROM quarantine")]  # noqa: S608


def read_key_bases(connection: sqlite3.Connection) -> list[KeyBase]:
    """What foreign keys had used before the first call with them (M13), oldest first."""
    return [KeyBase(*row) for row in connection.execute(f"SELECT {KEY_BASE_COLUMNS} FROM key_bases ORDER BY id")]  # noqa: S608


def read_key_posted_pusd(connection: sqlite3.Connection) -> dict[int, int]:
    """What the calls of each key base have posted, whatever their accounts."""
    sql = (
        "SELECT reservations.key_base, sum(entries.cost_pusd)"
        " FROM reservations JOIN entries ON entries.reservation_id = reservations.id"
        " WHERE reservations.key_base IS NOT NULL GROUP BY reservations.key_base"
    )
    return dict(connection.execute(sql))


def _known(connection: sqlite3.Connection, table: str, columns: str) -> str:
    """Those of the columns that the table has: readers take a ledger as an earlier version left it; new columns come last."""
    existing = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    return ", ".join(name for name in columns.split(", ") if name in existing)


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
