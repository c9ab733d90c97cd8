"""The tables of ledger.sqlite3, and how a file of an earlier version becomes one of the newest.

A new version changes the tables, and adds the statements that lead to it. A call only adds rows: each of its transitions is one
INSERT.

    reservations   what `Reserve` said                       insert only
    generations    upstream's id of a call, one for each     insert only; an id is one call's
    unknowns       since when a cost is missing              insert only
    entries        what ended a reservation, and its line    insert only
    accounts       identity, limit, freeze                   written with the command that changes them
    projection     balances and counts at one moment         written by the checkpointing thread, see `core.ledger.projection`
    quarantine, key_bases, key_figures, meta                 written with the command that changes them
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import chain

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.rows import OPENROUTER

_ACCOUNTS = """CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    limit_pusd INTEGER NOT NULL CHECK (limit_pusd >= 0),
    frozen_reason TEXT,
    usage_unread INTEGER NOT NULL,
    models TEXT,
    token_hash TEXT NOT NULL UNIQUE,
    key_hash TEXT NOT NULL,
    key_is_own INTEGER NOT NULL,
    key_usage_base_pusd INTEGER,
    budget_file TEXT,
    budget_mode TEXT NOT NULL
)"""
_RESERVATIONS = """CREATE TABLE reservations (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    account TEXT NOT NULL,
    reserved_pusd INTEGER NOT NULL CHECK (reserved_pusd >= 0),
    api TEXT NOT NULL,
    model TEXT NOT NULL,
    tags TEXT NOT NULL,
    bound INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    created_at_s REAL NOT NULL,
    digest TEXT NOT NULL,
    key_base INTEGER{more}
)"""
_MEASURED = (
    "exposure_pusd INTEGER NOT NULL DEFAULT 0 CHECK (exposure_pusd >= 0)",
    "purpose TEXT NOT NULL DEFAULT ''",
    "cache_read_tokens INTEGER NOT NULL DEFAULT 0",
)
_QUARANTINE = """CREATE TABLE quarantine (
    model TEXT NOT NULL, tag TEXT NOT NULL, reason TEXT NOT NULL, at_s REAL NOT NULL, upstream TEXT NOT NULL,
    PRIMARY KEY (upstream, model, tag)
) WITHOUT ROWID"""
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
)
_PROJECTION = "CREATE TABLE projection (account TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID"
_OF_CALLS = (
    "CREATE TABLE generations (seq INTEGER PRIMARY KEY, generation_id TEXT NOT NULL UNIQUE, tag TEXT)",
    "CREATE TABLE unknowns (seq INTEGER PRIMARY KEY, since_s REAL NOT NULL, tag TEXT)",
)
_KEY_FIGURES = (
    """CREATE TABLE key_figures (
        account TEXT PRIMARY KEY,
        upstream TEXT NOT NULL,
        key_hash TEXT NOT NULL,
        usage_pusd INTEGER CHECK (usage_pusd >= 0),
        posted_pusd INTEGER NOT NULL,
        at_s REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TRIGGER key_figures_are_of_the_key AFTER UPDATE OF key_hash ON accounts WHEN new.key_hash <> old.key_hash
        BEGIN DELETE FROM key_figures WHERE account = new.id; END""",
)


def _append_only(*tables: str) -> Iterator[str]:
    for table in tables:
        for change in ("UPDATE", "DELETE"):
            yield f"""CREATE TRIGGER {table}_{change.lower()} BEFORE {change} ON {table}
                BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"""


_NEWEST = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    *(_ACCOUNTS, _RESERVATIONS.format(more="".join(f", {column}" for column in _MEASURED)), *_OF_CALLS),
    """CREATE TABLE entries (
        entry_id INTEGER PRIMARY KEY,
        reservation_id TEXT,
        account TEXT NOT NULL,
        kind TEXT NOT NULL,
        cost_pusd INTEGER NOT NULL,
        at_s REAL NOT NULL,
        line TEXT NOT NULL
    )""",
    *(_PROJECTION, _QUARANTINE, *_KEY_BASES, *_KEY_FIGURES),
    *_append_only("reservations", "generations", "unknowns", "entries"),
)

_APPEND_ONLY = (
    # What calls have posted so far becomes the first projection. The sums of tokens are read from the lines, once.
    _PROJECTION,
    """INSERT INTO projection SELECT id, json_object('id', id, 'run', run, 'limit_pusd', limit_pusd, 'posted_pusd', posted_pusd,
            'pending_pusd', pending_pusd, 'assumed_pusd', assumed_pusd, 'recovered_pusd', recovered_pusd,
            'overrun_pusd', overrun_pusd, 'token_hash', token_hash, 'calls', calls, 'refused', refused,
            'outcomes', json(CASE WHEN json_valid(value) THEN value ELSE '{}' END),
            'prompt_tokens', ifnull(prompt, 0), 'cached_tokens', ifnull(cached, 0), 'cache_write_tokens', ifnull(written, 0),
            'completion_tokens', ifnull(completion, 0), 'cache_hit_requests', ifnull(hits, 0),
            'actions_count', ifnull(actions, 0), 'last_entry_s', ifnull(last_s, 0.0))
        FROM accounts LEFT JOIN meta ON name = 'outcomes ' || id LEFT JOIN (
            SELECT account,
                sum(ifnull(json_extract(line, '$.prompt_tokens'), 0)) AS prompt,
                sum(ifnull(json_extract(line, '$.cached_tokens'), 0)) AS cached,
                sum(ifnull(json_extract(line, '$.cache_write_tokens'), 0)) AS written,
                sum(ifnull(json_extract(line, '$.completion_tokens'), 0)) AS completion,
                sum(ifnull(json_extract(line, '$.cached_tokens'), 0) > 0) AS hits,
                sum(kind = 'posted') AS actions, max(at_s) AS last_s
            FROM entries WHERE json_valid(line) GROUP BY account
        ) ON account = id""",
    """INSERT INTO projection SELECT '', json_object(
        'entry_id', max((SELECT ifnull(max(entry_id), 0) FROM entries),
            ifnull((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'entry_id_floor'), 0)),
        'seq', (SELECT ifnull(max(rowid), 0) FROM reservations),
        'pending', json((SELECT json_group_array(rowid) FROM reservations WHERE state = 'pending')),
        'key_posted', json((SELECT json_group_object(id, json_array(
            (SELECT ifnull(sum(posted_pusd), 0) FROM reservations WHERE key_base = key_bases.id),
            (SELECT ifnull(sum(posted_pusd), 0) FROM reservations WHERE key_base = key_bases.id AND assumed)
        )) FROM key_bases)))""",
    _ACCOUNTS.replace("accounts", "accounts_5"),
    """INSERT INTO accounts_5 SELECT id, run, limit_pusd, frozen_reason, usage_unread, models, token_hash, key_hash, key_is_own,
        key_usage_base_pusd, budget_file, budget_mode FROM accounts ORDER BY rowid""",
    _RESERVATIONS.format(more="").replace("reservations", "reservations_5"),
    """INSERT INTO reservations_5 SELECT rowid, id, account, reserved_pusd, api, model, tags, bound, streamed, created_at_s, digest,
        key_base FROM reservations""",
    *_OF_CALLS,
    # A ledger of the first version may have an id twice.
    """INSERT OR IGNORE INTO generations SELECT rowid, generation_id, tag FROM reservations
        WHERE generation_id IS NOT NULL ORDER BY rowid""",
    """INSERT INTO unknowns SELECT rowid, unknown_since_s, tag FROM reservations
        WHERE unknown_since_s IS NOT NULL AND state = 'pending'""",
    "DROP TABLE reservations",
    "DROP TABLE accounts",
    "ALTER TABLE accounts_5 RENAME TO accounts",
    "ALTER TABLE reservations_5 RENAME TO reservations",
    "DELETE FROM meta WHERE name LIKE 'outcomes %'",
    *_append_only("reservations", "generations", "unknowns"),
)

_UPGRADES: Mapping[int, tuple[str, ...]] = {
    1: (),  # what version 2 added went with version 5
    2: (
        "ALTER TABLE quarantine RENAME TO quarantine_before",
        _QUARANTINE,
        f"INSERT INTO quarantine SELECT model, tag, reason, at_s, '{OPENROUTER}' FROM quarantine_before",  # noqa: S608
        "DROP TABLE quarantine_before",
    ),
    3: (*_KEY_BASES, "ALTER TABLE reservations ADD COLUMN key_base INTEGER"),
    4: _APPEND_ONLY,
    5: _KEY_FIGURES,
    6: tuple(f"ALTER TABLE reservations ADD COLUMN {column}" for column in _MEASURED),
}
"""The statements that lead from each version to the next."""

VERSION = 7
"""The newest version, which a new file gets at once."""

PUT_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """All of the ledger's facts about itself."""
    return dict(connection.execute("SELECT name, value FROM meta"))


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
    if version > VERSION:
        raise LedgerError(f"the ledger has schema {version}; this program knows up to {VERSION}: use a newer one")
    connection.execute("PRAGMA foreign_keys = OFF").close()  # the tables of an earlier version refer to one another
    connection.execute("BEGIN IMMEDIATE")
    steps = [_UPGRADES[each] for each in range(version, VERSION)] if version else [_NEWEST]
    for statement in chain.from_iterable(steps):
        connection.execute(statement)
    connection.execute(PUT_META, ("schema_version", str(VERSION)))
    connection.execute("COMMIT")


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 for an empty file."""
    if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0] == 0:
        return 0
    return int(read_meta(connection).get("schema_version", "0"))
