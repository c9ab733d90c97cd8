"""The ledger's file (M21): its lock, its writing connection, what a start checks, and the thread that keeps its log short.

SQLite locks parts of the file by fcntl. The system drops all these locks of a process once the process closes any descriptor of
that file (fcntl(2)). So nothing in a process that has a ledger open may open and close the file, except SQLite, which knows this.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import structlog

from preflight_proxy.base.config import Durability
from preflight_proxy.core.errors import LedgerError, LedgerInUseError
from preflight_proxy.core.ledger.projection import Marks
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.ledger import schema
from preflight_proxy.ledger.tables import PUT_PROJECTION, Projection, projection_text

CHECKPOINT_S = 1.0
"""How often the log is moved into the file: also the most that a loss of power takes with durability "process"."""
WAL_PAGES_MAX = 64 * 1024
"""A log of 64 MiB that never empties, because commits never pause: the writer waits a moment, and it starts again."""
COMMIT_BUSY_S = 5.0
"""How long a commit waits for such a checkpoint before it fails."""
PAGE_BYTES = 1024
"""A commit writes whole pages: small ones make a call's three commits write 13 kB instead of 37 kB."""
CACHE_KB = 32 * 1024
"""Enough that a run's indexes stay in memory: a page that fell out is read back in the middle of a commit."""

LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACOS_BOOT_ID = b"kern.bootsessionuuid"

FLOOR = "entry_id_floor"
"""In meta: entry ids up to this one are used up, because costs.jsonl has lines of entries that were lost with the power."""

COSTS = "costs.jsonl"
"""In the folder of every ledger. If the ledger is missing, this file shows that there was one."""

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs"})
"""File systems where Linux makes flock from fcntl locks over the whole file, which shut SQLite out. Source: flock(2), 2026-10."""
MOUNTS = Path("/proc/self/mountinfo")


_log = structlog.get_logger("preflight_proxy.ledger.store")

Identity = tuple[int, int] | None
"""Device and inode of a file; None for a missing file."""

_locked: set[Identity] = set()
"""The ledgers that this process has locked: to open one again and close it would drop SQLite's locks."""


class LedgerLock:
    """The lock of one ledger. It is taken before SQLite opens the file, and released after SQLite has closed it or by the exit.

    If there is no file, an empty one is made that only its owner may read.

    Args:
        path: The ledger.

    Raises:
        LedgerInUseError: Another proxy has it.
        LedgerError: It cannot be opened or locked, or has a second name.
    """

    def __init__(self, path: Path) -> None:
        try:
            _refuse_network(path)
            if _identity(path) in _locked:
                raise _in_use(path)
            self._descriptor = _open(path)
        except OSError as exc:
            raise LedgerError(f"the ledger {path} cannot be opened: {exc}") from exc
        try:
            _lock(self._descriptor, path)
            status = path.stat()
            if status.st_nlink > 1:
                raise LedgerError(
                    f"the ledger {path} has a second name (a hard link), by which its last commits could be lost. "
                    "Remove the other name, and start again. Copy a ledger instead of linking it"
                )
        except BaseException:
            os.close(self._descriptor)
            raise
        self._identity = status.st_dev, status.st_ino  # one look: the file may be deleted at any moment
        _locked.add(self._identity)

    def release(self) -> None:
        """Release the lock. SQLite must have closed the file. Call it once."""
        _locked.remove(self._identity)
        os.close(self._descriptor)


def _open(path: Path) -> int:
    """Open the file that is locked: the ledger itself, or on macOS its folder.

    On macOS flock and SQLite's locks exclude one another, even within a process (flock(2): "modern BSDs").
    """
    if sys.platform == "darwin":
        path.touch(mode=0o600)
        return os.open(path.resolve().parent, os.O_RDONLY | os.O_CLOEXEC)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise _in_use(path) from exc
    except OSError as exc:
        raise LedgerError(
            f"the ledger {path} cannot be locked: {exc}. Nothing is sent. Name a folder on a local disk"
        ) from exc


def _in_use(path: Path) -> LedgerInUseError:
    return LedgerInUseError(f"the ledger {path} is in use by another proxy: end that one, or name another folder")


def _refuse_network(path: Path) -> None:
    """Refuse a file system where the lock would shut SQLite out.

    Raises:
        LedgerError: The path is on such a file system.
        OSError: The folder cannot be read.
    """
    try:
        mounts = MOUNTS.read_text(errors="replace")
    except OSError:
        return  # no Linux
    kind = filesystem_of(path.resolve().parent.stat().st_dev, mounts)
    if kind in NETWORK:
        raise LedgerError(
            f"the ledger {path} lies on a network file system ({kind}), where neither its lock nor SQLite's log holds. "
            "Nothing is sent. Name a folder on a local disk"
        )


def filesystem_of(device: int, mounts: str) -> str:
    """Return the type of the file system with this device number; empty if it is not listed.

    Args:
        device: `st_dev` of a file on it.
        mounts: The content of /proc/self/mountinfo, whose form is that of proc_pid_mountinfo(5).
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [number]:
            return rest.split(" ", 1)[0]
    return ""


def connect(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open the writing connection to a ledger that is locked, with the newest tables.

    Raises:
        LedgerError: The file cannot be opened or written, or holds something else.
    """
    try:
        connection = sqlite3.connect(path, timeout=COMMIT_BUSY_S, isolation_level=None, cached_statements=64)
    except sqlite3.Error as exc:
        raise LedgerError(f"the ledger {path} cannot be opened: {exc}") from exc
    try:
        schema.check_own(connection)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ValueError("SQLite cannot keep its log there, because processes cannot share memory there")
        connection.execute("PRAGMA wal_autocheckpoint = 0").close()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute(f"PRAGMA fullfsync = {int(durability == 'power')}")
        connection.execute("PRAGMA checkpoint_fullfsync = 1")
        schema.migrate(connection)
    except BaseException as exc:
        connection.close()
        if isinstance(exc, sqlite3.Error | ValueError):
            raise LedgerError(
                f"the ledger {path} cannot be used: {exc}. Without it nothing is sent. Put back a copy of it, or name another "
                "folder, where budgets begin anew; costs.jsonl beside it still lists what was posted"
            ) from exc
        raise
    return connection


def refuse_lost(path: Path) -> None:
    """Check that no ledger is missing: the folder has one, or never had one.

    Raises:
        LedgerError: The ledger is gone or empty, but files that belong to a ledger are there.
    """
    real = path.resolve()
    # These files are looked for first, because a proxy that starts at this moment makes the ledger before them.
    beside = [path.with_name(COSTS), *(real.with_name(real.name + end) for end in ("-wal", "-shm", "-journal"))]
    traces = [file.name for file in beside if file.exists()]
    size_bytes = real.stat().st_size if real.exists() else None
    if size_bytes == 0:
        traces = [name for name in traces if not name.endswith("-journal")]  # killed while SQLite wrote its first page
    if not size_bytes and traces:
        raise LedgerError(
            f"the ledger {path} is {'gone' if size_bytes is None else 'empty'}, but {', '.join(traces)} beside it shows that there "
            "was one. Nothing is sent, because what was spent before would not count. Either put the ledger back from a copy; "
            "or, to begin with whole budgets, move this folder away or name another one"
        )


def make_costs_file(path: Path, connection: sqlite3.Connection) -> None:
    """Make an empty costs.jsonl where there is none, once the ledger survives a loss of power: it shows that there was a ledger.

    Raises:
        OSError: It cannot be made.
        sqlite3.Error: The ledger cannot be written.
    """
    costs = path.with_name(COSTS)
    if costs.exists():
        return
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    _sync_folder(path.resolve().parent)
    costs.touch(mode=0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def identities(path: Path) -> tuple[Identity, ...]:
    """Return device and inode of the files that the names of the ledger, its -wal and its -shm lead to; None for a missing file."""
    real = path.resolve()
    return tuple(
        _identity(name) for name in (path, real.with_name(real.name + "-wal"), real.with_name(real.name + "-shm"))
    )


def _identity(path: Path) -> Identity:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def boot_id() -> str:
    """Return an id that changes when the machine restarts; empty if the system has none.

    Source: random(4), "boot_id"; Darwin's sysctl kern.bootsessionuuid.
    """
    if sys.platform == "darwin":
        return _sysctl(MACOS_BOOT_ID)
    try:
        return LINUX_BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _sysctl(name: bytes) -> str:
    import ctypes  # only macOS needs it

    value = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(value))
    failed = ctypes.CDLL(None).sysctlbyname(name, value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "" if failed else value.value.decode("ascii", "replace")


def note_start(connection: sqlite3.Connection, boot_id: str, durability: Durability, listed_id: int) -> bool:
    """Record this boot. If commits of an earlier boot may be lost, freeze every account and return True.

    A system without boot ids counts as restarted. Entry ids that only costs.jsonl has belong to lost commits, and are not used
    again.

    Args:
        connection: The ledger's.
        boot_id: Which boot of the machine this is; empty if unknown.
        durability: That of this start.
        listed_id: The highest entry id in costs.jsonl.

    Raises:
        ValueError: costs.jsonl has entries that this ledger cannot have lost with the machine's power: it is an older copy.
    """
    changed, last_id = boot_changed(connection, boot_id), last_entry_id(connection)
    if listed_id > last_id and not changed:
        raise ValueError(
            f"{COSTS} beside it lists entries up to {listed_id}, the ledger only up to {last_id}: it is an older copy. Nothing "
            "is sent, because what the others cost would not count. Either put back the newest copy, with its -wal; or move "
            f"{COSTS} away, and that money may be spent once more"
        )
    connection.execute("BEGIN IMMEDIATE")
    if changed:
        connection.execute("UPDATE accounts SET usage_unread = 1")
    if listed_id > last_id:
        _log.error("ledger.entries_lost", first=last_id + 1, last=listed_id, kept_in=COSTS)
        connection.execute(schema.PUT_META, (FLOOR, str(listed_id)))
    connection.execute(schema.PUT_META, ("boot_id", boot_id))
    connection.execute(schema.PUT_META, ("durability", durability))
    connection.execute("COMMIT")
    return changed


def boot_changed(connection: sqlite3.Connection, boot_id: str) -> bool:
    """Return whether the machine restarted since the last start, and the commits before it were not made to survive that."""
    before = schema.read_meta(connection)
    return (
        "boot_id" in before and before.get("durability") != "power" and (before["boot_id"] != boot_id or boot_id == "")
    )


def last_entry_id(connection: sqlite3.Connection) -> int:
    """Return the highest entry id that is used up: that of an entry, or of one that was lost with the machine's power."""
    (last_id,) = connection.execute("SELECT ifnull(max(entry_id), 0) FROM entries").fetchone()
    return max(int(last_id), int(schema.read_meta(connection).get(FLOOR, "0")))


class Checkpointer:
    """Writes projections and moves the log into the file, in a thread and on a connection of its own.

    Args:
        path: The ledger.

    Raises:
        sqlite3.Error: It cannot be opened.

    Attributes:
        dirty: Set by the writer after a commit. The log is not moved unless it is set.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=COMMIT_BUSY_S, isolation_level=None, check_same_thread=False)
        # A sync inside a transaction of this connection would hold up the writer. Checkpoints sync all the same.
        self._connection.execute("PRAGMA synchronous = NORMAL").close()
        self._connection.execute("PRAGMA wal_autocheckpoint = 0").close()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._waiting: dict[str, Account | Marks] = {}
        self.dirty = False
        self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)
        self._thread.start()

    def offer(self, projection: Projection) -> None:
        """Have a projection written, with those that could not be written before."""
        with self._lock:
            self._waiting |= projection

    def stop(self) -> None:
        """End the thread; returns when it has. A projection that is not written yet is left out."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        with closing(self._connection):
            while not self._stopped.wait(CHECKPOINT_S):
                try:
                    self._project()
                    if self.dirty:
                        self.dirty = False
                        checkpoint(self._connection)
                    failed = False
                except sqlite3.Error as exc:
                    # The commits are in the log all the same. If the disk is full, the commits themselves fail.
                    if not failed:
                        _log.warning("ledger.checkpoint_failed", error=str(exc))
                    failed = True

    def _project(self) -> None:
        with self._lock:
            projection, self._waiting = self._waiting, {}
        try:
            if projection:
                self._connection.execute(PUT_PROJECTION, (projection_text(projection),))
        except sqlite3.Error:
            with self._lock:
                self._waiting = projection | self._waiting
            raise


def checkpoint(connection: sqlite3.Connection, wal_pages_max: int = WAL_PAGES_MAX) -> None:
    """Move the log into the file without delaying the writer. Only if the log stays too long, the writer waits a moment.

    Raises:
        sqlite3.Error: The file cannot be written.
    """
    _busy, pages, _moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > wal_pages_max:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").close()
