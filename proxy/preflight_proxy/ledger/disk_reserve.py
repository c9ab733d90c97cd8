"""Space kept aside beside the ledger, so that calls under way can still be booked when somebody has filled the disk.

Once it is given up, nothing new is reserved until a restart finds space again.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

DISK_RESERVE_BYTES = 4 * 2**20
"""Room for some 300 ends of calls in the ledger's log: more than ever run side by side."""

_log = structlog.get_logger("preflight_proxy.ledger.disk_reserve")


class DiskReserve:
    """A file that holds nothing but its place on the disk.

    Args:
        path: The file; made at once where there is room.

    Attributes:
        given_up: The space was needed: the disk is full.
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
        """Give the place back to the disk; True if there was one, so that trying again may help."""
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
        """A ledger that rests keeps no place."""
        if self._kept:
            self._kept = False
            self._path.unlink(missing_ok=True)
