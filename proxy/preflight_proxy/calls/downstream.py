"""Answers one client: head, bytes, end; and says whether the client is still there.

A write never waits for a slow reader: the transport may hold `BEHIND_BYTES_MAX`, and a client further behind counts as gone
(M17), so that one slow agent cannot hold up a settlement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

BEHIND_BYTES_MAX = 8 * 2**20
"""A client this far behind its stream is taken for gone (M17)."""
PAUSE_BYTES = 2**30
"""The transport asks writers to wait above this: never, since `BEHIND_BYTES_MAX` and one event are all that it ever holds."""

Headers = Sequence[tuple[str, str]]


class Downstream:
    """One response to one client. Every method does nothing once the response has ended or the client has left.

    Args:
        request: Whom to answer.
        extra: Headers that go with the answer, whatever it is.

    Attributes:
        started: True once a status and headers were sent.
        closed: True once the response has ended, or its client has left.
    """

    def __init__(self, request: web.BaseRequest, extra: Headers = ()) -> None:
        self._request = request
        self._extra = extra
        self._response: web.StreamResponse | None = None
        self._behind_bytes_max = BEHIND_BYTES_MAX
        self._writing = asyncio.Lock()  # keeps a cut from landing inside another write
        self._finished: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        self.started = False
        self.closed = False

    @property
    def is_gone(self) -> bool:
        """True once no answer can be sent, also if the connection is lost and its handler does not know it yet."""
        transport = self._request.transport
        return self.closed or transport is None or transport.is_closing()

    async def response(self) -> web.StreamResponse:
        """The finished response, when it has ended."""
        return await asyncio.shield(self._finished)

    def leave(self) -> None:
        """The client is gone: nothing more is sent, and its connection is dropped."""
        if not self.closed:
            self.closed = True
            if self._request.transport is not None:
                self._request.transport.abort()
            if not self._finished.done():
                self._finished.set_result(self._response or web.Response(status=499))

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        async with self._writing:
            await self._start(status, headers)

    async def write(self, data: bytes) -> None:
        """Send bytes of the body."""
        async with self._writing:
            await self._write(data)

    async def finish(self, data: bytes = b"") -> None:
        """Send the last bytes of a body that has started, and end it in order."""
        async with self._writing:
            await self._write(data)
            await self._end()

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response; after a start, its body alone, as the last bytes."""
        async with self._writing:
            if not self.started:
                await self._start(status, [*headers, ("Content-Length", str(len(body)))])
            await self._write(body)
            await self._end()

    async def _start(self, status: int, headers: Headers) -> None:
        if self.closed or self.started:
            return
        self.started = True
        response = web.StreamResponse(status=status)
        response.headers.extend([*headers, *self._extra])
        if self._request.transport is not None:
            self._request.transport.set_write_buffer_limits(high=PAUSE_BYTES)
        self._response = response
        try:
            await response.prepare(self._request)
        except (ConnectionError, RuntimeError):
            self.leave()

    async def _write(self, data: bytes) -> None:
        if self.closed or not data or self._response is None:
            return
        transport = self._request.transport
        if transport is None or self._is_behind(transport.get_write_buffer_size(), len(data)):
            self.leave()
            return
        try:
            await self._response.write(data)
        except (ConnectionError, RuntimeError):
            self.leave()

    def _is_behind(self, behind_bytes: int, more_bytes: int) -> bool:
        """One event may be larger than the limit: who had caught up before it has the time to take it in."""
        if behind_bytes <= BEHIND_BYTES_MAX:
            self._behind_bytes_max = BEHIND_BYTES_MAX + more_bytes
            return False
        return behind_bytes > self._behind_bytes_max

    async def _end(self) -> None:
        if self.closed or self._response is None:
            return
        try:
            await self._response.write_eof()
        except (ConnectionError, RuntimeError):
            self.leave()
            return
        self.closed = True
        if not self._finished.done():
            self._finished.set_result(self._response)
