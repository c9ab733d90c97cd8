"""How the rows of ledger.sqlite3 become values, and values rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from preflight_proxy.core.ledger.rows import (
    Account,
    Entry,
    EntryKind,
    KeyBase,
    QuarantinedEndpoint,
    Reservation,
    ReservationState,
)
from preflight_proxy.core.refusals.outcomes import outcomes_text, read_outcomes

ACCOUNT_COLUMNS = (
    "id, run, limit_pusd, posted_pusd, pending_pusd, assumed_pusd, recovered_pusd, overrun_pusd, frozen_reason, usage_unread,"
    " models, token_hash, key_hash, key_is_own, key_usage_base_pusd, budget_file, budget_mode, calls, refused"
)
RESERVATION_COLUMNS = (
    "id, account, state, reserved_pusd, posted_pusd, api, model, tags, bound, streamed, created_at_s, generation_id, tag,"
    " unknown_since_s, assumed, digest, key_base"
)
OUTCOMES_PREFIX = "outcomes "
"""Of the names in `meta` under which an account's outcomes are kept."""
ENTRY_COLUMNS = "entry_id, reservation_id, account, kind, cost_pusd, at_s, line"


def _upsert(table: str, columns: str, key: str) -> str:
    names = columns.split(", ")
    values = ", ".join("?" * len(names))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key.split(", "))
    return f"INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {updates}"  # noqa: S608


PUT_ACCOUNT = _upsert("accounts", ACCOUNT_COLUMNS, "id")
ADD_RESERVATION = f"INSERT INTO reservations ({RESERVATION_COLUMNS}) VALUES ({', '.join('?' * 17)})"  # noqa: S608
SET_RESERVATION = (
    "UPDATE reservations SET state = ?, posted_pusd = ?, generation_id = ?, tag = ?, unknown_since_s = ?, assumed = ?"
    " WHERE id = ?"
)
ADD_ENTRY = f"INSERT INTO entries ({ENTRY_COLUMNS}) VALUES ({', '.join('?' * 7)})"  # noqa: S608
QUARANTINE_COLUMNS = "model, tag, reason, at_s, upstream"
PUT_QUARANTINE = _upsert("quarantine", QUARANTINE_COLUMNS, "upstream, model, tag")
PUT_KEY_BASE = (
    "INSERT INTO key_bases (id, upstream, key_hash, usage_pusd, byok_pusd, at_s, lost) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET lost = excluded.lost"
)
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


def account_row(account: Account) -> Sequence[object]:
    """The values of `PUT_ACCOUNT`."""
    return (
        account.id,
        account.run,
        account.limit_pusd,
        account.posted_pusd,
        account.pending_pusd,
        account.assumed_pusd,
        account.recovered_pusd,
        account.overrun_pusd,
        account.frozen_reason,
        account.usage_unread,
        None if account.models is None else json.dumps(account.models),
        account.token_hash,
        account.key_hash,
        account.key_is_own,
        account.key_usage_base_pusd,
        account.budget_file,
        account.budget_mode,
        account.calls,
        account.refused,
    )


def outcomes_row(account: Account) -> Sequence[object]:
    """The values of `PUT_META` for what became of an account's calls: kept in `meta`, because no decision needs it."""
    return OUTCOMES_PREFIX + account.id, outcomes_text(account.outcomes)


def reservation_row(reservation: Reservation) -> Sequence[object]:
    """The values of `ADD_RESERVATION`."""
    return (
        reservation.id,
        reservation.account,
        reservation.state.value,
        reservation.reserved_pusd,
        reservation.posted_pusd,
        reservation.api,
        reservation.model,
        json.dumps(reservation.tags),
        reservation.bound,
        reservation.streamed,
        reservation.created_at_s,
        reservation.generation_id,
        reservation.tag,
        reservation.unknown_since_s,
        reservation.assumed,
        reservation.digest,
        reservation.key_base,
    )


def reservation_update(reservation: Reservation) -> Sequence[object]:
    """The values of `SET_RESERVATION`: all that may change after the reservation was made."""
    return (
        reservation.state.value,
        reservation.posted_pusd,
        reservation.generation_id,
        reservation.tag,
        reservation.unknown_since_s,
        reservation.assumed,
        reservation.id,
    )


def entry_row(entry: Entry) -> Sequence[object]:
    """The values of `ADD_ENTRY`."""
    return (
        entry.entry_id,
        entry.reservation_id,
        entry.account,
        entry.kind.value,
        entry.cost_pusd,
        entry.at_s,
        entry.line,
    )


def key_base_row(base: KeyBase) -> Sequence[object]:
    """The values of `PUT_KEY_BASE`."""
    return (base.id, base.upstream, base.key_hash, base.usage_pusd, base.byok_pusd, base.at_s, base.lost)


def read_accounts(connection: sqlite3.Connection) -> list[Account]:
    """All accounts, in the order of their opening."""
    sql = f"SELECT {ACCOUNT_COLUMNS}, value FROM accounts LEFT JOIN meta ON name = ? || id ORDER BY accounts.rowid"  # noqa: S608
    return [_account(*row) for row in connection.execute(sql, (OUTCOMES_PREFIX,))]


def _account(*row: object) -> Account:
    values = list(row)
    values[9], values[13] = bool(row[9]), bool(row[13])
    values[10] = None if row[10] is None else tuple(json.loads(str(row[10])))
    values[19] = read_outcomes(row[19])
    return Account(*values)  # type: ignore[arg-type]


def read_reservations(connection: sqlite3.Connection, where: str, *values: object) -> list[Reservation]:
    """The reservations that a condition picks, oldest first; what an earlier version's table lacks has its default."""
    columns = _known(connection, "reservations", RESERVATION_COLUMNS)
    sql = f"SELECT {columns} FROM reservations WHERE {where} ORDER BY created_at_s, id"  # noqa: S608
    return [_reservation(*row) for row in connection.execute(sql, values)]


def _reservation(*row: object) -> Reservation:
    values = list(row)
    values[2], values[7] = ReservationState(row[2]), tuple(json.loads(str(row[7])))
    values[9], values[14] = bool(row[9]), bool(row[14])
    return Reservation(*values)  # type: ignore[arg-type]


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
    sql = "SELECT id, upstream, key_hash, usage_pusd, byok_pusd, at_s, lost FROM key_bases ORDER BY id"
    return [KeyBase(*row) for row in connection.execute(sql)]


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
    known = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    return ", ".join(name for name in columns.split(", ") if name in known)
