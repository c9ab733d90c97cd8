"""When a trial may start: a slot is free, no person has stopped it, and the OpenRouter account has credit."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agent_preflight.runner.progress import now_s
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.refusals.outcomes import code_of
from preflight_proxy.core.refusals.refusals import Code


class TrialSlots:
    """Limits how many trials run at once. They start in their order; a stopped trial does not wait.

    Args:
        workers: How many trials run at once, at least 1.
    """

    def __init__(self, workers: int) -> None:
        self._slots = asyncio.Semaphore(max(1, workers))
        self._reasons: defaultdict[str, asyncio.Future[str]] = defaultdict(asyncio.get_running_loop().create_future)

    def stop(self, alias: str, reason: str) -> None:
        """End a trial's wait for a slot, now or later."""
        if not self._reasons[alias].done():
            self._reasons[alias].set_result(reason)

    def stopped(self, alias: str) -> str | None:
        """Return why a trial was stopped; None if it was not."""
        reason = self._reasons[alias]
        return reason.result() if reason.done() else None

    @asynccontextmanager
    async def slot(self, alias: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it during the context. If the trial is stopped first, it gets none: see `stopped`."""
        waiting: asyncio.Future[Any] = asyncio.ensure_future(self._slots.acquire())
        try:
            await asyncio.wait([waiting, self._reasons[alias]], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()  # of one that is done this changes nothing
            yield
        finally:
            if not waiting.cancel() and not waiting.cancelled():
                self._slots.release()


NO_CREDIT = code_of(Code.ACCOUNT_CREDIT)
"""The code, in events and summaries, of a call that OpenRouter refused because the account has no credit."""
ASK_AGAIN_S = 30.0
"""After an answer that there is credit, refusals are ignored for this long: an agent may repeat them without pause."""


class AccountCredit:
    """Checks whether the OpenRouter account has credit, after a call was refused for lack of it. Used on the loop.

    Args:
        read: Reads the account's balance in dollars; None if OpenRouter does not return it. Called in a thread.
        on_gone: Called once, when the credit is gone.
        tasks: Keeps the task that reads.
        clock: Monotonic seconds.

    Attributes:
        gone: The account has no credit, so no trial may start.
    """

    def __init__(
        self,
        read: Callable[[], float | None],
        on_gone: Callable[[], None],
        tasks: Tasks,
        clock: Callable[[], float] = now_s,
    ) -> None:
        self._read = read
        self._on_gone = on_gone
        self._clock = clock
        self._tasks = tasks
        self._looking: asyncio.Task[None] | None = None
        self._trusted_until_s = -math.inf
        self.gone = False

    def refused(self) -> None:
        """Read the account's balance once, because a call was refused for lack of credit."""
        if not self.gone and self._looking is None and self._clock() >= self._trusted_until_s:
            self._looking = self._tasks.spawn(self._look(), "credit")

    async def settled(self) -> bool:
        """Wait for a read that is under way, and return whether there is credit."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        return not self.gone

    async def _look(self) -> None:
        """Read the balance. If it cannot be read, the refusal counts."""
        balance_usd = None
        with contextlib.suppress(Exception):  # a script may have replaced the function
            balance_usd = await asyncio.to_thread(self._read)
        self._looking = None
        if balance_usd is not None and balance_usd > 0:
            self._trusted_until_s = self._clock() + ASK_AGAIN_S
            return
        self.gone = True
        self._on_gone()
