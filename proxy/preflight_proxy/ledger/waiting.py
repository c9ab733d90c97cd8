"""Calls that wait until others settle (M18, which calls wait).

An attempt runs inside the commit that made room, so that no later call can slip in before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from preflight_proxy.base.clock import Clock
from preflight_proxy.core.admission.queue import Queue
from preflight_proxy.core.ledger.rows import Account

WAITING_LOOK_S = 1.0
"""A waiting call looks again at least this often: the head blocks those behind it for a time only (M18)."""


class WaitingCalls:
    """The waiting calls of all accounts.

    Args:
        account: Looks an account up by its id.
        clock: The stopwatch of waiting.

    Attributes:
        attempts: Tries once more, by waiting call.
    """

    def __init__(self, account: Callable[[str], Account], clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._queue = Queue()
        self.attempts: dict[str, Callable[[], bool]] = {}
        self._waking: set[str] = set()

    def has(self, account_id: str) -> bool:
        """True if a call of the account waits. A later call must then wait behind it."""
        return self.attempts != {} and self._queue.waiting(account_id) != []

    async def wait(
        self, account_id: str, waiter: str, needed_pusd: int, attempt: Callable[[], bool], until_s: float
    ) -> bool:
        """Wait in the account's queue until `attempt` returns True.

        False when `until_s` (monotonic) passes first, or the queue is full. A cancelled waiter leaves the queue at once (M12).
        What `attempt` raises is raised here, whoever woke it.
        """
        decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def try_now() -> bool:
            try:
                if attempt():
                    decided.set_result(True)
            except Exception as exc:  # for this waiter, not for the call whose commit woke it
                decided.set_exception(exc)
            return decided.done()

        if not self._queue.join(account_id, waiter, needed_pusd, self._clock.monotonic_s()):
            return False
        self.attempts[waiter] = try_now
        try:
            while not decided.done() and (left_s := until_s - self._clock.monotonic_s()) > 0:
                await asyncio.wait([decided], timeout=min(left_s, WAITING_LOOK_S))
                if not decided.done():
                    self.wake(account_id)
            return decided.done() and decided.result()
        finally:
            self._leave(account_id, waiter)
            self.wake(account_id)

    def _leave(self, account_id: str, waiter: str) -> None:
        if self.attempts.pop(waiter, None) is not None:
            self._queue.leave(account_id, waiter, self._clock.monotonic_s())

    def wake(self, account_id: str) -> None:
        """Let the next waiting calls try again; all of them if the account is frozen (M12, one transition function)."""
        if not self.attempts or account_id in self._waking or not self.has(account_id):
            return  # nobody waits; or an attempt's own commit: the loop below looks again when the attempt is through
        self._waking.add(account_id)
        try:
            if self._account(account_id).frozen is not None:
                for waiter in self._queue.waiting(account_id):
                    if self.attempts[waiter]():
                        self._leave(account_id, waiter)
                return
            while (decided := self._decided(account_id)) is not None:
                self._leave(account_id, decided)
        finally:
            self._waking.discard(account_id)

    def _decided(self, account_id: str) -> str | None:
        """The waiting call that has just been decided, if any. The first may always try: it needs less as others post."""
        line = self._queue.waiting(account_id)
        if not line:
            return None
        if self.attempts[line[0]]():
            return line[0]
        available_pusd, now_s = self._account(account_id).available_pusd, self._clock.monotonic_s()
        called = self._queue.next(account_id, available_pusd, now_s, first_has_tried=True)
        return called if called is not None and called != line[0] and self.attempts[called]() else None
