"""Reserves disk space beside the ledger, so that running calls can still be settled when the disk is full.

After it was used, no new call is reserved until the proxy is started again and the disk has space.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

DISK_RESERVE_BYTES = 4 * 2**20
"""Enough to settle some 300 calls: more than ever run at the same time."""

_log = structlog.get_logger("preflight_proxy.ledger.disk_reserve")


class DiskReserve:
    """A file of zeros that keeps disk space free.

    Args:
        path: The file. It is made at once if the disk has room.

    Attributes:
        is_used: The disk was full, so the file was deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_used = False
        self._exists = self._make()

    def _make(self) -> bool:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_blocks * 512 < DISK_RESERVE_BYTES:
                    os.write(fd, bytes(DISK_RESERVE_BYTES))  # written, because a file that is only sized takes no space
            finally:
                os.close(fd)
        except OSError as exc:
            _log.warning("disk_reserve.not_made", error=str(exc))
            self._path.unlink(missing_ok=True)
            return False
        return True

    def use(self) -> bool:
        """Delete the file. Return True if there was one: then a second try to write may succeed."""
        if not self._exists:
            return False
        self._exists, self.is_used = False, True
        _log.error("disk_reserve.used", why="the disk is full; nothing new is reserved until a restart")
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Delete the file: a closed ledger needs no reserve."""
        if self._exists:
            self._exists = False
            self._path.unlink(missing_ok=True)
