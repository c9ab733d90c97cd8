"""Limits one connection: the time and size of a request head, all unserved heads of the process, and malformed HTTP (C5).

aiohttp parses and serves. A parser keeps every field until the head is complete, and a connection keeps the heads that wait behind
the request that it serves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from preflight_proxy.core.refusals.refusals import error_body

REQUEST_HEAD_S_MAX = 10.0
"""From the opening of a connection, or the first byte of its next head, to the end of that head."""
REQUEST_HEAD_BYTES_MAX = 64 * 1024
"""One head, request line included, or the trailers of one body. Claude Code's is the longest seen, below 4 KiB."""
REQUEST_HEADS_BYTES_MAX = 8 * 2**20
"""All heads that are not served yet. Most arrive whole, and are served in the same turn of the loop."""
KEEPALIVE_S = 75.0
"""An idle connection is kept this long; longer than most clients keep theirs, so that they close first."""
FIELD_BYTES_MAX = 32 * 1024
"""One header field or request line; Claude Code's list of beta names is the longest seen, well below 1 KiB."""
PIECE_BYTES = 16 * 1024
"""Data is parsed in pieces of this size, so that a head is refused soon after it has grown too large."""
REFUSED_LINGER_S = 1.0
"""What a refused client still sends is read for this long, so that it gets the reason."""
_TOO_LARGE_BODY = error_body(None, 431, "The head of the request is too large. Nothing was sent.", "invalid_request")
HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY)
)

_log = structlog.get_logger("preflight_proxy.server.connection")


class UnservedHeads:
    """The unserved request heads of all connections of a process.

    Args:
        head_bytes_max: See `REQUEST_HEAD_BYTES_MAX`.
        heads_bytes_max: See `REQUEST_HEADS_BYTES_MAX`.

    Attributes:
        total_bytes: The memory that all of them take.
    """

    def __init__(
        self, head_bytes_max: int = REQUEST_HEAD_BYTES_MAX, heads_bytes_max: int = REQUEST_HEADS_BYTES_MAX
    ) -> None:
        self._heads_bytes_max = heads_bytes_max
        self._bytes_of: dict[ConnectionHeads, int] = {}
        self.total_bytes = 0
        self.head_bytes_max = head_bytes_max

    def note(self, heads: ConnectionHeads, size_bytes: int) -> None:
        """Note how many bytes of heads a connection keeps now.

        When all keep too much, those that keep most are ended until a quarter is free. A client that sends one whole head at a
        time is never among them.
        """
        self.total_bytes += size_bytes - self._bytes_of.pop(heads, 0)
        if size_bytes:
            self._bytes_of[heads] = size_bytes
        if self.total_bytes > self._heads_bytes_max:
            for largest in sorted(self._bytes_of, key=self._bytes_of.__getitem__, reverse=True):
                if self.total_bytes <= self._heads_bytes_max * 3 // 4:
                    break
                largest.end()


class ConnectionHeads:
    """The heads that one connection keeps: the one that it receives, and complete ones that wait to be served.

    Args:
        heads: Those of all connections.
        on_end: Ends the connection.
    """

    def __init__(self, heads: UnservedHeads, on_end: Callable[[], None]) -> None:
        self._heads = heads
        self._on_end = on_end
        self._receiving_bytes = 0
        self._waiting_bytes: deque[int] = deque()

    def received(self, size_bytes: int) -> bool:
        """Count bytes that are no body; False if they make the head too large."""
        self._receiving_bytes += size_bytes
        self._note()
        return self._receiving_bytes <= self._heads.head_bytes_max

    def completed(self, count: int, size_bytes: int) -> None:
        """Count heads that these bytes completed: they wait to be served."""
        self._waiting_bytes += [self._receiving_bytes + size_bytes, *[0] * (count - 1)]
        self.body_came()

    def body_came(self) -> None:
        """Note that body came, so no head is being received."""
        self._receiving_bytes = 0
        self._note()

    def served(self) -> None:
        """Note that the head that has waited longest is served now."""
        if self._waiting_bytes:
            self._waiting_bytes.popleft()
        self._note()

    def forget(self) -> None:
        """Keep nothing more: the connection has ended."""
        self._receiving_bytes = 0
        self._waiting_bytes.clear()
        self._note()

    def end(self) -> None:
        """End the connection."""
        self.forget()
        self._on_end()

    def _note(self) -> None:
        self._heads.note(self, self._receiving_bytes + sum(self._waiting_bytes))


class LimitedProtocol(web.RequestHandler):
    """One connection: closed when there are too many, or when a request head takes too long."""

    def __init__(self, manager: LimitedServer, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's own keywords
        super().__init__(manager, **kwargs)
        self._limits = manager
        self._head_timer: asyncio.TimerHandle | None = None
        self._heads = ConnectionHeads(manager.heads, self._end)
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._busy = False
        self._refused = False
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or end it if there are too many."""
        super().connection_made(transport)
        if self._limits.open_count >= self._limits.connections_max:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
            return
        self._counted = True
        self._limits.open_count += 1
        self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free its place, and what its heads took."""
        if self._counted:
            self._counted = False
            self._limits.open_count -= 1
        self._heads.forget()
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data in pieces; what comes after a refused head is thrown away."""
        if not self._busy and self._head_timer is None:
            self._arm()
        for start in range(0, len(data) or 1, PIECE_BYTES):
            if not self._refused:
                self._take(data[start : start + PIECE_BYTES])

    def _take(self, piece: bytes) -> None:
        """Parse a piece; count what is kept of it, and refuse a head, or trailers, that grow too large."""
        heads_count, body_bytes = self._request_count, self._payload.total_bytes
        super().data_received(piece)
        if completed := self._request_count - heads_count:
            self._payload = self._messages[-1][1]
            self._heads.completed(completed, len(piece))
        elif self._payload.total_bytes > body_bytes:
            self._heads.body_came()
        elif not self._heads.received(len(piece)):
            self._refuse()

    def _refuse(self) -> None:
        """Answer that the head is too large, unless another answer has begun; read no more, and end."""
        self._refused = True
        self._disarm()
        if self._busy or self._messages or self.transport is None:
            self._end()
            return
        self.transport.write(HEAD_TOO_LARGE)
        self._arm(REFUSED_LINGER_S)

    def _end(self) -> None:
        """End the connection at once, and drop its waiting heads, except one that may be about to be served."""
        self._refused = True
        while len(self._messages) > 1:
            self._messages.pop()
        self.force_close()

    def _arm(self, within_s: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(within_s or self._limits.head_s_max, self.force_close)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def request_begins(self) -> None:
        """End the time limit of the head: it is complete."""
        self._busy = True
        self._heads.served()
        self._disarm()

    def request_ends(self) -> None:
        """Note that the response is out: the next head has a time limit of its own, from its first byte."""
        self._busy = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be parsed, or an exception of ours, in OpenRouter's shape; no text of an exception leaves."""
        if status >= 500:
            _log.error("request.crashed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("A response has begun: a second one inside it would be taken for its body.")
        text, kind = "The proxy failed. Nothing more is sent for this call.", "server"
        if status < 500:
            text, kind = "The request is not valid HTTP.", "invalid_request"
        body = error_body(None, status, text, kind)
        response = web.Response(status=status, body=body, content_type="application/json")
        response.force_close()
        return response


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Make a request. One that offers another protocol is the last of its connection: what follows could be in either."""
    if "Upgrade" in message.headers:
        message = message._replace(should_close=True)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


class LimitedServer(web.Server):
    """Makes a `LimitedProtocol` for each connection of one listener."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        connections_max: int,
        head_s_max: float,
        heads: UnservedHeads,
    ) -> None:
        async def timed(request: web.BaseRequest) -> web.StreamResponse:
            protocol = request.protocol
            assert isinstance(protocol, LimitedProtocol)
            protocol.request_begins()
            try:
                return await handler(request)
            finally:
                protocol.request_ends()

        super().__init__(timed, request_factory=_request, handler_cancellation=True)
        self.connections_max = connections_max
        self.head_s_max = head_s_max
        self.heads = heads
        self.open_count = 0

    def __call__(self) -> web.RequestHandler:
        """Serve one more connection."""
        return LimitedProtocol(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=FIELD_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
            lingering_time=REFUSED_LINGER_S,
            auto_decompress=False,
            access_log=None,
        )
