"""Tells a person what happens in a run: in notices.jsonl, by a command of theirs, and by `on_event`.

The command and `on_event` have a thread each, and a queue of limited length. A slow, failing or flooding one ends nothing, and it
delays the end of the run alone, by `NOTIFY_END_S` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from agent_preflight.base.config import environment_without_keys
from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.models import RunResult
from agent_preflight.runner.progress import TrialProgress
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.base.log import redact
from preflight_proxy.core.terminal import plain

NOTICES_FILE = "notices.jsonl"
WARNING = "warning"
"""The kind of a notice that is shown, but not handed on."""
NOTICES_WAITING_MAX = 100
"""So many notices wait for a slow receiver. More are dropped."""
NOTIFY_S_MAX = 30.0
"""A command that takes longer is killed, with its process group."""
NOTIFY_END_S = 5.0
"""For so long the end of a run waits for notices that are not handed on yet."""
BUDGET_PERCENT = 80

Document = dict[str, Any]


class Receiver(Protocol):
    """Takes notices, one at a time, in a thread."""

    def take(self, notice: Document) -> None:
        """Take a notice; raise what prevented it."""

    def stop(self) -> None:
        """End a `take` that is under way, if that can be done; called by another thread."""


class NotifyCommand:
    """Runs a command of the user for each notice, which it gets as a line of JSON on its standard input. Its output is dropped."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def take(self, notice: Document) -> None:
        """Run the command to its end.

        Raises:
            OSError: It cannot be started.
            RuntimeError: It failed, or took too long.
        """
        with self._changing:
            if self._is_stopped:
                return
            process = self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment_without_keys(),
                start_new_session=True,
            )
        try:
            process.communicate(json.dumps(notice).encode() + b"\n", timeout=NOTIFY_S_MAX)
        except subprocess.TimeoutExpired:
            self._kill(process)
            raise RuntimeError(f"the command took more than {NOTIFY_S_MAX:.0f} s and was killed") from None
        if process.returncode and not self._is_stopped:
            raise RuntimeError(f"the command ended with exit code {process.returncode}")

    def stop(self) -> None:
        """Kill the command that runs, and start no other."""
        with self._changing:
            self._is_stopped = True
            if self._process is not None and self._process.poll() is None:
                self._kill(self._process)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class EventFunction:
    """Calls the user's `on_event` for each notice."""

    def __init__(self, on_event: Callable[[Document], object]) -> None:
        self._on_event = on_event

    def take(self, notice: Document) -> None:
        """Call it."""
        self._on_event({"type": "preflight_notice", "source": "preflight", **notice})

    def stop(self) -> None:
        """Do nothing: a thread cannot be stopped."""


class Delivery:
    """Hands notices to one receiver, in order, in a thread that starts with the first.

    Args:
        name: Of the option, for messages.
        receiver: Gets them.
        complain: Takes a line about the first failure; called in any thread.

    Attributes:
        over: Done once the thread has ended, or if there was never one.
    """

    def __init__(self, name: str, receiver: Receiver, complain: Callable[[str], None]) -> None:
        self._name = name
        self._receiver = receiver
        self._complain = complain
        self._waiting: SimpleQueue[Document | None] = SimpleQueue()
        self._has_failed = self._is_stopped = False
        self._thread: threading.Thread | None = None
        self.over: Future[None] = Future()
        self.over.set_running_or_notify_cancel()  # else a wait that is given up would cancel it

    def put(self, notice: Document) -> None:
        """Have a notice handed on, unless too many wait."""
        if self._waiting.qsize() >= NOTICES_WAITING_MAX:
            self._fail("it is too slow: notices are dropped")
            return
        self._waiting.put(notice)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"{self._name} notices", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """End the thread once it has handed on what waits."""
        self._waiting.put(None)
        if self._thread is None:
            self.over.set_result(None)

    def stop(self) -> None:
        """Hand on nothing more."""
        self._is_stopped = True
        self._receiver.stop()
        if not self.over.done():
            self._fail("it is too slow: the run is over, and its last notices are dropped")

    def _run(self) -> None:
        while not self._is_stopped and (notice := self._waiting.get()) is not None:
            try:
                self._receiver.take(notice)
            except Exception as exc:
                self._fail(f"{type(exc).__name__}: {exc}" if type(exc) is not RuntimeError else str(exc))
        self.over.set_result(None)

    def _fail(self, why: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._complain(f"{self._name}: {why}; no further failure of it is printed")


class Notices:
    """The notices of a run.

    Args:
        folder: The run's.
        run_id: Its name.
        command: `notify` of its options, or None.
        on_event: `on_event` of its options, or None.
        say: Prints a line for a person; called in any thread.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        command: str | None,
        on_event: Callable[[Document], object] | None,
        say: Callable[[str], None],
    ) -> None:
        self._path = folder / NOTICES_FILE
        self._run_id = run_id
        self._say = say
        receivers: dict[str, Receiver] = {} if command is None else {"notify": NotifyCommand(command)}
        receivers |= {} if on_event is None else {"on_event": EventFunction(on_event)}
        self._deliveries = [Delivery(name, receiver, self._complain) for name, receiver in receivers.items()]

    def add(self, kind: str, text: str, trial: TrialProgress | None = None, **facts: object) -> None:
        """Write a notice to the file, and have it handed on unless it is a warning. Raises nothing. Any thread.

        Args:
            kind: `budget_80`, `ejected`, `spent`, `no_credit`, `drift`, `run_done` or `warning`.
            text: For a person; keys and terminal escapes are removed.
            trial: The trial, with its figures now; None for the run.
            facts: More fields for the receivers.
        """
        alias, at, line = None if trial is None else trial.alias, datetime.now(UTC).isoformat(), plain(redact(text))
        self._write({"time": at, "trial": alias, "kind": kind, "text": line})
        if kind == WARNING:
            return
        notice = {"run_id": self._run_id, "trial": alias, "model": None, "notice": kind, "text": line, "time": at}
        if trial is not None:
            spent, limit = exact(trial.balance.posted_pusd), exact(trial.limit_pusd)
            notice |= {"model": trial.model_id, "spent_usd": spent, "limit_usd": limit}
        for delivery in self._deliveries:
            delivery.put({**notice, **facts})

    def _write(self, notice: Document) -> None:
        with contextlib.suppress(OSError):  # a full disk: the run goes on without this line
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(self._path, flags, 0o600)
            try:
                os.write(file, json.dumps(notice).encode() + b"\n")  # one write, which other threads cannot interrupt
            finally:
                os.close(file)

    def _complain(self, text: str) -> None:
        self.add(WARNING, text)
        with contextlib.suppress(Exception):  # a closed pipe, or an error in the caller's function
            self._say(text)

    async def close(self, hurry: asyncio.Event) -> None:
        """Hand on what waits, for `NOTIFY_END_S` at most and not in a hurry; then kill what runs, and drop the rest."""
        for delivery in self._deliveries:
            delivery.finish()
        over = asyncio.gather(*(asyncio.wrap_future(delivery.over) for delivery in self._deliveries))
        hurrying = asyncio.ensure_future(hurry.wait())
        waits: list[asyncio.Future[Any]] = [over, hurrying]
        await asyncio.wait(waits, timeout=NOTIFY_END_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        for delivery in self._deliveries:
            delivery.stop()


class SpendMarks:
    """Which marks of its budget a trial has passed. Each is noticed once, and again after a top-up that took it back."""

    def __init__(self) -> None:
        self._passed: set[str] = set()

    def new(self, balance: Balance) -> dict[str, str]:
        """Return the kind and the text of each mark that the account has passed since the last call."""
        posted_pusd, limit_pusd = balance.posted_pusd, balance.limit_pusd
        is_known = limit_pusd > 0
        marks = {
            "budget_80": is_known and posted_pusd * 100 >= limit_pusd * BUDGET_PERCENT,
            "spent": balance.spent or (is_known and posted_pusd >= limit_pusd),
        }
        passed = {kind for kind, is_passed in marks.items() if is_passed}
        new, self._passed = passed - self._passed, passed
        return {kind: _spend_text(kind, posted_pusd, limit_pusd) for kind in marks if kind in new}


def _spend_text(kind: str, posted_pusd: int, limit_pusd: int) -> str:
    rest = "; nothing more fits" if kind == "spent" else f" ({posted_pusd * 100 // limit_pusd}%)"
    return f"${usd(posted_pusd):.4f} of ${usd(limit_pusd):.4f} is spent{rest}"


def run_done(results: Sequence[RunResult], not_started: int) -> tuple[str, Document]:
    """Return the text and the facts of a run that is over: its trials that began, and how many did not."""
    trials = [_trial_document(result) for result in results]
    sums = {name: sum(pusd(each[name]) for each in trials) for name in ("spent_usd", "pending_usd", "limit_usd")}
    statuses = Counter([*(each["status"] for each in trials), *["not started"] * not_started])
    ended = ", ".join(f"{count} {status}" for status, count in statuses.items())
    text = f"the run is over: {ended}; ${usd(sums['spent_usd']):.4f} of ${usd(sums['limit_usd']):.4f} is spent"
    amounts = {name: exact(amount) for name, amount in sums.items()}
    return text, {**amounts, "statuses": dict(statuses), "trials": trials}


def _trial_document(result: RunResult) -> Document:
    extra = result.preflight
    names = {"spent_usd": "posted_usd", "pending_usd": "pending_usd", "limit_usd": "limit_usd"}
    amounts = {name: str(extra.get(key, "0")) for name, key in names.items()}
    status = extra.get("status", "ended")
    return {"trial": result.alias, "model": result.model_id, "status": status, "error": result.error, **amounts}
