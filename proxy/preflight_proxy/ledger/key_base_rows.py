"""The table of what foreign keys had used before this ledger's first call with them, and how its rows become values (M13)."""

from __future__ import annotations

from collections.abc import Sequence

from preflight_proxy.core.ledger.rows import KeyBase

TABLES = (
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
PUT = (
    "INSERT INTO key_bases (id, upstream, key_hash, usage_pusd, byok_pusd, at_s, lost) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET lost = excluded.lost"
)
READ = "SELECT id, upstream, key_hash, usage_pusd, byok_pusd, at_s, lost FROM key_bases ORDER BY id"
POSTED = (
    "SELECT reservations.key_base, sum(entries.cost_pusd)"
    " FROM reservations JOIN entries ON entries.reservation_id = reservations.id"
    " WHERE reservations.key_base IS NOT NULL GROUP BY reservations.key_base"
)
"""What the calls of each base have posted, whatever their accounts."""


def row_of(base: KeyBase) -> Sequence[object]:
    """The values of `PUT`."""
    return (base.id, base.upstream, base.key_hash, base.usage_pusd, base.byok_pusd, base.at_s, base.lost)
