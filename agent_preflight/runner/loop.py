"""The way from a plain call into asyncio: a loop in a thread of its own, and what Ctrl-C means there.

It works in any thread, also where a loop runs already (notebooks). The first KeyboardInterrupt asks the run to end every
trial in order; the second asks it not to wait for settlement; it is raised again when the run has ended.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

LOOK_EVERY_S = 0.1
"""The main thread looks up so often: a signal that the system gave to another thread, or just before the wait began, does not
end a wait, and its handler runs only once the main thread goes on."""


class StopSignal:
    """Two requests, made from any thread: to end, and to end without waiting for settlement.

    Args:
        again: How a person makes the second, for a text that goes on with it.
    """

    def __init__(self, again: str = "press Ctrl-C again") -> None:
        self.again = again
        self.ending = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early = 0
        self._heard: Callable[[], object] | None = None

    def on_first(self, heard: Callable[[], object]) -> None:
        """Have a function called on the loop when a person first asks to end; at once if one has. What it raises is dropped."""
        self._heard = heard
        if self.ending.is_set():
            self._hear()

    def bind(self) -> None:
        """Name the loop in which the events are waited for: the running one. What was pressed before it counts."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._early):
            self.press_here()

    def press(self) -> None:
        """Ask to end; asked again, ask for no settlement."""
        loop = self._loop
        if loop is None:
            self._early += 1
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(self.press_here)

    def press_here(self) -> None:
        """As `press`, on the loop itself."""
        if self.ending.is_set():
            self.hurry.set()
            return
        self.ending.set()
        self._hear()

    def _hear(self) -> None:
        if self._heard is not None:
            with contextlib.suppress(Exception):  # a script's own function prints it: the end goes on all the same
                self._heard()


def run_blocking(work: Callable[[StopSignal], Coroutine[Any, Any, T]], stop: StopSignal | None = None) -> T:
    """Run a coroutine to its end in a loop of its own and return its result.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile; everything has been ended.
    """
    stop = stop or StopSignal()
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    async def main() -> T:
        stop.bind()
        return await work(stop)

    def target() -> None:
        try:
            future.set_result(asyncio.run(main()))
        except BaseException as exc:
            future.set_exception(exc)

    thread = threading.Thread(target=target, name="agent-preflight run")
    with _interrupts(stop) as interrupts:
        thread.start()
        _wait(future, interrupts)
        thread.join()
    if interrupts.count:
        raise KeyboardInterrupt
    return future.result()


class _Interrupts:
    """Counts the interrupts of a wait, and passes each on."""

    def __init__(self, stop: StopSignal) -> None:
        self.count = 0
        self._stop = stop

    def __call__(self, *_signal: object) -> None:
        self.count += 1
        self._stop.press()


@contextlib.contextmanager
def _interrupts(stop: StopSignal) -> Iterator[_Interrupts]:
    """Take Ctrl-C as a request instead of an exception, which could strike anywhere, also while one is being dealt with.

    Only in the main thread, where signals arrive, and only if nobody has a handler of their own.
    """
    interrupts = _Interrupts(stop)
    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait(future: concurrent.futures.Future[T], interrupts: _Interrupts) -> None:
    """Wait for the end of the run; a KeyboardInterrupt that somebody's own handler raises counts too."""
    while not future.done():
        try:
            concurrent.futures.wait([future], timeout=LOOK_EVERY_S)
        except KeyboardInterrupt:
            interrupts()


async def run_cancellable(work: Callable[[StopSignal], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in the caller's loop; cancelling the caller ends the run in order before it passes on.

    Raises:
        asyncio.CancelledError: The caller was cancelled; everything has been ended.
    """
    stop = StopSignal("cancel again")
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
