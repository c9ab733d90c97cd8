"""The lock that keeps a ledger to one proxy: on the file itself, so that no other name and no deleted file gets round it (M21).

SQLite locks parts of the file by fcntl. The system drops all these locks of a process once the process closes any descriptor of
that file (fcntl(2)). So nothing in a process that has a ledger open may open and close the file, except SQLite, which knows this.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from preflight_proxy.core.errors import LedgerError, LedgerInUseError

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs"})
"""File systems where Linux makes flock from fcntl locks over the whole file, which shut SQLite out. Source: flock(2), 2026-10."""
MOUNTS = Path("/proc/self/mountinfo")

_held: set[tuple[int, int]] = set()
"""The ledgers that this process has locked, by device and inode: to open one again and close it would drop SQLite's locks."""


class LedgerLock:
    """The lock of one ledger. Taken before SQLite opens the file, released after SQLite has closed it, at the latest by the exit.

    The file is made, empty and its owner's alone, where there is none.

    Args:
        path: The ledger.

    Raises:
        LedgerInUseError: Another proxy has it.
        LedgerError: It cannot be opened or locked, or has a second name.
    """

    def __init__(self, path: Path) -> None:
        try:
            _refuse_network(path)
            if path.exists() and _identity(path.stat()) in _held:
                raise _in_use(path)
            self._descriptor = _open(path)
        except OSError as exc:
            raise LedgerError(f"the ledger {path} cannot be opened: {exc}") from exc
        try:
            _lock(self._descriptor, path)
            found = path.stat()
            if found.st_nlink > 1:
                raise LedgerError(
                    f"the ledger {path} has a second name (a hard link), by which its last commits could be lost. "
                    "Remove the other name, and start again. Copy a ledger instead of linking it"
                )
        except BaseException:
            os.close(self._descriptor)
            raise
        self._held = _identity(found)
        _held.add(self._held)

    def release(self) -> None:
        """Release the lock. SQLite must have closed the file. Call it once."""
        _held.remove(self._held)
        os.close(self._descriptor)


def _open(path: Path) -> int:
    """Open what is locked, which no one can delete: the ledger itself, or on macOS its folder.

    There flock and SQLite's locks exclude one another, even within a process (flock(2): "modern BSDs").
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


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _refuse_network(path: Path) -> None:
    """Refuse a file system where the lock would shut SQLite out.

    Raises:
        LedgerError: The path lies on such a one.
        OSError: The folder cannot be looked at.
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
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            return rest.split(" ", 1)[0]
    return ""
