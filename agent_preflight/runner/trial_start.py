"""Whose turn it is: so many trials at once, in their order; one that a person stops does not wait for its turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agent_preflight.runner.progress import now_s
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.refusals.outcomes import code_of
from preflight_proxy.core.refusals.refusals import Code


class TrialSlots:
    """The places of a run's trials.

    Args:
        workers: How many trials go on at once; less than one counts as one.
    """

    def __init__(self, workers: int) -> None:
        self._places = asyncio.Semaphore(max(1, workers))
        self._reasons: dict[str, str] = {}
        self._stopped: dict[str, asyncio.Event] = {}

    def stop(self, alias: str, reason: str) -> None:
        """End a trial's wait, also one that has not begun yet."""
        self._reasons.setdefault(alias, reason)
        self._event(alias).set()

    def stopped(self, alias: str) -> str | None:
        """Return why a trial was stopped; None if it was not."""
        return self._reasons.get(alias)

    @asynccontextmanager
    async def turn(self, alias: str) -> AsyncIterator[None]:
        """Wait for a place and hold it; without one if the trial is stopped before, which `stopped` then tells."""
        place = asyncio.ensure_future(self._places.acquire())
        stop = asyncio.ensure_future(self._event(alias).wait())
        try:
            await asyncio.wait([place, stop], return_when=asyncio.FIRST_COMPLETED)
            if not place.done():
                place.cancel()
            yield
        finally:
            stop.cancel()
            if not place.cancel() and not place.cancelled():
                self._places.release()

    def _event(self, alias: str) -> asyncio.Event:
        return self._stopped.setdefault(alias, asyncio.Event())


NO_CREDIT = code_of(Code.ACCOUNT_CREDIT)
"""The proxy's word for a call that OpenRouter refused for want of credit, in events and summaries."""
ASK_AGAIN_S = 30.0
"""Refusals within this time of an answer that there is credit are not looked into: an agent may repeat them without pause."""


class AccountCredit:
    """Looks into refusals for want of credit. Used on the loop.

    Args:
        read: Asks OpenRouter for the account's balance in dollars; None if it does not say. Called in a thread.
        on_gone: Called once, when the credit is gone.
        clock: Monotonic seconds.

    Attributes:
        gone: The account has none; no trial is to be started.
    """

    def __init__(
        self, read: Callable[[], float | None], on_gone: Callable[[], None], clock: Callable[[], float] = now_s
    ) -> None:
        self._read = read
        self._on_gone = on_gone
        self._clock = clock
        self._tasks = Tasks()
        self._looking: asyncio.Task[None] | None = None
        self._trusted_until_s: float | None = None
        self.gone = False

    def refused(self) -> None:
        """A call was refused for want of credit: ask once whether that is so."""
        is_trusted = self._trusted_until_s is not None and self._clock() < self._trusted_until_s
        if self.gone or self._looking is not None or is_trusted:
            return
        self._looking = self._tasks.spawn(self._look(), "credit")

    async def settled(self) -> bool:
        """Wait for the answer if one is awaited, and return whether there is credit."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        return not self.gone

    async def _look(self) -> None:
        """What OpenRouter does not tell contradicts nothing: then the refusal stands."""
        balance_usd = None
        with contextlib.suppress(Exception):  # a script may have put a function of its own in the place of ours
            balance_usd = await asyncio.to_thread(self._read)
        self._looking = None
        if balance_usd is not None and balance_usd > 0:
            self._trusted_until_s = self._clock() + ASK_AGAIN_S
            return
        self.gone = True
        self._on_gone()

    async def close(self) -> None:
        """Ask no more."""
        await self._tasks.cancel()
