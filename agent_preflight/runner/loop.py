"""Runs a coroutine from a plain call: in an event loop in its own thread. Handles Ctrl-C.

It works in any thread, also where a loop runs already (notebooks). The first Ctrl-C ends every trial in order, the second does
not wait for settlement. KeyboardInterrupt is raised when the run has ended.
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
"""Longest wait of the main thread. A signal that another thread got, or that came before the wait, does not interrupt the wait,
and its handler runs only after it."""


class StopSignal:
    """Asks a run to end, and, asked again, not to wait for settlement. Any thread may ask.

    Args:
        again: How a person asks again, for a message.
    """

    def __init__(self, again: str = "press Ctrl-C again") -> None:
        self.again = again
        self.ending = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early = 0
        self._on_first: Callable[[], object] | None = None

    def on_first(self, function: Callable[[], object]) -> None:
        """Call a function on the loop at the first request; at once if it was made. Exceptions are ignored."""
        self._on_first = function
        if self.ending.is_set():
            self._call_on_first()

    def bind(self) -> None:
        """Use the running loop for the events. Requests that were made before count."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._early):
            self.press_here()

    def press(self) -> None:
        """Ask to end; the second time, ask not to wait for settlement."""
        loop = self._loop
        if loop is None:
            self._early += 1
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run has ended
            loop.call_soon_threadsafe(self.press_here)

    def press_here(self) -> None:
        """As `press`, but on the loop."""
        if self.ending.is_set():
            self.hurry.set()
            return
        self.ending.set()
        self._call_on_first()

    def _call_on_first(self) -> None:
        if self._on_first is not None:
            with contextlib.suppress(Exception):  # it may call a script's print function: the run ends all the same
                self._on_first()


def run_blocking(work: Callable[[StopSignal], Coroutine[Any, Any, T]], stop: StopSignal | None = None) -> T:
    """Run a coroutine to its end in a loop of its own and return its result.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. Everything has ended.
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
    """A signal handler that counts Ctrl-C and passes each on."""

    def __init__(self, stop: StopSignal) -> None:
        self.count = 0
        self._stop = stop

    def __call__(self, *_signal: object) -> None:
        self.count += 1
        self._stop.press()


@contextlib.contextmanager
def _interrupts(stop: StopSignal) -> Iterator[_Interrupts]:
    """Turn Ctrl-C into a request, because an exception could be raised anywhere, even while one is handled.

    Only in the main thread, which gets signals, and only if the program has no handler of its own.
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
    """Wait for the end of the run. A KeyboardInterrupt that the program's own handler raises counts too."""
    while not future.done():
        try:
            concurrent.futures.wait([future], timeout=LOOK_EVERY_S)
        except KeyboardInterrupt:
            interrupts()


async def run_cancellable(work: Callable[[StopSignal], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in the caller's loop. A cancellation ends the run in order before it is raised.

    Raises:
        asyncio.CancelledError: The caller was cancelled. Everything has ended.
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
