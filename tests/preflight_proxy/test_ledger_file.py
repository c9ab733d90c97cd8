"""The file of the ledger: opened, locked, kept short."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from preflight_proxy.errors import LedgerError
from preflight_proxy.ledger_file import checkpoint, connect
from tests.preflight_proxy.ledger_on_disk import call, open_account, open_store


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_durability_is_a_setting_of_the_writing_connection(tmp_path: Path, durability: str, level: int) -> None:
    """1 is NORMAL, 2 is FULL; the log is never moved by the writer itself."""
    with closing(connect(tmp_path / "l.sqlite3", "power" if durability == "power" else "process")) as connection:
        settings = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "fullfsync")
        }
    expected = {"journal_mode": "wal", "synchronous": level, "wal_autocheckpoint": 0, "fullfsync": level - 1}
    assert settings == expected


def test_only_its_owner_may_read_a_ledger(tmp_path: Path) -> None:
    """It names every call of a run."""
    store = open_store(tmp_path)
    open_account(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    store.close()
    assert set(modes.values()) == {0o600}
    assert {"ledger.sqlite3", "ledger.sqlite3-wal"} <= set(modes)


def test_a_directory_that_is_not_there_is_an_error_for_a_person(tmp_path: Path) -> None:
    """With the path in it."""
    with pytest.raises(LedgerError, match=r"nowhere.*cannot be opened"):
        open_store(tmp_path / "nowhere")


def test_a_file_that_is_no_ledger_is_not_touched(tmp_path: Path) -> None:
    """Somebody's text, somebody's other database."""
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"not a database, but longer than the header of one would be " * 20)
    with pytest.raises(LedgerError, match="not a database"):
        open_store(tmp_path)
    assert path.read_bytes().startswith(b"not a database")


def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE meta (x)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="the tables of another program"):
        open_store(tmp_path)
    assert path.read_bytes() == before


def test_a_ledger_that_cannot_be_written_is_not_opened(tmp_path: Path) -> None:
    """Its header's write version says so to SQLite, whoever asks; file permissions say nothing to root.

    Source: sqlite.org/fileformat2.html, "File format version numbers", 2026-10.
    """
    store = open_store(tmp_path)
    open_account(store)
    store.close()
    path = tmp_path / "ledger.sqlite3"
    content = bytearray(path.read_bytes())
    content[18] = 3
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="readonly"):
        open_store(tmp_path)
    content[18] = 2
    path.write_bytes(content)
    open_store(tmp_path).close()


@pytest.mark.parametrize("wal_pages_max", [10**6, 0])
def test_a_checkpoint_moves_commits_into_the_file(tmp_path: Path, wal_pages_max: int) -> None:
    """On a connection of its own; the next commit then starts the log again."""
    store = open_store(tmp_path)
    open_account(store)
    for number in range(20):
        call(store, f"r{number}", 1)
    path, wal = tmp_path / "ledger.sqlite3", tmp_path / "ledger.sqlite3-wal"
    assert b"r19" not in path.read_bytes()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        checkpoint(other, wal_pages_max)
    assert b"r19" in path.read_bytes()
    size_bytes = wal.stat().st_size
    for number in range(20, 25):
        call(store, f"r{number}", 1)
    assert wal.stat().st_size == size_bytes
    store.close()
    assert not wal.exists()
