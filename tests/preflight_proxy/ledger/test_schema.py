"""Rows become values, and values rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from preflight_proxy.core.ledger.rows import Account, Entry, EntryKind, Reservation, ReservationState
from preflight_proxy.core.refusals.outcomes import NONE_YET
from preflight_proxy.ledger import migrations, schema

ACCOUNT = Account(
    "a", "run", 100, 40, 30, 20, 5, 1, "why", True, ("m/x",), "t", "k", True, -7, "b.txt", "detailed", 3, 2
)
HELD = Reservation(
    "r",
    "a",
    ReservationState.PENDING,
    30,
    0,
    "chat",
    "m/x",
    ("t", "u"),
    16,
    True,
    1.5,
    "gen-1",
    "t",
    2.5,
    False,
    "d",
    None,
)
ENTRY = Entry(1, "r", "a", EntryKind.POSTED, 40, 3.5, "{}")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """New tables with one row each."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        migrations.migrate(made)
        made.execute(schema.PUT_ACCOUNT, schema.account_row(ACCOUNT))
        made.execute(schema.ADD_RESERVATION, schema.reservation_row(HELD))
        made.execute(schema.ADD_ENTRY, schema.entry_row(ENTRY))
        yield made


def test_values_come_back_as_they_went(connection: sqlite3.Connection) -> None:
    """Every field, every type."""
    assert schema.read_accounts(connection) == [ACCOUNT]
    assert schema.read_reservations(connection, "id = ?", "r") == [HELD]
    row = connection.execute(f"SELECT {schema.ENTRY_COLUMNS} FROM entries").fetchone()
    assert schema.entry_of(row) == ENTRY


def test_what_became_of_calls_is_read_with_its_account_and_may_be_missing(connection: sqlite3.Connection) -> None:
    """A ledger of before knows nothing of it."""
    connection.execute(schema.PUT_ACCOUNT, schema.account_row(replace(ACCOUNT, id="b", token_hash="u")))
    known = replace(ACCOUNT, outcomes=NONE_YET.with_served())
    connection.execute(schema.PUT_META, schema.outcomes_row(known))
    assert [account.outcomes for account in schema.read_accounts(connection)] == [known.outcomes, NONE_YET]
