"""A thread of its own for one trial's user code: in order, off the loop, and never waited for at the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
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

        A cancelled wait leaves the function running: a thread cannot be stopped.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._work.put(lambda: _answer(loop, answer, function))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return await answer

    def close(self) -> None:
        """Let the thread end after what it was given."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _answer(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except BaseException as exc:
        error = exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}")
        _tell(loop, answer, partial(answer.set_exception, error))
    else:
        _tell(loop, answer, partial(answer.set_result, result))


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], settle: Callable[[], None]) -> None:
    def unless_cancelled() -> None:
        if not answer.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(unless_cancelled)
