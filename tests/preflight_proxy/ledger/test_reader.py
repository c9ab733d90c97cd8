"""Reading a ledger beside its writer."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Quarantine
from preflight_proxy.ledger import schema
from preflight_proxy.ledger.reader import read_after, read_entries, read_snapshot, read_whole
from tests.preflight_proxy.ledger.test_schema import write_version_4
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


def test_a_reader_sees_what_a_killed_proxy_committed_after_its_last_projection(tmp_path: Path) -> None:
    """As a start does; and it changes nothing."""
    (tmp_path / "run").mkdir()
    store = open_store(tmp_path / "run")
    open_account(store)
    call(store, "r", 5)
    store.commit(reserve("s"))
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    snapshot = read_snapshot(tmp_path / "killed" / "ledger.sqlite3")
    assert snapshot.accounts == list(store.state.accounts.values())
    assert (snapshot.accounts[0].posted_pusd, snapshot.pending) == (5, store.pending())
    store.close()


def test_a_whole_ledger_whose_balance_is_not_the_sum_of_its_entries_is_an_error(tmp_path: Path) -> None:
    """A start reads only the last rows; an audit reads all."""
    store = open_store(tmp_path)
    open_account(store)
    call(store, "r", 5)
    call(store, "s", 6)
    store.close()
    path = tmp_path / "ledger.sqlite3"
    assert [entry.cost_pusd for entry in read_whole(path)[1]] == [5, 6]
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TRIGGER entries_delete")
        other.execute("DELETE FROM entries WHERE entry_id = 1")
    open_store(tmp_path).close()
    with pytest.raises(LedgerError, match="does not balance: account a: posted is not the sum"):
        read_whole(path)


def test_entries_after_an_id_come_with_the_balances_of_the_same_moment(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        open_account(store, limit_pusd=1000)
        for name in ("one", "two", "three"):
            call(store, name, 10)
        snapshot, entries = read_after(tmp_path / "ledger.sqlite3", 1)
        assert [entry.entry_id for entry in entries] == [2, 3]
        assert [account.posted_pusd for account in snapshot.accounts] == [30]
        assert read_after(tmp_path / "ledger.sqlite3", 3)[1] == []


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


def test_a_ledger_of_an_earlier_version_is_read_as_it_was_left(tmp_path: Path) -> None:
    """Nobody who only reads migrates it."""
    path = tmp_path / "ledger.sqlite3"
    write_version_4(path)
    before = path.read_bytes()
    snapshot, entries = read_whole(path)
    assert [(account.posted_pusd, account.pending_pusd) for account in snapshot.accounts] == [(130, 42), (65, 81)]
    assert [pending.id for pending in snapshot.pending] == ["plain", "named", "unknown"]
    assert [row.model for row in snapshot.quarantined] == ["m/z"]
    assert entries == list(read_entries(path))
    assert [entry.entry_id for entry in entries] == list(range(1, 8))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.sqlite3"]


def test_a_ledger_of_a_newer_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        schema.migrate(made)
        made.execute(schema.PUT_META, ("schema_version", str(schema.VERSION + 1)))
    with pytest.raises(LedgerError, match="a newer version"):
        read_snapshot(path)
