"""Writes costs.jsonl and budget.txt from the ledger. A failure fails no call; a start completes the files (M10, order of steps)."""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Protocol

import msgspec
import structlog

from preflight_proxy.base.atomic_file import replace_file
from preflight_proxy.core.budget_text import Action, detailed_text, simple_text
from preflight_proxy.core.ledger.rows import Account, Entry

BUDGET_FILE_INTERVAL_S = 0.1
"""A budget file is written ten times a second at most: faster than an agent reads it, slow enough to cost nothing."""
LINES_BEHIND_MAX = 1000
"""Lines kept for a file that cannot be written; beyond it they wait for the next start, in the ledger."""

ENTRY_ID_MAX = 2**53
"""A line with a higher id is damaged: so many entries are never made."""

_log = structlog.get_logger("preflight_proxy.ledger.files")


class CostLog:
    """Writes costs.jsonl, which has one line for each entry.

    Args:
        path: the file, its owner's alone (C17); made if absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._behind: list[str] = []
        self._failed = False

    def complete(self, entries: Iterable[Entry]) -> None:
        """Append the lines that the file lacks of these entries, which are all of the ledger's, in order.

        An incomplete last line is cut first. Lines that the ledger lacks stay: their calls may have been paid for.
        A failure is logged, not raised.
        """
        self._behind.clear()
        try:
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)
            with self._path.open("r+b") as file:
                listed, whole_bytes = _listed(file)
                file.truncate(whole_bytes)
                file.seek(whole_bytes)
                file.writelines(_bytes_of(entry) for entry in entries if entry.entry_id not in listed)
        except OSError as exc:
            self._note_failure(exc)

    def append(self, line: str) -> None:
        """Append one entry's line; if that fails it is logged once, and the line is tried again with the next one."""
        if len(self._behind) >= LINES_BEHIND_MAX:
            return  # a start appends the missing lines; a gap in the middle could not be filled
        self._behind.append(line)
        try:
            self._write_behind()
        except OSError as exc:
            self._note_failure(exc)
        else:
            self._behind.clear()
            self._failed = False

    def _write_behind(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before_bytes = os.fstat(descriptor).st_size
            data = "".join(f"{line}\n" for line in self._behind).encode()
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, before_bytes)
                raise OSError(errno.ENOSPC, "the line did not fit", str(self._path))
        finally:
            os.close(descriptor)

    def _note_failure(self, exc: OSError) -> None:
        if not self._failed:
            _log.error("costs.write_failed", path=str(self._path), error=str(exc))
        self._failed = True


class _Line(msgspec.Struct):
    entry_id: Annotated[int, msgspec.Meta(ge=1, le=ENTRY_ID_MAX)]


def last_listed(path: Path) -> int:
    """Return the highest entry id of the whole lines in a costs.jsonl; 0 if there is none.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return max(_listed(file)[0], default=0)
    except FileNotFoundError:
        return 0


def _listed(file: BinaryIO) -> tuple[set[int], int]:
    """The entry ids of the whole lines, and where these end. Lines that are no entry's are left as they are."""
    entry_ids: set[int] = set()
    whole_bytes = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        whole_bytes += len(line)
        with suppress(msgspec.MsgspecError):
            entry_ids.add(msgspec.json.decode(line, type=_Line).entry_id)
    return entry_ids, whole_bytes


def _bytes_of(entry: Entry) -> bytes:
    return entry.line.encode() + b"\n"


class Timer(Protocol):
    """A scheduled call that can be cancelled."""

    def cancel(self) -> None:
        """Cancel it."""


class Timers(Protocol):
    """What of an event loop the budget files need."""

    def time(self) -> float:
        """Seconds from an arbitrary moment."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call once after `delay` seconds."""


@dataclass(frozen=True, slots=True)
class _BudgetFigures:
    account: Account
    used_pusd: int
    actions: tuple[Action, ...]
    total_actions: int


class BudgetFiles:
    """Writes the accounts' budget files: at once, then at most every `BUDGET_FILE_INTERVAL_S`. The last state is always written.

    Args:
        timers: the event loop; the running one by default, looked up at the first write.
    """

    def __init__(self, timers: Timers | None = None) -> None:
        self._timers = timers
        self._waiting: dict[str, tuple[_BudgetFigures, Timer]] = {}
        self._written_at_s: dict[str, float] = {}
        self._failed: set[str] = set()

    def write(self, account: Account, used_pusd: int, actions: tuple[Action, ...], total_actions: int) -> None:
        """Write an account's file, now or when the interval is over. Nothing happens for an account without a file.

        A failure is logged once per account, not raised.
        """
        if account.budget_file is None:
            return
        balance = _BudgetFigures(account, used_pusd, actions, total_actions)
        waiting = self._waiting.get(account.id)
        if waiting is not None:
            self._waiting[account.id] = (balance, waiting[1])
            return
        timers = self._timers or asyncio.get_running_loop()
        due_s = self._written_at_s.get(account.id, -math.inf) + BUDGET_FILE_INTERVAL_S - timers.time()
        if due_s <= 0:
            self._write(balance, timers.time())
            return
        timer = timers.call_later(due_s, lambda: self._due(account.id, timers))
        self._waiting[account.id] = (balance, timer)

    def flush(self) -> None:
        """Write all delayed files now."""
        for account_id, (balance, timer) in list(self._waiting.items()):
            timer.cancel()
            del self._waiting[account_id]
            self._write(balance, -math.inf)

    def _due(self, account_id: str, timers: Timers) -> None:
        balance, _timer = self._waiting.pop(account_id)
        self._write(balance, timers.time())

    def _write(self, balance: _BudgetFigures, now_s: float) -> None:
        account = balance.account
        assert account.budget_file is not None, "an account without a file is never written"
        self._written_at_s[account.id] = now_s
        try:
            text = _budget_text(balance)
            # Readable by every user, since the agent may run as any.
            replace_file(Path(account.budget_file), text.encode(), mode=0o644)
            self._failed.discard(account.id)
        except OSError as exc:
            if account.id not in self._failed:
                _log.error("budget_file.write_failed", account=account.id, error=str(exc))
            self._failed.add(account.id)


def _budget_text(balance: _BudgetFigures) -> str:
    used_pusd, limit_pusd = balance.used_pusd, balance.account.limit_pusd
    if balance.account.budget_mode == "detailed":
        return detailed_text(used_pusd, limit_pusd, balance.actions, balance.total_actions)
    return simple_text(used_pusd, limit_pusd)
