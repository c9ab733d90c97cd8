"""The file of shared counts: what it holds, who may read it, and what becomes of it when it is damaged."""

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from preflight_proxy.ledger import shared_counts_file
from preflight_proxy.ledger.shared_counts_file import (
    FACTOR_S_MAX,
    KEY_BYTES,
    PREAMBLE_S_MAX,
    RUNS_MAX,
    CarriedFactor,
    Note,
    Rows,
    SharedCountsFile,
    carried_factors,
    clear_factors,
)
from tests.support.unprivileged import NOBODY_UID, unprivileged

HERE = "https://openrouter.ai"
NOW_S = 1_800_000_000.0
NOTE: Note = (b"digest of a text", 900)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder that does not exist yet."""
    return tmp_path / "state" / "token_counts.sqlite3"


def exchange(path: Path, *news: Note, run: str = "a", now_s: float = NOW_S, upstream: str = HERE) -> Rows | None:
    """What a run reads after it has written something."""
    file = SharedCountsFile(path, upstream, run)
    try:
        return file.exchange(news, now_s)
    finally:
        file.close()


def counts(rows: Rows | None) -> tuple[list[int], list[int]]:
    assert rows is not None
    return [row[2] for row in rows[0]], [row[2] for row in rows[1]]


def test_file_key_and_folder_are_for_their_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        exchange(path, NOTE)
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["token_counts.key", "token_counts.sqlite3"]
    assert [file.stat().st_mode & 0o777 for file in path.parent.iterdir()] == [0o600] * 2
    assert len(path.with_suffix(".key").read_bytes()) == KEY_BYTES


def test_the_file_has_no_text_no_digest_and_no_name_of_a_run(path: Path) -> None:
    """Who has the file but not its key cannot try whether a known text was sent."""
    exchange(path, NOTE, (("m/x", "tag"), 1300), run="the run's name")
    content = path.read_bytes()
    assert b"m/x" in content
    assert b"digest of a text" not in content
    assert b"the run's name" not in content
    exchange(other := path.parent.parent / "other" / path.name, NOTE)
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(other)) as two:
        names = [each.execute("SELECT digest FROM preambles").fetchall() for each in (one, two)]
    assert names[0] != names[1]


def test_each_run_keeps_its_least_tokens_and_its_largest_factor(path: Path) -> None:
    endpoint = ("m/x", "tag")
    exchange(path, NOTE, (endpoint, 1300))
    exchange(path, (NOTE[0], 950), (endpoint, 1200))
    assert counts(exchange(path)) == ([900], [1300])
    exchange(path, (NOTE[0], 850), (endpoint, 1400))
    assert counts(exchange(path)) == ([850], [1400])
    assert sorted(counts(exchange(path, NOTE, run="b"))[0]) == [850, 900]


def test_what_was_forgotten_is_forgotten_for_all_runs_and_may_be_learnt_anew(path: Path) -> None:
    for run in ("a", "b"):
        exchange(path, NOTE, (("m/x", "tag"), 1300), run=run)
    rows = exchange(path, (NOTE[0], None), (NOTE[0], 2000), (("m/x", "tag"), None), run="c")
    assert counts(rows) == ([2000], [])


def test_rows_grow_old_and_a_wrong_clock_s_do_not_stay(path: Path) -> None:
    news: Sequence[Note] = (NOTE, (("m/x", "tag"), 1300))
    exchange(path, *news)
    assert counts(exchange(path, now_s=NOW_S + FACTOR_S_MAX - 1)) == ([900], [1300])
    assert counts(exchange(path, now_s=NOW_S + FACTOR_S_MAX)) == ([900], [])
    assert counts(exchange(path, now_s=NOW_S + PREAMBLE_S_MAX)) == ([], [])
    exchange(path, *news, now_s=NOW_S + 10 * PREAMBLE_S_MAX)
    assert counts(exchange(path)) == ([], [])
    exchange(path, (b"other", 1))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT tokens FROM preambles").fetchall() == [(1,)]
        assert connection.execute("SELECT factor FROM factors").fetchall() == []


def test_only_the_newest_rows_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all, and of one preamble those of the newest runs."""
    monkeypatch.setattr(shared_counts_file, "ROWS_MAX", 20)
    for number in range(RUNS_MAX + 5):
        exchange(path, (b"one", 100 + number), run=str(number), now_s=NOW_S + number)
    assert sorted(counts(exchange(path))[0]) == list(range(105, 105 + RUNS_MAX))
    for number in range(20):
        exchange(path, (b"%d" % number, number + 1), (("m/x", str(number)), 1001 + number), now_s=NOW_S + 50 + number)
    exchange(path, (b"last", 99), (("m/x", "last"), 1099), now_s=NOW_S + 100)
    assert counts(exchange(path)) == ([99, *range(20, 1, -1)], [1099, *range(1020, 1001, -1)])


def test_another_upstream_s_rows_are_its_own(path: Path) -> None:
    exchange(path, NOTE, (("m/x", "tag"), 1300), upstream="http://127.0.0.1:9")
    assert counts(exchange(path)) == ([], [])
    exchange(path, (NOTE[0], None), (("m/x", "tag"), None))
    assert counts(exchange(path, upstream="http://127.0.0.1:9")) == ([900], [1300])


def test_a_file_that_is_none_is_set_aside_once_and_begun_anew(path: Path) -> None:
    exchange(path, NOTE)
    path.write_bytes(b"no database at all" * 100)
    with structlog.testing.capture_logs() as log:
        assert counts(exchange(path, (b"new", 7))) == ([7], [])
    assert [(line["event"], line["kind"]) for line in log] == [("shared_counts.failed", "SQLITE_NOTADB")]
    assert path.with_name(path.name + ".damaged").read_bytes().startswith(b"no database")


def test_the_journal_of_a_damaged_file_is_not_taken_for_that_of_the_new_one(path: Path) -> None:
    """A killed run leaves one; rolled back into the new file it would bring back old pages."""
    exchange(path, *((b"%d" % number, 1 + number) for number in range(500)))
    journal = path.with_name(path.name + "-journal")
    with closing(sqlite3.connect(path, isolation_level=None)) as killed:
        killed.execute("PRAGMA cache_size = 1")
        killed.execute("BEGIN")
        killed.execute("UPDATE preambles SET tokens = 7")
        left = journal.read_bytes()
    path.write_bytes(b"no database at all" * 100)
    journal.write_bytes(left)
    assert left.startswith(b"\xd9\xd5\x05\xf9")  # the header that makes a journal count
    damaged = counts(exchange(path, (b"new", 9)))
    assert damaged == ([9], [])
    assert counts(exchange(path)) == ([9], [])
    assert not journal.exists()


def test_a_page_that_is_damaged_is_found_when_it_is_read(path: Path) -> None:
    exchange(path, *((b"%d" % number, 1 + number) for number in range(500)))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    path.write_bytes(content)
    assert counts(exchange(path, (b"new", 7))) == ([7], [])


def test_rows_that_no_run_writes_are_damage(path: Path) -> None:
    exchange(path, NOTE)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE preambles SET tokens = 'many'")
    assert counts(exchange(path)) == ([], [])
    exchange(path, NOTE)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE preambles SET tokens = -5")
    assert counts(exchange(path)) == ([], [])


def test_a_file_that_is_damaged_again_is_left(path: Path) -> None:
    file = SharedCountsFile(path, HERE, "a")
    for is_first in (True, False):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(b"no database at all" * 100)
        path.chmod(0o600)
        with structlog.testing.capture_logs() as log:
            rows = file.exchange((), NOW_S)
        assert rows == (([], []) if is_first else None)
    assert log == []
    assert path.read_bytes().startswith(b"no database")


def test_a_run_goes_on_in_the_file_that_another_put_in_its_place(path: Path) -> None:
    file = SharedCountsFile(path, HERE, "a")
    file.exchange([NOTE], NOW_S)
    path.unlink()
    assert counts(file.exchange((), NOW_S)) == ([], [])
    path.replace(path.with_name("moved"))
    exchange(path, NOTE, run="b")
    assert counts(file.exchange([NOTE], NOW_S)) == ([900, 900], [])
    file.close()


def test_a_newer_version_s_file_is_left(path: Path) -> None:
    exchange(path, NOTE)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    content = path.read_bytes()
    with structlog.testing.capture_logs() as log:
        assert exchange(path, NOTE, (("m/x", "tag"), 1300)) is None
    assert "newer version" in log[0]["error"]
    assert path.read_bytes() == content


@pytest.mark.parametrize("key", [b"", b"short", b"long" * 99, None])
def test_a_lost_key_is_replaced_and_so_are_the_rows_under_it(path: Path, key: bytes | None) -> None:
    """Nobody can look them up any more."""
    exchange(path, NOTE, (("m/x", "tag"), 1300))
    if key is None:
        path.with_suffix(".key").unlink()
    else:
        path.with_suffix(".key").write_bytes(key)
    with structlog.testing.capture_logs() as log:
        assert counts(exchange(path, (b"new", 7))) == ([7], [])
    assert len(log) == (key is not None)
    assert counts(exchange(path)) == ([7], [])
    assert len(path.with_suffix(".key").read_bytes()) == KEY_BYTES


def test_runs_that_begin_at_once_agree_on_one_key(path: Path) -> None:
    files = [SharedCountsFile(path, HERE, str(number)) for number in range(8)]

    def begin(file: SharedCountsFile) -> None:
        file.exchange([NOTE], NOW_S)
        file.close()

    threads = [threading.Thread(target=begin, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.key for file in files}) == 1
    assert counts(exchange(path)) == ([900] * 8, [])


@pytest.mark.parametrize("name", ["token_counts.sqlite3", "token_counts.key"])
@pytest.mark.parametrize("what", ["link", "open to others", "of another user", "folder", "pipe"])
def test_what_is_no_private_file_is_not_used(path: Path, name: str, what: str) -> None:
    exchange(path, NOTE)
    file, kept = path.parent / name, path.parent / "kept"
    file.replace(kept)
    match what:
        case "link":
            file.symlink_to(kept)
        case "open to others":
            kept.chmod(0o640)
            kept.replace(file)
        case "of another user" if os.geteuid() == 0:
            os.chown(kept, NOBODY_UID, -1)
            kept.replace(file)
        case "of another user":
            pytest.skip("only root can give a file away")
        case "folder":
            file.mkdir(mode=0o700)
        case "pipe":
            os.mkfifo(file, 0o666)
            file.chmod(0o666)
    with structlog.testing.capture_logs() as log:
        assert exchange(path, NOTE) is None
    assert len(log) == 1
    assert what != "link" or file.is_symlink()


def test_of_two_keys_that_are_made_at_once_the_first_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run may make its key after this one has seen that there is none."""
    urandom, other = os.urandom, b"k" * KEY_BYTES

    def after_another(size: int) -> bytes:
        key = path.with_suffix(".key")
        key.write_bytes(other)
        key.chmod(0o600)
        return urandom(size)

    monkeypatch.setattr(os, "urandom", after_another)
    file = SharedCountsFile(path, HERE, "a")
    assert counts(file.exchange([NOTE], NOW_S)) == ([900], [])
    file.close()
    assert file.key == path.with_suffix(".key").read_bytes() == other
    assert [each for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_folder_that_others_may_write_to_is_not_used(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o770)
    assert exchange(path, NOTE) is None
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_teaches_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o500)
    file = SharedCountsFile(path, HERE, "a")
    with structlog.testing.capture_logs() as log, unprivileged():
        assert [file.exchange([NOTE], NOW_S) for _ in range(3)] == [None] * 3
    assert len(log) == 1
    path.parent.chmod(0o700)
    assert counts(file.exchange([NOTE], NOW_S)) == ([900], [])
    file.close()


def test_a_factor_is_carried_when_two_runs_saw_it(path: Path) -> None:
    def carried(now_s: float = NOW_S) -> list[CarriedFactor]:
        return carried_factors(path, now_s)

    assert carried() == []
    exchange(path, (("m/x", "tag"), 1300), (("m/y", "tag"), 1500))
    assert carried() == []
    exchange(path, (("m/x", "tag"), 1200), run="b", now_s=NOW_S + 5)
    assert carried() == [CarriedFactor(HERE, "m/x", "tag", 1200, NOW_S + 5)]
    exchange(path, (("m/x", "tag"), 1250), run="c", now_s=NOW_S + 6)
    assert carried() == [CarriedFactor(HERE, "m/x", "tag", 1250, NOW_S + 6)]
    assert carried(NOW_S + FACTOR_S_MAX + 5.5) == []


def test_a_person_clears_one_endpoint_of_one_upstream(path: Path) -> None:
    assert not clear_factors(path, "m/x", "tag", HERE)
    assert not path.parent.exists()
    for run in ("a", "b"):
        exchange(path, (("m/x", "tag"), 1300), (("m/x", "other"), 1300), run=run)
    assert not clear_factors(path, "m/x", "tag", "http://127.0.0.1:9")
    assert clear_factors(path, "m/x", "tag", HERE)
    assert not clear_factors(path, "m/x", "tag", HERE)
    assert [row.tag for row in carried_factors(path, NOW_S)] == ["other"]


def test_what_cannot_be_read_lists_nothing_and_is_not_cleared(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 100)
    path.chmod(0o600)
    assert carried_factors(path, NOW_S) == []
    with pytest.raises(OSError, match="not a database"):
        clear_factors(path, "m/x", "tag", HERE)
