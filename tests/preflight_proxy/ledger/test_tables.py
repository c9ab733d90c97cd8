"""The rows of the ledger's tables as values."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from msgspec import structs
from msgspec.structs import astuple, replace

from preflight_proxy.core.budget_text import Action
from preflight_proxy.core.ledger.projection import IN_ROW, Marks
from preflight_proxy.core.ledger.rows import Account, Entry, EntryKind, KeyBase, Reservation
from preflight_proxy.core.refusals.outcomes import NONE_YET, bad_request
from preflight_proxy.ledger import schema, tables

ACCOUNT = Account(
    *("a", "run", 100, 40, 30, 20, 5, 1, "why", True, ("m/x",), "t", "k", True, -7, "b.txt", "detailed", 3, 2),
    *(NONE_YET.with_unserved(bad_request("no")), 9, 8, 7, 6, 5, (Action("grep", 4),), 2, 3.5, ("m/x t",)),
)
PENDING = Reservation(
    "r",
    "a",
    30,
    "chat",
    "m/x",
    ("t", "u"),
    16,
    True,
    1.5,
    "d",
    None,
    1,
    12,
    "weighing",
    900,
    "gen-1",
    "t",
    unknown_since_s=2.5,
)
ENTRY = Entry(1, "q", "a", EntryKind.POSTED, 40, 3.5, "{}")
BASE = KeyBase(1, "https://openrouter.ai/api/v1", "k", 7, 3, 1.5)


def write_rows(connection: sqlite3.Connection) -> None:
    """Write one row each, and the projection that includes them."""
    connection.execute(tables.PUT_ACCOUNT, tables.account_row(ACCOUNT))
    connection.execute(tables.ADD_RESERVATION, tables.reservation_row(PENDING))
    connection.execute(tables.ADD_GENERATION, (1, "gen-1", "t"))
    connection.execute(tables.ADD_UNKNOWN, (1, 2.5, "v"))
    connection.execute(tables.ADD_ENTRY, tables.entry_row(ENTRY))
    projection: tables.Projection = {tables.MARKS: Marks(1, 1, (1,)), "a": ACCOUNT}
    connection.execute(tables.PUT_PROJECTION, (tables.projection_text(projection),))


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """New tables with these rows."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        schema.migrate(made)
        write_rows(made)
        yield made


def test_values_come_back_as_they_were_written(connection: sqlite3.Connection) -> None:
    """Every field, every type."""
    state = tables.read_state(connection)
    assert state.accounts == {"a": ACCOUNT}
    assert state.pending() == [PENDING]
    assert list(tables.read_entries(connection)) == [ENTRY]
    assert (state.next_entry_id, state.next_seq) == (2, 2)


def test_a_row_that_is_newer_than_the_projection_stands(connection: sqlite3.Connection) -> None:
    """No projection writes over a freeze or a limit: they are in another table."""
    newer = structs.replace(ACCOUNT, limit_pusd=7, frozen_reason=None, models=None, usage_unread=False)
    connection.execute(tables.PUT_ACCOUNT, tables.account_row(newer))
    connection.execute(
        tables.PUT_PROJECTION, (tables.projection_text({tables.MARKS: Marks(1, 1, (1,)), "a": ACCOUNT}),)
    )
    assert tables.read_state(connection).accounts["a"] == newer


def test_an_account_without_a_projection_has_what_its_row_says(connection: sqlite3.Connection) -> None:
    row = {name: getattr(ACCOUNT, name) for name in IN_ROW} | {"id": "b", "token_hash": "other"}
    connection.execute(tables.PUT_ACCOUNT, tables.account_row(Account(**row)))
    assert tables.read_state(connection).accounts["b"] == Account(**row)


@pytest.mark.parametrize("account", ["", "a"])
def test_a_projection_that_cannot_be_read_makes_no_ledger(connection: sqlite3.Connection, account: str) -> None:
    connection.execute("UPDATE projection SET document = '[' WHERE account = ?", (account,))
    with pytest.raises(ValueError, match="projection cannot be read"):
        tables.read_state(connection)


def test_a_base_comes_back_as_it_was_written_and_can_be_lost(connection: sqlite3.Connection) -> None:
    connection.execute(tables.PUT_KEY_BASE, astuple(BASE))
    assert tables.read_key_bases(connection) == [BASE]
    connection.execute(tables.PUT_KEY_BASE, astuple(replace(BASE, usage_pusd=8, lost="why")))
    assert tables.read_key_bases(connection) == [replace(BASE, lost="why")]


def test_entries_come_in_slices_without_gap_or_repetition(connection: sqlite3.Connection) -> None:
    """More than one read's worth; from any id on."""
    count = 2 * tables.ENTRIES_PER_READ + 3
    rows = [(number, None, "a", "recovered", 0, 1.0, "{}") for number in range(2, count + 1)]
    connection.executemany(tables.ADD_ENTRY, rows)
    assert [entry.entry_id for entry in tables.read_entries(connection)] == list(range(1, count + 1))
    assert [entry.entry_id for entry in tables.read_entries(connection, count - 2)] == [count - 1, count]
