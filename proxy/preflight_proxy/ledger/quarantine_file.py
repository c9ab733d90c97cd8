"""The user's own list of quarantined endpoints: outlives a run's ledger, is read by every proxy at its start (M14)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from preflight_proxy.base.atomic_file import replace_file
from preflight_proxy.core.ledger.rows import OPENROUTER, QuarantinedEndpoint

LINES_MAX = 10_000
"""Far above any count of endpoints; a file that grew beyond it is damaged."""

ADD_WAIT_S = 0.2
"""A proxy adds on its loop, so it waits no longer for others; the ledger holds the endpoint all the same."""
CLEAR_WAIT_S = 10.0
QUARANTINE_LOCK_LOOK_S = 0.01

_log = structlog.get_logger("preflight_proxy.quarantine")


class QuarantineFile:
    """A file of one JSON object a line: ``model, tag, reason, at_s, upstream``; a line without the last is of OpenRouter.

    Proxies that run at the same time each append whole lines; only a person's clearing rewrites the file. Both lock its folder.

    Args:
        path: the file; made with its directory at the first entry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, *, quiet: bool = False) -> list[QuarantinedEndpoint]:
        """Return what is listed, the newest line of each endpoint of each upstream; empty where there is no file.

        Lines that cannot be read are skipped and logged: one damaged line must not lose the others.

        Args:
            quiet: Log nothing. Programs that only read the list have no log.
        """
        try:
            lines = self._path.read_bytes().splitlines()[-LINES_MAX:]
        except FileNotFoundError:
            return []
        except OSError as exc:
            if not quiet:
                _log.error("quarantine.unreadable", path=str(self._path), error=str(exc))
            return []
        rows: dict[tuple[str, str, str], QuarantinedEndpoint] = {}
        for line in lines:
            try:
                row = msgspec.json.decode(line, type=QuarantinedEndpoint)
            except msgspec.MsgspecError:
                if not quiet:
                    _log.warning("quarantine.line_skipped", path=str(self._path))
                continue
            rows[row.upstream, row.model, row.tag] = row
        return list(rows.values())

    def add(self, row: QuarantinedEndpoint) -> None:
        """List an endpoint; a failure is logged, for the ledger holds it too."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._path.parent, ADD_WAIT_S):
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "ab", buffering=0) as file:
                    file.write(msgspec.json.encode(row) + b"\n")
        except OSError as exc:
            _log.error("quarantine.write_failed", path=str(self._path), error=str(exc))

    def clear(self, model: str, tag: str, upstream: str = OPENROUTER) -> bool:
        """Take an endpoint of an upstream off the list; True if it was on it.

        Raises:
            OSError: The file cannot be written, or others keep it locked; it is as before.
        """
        if not self._path.exists():
            return False
        with _locked(self._path.parent, CLEAR_WAIT_S):
            rows = self.read()
            kept = [row for row in rows if (row.model, row.tag, row.upstream) != (model, tag, upstream)]
            if len(kept) == len(rows):
                return False
            replace_file(self._path, b"".join(msgspec.json.encode(row) + b"\n" for row in kept))
        return True


@contextmanager
def _locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Lock the list: a line that another program appends while the file is replaced would be lost.

    Raises:
        TimeoutError: Another program keeps the folder locked for longer than `wait_s`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, until_s: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise TimeoutError("another program keeps the list of quarantined endpoints locked") from None
            time.sleep(QUARANTINE_LOCK_LOOK_S)
        except OSError:
            return  # no locks on this file system: the list is written all the same
        else:
            return
