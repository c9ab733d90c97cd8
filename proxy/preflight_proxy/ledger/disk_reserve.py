"""Disk space that is reserved beside the ledger, so that running calls can still be settled when the disk is full.

When it is used up, no new call is reserved until a restart finds space again.
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
        path: The file; made at once where there is room.

    Attributes:
        given_up: The disk was full, so the file was deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.given_up = False
        self._kept = self._keep()

    def _keep(self) -> bool:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_blocks * 512 < DISK_RESERVE_BYTES:
                    os.write(fd, bytes(DISK_RESERVE_BYTES))  # written, not only sized: a hole would keep no place
            finally:
                os.close(fd)
        except OSError as exc:
            _log.warning("space.not_kept", error=str(exc))
            self._path.unlink(missing_ok=True)
            return False
        return True

    def give_up(self) -> bool:
        """Delete the file; True if there was one, so that a second try may succeed."""
        if not self._kept:
            return False
        self._kept, self.given_up = False, True
        _log.error("space.given_up", why="the disk is full; nothing new is reserved until a restart")
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Delete the file: a closed ledger needs no reserve."""
        if self._kept:
            self._kept = False
            self._path.unlink(missing_ok=True)
