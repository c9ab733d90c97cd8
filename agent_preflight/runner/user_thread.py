"""One thread for a trial's user code: functions run in order, off the event loop. The process does not wait for it at its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class UserThread:
    """Runs functions one after another in one daemon thread, which starts with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function after those before it, and return what it returns or raise what it raises.

        A cancelled wait leaves a function running: a thread cannot be stopped.
        """
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._work.put(lambda: _answer(answer, function))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(answer)

    def close(self) -> None:
        """Let the thread end after the functions that it has."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _answer(answer: concurrent.futures.Future[T], function: Callable[[], T]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(function())
    except BaseException as exc:
        answer.set_exception(exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}"))
