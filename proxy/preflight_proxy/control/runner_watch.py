"""Watches the runner's control connection. If it is gone for too long, the accounts freeze, and later the proxy ends."""

from __future__ import annotations

import asyncio

import structlog

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.control.accounts import Accounts
from preflight_proxy.ledger.service import Ledger

LINGER_S = 60.0
"""After its accounts froze, the proxy stays this long, and longer while it can still settle pending calls."""
PENDING_LOOK_S = 0.5

_log = structlog.get_logger("preflight_proxy.control.runner_watch")


class RunnerWatch:
    """Counts the control connections of one run.

    Args:
        ledger: Has the accounts.
        accounts: Freezes them.
        run: The run; nothing is watched if None.
        grace_s: How long the run may have no control connection before its accounts freeze.
        over: Set when the runner is gone and this process can settle no more calls, so that the proxy ends.
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
        """Start to wait for the runner: one that never connects counts as gone, too."""
        if self._run is not None and not self._followers and not self._tasks:
            self._tasks.spawn(self._wait(3 * self._grace_s), "runner watch")

    async def comes(self, run: str | None) -> None:
        """Note a follower of a run."""
        if run is not None and run == self._run:
            self._followers += 1
            await self._tasks.cancel()

    def goes(self, run: str | None) -> None:
        """Note that a follower of a run has left."""
        if run is not None and run == self._run:
            self._followers -= 1
            if not self._followers and not self._closed:
                self._tasks.spawn(self._wait(self._grace_s), "runner watch")

    async def close(self) -> None:
        """Stop watching, before the proxy ends."""
        self._closed = True
        await self._tasks.cancel()

    async def _wait(self, grace_s: float) -> None:
        await asyncio.sleep(grace_s)
        _log.error("runner.lost", run=self._run, grace_s=grace_s)
        open_ids = [each.id for each in self._ledger.accounts().values() if each.run == self._run and not each.frozen]
        freezes = (self._accounts.freeze(account_id, "runner lost") for account_id in open_ids)
        for result in await asyncio.gather(*freezes, return_exceptions=True):
            if isinstance(result, Exception):  # the ledger cannot be written, so no call is admitted
                _log.error("freeze.failed", why=str(result))
        await asyncio.sleep(self._linger_s)
        while self._can_settle():
            await asyncio.sleep(PENDING_LOOK_S)
        _log.warning("proxy.abandoned", run=self._run)
        self._over.set()

    def _can_settle(self) -> bool:
        """Whether a call is pending whose key this process has, so that its cost can be read."""
        accounts = self._ledger.accounts().values()
        return any(
            account.pending_pusd and self._ledger.account_state(account.id).key is not None for account in accounts
        )
