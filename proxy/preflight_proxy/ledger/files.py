"""Writes costs.jsonl and budget.txt from the ledger. A failure fails no call; a start completes the files (M10, order of steps).

The loop only hands over what changed. One thread writes: at once after a quiet time, then at most every `FILES_INTERVAL_S`, and the
last state always.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import structlog

from preflight_proxy.base.atomic_file import replace_file
from preflight_proxy.core.budget_text import detailed_text, simple_text
from preflight_proxy.core.ledger.rows import Account, Entry
from preflight_proxy.core.pricing.fits import fits_text

FILES_INTERVAL_S = 0.1
"""Files are written ten times a second at most: faster than an agent reads them, slow enough to cost nothing."""
LINES_BEHIND_MAX = 10_000
"""Lines kept for a file that cannot be written; beyond it they wait for the next start, in the ledger."""

ENTRY_ID_MAX = 2**53
"""A line with a higher id is damaged: so many entries are never made."""

_log = structlog.get_logger("preflight_proxy.ledger.files")


class Listing(msgspec.Struct, frozen=True):
    """Which entries a costs.jsonl lists.

    Attributes:
        through: it has the lines of all entries up to this id.
        entry_ids: the ids of its other whole lines.
        whole_bytes: where its whole lines end.
    """

    through: int = 0
    entry_ids: frozenset[int] = frozenset()
    whole_bytes: int = 0

    @property
    def last_id(self) -> int:
        """The highest entry id of its whole lines; 0 if it has none."""
        return max(self.entry_ids, default=self.through)


def read_listing(path: Path, mark: tuple[int, int] = (0, 0)) -> Listing:
    """Return what a costs.jsonl lists; nothing if there is no file.

    Args:
        path: the file.
        mark: `CostLog.mark` of an earlier moment: only what was written after it is read. A file that has become shorter since, or
            has no line's end there, is read from its beginning.

    Raises:
        OSError: The file cannot be read.
    """
    through, start_bytes = mark
    try:
        with path.open("rb") as file:
            if not _ends_a_line(file, start_bytes):
                through, start_bytes = 0, 0
            file.seek(start_bytes)
            return _listing(file, through, start_bytes)
    except FileNotFoundError:
        return Listing()


def _ends_a_line(file: BinaryIO, at_bytes: int) -> bool:
    if at_bytes < 1:
        return False
    file.seek(at_bytes - 1)
    return file.read(1) == b"\n"


def _listing(file: BinaryIO, through: int, start_bytes: int) -> Listing:
    """The ids of the whole lines from here on. Lines that are no entry's are left as they are."""
    entry_ids: set[int] = set()
    whole_bytes = start_bytes
    for line in file:
        if not line.endswith(b"\n"):
            break
        whole_bytes += len(line)
        with suppress(msgspec.MsgspecError):
            entry_ids.add(msgspec.json.decode(line, type=_Line).entry_id)
    return Listing(through, frozenset(entry_ids), whole_bytes)


class _Line(msgspec.Struct):
    entry_id: Annotated[int, msgspec.Meta(ge=1, le=ENTRY_ID_MAX)]


class CostLog:
    """Writes costs.jsonl, which has one line for each entry.

    Args:
        path: the file, its owner's alone (C17); made if absent.

    Attributes:
        mark: an entry id and a size in bytes: so much of the file has the lines of all entries up to this one. (0, 0) if unknown.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        self.mark = (0, 0)

    def complete(self, listing: Listing, entries: Iterable[Entry]) -> None:
        """Append the lines that the file lacks.

        An incomplete last line is cut first. Lines that the ledger lacks stay: their calls may have been paid for.
        A failure is logged, not raised.

        Args:
            listing: what the file lists.
            entries: all of the ledger's after `listing.through`, in order.
        """
        last_id = listing.through
        try:
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)
            with self._path.open("r+b") as file:
                file.truncate(listing.whole_bytes)
                file.seek(listing.whole_bytes)
                for entry in entries:
                    last_id = entry.entry_id
                    if entry.entry_id not in listing.entry_ids:
                        file.write(entry.line.encode() + b"\n")
                self.mark = (last_id, file.tell())
        except OSError as exc:
            self._note_failure(exc)

    def append(self, entries: Sequence[Entry], *, after_gap: bool = False) -> bool:
        """Append the lines of these entries, all or none; returns whether they are written. A failure is logged once, not raised.

        Args:
            entries: the next ones, in order.
            after_gap: lines before them were left out, so the mark stays.
        """
        try:
            size_bytes = self._append("".join(f"{entry.line}\n" for entry in entries).encode())
        except OSError as exc:
            self._note_failure(exc)
            return False
        self._failed = False
        if not after_gap:
            self.mark = (entries[-1].entry_id, size_bytes)
        return True

    def _append(self, data: bytes) -> int:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before_bytes = os.fstat(descriptor).st_size
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, before_bytes)
                raise OSError(errno.ENOSPC, "the line did not fit", str(self._path))
            return before_bytes + len(data)
        finally:
            os.close(descriptor)

    def _note_failure(self, exc: OSError) -> None:
        if not self._failed:
            _log.error("costs.write_failed", path=str(self._path), error=str(exc))
        self._failed = True


class BudgetFiles:
    """Writes the accounts' budget files."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def write(self, account: Account) -> None:
        """Write an account's file: used is what is posted and what is reserved. Nothing happens for an account without a file.

        A failure is logged once per account, not raised.
        """
        if account.budget_file is None:
            return
        try:
            # Readable by every user, since the agent may run as any.
            replace_file(Path(account.budget_file), _budget_text(account).encode(), mode=0o644)
            self._failed.discard(account.id)
        except OSError as exc:
            if account.id not in self._failed:
                _log.error("budget_file.write_failed", account=account.id, error=str(exc))
            self._failed.add(account.id)


def _budget_text(account: Account) -> str:
    used_pusd = account.posted_pusd + account.pending_pusd
    if account.budget_mode == "detailed":
        text = detailed_text(used_pusd, account.limit_pusd, account.actions, account.actions_count)
        fits = fits_text(account.fits_model, account.fits_tokens)
        return f"{text}{fits}\n" if fits and account.actions_count else text
    return simple_text(used_pusd, account.limit_pusd)


class Files:
    """Has costs.jsonl and the budget files written by a thread of its own, which starts with the first change.

    Args:
        cost_log: costs.jsonl, completed.
        interval_s: the pause between two writes.
    """

    def __init__(self, cost_log: CostLog, interval_s: float = FILES_INTERVAL_S) -> None:
        self._cost_log = cost_log
        self._interval_s = interval_s
        self._budget_files = BudgetFiles()
        self._entries: deque[Entry] = deque()
        self._accounts: dict[str, Account] = {}
        self._has_gap = self._is_awake = False
        self._changed, self._stopped, self._writing = threading.Event(), threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, entry: Entry) -> None:
        """Have the line of an entry appended."""
        if len(self._entries) >= LINES_BEHIND_MAX:
            self._has_gap = True  # a start appends the lines that are left out
            return
        self._entries.append(entry)
        if not self._is_awake:
            self._wake()

    def show(self, account: Account) -> None:
        """Have the account's budget file written, if it has one."""
        if account.budget_file is not None:
            self._accounts[account.id] = account
            if not self._is_awake:
                self._wake()

    def flush(self) -> None:
        """Write what waits, in this thread; it is written when this returns. Not for the loop."""
        with self._writing:  # only here things are taken out, and each step is atomic beside a loop that adds some
            entries = list(self._entries)
            if entries and self._cost_log.append(entries, after_gap=self._has_gap):
                for _entry in entries:
                    self._entries.popleft()
            while self._accounts:
                _id, account = self._accounts.popitem()
                self._budget_files.write(account)

    def close(self) -> None:
        """Write the last state, and end the thread. May be called twice."""
        self._stopped.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-files", daemon=True)
            self._thread.start()
        self._is_awake = True
        self._changed.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            self._is_awake = False  # before it writes: what comes from now on wakes it again
            self.flush()
            self._stopped.wait(self._interval_s)
