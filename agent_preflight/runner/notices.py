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
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agent_preflight.base.config import environment_without_keys
from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.models import RunResult
from agent_preflight.runner.progress import TrialProgress, now_s
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
NOTIFY_LOOK_S = 0.02
BUDGET_PERCENT = 80

AMOUNTS = {"spent_usd": "posted_usd", "pending_usd": "pending_usd", "limit_usd": "limit_usd"}
"""Amounts of a notice, with their names in a summary."""

Document = dict[str, Any]


class NotifyCommand:
    """Runs a command of the user for each notice, which it gets as a line of JSON on its standard input. Its output is dropped."""

    def __init__(self, command: str) -> None:
        self._arguments = ["/bin/sh", "-c", command]
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
            given = {"stdin": subprocess.PIPE, "env": environment_without_keys(), "start_new_session": True}
            dropped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = self._process = subprocess.Popen(self._arguments, **given, **dropped)  # type: ignore[call-overload]  # noqa: S603
        try:
            process.communicate(json.dumps(notice).encode() + b"\n", timeout=NOTIFY_S_MAX)
        except subprocess.TimeoutExpired:
            self._kill()
            process.wait()
            raise RuntimeError(f"the command took more than {NOTIFY_S_MAX:.0f} s and was killed") from None
        if process.returncode and not self._is_stopped:
            raise RuntimeError(f"the command ended with exit code {process.returncode}")

    def stop(self) -> None:
        """Kill the command that runs, and start no other; called by another thread."""
        with self._changing:
            self._is_stopped = True
            self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class Delivery:
    """Hands notices to one receiver, in order, in a thread that starts with the first.

    Args:
        name: Of the option, for messages.
        take: Takes a notice; what it raises is a failure.
        complain: Takes a line about the first failure; called in any thread.
    """

    def __init__(self, name: str, take: Callable[[Document], object], complain: Callable[[str], None]) -> None:
        self._name = name
        self._take = take
        self._complain = complain
        self._waiting: SimpleQueue[Document | None] = SimpleQueue()
        self._has_failed = self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=f"{name} notices", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether all that was put is handed on, once `finish` was called."""
        return not self._thread.is_alive()

    def put(self, notice: Document) -> None:
        """Have a notice handed on, unless too many wait. For one thread only."""
        if self._waiting.qsize() >= NOTICES_WAITING_MAX:
            self._fail("it is too slow: notices are dropped")
            return
        self._waiting.put(notice)
        if self._thread.ident is None:
            self._thread.start()

    def finish(self) -> None:
        """End the thread once it has handed on what waits."""
        self._waiting.put(None)

    def stop(self) -> None:
        """Hand on nothing more."""
        self._is_stopped = True
        if not self.is_over:
            self._fail("it is too slow: the run is over, and its last notices are dropped")

    def _run(self) -> None:
        while (notice := self._waiting.get()) is not None and not self._is_stopped:
            try:
                self._take(notice)
            except Exception as exc:
                self._fail(str(exc) if type(exc) is RuntimeError else f"{type(exc).__name__}: {exc}")

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
        self._command = None if command is None else NotifyCommand(command)
        self._on_event = on_event
        receivers = {"notify": self._command and self._command.take, "on_event": on_event and self._call}
        self._deliveries = [Delivery(name, take, self._complain) for name, take in receivers.items() if take]

    def _call(self, notice: Document) -> None:
        assert self._on_event is not None
        self._on_event({"type": "preflight_notice", "source": "preflight", **notice})

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
        until_s = now_s() + NOTIFY_END_S
        while not (all(each.is_over for each in self._deliveries) or hurry.is_set() or now_s() > until_s):
            await asyncio.sleep(NOTIFY_LOOK_S)
        for delivery in self._deliveries:
            delivery.stop()
        if self._command is not None:
            self._command.stop()


class SpendMarks:
    """Which marks of its budget a trial has passed. Each is noticed once, and again after a top-up that took it back."""

    def __init__(self) -> None:
        self._passed: set[str] = set()

    def new(self, balance: Balance) -> dict[str, str]:
        """Return the kind and the text of each mark that the account has passed since the last call."""
        posted_pusd, limit_pusd = balance.posted_pusd, balance.limit_pusd
        is_known, percent = limit_pusd > 0, 100 * posted_pusd // (limit_pusd or 1)
        marks = {
            "budget_80": (is_known and percent >= BUDGET_PERCENT, f" ({percent}%)"),
            "spent": (balance.spent or (is_known and posted_pusd >= limit_pusd), "; nothing more fits"),
        }
        new = {kind: rest for kind, (is_passed, rest) in marks.items() if is_passed and kind not in self._passed}
        self._passed = {kind for kind, (is_passed, _) in marks.items() if is_passed}
        return {kind: f"${usd(posted_pusd):.4f} of ${usd(limit_pusd):.4f} is spent{rest}" for kind, rest in new.items()}


def run_done(results: Sequence[RunResult], not_started: int) -> tuple[str, Document]:
    """Return the text and the facts of a run that is over: its trials that began, and how many did not."""
    trials = [_trial_document(result) for result in results]
    sums = {name: sum(pusd(each[name]) for each in trials) for name in AMOUNTS}
    statuses = Counter([*(each["status"] for each in trials), *["not started"] * not_started])
    ended = ", ".join(f"{count} {status}" for status, count in statuses.items())
    text = f"the run is over: {ended}; ${usd(sums['spent_usd']):.4f} of ${usd(sums['limit_usd']):.4f} is spent"
    amounts = {name: exact(amount) for name, amount in sums.items()}
    return text, {**amounts, "statuses": dict(statuses), "trials": trials}


def _trial_document(result: RunResult) -> Document:
    extra = result.preflight
    amounts = {name: str(extra.get(key, "0")) for name, key in AMOUNTS.items()}
    status = extra.get("status", "ended")
    return {"trial": result.alias, "model": result.model_id, "status": status, "error": result.error, **amounts}
