"""One proxy for each ledger: the lock is on the file itself, whatever name it is reached by, and spares SQLite's own locks."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from preflight_proxy.core.errors import LedgerError, LedgerInUseError
from preflight_proxy.ledger import lock as ledger_lock
from preflight_proxy.ledger.lock import LedgerLock, filesystem_of
from tests.support.cases import each
from tests.support.ledger_on_disk import call, open_account, open_store

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
    opened, closed = ledger_lock.LedgerLock.__init__, ledger_lock.LedgerLock.release

    def spied_open(lock: LedgerLock, at: Path) -> None:
        opened(lock, at)
        seen.append(("opened", len(locks_of(path, "FLOCK")), len(locks_of(path, "POSIX"))))

    def spied_release(lock: LedgerLock) -> None:
        seen.append(("closing", len(locks_of(path, "FLOCK")), len(locks_of(path, "POSIX"))))
        closed(lock)

    monkeypatch.setattr(ledger_lock.LedgerLock, "__init__", spied_open)
    monkeypatch.setattr(ledger_lock.LedgerLock, "release", spied_release)
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
    monkeypatch.setattr(ledger_lock, "_held", set())  # as another process finds it
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
    monkeypatch.setattr(ledger_lock, "filesystem_of", lambda _device, _mounts: kind)
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
