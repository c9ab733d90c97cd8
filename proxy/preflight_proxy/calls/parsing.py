"""Parses request bodies without blocking the event loop.

A body of many values takes up to a second to parse. That happens in a thread, one body at a time, in turns that are fair to
accounts. Each time that the loop has work it waits for the interpreter's switch interval, so that interval is made short.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from preflight_proxy.core.fair_queue import FairQueue
from preflight_proxy.core.shapes.shape import Request, Shape, UnknownFields

SMALL_BYTES_MAX = 256 * 1024
SMALL_COMMAS_MAX = 300
"""A body within both limits is parsed at once, in a few milliseconds. Each of its values but the first has a comma."""
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

    async def read(self, account_id: str, shape: Shape, body: bytes, headers: Mapping[str, str]) -> Request:
        """Parse a request. The body is not used after this returns or raises.

        Raises:
            BadRequest: See `Shape.read`.
        """
        if is_small(body):
            return shape.read(body, headers, self._unknown_fields)
        await self._turn(account_id, body.count(b",") + len(body) // 1024)
        try:
            sys.setswitchinterval(SWITCH_S)
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self._thread, shape.read, body, headers, self._unknown_fields)
            try:
                return await asyncio.shield(reading)
            except asyncio.CancelledError:
                await asyncio.wait([reading])  # the client has left; the thread is busy until this ends
                raise
        finally:
            self._next()

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


def is_small(body: bytes) -> bool:
    """True for a body that is parsed in a few milliseconds, whatever it holds."""
    return len(body) <= SMALL_BYTES_MAX and body.count(b",") <= SMALL_COMMAS_MAX
