"""What foreign keys had used, on disk: read once, and only ever lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from preflight_proxy.core.ledger.commands import LoseKeyBase, NoteKeyBase, Post, Reserve
from preflight_proxy.core.ledger.rows import KeyBase
from preflight_proxy.ledger import key_base_rows, migrations
from tests.support.ledger_on_disk import open_account, open_store

BASE = KeyBase(1, "https://openrouter.ai/api/v1", "k", 7, 3, 1.5)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """New tables with one base."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        migrations.migrate(made)
        made.execute(key_base_rows.PUT, key_base_rows.row_of(BASE))
        yield made


def read(connection: sqlite3.Connection) -> list[KeyBase]:
    return [KeyBase(*row) for row in connection.execute(key_base_rows.READ)]


def test_a_base_comes_back_as_it_went_and_can_be_lost(connection: sqlite3.Connection) -> None:
    assert read(connection) == [BASE]
    connection.execute(key_base_rows.PUT, key_base_rows.row_of(replace(BASE, usage_pusd=8, lost="why")))
    assert read(connection) == [replace(BASE, lost="why")]


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
