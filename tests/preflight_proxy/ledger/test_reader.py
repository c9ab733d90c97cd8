"""Reading a ledger beside its writer."""

import sqlite3
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Quarantine
from preflight_proxy.ledger import schema
from preflight_proxy.ledger.reader import ENTRIES_PER_READ, read_entries, read_snapshot
from preflight_proxy.ledger.schema import MIGRATIONS
from tests.preflight_proxy.ledger.test_schema import ACCOUNT, ENTRY, HELD
from tests.support.ledger_on_disk import call, open_account, open_store, reserve


def test_a_reader_sees_what_is_committed_while_the_proxy_lives(tmp_path: Path) -> None:
    """And after it closed."""
    path = tmp_path / "ledger.sqlite3"
    store = open_store(tmp_path)
    open_account(store)
    call(store, "r", 5)
    store.commit(reserve("s"))
    store.commit(Quarantine("m/x", "t", "by hand"))
    living = (list(read_entries(path)), read_snapshot(path))
    assert [entry.cost_pusd for entry in living[0]] == [5]
    assert living[1].accounts == list(store.state.accounts.values())
    assert living[1].pending == store.pending()
    assert living[1].quarantined == list(store.state.quarantined.values())
    store.close()
    assert (list(read_entries(path)), read_snapshot(path)) == living


def test_entries_come_in_slices_without_gap_or_repetition(tmp_path: Path) -> None:
    """More than one read's worth."""
    store = open_store(tmp_path)
    open_account(store, limit_pusd=10**6)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite3")
    count = 2 * ENTRIES_PER_READ + 3
    with closing(connection), connection:
        connection.executemany(
            "INSERT INTO entries VALUES (?, NULL, 'a', 'recovered', 0, 1.0, '{}')",
            [(number,) for number in range(1, count + 1)],
        )
    assert [entry.entry_id for entry in store.entries()] == list(range(1, count + 1))
    store.close()


def test_there_is_no_ledger_where_there_is_none(tmp_path: Path) -> None:
    """And reading makes none."""
    with pytest.raises(LedgerError, match="there is no ledger"):
        list(read_entries(tmp_path / "ledger.sqlite3"))
    with pytest.raises(LedgerError, match="there is no ledger"):
        read_snapshot(tmp_path / "ledger.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ledger_cannot_be_read(tmp_path: Path) -> None:
    """Neither text nor another program's database, nor a damaged one."""
    text, other = tmp_path / "text", tmp_path / "other"
    text.write_text("not a database " * 100)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(LedgerError, match="cannot be read"):
        read_snapshot(text)
    with pytest.raises(LedgerError, match="another program"):
        read_snapshot(other)
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection:
        connection.execute("DROP TABLE entries")
        connection.execute("DROP TABLE quarantine")
    with pytest.raises(LedgerError, match="cannot be read"):
        read_snapshot(tmp_path / "ledger.sqlite3")
    with pytest.raises(LedgerError, match="cannot be read"):
        list(read_entries(tmp_path / "ledger.sqlite3"))


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_ledger_of_an_earlier_version_is_read_as_it_was_left(tmp_path: Path, version: int) -> None:
    """Nobody who only reads migrates it."""
    path = tmp_path / "ledger.sqlite3"
    columns = schema.RESERVATION_COLUMNS.removesuffix(", key_base")
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        for statement in chain.from_iterable(MIGRATIONS[:version]):
            made.execute(statement)
        made.execute(schema.PUT_META, ("schema_version", str(version)))
        made.execute(schema.PUT_ACCOUNT, schema.account_row(ACCOUNT))
        values = schema.reservation_row(HELD)[:-1]
        made.execute(f"INSERT INTO reservations ({columns}) VALUES ({', '.join('?' * len(values))})", values)
        made.execute(schema.ADD_ENTRY, schema.entry_row(ENTRY))
        if version < 3:
            made.execute("INSERT INTO quarantine VALUES ('m/x', 't', 'dear', 1.5)")
    before = path.read_bytes()
    found = read_snapshot(path)
    assert (found.accounts, found.pending, list(read_entries(path))) == ([ACCOUNT], [HELD], [ENTRY])
    assert [row.upstream for row in found.quarantined] == (["https://openrouter.ai"] if version < 3 else [])
    assert path.read_bytes() == before


def test_a_ledger_of_a_newer_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        for statement in chain.from_iterable(MIGRATIONS):
            made.execute(statement)
        made.execute(schema.PUT_META, ("schema_version", str(len(MIGRATIONS) + 1)))
    with pytest.raises(LedgerError, match="a newer version"):
        read_snapshot(path)
