"""The pool of connections to OpenRouter: one with bytes that no request asked for is never used again.

In HTTP/1.1 only the order tells which request an answer belongs to. Bytes that wait on an idle connection would be taken for
the answer to the next request there, of whichever account, and posted. aiohttp looks at a connection when it puts it into the
pool, but not when it takes it out, and it does not show that it has read half a head. `UpstreamConnection.is_quiet` checks both.

A stray answer that comes once a request is on its way cannot be told from the right one.

Source: RFC 9112, section 9.3.2 (answers come in the order of the requests); aiohttp 3.14, `connector.py`, `client_proto.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import structlog
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_log = structlog.get_logger("preflight_proxy.upstream.http_pool")


class UpstreamConnection(ResponseHandler):
    """One connection to upstream. Bytes that come while it is idle close it at once, and an error is logged."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._was_used = False
        self._idle = False  # its last answer has ended, and no request has taken it since
        self._heard = False  # bytes came since it was made, or last taken

    def take(self) -> None:
        """A request is about to use it."""
        self._idle = self._heard = False

    def rest(self) -> None:
        """Its answer has ended."""
        self._was_used = self._idle = True
        self._heard = False
        self._loop.call_soon(self._look)  # once the bytes that ended it are read: more may stand behind them

    def data_received(self, data: bytes) -> None:
        """Read what came; nothing, where reading goes on after a pause."""
        unasked = self._idle and bool(data)
        self._heard = self._heard or bool(data)
        super().data_received(data)
        if unasked:
            self._give_up()

    def is_quiet(self) -> bool:
        """True if a request may be written: nothing has come that none asked for. Else the connection is closed.

        What lies unread in the system's buffers counts, but for a connection's first use: the end of its TLS handshake may lie
        there.
        """
        self._look()
        if self._heard:
            self._give_up()
        if self._was_used and self.is_connected() and (waiting := self._waiting()) is not None:
            if waiting and not self._is_tls():  # under TLS these bytes may be its regular end
                self._give_up()
            self.close()
        return self.is_connected()

    def _look(self) -> None:
        if self._idle and (self._buffer or self._tail or self._has_half_a_head()):
            self._give_up()

    def _give_up(self) -> None:
        _log.error("upstream.unasked_bytes", why="bytes came that no request had asked for; the connection is closed")
        self._idle = self._heard = False
        self.force_close()
        self.close()

    def _has_half_a_head(self) -> bool:
        """Ask the last answer's parser what else it has read; the next request gets a parser of its own."""
        if self._parser is None:
            return False
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # whatever it finds wrong, something is there
            return True

    def _waiting(self) -> bytes | None:
        """Return a byte that was received and not read; empty if the other side has closed, None if nothing came."""
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if sock is None or sock.fileno() < 0:
            return b""
        with socket.socket(fileno=os.dup(sock.fileno())) as same:
            try:
                return same.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                return b""

    def _is_tls(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None


class Connections(aiohttp.TCPConnector):
    """A pool whose connections are looked at each time that one leaves it.

    Args:
        idle_s_max: An idle connection older than this is dropped.
    """

    def __init__(self, idle_s_max: float) -> None:
        super().__init__(limit=0, keepalive_timeout=idle_s_max)
        self._factory = partial(UpstreamConnection, self._loop)  # type: ignore[assignment]  # a kind of ResponseHandler

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            if isinstance(protocol, UpstreamConnection) and protocol.is_quiet():
                protocol.take()
                return connection
            connection.close()
        return None

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if isinstance(protocol, UpstreamConnection) and not should_close:
            protocol.rest()
