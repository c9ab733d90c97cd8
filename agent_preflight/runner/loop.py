"""The way from a plain call into asyncio: a loop in a thread of its own, and what Ctrl-C means there.

It works in any thread, also where a loop runs already (notebooks). The first KeyboardInterrupt asks the run to end every
trial in order; the second asks it not to wait for settlement; it is raised again when the run has ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stop:
    """Two requests, made from any thread: to end, and to end without waiting for settlement."""

    def __init__(self) -> None:
        self.ending = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self) -> None:
        """Name the loop in which the events are waited for: the running one."""
        self._loop = asyncio.get_running_loop()

    def press(self) -> None:
        """Ask to end; asked again, ask for no settlement."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.press_here)

    def press_here(self) -> None:
        """As `press`, on the loop itself."""
        (self.hurry if self.ending.is_set() else self.ending).set()


def run_blocking(work: Callable[[Stop], Coroutine[Any, Any, T]], stop: Stop | None = None) -> T:
    """Run a coroutine to its end in a loop of its own and return its result.

    Raises:
        KeyboardInterrupt: It was raised meanwhile; everything has been ended.
    """
    stop = stop or Stop()
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    bound = threading.Event()

    async def main() -> T:
        stop.bind()
        bound.set()
        return await work(stop)

    def target() -> None:
        try:
            future.set_result(asyncio.run(main()))
        except BaseException as exc:
            future.set_exception(exc)

    thread = threading.Thread(target=target, name="agent-preflight run")
    thread.start()
    interrupt = _wait(future, bound, stop)
    thread.join()
    if interrupt is not None:
        raise interrupt
    return future.result()


def _wait(future: concurrent.futures.Future[T], bound: threading.Event, stop: Stop) -> KeyboardInterrupt | None:
    """Wait for the end of the run; returns the first KeyboardInterrupt of the wait."""
    interrupt = None
    while True:
        try:
            concurrent.futures.wait([future])
        except KeyboardInterrupt as exc:
            interrupt = interrupt or exc
            bound.wait()
            stop.press()
        else:
            return interrupt


async def run_cancellable(work: Callable[[Stop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in the caller's loop; cancelling the caller ends the run in order before it passes on.

    Raises:
        asyncio.CancelledError: The caller was cancelled; everything has been ended.
    """
    stop = Stop()
    stop.bind()
    task = asyncio.ensure_future(work(stop))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
            stop.press_here()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()
