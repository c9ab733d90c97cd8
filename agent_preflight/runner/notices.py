"""Tells a person what happens in a run: in notices.jsonl, by a command of theirs, and by `on_event`.

The command and `on_event` each have a queue of limited length, and run beside the loop. A slow, failing or flooding one ends
nothing, and it delays the end of the run alone, by `NOTIFY_END_S` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from agent_preflight.base.config import environment_without_keys
from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.models import RunResult
from agent_preflight.runner.loop import in_thread, run_until
from agent_preflight.runner.progress import TrialProgress
from agent_preflight.runs.record import NOTICES_FILE
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.base.log import redact
from preflight_proxy.core.terminal import plain

WARNING = "warning"
"""The kind of a notice that is shown, but not handed on."""
NOTICES_WAITING_MAX = 100
"""So many notices wait for a slow receiver. More are dropped."""
NOTIFY_S_MAX = 30.0
"""A command that takes longer is killed, with its process group."""
NOTIFY_END_S = 5.0
"""For so long the end of a run waits for notices that are not handed on yet."""
BUDGET_PERCENT = 80

AMOUNTS = {"spent_usd": "posted_usd", "pending_usd": "pending_usd", "limit_usd": "limit_usd"}
"""Amounts of a notice, with their names in a summary."""

Document = dict[str, Any]


async def run_command(command: str, notice: Document) -> None:
    """Run a command of the user to its end. It gets a notice as a line of JSON on its standard input; its output is dropped.

    It is killed, with its process group, if it takes too long, or if this is cancelled.

    Raises:
        OSError: It cannot be started.
        RuntimeError: It failed, or took too long.
    """
    # asyncio would make standard input a socket, which cannot be opened as /dev/stdin
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - the command is the user's
        ["/bin/sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment_without_keys(),
        start_new_session=True,
    )
    line = json.dumps(notice).encode() + b"\n"
    try:
        async with asyncio.timeout(NOTIFY_S_MAX):
            await in_thread(lambda: process.communicate(line), "notify")
    except TimeoutError:
        raise RuntimeError(f"the command took more than {NOTIFY_S_MAX:.0f} s and was killed") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"the command ended with exit code {process.returncode}")


async def call_function(on_event: Callable[[Document], object], notice: Document) -> None:
    """Call `on_event` with a notice. Raises what it raises."""
    event = {"type": "preflight_notice", "source": "preflight", **notice}
    await in_thread(lambda: on_event(event), "on_event notice")


class Delivery:
    """Hands notices to one receiver, in order.

    Args:
        name: Of the option, for messages.
        take: Takes a notice; what it raises is a failure.
        complain: Takes a line about the first failure.
    """

    def __init__(
        self, name: str, take: Callable[[Document], Awaitable[object]], complain: Callable[[str], None]
    ) -> None:
        self._name = name
        self._take = take
        self._complain = complain
        self._waiting: asyncio.Queue[Document | None] = asyncio.Queue()
        self._has_failed = False
        self._task: asyncio.Task[None] | None = None

    def put(self, notice: Document) -> None:
        """Have a notice handed on, unless too many wait."""
        if self._waiting.qsize() >= NOTICES_WAITING_MAX:
            self._fail("it is too slow: notices are dropped")
            return
        self._waiting.put_nowait(notice)
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self, hurry: asyncio.Event) -> None:
        """Hand on what waits, for `NOTIFY_END_S` at most and not in a hurry; then stop, and drop the rest."""
        if self._task is None:
            return
        self._waiting.put_nowait(None)
        await run_until(self._task, hurry, NOTIFY_END_S)
        if self._task.cancelled():
            self._fail("it is too slow: the run is over, and its last notices are dropped")

    async def _run(self) -> None:
        while (notice := await self._waiting.get()) is not None:
            try:
                await self._take(notice)
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
        say: Prints a line for a person.
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
        self._deliveries: list[Delivery] = []
        if command is not None:
            self._deliveries.append(Delivery("notify", partial(run_command, command), self._complain))
        if on_event is not None:
            self._deliveries.append(Delivery("on_event", partial(call_function, on_event), self._complain))

    def add(self, kind: str, text: str, trial: TrialProgress | None = None, **facts: object) -> None:
        """Write a notice to the file, and have it handed on unless it is a warning. Raises nothing.

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
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
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
        """Hand on what waits, for a short time at most, then kill what runs; see `Delivery.close`."""
        await asyncio.gather(*(delivery.close(hurry) for delivery in self._deliveries))


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
