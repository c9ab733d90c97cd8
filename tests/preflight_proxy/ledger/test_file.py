"""The file of the ledger: opened, locked by one proxy whatever name it is reached by, kept short."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError, LedgerInUseError
from preflight_proxy.core.ledger.projection import Marks
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.ledger import file as ledger_file
from preflight_proxy.ledger import tables
from preflight_proxy.ledger.file import LedgerLock, checkpoint, connect, filesystem_of
from tests.support.cases import each
from tests.support.ledger_on_disk import call, open_account, open_store


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


TRACES = ["costs.jsonl", "ledger.sqlite3-wal", "ledger.sqlite3-shm", "ledger.sqlite3-journal"]


@pytest.mark.parametrize("trace", TRACES)
def test_a_folder_whose_ledger_is_gone_is_refused_with_both_ways_out(tmp_path: Path, trace: str) -> None:
    """Nothing in it is changed, so that both stay open; and the answer stays the same."""
    (tmp_path / trace).touch()
    for _ in range(2):
        with pytest.raises(LedgerError, match=rf"is gone, but {trace} .*Nothing is sent.*a copy; or, .*whole budgets"):
            open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [trace]
    (tmp_path / trace).rename(tmp_path / "away")
    open_store(tmp_path).close()


@pytest.mark.parametrize("trace", [name for name in TRACES if not name.endswith("-journal")])
def test_an_empty_ledger_beside_traces_counts_as_gone(tmp_path: Path, trace: str) -> None:
    (tmp_path / "ledger.sqlite3").touch()
    (tmp_path / trace).touch()
    with pytest.raises(LedgerError, match=f"is empty, but {trace} beside it"):
        open_store(tmp_path)


@pytest.mark.parametrize("beside", [[], ["ledger.sqlite3-journal"]])
def test_a_first_start_that_was_killed_is_no_lost_ledger(tmp_path: Path, beside: list[str]) -> None:
    """SQLite writes its first page under a journal of its own."""
    for name in ("ledger.sqlite3", *beside):
        (tmp_path / name).touch()
    open_store(tmp_path).close()


def test_a_ledger_that_is_deleted_between_runs_is_missed_though_nothing_was_ever_posted(tmp_path: Path) -> None:
    """costs.jsonl is there from the first moment on, empty; a ledger without one gets it."""
    for _ in range(2):
        open_store(tmp_path).close()
        costs = tmp_path / "costs.jsonl"
        assert (costs.read_bytes(), costs.stat().st_mode & 0o777) == (b"", 0o600)
        costs.unlink()
    open_store(tmp_path).close()
    (tmp_path / "ledger.sqlite3").unlink()
    with pytest.raises(LedgerError, match="is gone"):
        open_store(tmp_path)


def test_the_ledger_holds_its_tables_before_it_leaves_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power could leave the trace alone, and the folder would never start again."""
    found = list[bool]()
    touch = Path.touch

    def spied(path: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        if path.name == "costs.jsonl":
            found.append(b"CREATE TABLE entries" in (tmp_path / "ledger.sqlite3").read_bytes())
        touch(path, mode, exist_ok)

    monkeypatch.setattr(Path, "touch", spied)
    open_store(tmp_path).close()
    assert found[0]


def test_a_ledger_behind_a_link_is_missed_where_it_lay(tmp_path: Path) -> None:
    """SQLite keeps its log beside the file itself; what is ours stands beside the link."""
    real, linked = tmp_path / "real", tmp_path / "linked"
    real.mkdir()
    linked.mkdir()
    (linked / "ledger.sqlite3").symlink_to(real / "ledger.sqlite3")
    open_store(linked).close()
    (linked / "costs.jsonl").unlink()
    (real / "ledger.sqlite3").rename(real / "ledger.sqlite3-wal")
    with pytest.raises(LedgerError, match=r"is gone, but ledger\.sqlite3-wal"):
        open_store(linked)


def test_where_sqlite_cannot_keep_a_log_nothing_is_opened() -> None:
    """As on a file system without shared memory: it says so by the mode that it stays in."""
    with pytest.raises(LedgerError, match="cannot keep its log"):
        connect(Path(":memory:"), "process")


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")


def locks_of(path: Path, kind: str) -> list[str]:
    """What the kernel knows of locks of this kind on a file, without the number of the line: other processes change it."""
    inode = f":{path.stat().st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [" ".join(words[1:]) for words in lines if words[1] == kind and words[5].endswith(inode)]


def elsewhere(path: Path) -> subprocess.CompletedProcess[str]:
    """Open the ledger of a path in another process."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom preflight_proxy.base.clock import SystemClock\n"
        "from preflight_proxy.core.errors import LedgerError\nfrom preflight_proxy.ledger.store import Store\n"
        "try:\n    Store(Path(sys.argv[1]), clock=SystemClock()).close()\n"
        "except LedgerError as exc:\n    sys.exit(f'{type(exc).__name__}: {exc}')\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.wire
@pytest.mark.parametrize("name", ["the same", "a hard link", "a symbolic link"])
def test_a_second_proxy_is_refused_by_whatever_name_it_reaches_the_ledger(tmp_path: Path, name: str) -> None:
    """And whatever was deleted beside the ledger meanwhile."""
    store = open_store(tmp_path)
    open_account(store)
    path = tmp_path / "ledger.sqlite3"
    named = path if name == "the same" else _other(path)
    if name == "a hard link":
        named.hardlink_to(path)
    if name == "a symbolic link":
        named.symlink_to(path)
    for beside in tmp_path.glob("*lock*"):
        beside.unlink()
    done = elsewhere(named)
    assert "LedgerInUseError" in done.stderr
    assert "in use by another proxy" in done.stderr
    call(store, "r1", 1)
    store.close()


def _other(path: Path) -> Path:
    folder = path.parent / "other"
    folder.mkdir(exist_ok=True)
    return folder / path.name


def test_a_ledger_with_two_names_is_not_opened(tmp_path: Path) -> None:
    """SQLite finds the log of the last commits by the name: by the other name they would be lost."""
    open_store(tmp_path).close()
    other = _other(tmp_path / "ledger.sqlite3")
    other.hardlink_to(tmp_path / "ledger.sqlite3")
    for folder in (tmp_path, other.parent):
        with pytest.raises(LedgerError, match=r"second name.*Copy"):
            open_store(folder)
    other.unlink()
    open_store(tmp_path).close()


def test_a_ledger_that_is_deleted_while_it_is_locked_locks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, look = tmp_path / "ledger.sqlite3", Path.stat

    def look_and_delete(looked_at: Path, **options: bool) -> os.stat_result:
        status = look(looked_at, **options)
        if looked_at == path:
            path.unlink()
        return status

    monkeypatch.setattr(Path, "stat", look_and_delete)
    first, second = LedgerLock(path), LedgerLock(_other(path))
    first.release()
    second.release()


@linux
def test_a_second_try_in_the_same_process_leaves_sqlites_own_locks_alone(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops the fcntl locks that the whole process has on it (fcntl(2))."""
    store = open_store(tmp_path)
    open_account(store)
    path = tmp_path / "ledger.sqlite3"
    before = locks_of(path, "POSIX")
    assert before
    with pytest.raises(LedgerInUseError):
        open_store(tmp_path)
    assert locks_of(path, "POSIX") == before
    assert len(locks_of(path, "FLOCK")) == 1
    store.close()
    assert not locks_of(path, "POSIX") + locks_of(path, "FLOCK")
    open_store(tmp_path).close()


@linux
def test_the_lock_is_there_before_sqlite_and_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No moment of a store's life is without it, that of the last checkpoint included."""
    path, seen = tmp_path / "ledger.sqlite3", list[tuple[str, int, int]]()
    opened, closed = ledger_file.LedgerLock.__init__, ledger_file.LedgerLock.release

    def spied_open(lock: LedgerLock, at: Path) -> None:
        opened(lock, at)
        seen.append(("opened", len(locks_of(path, "FLOCK")), len(locks_of(path, "POSIX"))))

    def spied_release(lock: LedgerLock) -> None:
        seen.append(("closing", len(locks_of(path, "FLOCK")), len(locks_of(path, "POSIX"))))
        closed(lock)

    monkeypatch.setattr(ledger_file.LedgerLock, "__init__", spied_open)
    monkeypatch.setattr(ledger_file.LedgerLock, "release", spied_release)
    store = open_store(tmp_path)
    open_account(store)
    store.close()
    store.close()
    assert seen == [("opened", 1, 0), ("closing", 1, 0)]


def test_the_ledger_is_never_truncated_by_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"something")
    LedgerLock(path).release()
    assert path.read_bytes() == b"something"


@linux
def test_macos_locks_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There flock and SQLite's locks exclude one another, even within a process (flock(2), "modern BSDs")."""
    monkeypatch.setattr(sys, "platform", "darwin")
    store = open_store(tmp_path)
    open_account(store)
    path, linked = tmp_path / "ledger.sqlite3", _other(tmp_path / "ledger.sqlite3")
    linked.symlink_to(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not locks_of(path, "FLOCK")
    before = locks_of(path, "POSIX")
    for folder in (tmp_path, linked.parent):
        with pytest.raises(LedgerInUseError):
            open_store(folder)
    assert locks_of(path, "POSIX") == before
    monkeypatch.setattr(ledger_file, "_locked", set())  # as another process finds it
    for folder in (tmp_path, linked.parent):
        with pytest.raises(LedgerInUseError):
            open_store(folder)
    monkeypatch.undo()
    call(store, "r1", 1)
    store.close()


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("nfs", True), ("cifs", True), ("smb3", True), ("ext4", False), ("tmpfs", False), ("", False)],
)
def test_a_network_file_system_is_refused(
    kind: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Linux makes flock from the very locks that SQLite takes (flock(2), "NFS details", "CIFS details")."""
    monkeypatch.setattr(ledger_file, "filesystem_of", lambda _device, _mounts: kind)
    if not refused:
        open_store(tmp_path).close()
        return
    with pytest.raises(LedgerError, match=rf"lies on a network file system \({kind}\).*local disk"):
        open_store(tmp_path)
    assert not (tmp_path / "ledger.sqlite3").exists()


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
41 22 0:52 / /home rw shared:3 master:2 - nfs4 server:/home rw,vers=4.2
"""


@each(
    "device, kind",
    [(os.makedev(8, 1), "ext4"), (os.makedev(98, 0), "ext3"), (os.makedev(0, 52), "nfs4"), (os.makedev(0, 99), "")],
)
def test_a_file_system_is_found_by_its_device(device: int, kind: str) -> None:
    """The form is that of proc(5), /proc/PID/mountinfo; the optional fields end with a single dash."""
    assert filesystem_of(device, MOUNTS) == kind


def test_a_file_system_without_locks_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that cannot be had is no lock that another proxy has."""

    def no_locks(_fd: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(LedgerError, match=r"cannot be locked.*No locks available.*local disk") as refused:
        open_store(tmp_path)
    assert not isinstance(refused.value, LedgerInUseError)


@linux
def test_a_start_that_fails_leaves_no_file_of_the_ledger_open(tmp_path: Path) -> None:
    open_account(store := open_store(tmp_path))
    store.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection:
        connection.execute("UPDATE projection SET document = json_set(document, '$.pending_pusd', 7)")
        connection.commit()
    with pytest.raises(LedgerError) as raised:
        open_store(tmp_path)
    links = [link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert ("sum" in str(raised.value), [name for name in links if "ledger" in name]) == (True, [])


def test_a_projection_that_could_not_be_written_comes_with_the_next_one_and_the_newest_row_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an account that does not change again would be lost from a projection whose marks include it."""
    monkeypatch.setattr(ledger_file, "CHECKPOINT_S", 3600.0)
    monkeypatch.setattr(ledger_file, "COMMIT_BUSY_S", 0.0)
    open_store(tmp_path).close()
    path = tmp_path / "ledger.sqlite3"
    checkpointer = ledger_file.Checkpointer(path)
    assert checkpointer._connection.execute("PRAGMA synchronous").fetchone() == (1,)  # a sync would hold up the writer
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        checkpointer.offer({"": Marks(1), "a": Account("a", "run", 1)})
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            checkpointer._project()
        writer.execute("ROLLBACK")
        checkpointer.offer({"": Marks(2), "b": Account("b", "run", 2)})
        checkpointer._project()
        assert tables.read_marks(writer) == Marks(2)
        names = [name for (name,) in writer.execute("SELECT account FROM projection ORDER BY account")]
        assert names == ["", "a", "b"]
        writer.execute("BEGIN IMMEDIATE")
        checkpointer.offer({"": Marks(3)})

        def offered_meanwhile(projection: tables.Projection) -> str:
            checkpointer.offer({"": Marks(4)})
            return tables.projection_text(projection)

        with monkeypatch.context() as patched:
            patched.setattr(ledger_file, "projection_text", offered_meanwhile)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                checkpointer._project()
        writer.execute("ROLLBACK")
        checkpointer._project()
        assert tables.read_marks(writer) == Marks(4)
    checkpointer.stop()
