"""The rows of the ledger's tables as values: the statements that write them, and how a start reads them back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from preflight_proxy.core.ledger.projection import IN_ROW, Marks, fold, projected
from preflight_proxy.core.ledger.rows import (
    Account,
    Entry,
    EntryKind,
    KeyBase,
    KeyFigure,
    QuarantinedEndpoint,
    Reservation,
)
from preflight_proxy.core.ledger.state import Change, LedgerState

ACCOUNT_COLUMNS = ", ".join(IN_ROW)
RESERVATION_COLUMNS = (
    "id, account, reserved_pusd, api, model, tags, bound, streamed, created_at_s, digest, key_base, seq, exposure_pusd,"
    " purpose, cache_read_tokens"
)
ENTRY_COLUMNS = "entry_id, reservation_id, account, kind, cost_pusd, at_s, line"
QUARANTINE_COLUMNS = "model, tag, reason, at_s, upstream"
KEY_BASE_COLUMNS = "id, upstream, key_hash, usage_pusd, byok_pusd, at_s, lost"
KEY_FIGURE_COLUMNS = ", ".join(KeyFigure.__struct_fields__)


def _insert(table: str, columns: str) -> str:
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split()))})"  # noqa: S608


def _upsert(table: str, columns: str, key: str) -> str:
    updates = (f"{name} = excluded.{name}" for name in columns.split(", ") if name not in key.split(", "))
    return f"{_insert(table, columns)} ON CONFLICT ({key}) DO UPDATE SET {', '.join(updates)}"


PUT_ACCOUNT = _upsert("accounts", ACCOUNT_COLUMNS, "id")
ADD_RESERVATION = _insert("reservations", RESERVATION_COLUMNS)
ADD_GENERATION = _insert("generations", "seq, generation_id, tag")
ADD_UNKNOWN = _insert("unknowns", "seq, since_s, tag")
ADD_ENTRY = _insert("entries", ENTRY_COLUMNS)
PUT_QUARANTINE = _upsert("quarantine", QUARANTINE_COLUMNS, "upstream, model, tag")
CLEAR_QUARANTINE = "DELETE FROM quarantine WHERE model = ? AND tag = ? AND upstream = ?"
PUT_KEY_BASE = f"{_insert('key_bases', KEY_BASE_COLUMNS)} ON CONFLICT (id) DO UPDATE SET lost = excluded.lost"
PUT_KEY_FIGURE = _upsert("key_figures", KEY_FIGURE_COLUMNS, "account")
PUT_PROJECTION = (
    "INSERT INTO projection SELECT key, value FROM json_each(?) WHERE true"
    " ON CONFLICT (account) DO UPDATE SET document = excluded.document"
)
"""One statement and so one transaction: the accounts and their marks are of one moment, and the writer waits for nothing else."""
MARKS = ""
"""The row of `projection` that has the marks. No account has this id."""

ENTRIES_PER_READ = 1000
"""Entries read at a time, so that a long history does not fill the memory."""

Row = Sequence[object]
Projection = Mapping[str, Account | Marks]
"""Rows of `projection`: of the accounts that have changed, and the marks under `MARKS`."""

_json = msgspec.json.Encoder()


def account_row(account: Account) -> Row:
    """The values of `PUT_ACCOUNT`."""
    row = {name: getattr(account, name) for name in IN_ROW}
    row["models"] = None if account.models is None else _json.encode(account.models).decode()
    return list(row.values())


def reservation_row(row: Reservation) -> Row:
    """The values of `ADD_RESERVATION`."""
    return (
        row.id,
        row.account,
        row.reserved_pusd,
        row.api,
        row.model,
        _tags_text(row.tags),
        row.bound,
        row.streamed,
        row.created_at_s,
        row.digest,
        row.key_base,
        row.seq,
        row.exposure_pusd,
        row.purpose,
        row.cache_read_tokens,
    )


@lru_cache(maxsize=256)
def _tags_text(tags: tuple[str, ...]) -> str:
    return _json.encode(tags).decode()


def entry_row(entry: Entry) -> Row:
    """The values of `ADD_ENTRY`."""
    kind = entry.kind.value
    return entry.entry_id, entry.reservation_id, entry.account, kind, entry.cost_pusd, entry.at_s, entry.line


def projection_text(projection: Projection) -> str:
    """The value of `PUT_PROJECTION`."""
    return _json.encode(projection).decode()


def read_quarantine(connection: sqlite3.Connection) -> list[QuarantinedEndpoint]:
    """All disabled endpoints, of every upstream."""
    return [QuarantinedEndpoint(*row) for row in connection.execute(f"SELECT {QUARANTINE_COLUMNS} FROM quarantine")]  # noqa: S608


def read_key_bases(connection: sqlite3.Connection) -> list[KeyBase]:
    """What foreign keys had used before the first call with them (M13), oldest first."""
    return [KeyBase(*row) for row in connection.execute(f"SELECT {KEY_BASE_COLUMNS} FROM key_bases ORDER BY id")]  # noqa: S608


def read_key_figures(connection: sqlite3.Connection) -> tuple[KeyFigure, ...]:
    """The last figures of foreign keys (M21), by account."""
    return tuple(KeyFigure(*row) for row in connection.execute(f"SELECT {KEY_FIGURE_COLUMNS} FROM key_figures"))  # noqa: S608


def read_marks(connection: sqlite3.Connection) -> Marks:
    """Return the marks of a ledger's projection.

    Raises:
        ValueError: They cannot be read.
        sqlite3.Error: The file cannot be read.
    """
    row = connection.execute("SELECT document FROM projection WHERE account = ?", (MARKS,)).fetchone()
    return Marks() if row is None else _decoded(row[0], Marks)


def read_state(connection: sqlite3.Connection, upstream: str | None = None) -> LedgerState:
    """Return the state of a ledger. Only the projection, what was pending at its marks, and the rows after them are read.

    Args:
        connection: Sees one moment of the ledger.
        upstream: Only endpoints of this upstream are disabled; None for all.

    Raises:
        ValueError: The rows contradict each other.
        sqlite3.Error: The file cannot be read.
    """
    marks = read_marks(connection)
    documents = connection.execute("SELECT account, document FROM projection WHERE account <> ?", (MARKS,))
    before = {account: _decoded(document, Account) for account, document in documents}
    rows = (_account(row) for row in connection.execute(f"SELECT {ACCOUNT_COLUMNS} FROM accounts ORDER BY rowid"))  # noqa: S608
    quarantined = (row for row in read_quarantine(connection) if upstream in (None, row.upstream))
    pending = "seq IN (SELECT value FROM json_each(?))"
    state = fold(
        marks,
        [projected(row, before.get(row.id)) for row in rows],
        read_reservations(connection, pending, _json.encode(marks.pending).decode()),
        read_reservations(connection, "seq > ?", marks.seq),
        read_entries(connection, marks.entry_id),
        read_key_bases(connection),
        quarantined,
    )
    state.apply(Change(key_figures=read_key_figures(connection)))
    return state


Document = TypeVar("Document", Account, Marks)


def _decoded(document: str, kind: type[Document]) -> Document:
    try:
        return msgspec.json.decode(document, type=kind)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"its projection cannot be read: {exc}") from exc


def _account(row: Sequence[Any]) -> Account:
    values = dict(zip(IN_ROW, row, strict=True))
    models = values["models"]
    decoded = {
        "models": None if models is None else tuple(msgspec.json.decode(models)),
        "usage_unread": bool(values["usage_unread"]),
        "key_is_own": bool(values["key_is_own"]),
    }
    return Account(**values | decoded)


def read_reservations(connection: sqlite3.Connection, where: str, *values: object) -> Iterator[Reservation]:
    """Yield the reservations that a condition picks, ended or not, oldest first."""
    sql = (
        f"SELECT {RESERVATION_COLUMNS}, generation_id, ifnull(generations.tag, unknowns.tag), since_s FROM reservations"  # noqa: S608
        f" LEFT JOIN generations USING (seq) LEFT JOIN unknowns USING (seq) WHERE {where} ORDER BY seq"
    )
    for row in connection.execute(sql, values):
        cells = dict(
            zip((*RESERVATION_COLUMNS.split(", "), "generation_id", "tag", "unknown_since_s"), row, strict=True)
        )
        cells |= {"tags": tuple(msgspec.json.decode(cells["tags"])), "streamed": bool(cells["streamed"])}
        yield Reservation(**cells)


def read_entries(connection: sqlite3.Connection, after: int = 0) -> Iterator[Entry]:
    """Yield the entries after an id, in order, read a slice at a time.

    Raises:
        sqlite3.Error: The file cannot be read.
    """
    sql = f"SELECT {ENTRY_COLUMNS} FROM entries WHERE entry_id > ? ORDER BY entry_id LIMIT {ENTRIES_PER_READ}"  # noqa: S608
    while rows := connection.execute(sql, (after,)).fetchall():
        for entry_id, reservation_id, account, kind, cost_pusd, at_s, line in rows:
            yield Entry(entry_id, reservation_id, account, EntryKind(kind), cost_pusd, at_s, line)
        after = rows[-1][0]
