"""The runner's sign of life: while nobody follows its run the accounts freeze, and at last the proxy has nothing left to do."""

from __future__ import annotations

import asyncio

import structlog

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.control.accounts import Accounts
from preflight_proxy.ledger.service import Ledger

LINGER_S = 60.0
"""A lost run's proxy stays this long after its accounts froze, and longer while something is pending that it can find out."""
PENDING_LOOK_S = 0.5

_log = structlog.get_logger("preflight_proxy.control.runner_watch")


class RunnerWatch:
    """Counts the followers of one run.

    Args:
        ledger: Whose accounts freeze.
        accounts: Freezes them.
        run: The run; nothing is watched if None.
        grace_s: How long nobody may follow it.
        over: Set once the runner is lost and nothing is left to be found out; the keys end with the process then.
        linger_s: See `LINGER_S`.
    """

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        *,
        run: str | None,
        grace_s: float,
        over: asyncio.Event,
        linger_s: float = LINGER_S,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._run = run
        self._grace_s = grace_s
        self._linger_s = linger_s
        self._over = over
        self._tasks = Tasks()
        self._followers = 0
        self._closed = False

    def begin(self) -> None:
        """Begin the grace: a run whose runner never follows is as lost as one whose runner is gone."""
        if self._run is not None and not self._followers and not self._tasks:
            self._tasks.spawn(self._wait(3 * self._grace_s), "runner watch")

    async def comes(self, run: str | None) -> None:
        """Note a follower of a run."""
        if run is not None and run == self._run:
            self._followers += 1
            await self._tasks.cancel()

    def goes(self, run: str | None) -> None:
        """Note that a follower has gone."""
        if run is not None and run == self._run:
            self._followers -= 1
            if not self._followers and not self._closed:
                self._tasks.spawn(self._wait(self._grace_s), "runner watch")

    async def close(self) -> None:
        """Watch no longer: the proxy is about to end."""
        self._closed = True
        await self._tasks.cancel()

    async def _wait(self, grace_s: float) -> None:
        await asyncio.sleep(grace_s)
        _log.error("runner.lost", run=self._run, grace_s=grace_s)
        open_ones = [each.id for each in self._ledger.accounts().values() if each.run == self._run and not each.frozen]
        frozen = (self._accounts.freeze(account_id, "runner lost") for account_id in open_ones)
        for failed in await asyncio.gather(*frozen, return_exceptions=True):
            if isinstance(failed, Exception):  # the store failed: nothing is admitted any more all the same
                _log.error("freeze.failed", why=str(failed))
        await asyncio.sleep(self._linger_s)
        while self._finds_out():
            await asyncio.sleep(PENDING_LOOK_S)
        _log.warning("proxy.abandoned", run=self._run)
        self._over.set()

    def _finds_out(self) -> bool:
        """Whether something is pending of which this process still has the key to ask with."""
        accounts = self._ledger.accounts().values()
        return any(
            account.pending_pusd and self._ledger.account_state(account.id).key is not None for account in accounts
        )
