"""Starts tasks, keeps them until they end, and logs what they raise."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """The running tasks of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str, *, awaited: bool = False) -> asyncio.Task[Any]:
        """Start `work`; the task is held until it ends, so that it cannot be collected half-way.

        Args:
            work: What is done.
            name: What the log calls it.
            awaited: The caller awaits it and gets what it raises, which is therefore not logged.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard if awaited else self._ended)
        return task

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Count a task that another owner started, until it ends; what it raises is that owner's to log."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (raised := task.exception()) is not None:
            import structlog  # slow to load, and only a failure needs it

            # As text: what renders an exception itself, where nobody configured the log, shows the values of variables.
            trace = "".join(traceback.format_exception(raised))
            log = structlog.get_logger("preflight_proxy.base.tasks")
            log.error("task.failed", task=task.get_name(), error=type(raised).__name__, exception=trace)

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    async def finish(self, within_s: float) -> bool:
        """Wait for all tasks, those started meanwhile included; True if none is left after `within_s` seconds."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while self._running and (left_s := deadline_s - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left_s)
        return not self._running

    async def cancel(self) -> None:
        """Cancel what is running, and return when all of it has ended."""
        for task in self._running:
            task.cancel()
        while self._running:
            await asyncio.wait(self._running)
