"""Connects a run's event loop with other threads: runs it from a plain call, handles Ctrl-C, and runs user code beside it.

A run works in any thread, also where a loop runs already (notebooks). The first Ctrl-C ends every trial in order, the second does
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

INTERRUPT_LOOK_EVERY_S = 0.1
"""Longest wait of the main thread. A signal that another thread got, or that came before the wait, does not interrupt the wait,
and its handler runs only after it."""


class StopSignal:
    """Asks a run to end. A second request also skips the wait for settlement. Any thread may ask.

    Args:
        again: How a person makes the second request, for a message.
    """

    def __init__(self, again: str = "press Ctrl-C again") -> None:
        self.again = again
        self.ending = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early = 0
        self._on_first: Callable[[], object] = lambda: None

    def on_first(self, function: Callable[[], object]) -> None:
        """Call a function on the loop at the first request, or now if that has come. Exceptions are ignored."""
        self._on_first = function
        if self.ending.is_set():
            self._call_on_first()

    def bind(self) -> None:
        """Use the running loop for the events. Earlier requests count."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._early):
            self.press_here()

    def press(self) -> None:
        """Ask to end; the second time, ask not to wait for settlement."""
        if self._loop is None:
            self._early += 1
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run has ended
            self._loop.call_soon_threadsafe(self.press_here)

    def press_here(self) -> None:
        """As `press`, but on the loop."""
        if self.ending.is_set():
            self.hurry.set()
            return
        self.ending.set()
        self._call_on_first()

    def _call_on_first(self) -> None:
        with contextlib.suppress(Exception):  # it may call a script's print function: the run ends all the same
            self._on_first()


def run_blocking(work: Callable[[StopSignal], Coroutine[Any, Any, T]], stop: StopSignal | None = None) -> T:
    """Run a coroutine to its end in a loop of its own and return its result.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. Everything has ended.
    """
    stop = stop or StopSignal()
    interrupts = 0

    def interrupt(*_signal: object) -> None:
        nonlocal interrupts
        interrupts += 1
        stop.press()

    async def main() -> T:
        stop.bind()
        return await work(stop)

    with _on_interrupt(interrupt), concurrent.futures.ThreadPoolExecutor(1, "agent-preflight run") as pool:
        future = pool.submit(lambda: asyncio.run(main()))
        while not future.done():
            try:
                concurrent.futures.wait([future], timeout=INTERRUPT_LOOK_EVERY_S)
            except KeyboardInterrupt:  # the program's own handler raised it
                interrupt()
    if interrupts:
        raise KeyboardInterrupt
    return future.result()


@contextlib.contextmanager
def _on_interrupt(handler: Callable[..., None]) -> Iterator[None]:
    """Call a function at Ctrl-C, because an exception could be raised anywhere, even while one is handled.

    Only in the main thread, which gets signals, and only if the program has no handler of its own.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


async def run_until(task: asyncio.Task[Any], event: asyncio.Event, timeout_s: float | None = None) -> None:
    """Wait for a task, and cancel it if the event is set before its end, or after some time. Raises what the task raises."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([task, waiting], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Run user code in a daemon thread, and return what it returns or raise what it raises.

    A cancelled wait leaves the function running, because a thread cannot be stopped. The process ends without waiting for it.
    """
    result: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as exc:
            result.set_exception(exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}"))

    result.set_running_or_notify_cancel()
    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(result)
