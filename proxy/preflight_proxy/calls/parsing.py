"""Parses request bodies, and estimates their tokens, without blocking the event loop.

A body is read in steps of a few milliseconds. One that needs more than one step waits for its turn, which is fair to accounts, and
between two steps the loop goes on. A single value that takes long is decoded in a thread. Each time that the loop has work it
waits for the interpreter's switch interval, so that interval is made short.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from preflight_proxy.core.fair_queue import FairQueue
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Request, UnknownFields
from preflight_proxy.core.shapes.steps import Result, Steps

SWITCH_S = 0.001
"""How long the thread may go on while the loop has work. The interpreter's own is five times longer."""


class RequestReader:
    """Parses the bodies of all accounts of one proxy.

    Args:
        unknown_fields: What happens to top-level fields that are in no table (M8).
    """

    def __init__(self, unknown_fields: UnknownFields) -> None:
        self._unknown_fields = unknown_fields
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self._taken = False
        self._thread = ThreadPoolExecutor(1, "parsing")

    async def read(self, account_id: str, shape: Shape, body: bytes) -> Request:
        """Parse a request: at once if one step is enough, else in turns with others. The body is not used after this returns.

        Raises:
            BadRequest: See `Shape.read_steps`.
        """
        return await self.run(account_id, shape.read_steps(body, self._unknown_fields), len(body))

    async def run(self, account_id: str, steps: Steps[Result], cost: int) -> Result:
        """Return the result of work in steps: at once if one step is enough, else in turns with others.

        Args:
            account_id: Whose turn it is.
            steps: The work.
            cost: How much it is, in bytes.

        Raises:
            BadRequest: By a step.
        """
        result: Result
        try:
            work = next(steps)
        except StopIteration as end:
            result = end.value
            return result
        await self._turn(account_id, cost)
        try:
            while True:
                work = steps.send(await self._done(work))
        except StopIteration as end:
            result = end.value
        finally:
            self._next()
        await asyncio.sleep(0)  # to quote and to send a long request is a step too
        return result

    async def _done(self, work: Callable[[], object] | None) -> object:
        """Return what this work returns, from the thread; without any, let others go on."""
        if work is None:
            await asyncio.sleep(0)
            return None
        sys.setswitchinterval(SWITCH_S)
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])  # the client has left; the thread uses the body until this ends
            raise

    async def _turn(self, account_id: str, cost: int) -> None:
        """Return when it is this account's turn."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.push(account_id, mine, cost)
        if not self._taken:
            self._next()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._next()  # it was given the turn just when its client left
            raise

    def _next(self) -> None:
        """Give the turn to the next body whose client still waits."""
        while (waiting := self._queue.pop()) is not None:
            if not waiting.done():
                waiting.set_result(None)
                break
        self._taken = waiting is not None
