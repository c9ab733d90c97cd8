"""One request, as its handler sees it: the head, the body piece by piece, and the answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from preflight_proxy.core.headers import Headers
from preflight_proxy.server.response import ClientResponse

if TYPE_CHECKING:
    from preflight_proxy.server.connection import ServerConnection

UNREAD_BODY_BYTES_MAX = 64 * 1024
"""Of a body that nobody reads no more than this is taken in, and what came with it; the client then has to wait."""


class ServerRequest:
    """One request on one connection.

    Args:
        connection: Where it came.
        method: In capitals.
        target: As it was sent: path and query, or a whole URL.
        headers: Those of the head; trailers are dropped.
        content_length: Of the body; None where it comes in chunks.
        version: "1.0" or "1.1".
        keep_alive: The connection may serve another request after this one.

    Attributes:
        response: Answers the client.
        on_client_left: Called once, if the connection is lost before the answer has ended. At first it cancels the request's task.
        task: Runs the handler; None until it begins.
        body_ended: All of the body has come, read or not.
        is_broken: The rest of the body cannot be read, and is no HTTP.
    """

    __slots__ = (
        *("_connection", "_is_discarded", "_pieces", "_reader", "_unread_bytes", "body_ended", "content_length"),
        *("headers", "is_broken", "keep_alive", "method", "on_client_left", "response", "target", "task", "version"),
    )

    def __init__(
        self,
        connection: ServerConnection,
        method: str,
        target: str,
        headers: Headers,
        content_length: int | None,
        version: str,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self.method = method
        self.target = target
        self.headers = headers
        self.content_length = content_length
        self.version = version
        self.keep_alive = keep_alive
        self._pieces: list[bytes] = []
        self._unread_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._is_discarded = False
        self.body_ended = False
        self.is_broken = False
        self.task: asyncio.Task[None] | None = None
        self.response = ClientResponse(connection, self)
        self.on_client_left: Callable[[], object] = self.cancel

    @property
    def scheme(self) -> str:
        """The scheme of the URL by which the client reached us."""
        return self._connection.scheme

    @property
    def socket(self) -> socket.socket | None:
        """The connection's socket; None if the connection is lost."""
        transport = self._connection.transport
        return None if transport is None else transport.get_extra_info("socket")

    @property
    def fills_up(self) -> bool:
        """True while more of the body waits than `UNREAD_BODY_BYTES_MAX`, and nobody is about to read it."""
        return self._unread_bytes > UNREAD_BODY_BYTES_MAX and self._reader is None

    def cancel(self) -> None:
        """Cancel the request's task."""
        if self.task is not None:
            self.task.cancel()

    async def read_piece(self) -> bytes:
        """Return what has come of the body since the last piece; nothing at its end. Only one task reads.

        Raises:
            ConnectionError: The rest is no HTTP.
        """
        if not self._pieces and not self.body_ended:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self.is_broken:
            raise ConnectionError("the body of the request is malformed")
        pieces, self._pieces, self._unread_bytes = self._pieces, [], 0
        if not self.body_ended:
            self._connection.go_on_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def discard(self) -> None:
        """Throw away what has come and what will come of the body: the answer is out."""
        self._is_discarded = True
        self._pieces.clear()
        self._unread_bytes = 0
        self._connection.go_on_reading()

    def feed(self, data: bytes) -> int:
        """Take a piece of the body in; for the connection. Returns its size."""
        size_bytes = len(data)
        if not self._is_discarded:
            self._pieces.append(data)
            self._unread_bytes += size_bytes
            if self._reader is not None:
                self._wake(self._reader)
        return size_bytes

    def end_body(self, *, is_broken: bool = False) -> None:
        """Note that nothing more of the body comes; for the connection."""
        self.body_ended = True
        self.is_broken = is_broken
        self.keep_alive = self.keep_alive and not is_broken
        if self._reader is not None:
            self._wake(self._reader)

    def _wake(self, reader: asyncio.Future[None]) -> None:
        if not reader.done():
            reader.set_result(None)


def is_target(method: str, target: str) -> bool:
    """Whether a request can be for this: a path, a whole URL with a host, or what `OPTIONS` and `CONNECT` may name.

    Source: RFC 9112, section 3.2.
    """
    if target.startswith("/") or method == "CONNECT" or (target == "*" and method == "OPTIONS"):
        return True
    try:
        url = urlsplit(target)
        return bool(url.scheme and url.hostname) and (url.port or 0) >= 0  # reading a bad port raises
    except ValueError:
        return False
