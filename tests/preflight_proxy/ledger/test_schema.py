"""Rows become values, and values rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from preflight_proxy.core.ledger.commands import LoseKeyBase, NoteKeyBase, Post, Reserve
from preflight_proxy.core.ledger.rows import Account, Entry, EntryKind, KeyBase, Reservation, ReservationState
from preflight_proxy.core.refusals.outcomes import NONE_YET
from preflight_proxy.ledger import migrations, schema
from tests.support.ledger_on_disk import open_account, open_store

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
BASE = KeyBase(1, "https://openrouter.ai/api/v1", "k", 7, 3, 1.5)
ENTRY = Entry(1, "r", "a", EntryKind.POSTED, 40, 3.5, "{}")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """New tables with one row each."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        migrations.migrate(made)
        made.execute(schema.PUT_ACCOUNT, schema.account_row(ACCOUNT))
        made.execute(schema.ADD_RESERVATION, schema.reservation_row(HELD))
        made.execute(schema.ADD_ENTRY, schema.entry_row(ENTRY))
        made.execute(schema.PUT_KEY_BASE, schema.key_base_row(BASE))
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


def test_a_base_comes_back_as_it_went_and_can_be_lost(connection: sqlite3.Connection) -> None:
    assert schema.read_key_bases(connection) == [BASE]
    connection.execute(schema.PUT_KEY_BASE, schema.key_base_row(replace(BASE, usage_pusd=8, lost="why")))
    assert schema.read_key_bases(connection) == [replace(BASE, lost="why")]


@pytest.mark.parametrize("column", ["usage_pusd", "byok_pusd", "key_hash", "upstream"])
def test_a_base_never_changes(connection: sqlite3.Connection, column: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="read once"):
        connection.execute(f"UPDATE key_bases SET {column} = 9")


def test_what_each_bases_calls_posted_is_found_again_after_a_restart(tmp_path: Path) -> None:
    """Of all accounts, and of none of the calls that are in no base."""
    store = open_store(tmp_path)
    open_account(store)
    open_account(store, "b")
    for key_hash in ("k", "l"):
        store.commit(NoteKeyBase("u", key_hash, 5, 0))
    for number, (account, key_base) in enumerate([("a", 1), ("b", 1), ("a", None), ("b", 2)]):
        store.commit(Reserve(f"r{number}", account, 90, "chat", "m/x", ("t",), 9, key_base=key_base))
        store.commit(Post(f"r{number}", 10 + number))
    store.commit(Reserve("held", "a", 90, "chat", "m/x", ("t",), 9, key_base=2))
    store.commit(LoseKeyBase(1, "why"))
    store.commit(LoseKeyBase(1, "another"))
    book = store.book
    assert book.key_posted_pusd == {1: 21, 2: 13}
    assert [base.lost for base in book.key_bases.values()] == ["why", None]
    store.close()
    again = open_store(tmp_path)
    assert again.book == book
    assert again.book.reservations["held"].key_base == 2
    again.close()
