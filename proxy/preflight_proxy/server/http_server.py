"""The connections of one listener: how many there may be, which are overdue, and one task for each request (C5, open files)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from preflight_proxy.core.refusals.refusals import error_body
from preflight_proxy.server.connection import ServerConnection
from preflight_proxy.server.heads import UnservedHeads
from preflight_proxy.server.request import ServerRequest
from preflight_proxy.server.response import JSON_HEADER

REQUEST_HEAD_S_MAX = 10.0
"""From the opening of a connection, or the first byte of its next head, to the end of that head."""
CLOSE_S_MAX = 1.0
"""At the end of a server, running requests have this long to end; and this long again once they are cancelled."""
SWEEP_S = 0.5
"""Connections that are overdue are looked for this often."""

_CRASHED = "The proxy failed. Nothing more is sent for this call."

_log = structlog.get_logger("preflight_proxy.server.http_server")

Handler = Callable[[ServerRequest], Awaitable[None]]
"""Answers a request. One that returns without an answer, or raises, leaves its client with a 500."""


class HttpServer:
    """The connections of one listener.

    Args:
        handler: Answers a request.
        connections_max: Open connections; one more is closed at once.
        head_s_max: See `REQUEST_HEAD_S_MAX`.
        heads: Counts unserved request heads.

    Attributes:
        listener: Makes the connections, where they are not given one by one.
        date_line: The header `Date`, as it was at the last sweep. Source: RFC 9110, section 6.6.1.
    """

    def __init__(self, handler: Handler, connections_max: int, head_s_max: float, heads: UnservedHeads) -> None:
        self._handler = handler
        self._connections_max = connections_max
        self._connections: set[ServerConnection] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self.head_s_max = head_s_max
        self.heads = heads
        self.listener: asyncio.AbstractServer | None = None
        self.date_line = ""

    def __call__(self) -> ServerConnection:
        """Serve one more connection."""
        return ServerConnection(self)

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def admit(self, connection: ServerConnection) -> bool:
        """Count a connection; False if there are too many."""
        if len(self._connections) >= self._connections_max:
            return False
        self._connections.add(connection)
        if self._sweeping is None:
            self._sweep()
        return True

    def forget(self, connection: ServerConnection) -> None:
        """Count a connection no more."""
        self._connections.discard(connection)

    def begin(self, request: ServerRequest) -> None:
        """Answer a request, in a task of its own."""
        request.task = task = self._loop.create_task(self._answer(request))
        self._running.add(task)  # held until it ends, so that it cannot be collected half-way
        task.add_done_callback(self._running.discard)

    async def _answer(self, request: ServerRequest) -> None:
        response = request.response
        try:
            await self._handler(request)
        except ConnectionError:
            response.leave()
        except Exception as exc:
            _log.error("request.crashed", exc_info=exc)
        if response.closed:
            return
        if response.started:
            request.keep_alive = False  # a second answer inside this one would be taken for its body
            response.break_off()
        else:
            response.answer(500, [JSON_HEADER], error_body(None, 500, _CRASHED, "server"), close=True)

    def _sweep(self) -> None:
        """Set the date, and close the connections that are overdue; again while there are any."""
        self.date_line = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime())
        now_s = self._loop.time()
        for connection in [each for each in self._connections if each.deadline_s <= now_s]:
            connection.end()
        self._sweeping = None
        if self._connections:
            self._sweeping = self._loop.call_later(min(SWEEP_S, self.head_s_max / 4), self._sweep)

    async def close(self) -> None:
        """Accept no more, let running requests end for a moment, and close every connection."""
        if self.listener is not None:
            self.listener.close()
        running = [each.serving.task for each in self._connections if each.serving and each.serving.task]
        if running:
            await asyncio.wait(running, timeout=CLOSE_S_MAX)
        self._connections_max = 0
        for connection in list(self._connections):
            connection.end()
        if self._sweeping is not None:
            self._sweeping.cancel()
        if cancelled := [task for task in running if task.cancelling()]:
            await asyncio.wait(cancelled, timeout=CLOSE_S_MAX)
