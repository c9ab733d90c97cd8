"""One connection to OpenRouter, and the answer that comes on it. Every byte must belong to an answer that was asked for.

In HTTP/1.1 only the order tells which request an answer belongs to. Bytes that wait on an idle connection would be taken for
the answer to the next request there, of whichever account, and posted. So a connection with such bytes is closed. A stray
answer that comes once a request is on its way cannot be told from the right one.

Source: RFC 9112, sections 6.3 (how a body ends) and 9.3.2 (answers come in the order of the requests).
"""

from __future__ import annotations

import asyncio
import math
import select
import socket
import ssl
from collections.abc import Callable
from typing import cast

import structlog
from httptools import HttpResponseParser

from preflight_proxy.core.errors import UpstreamError

ANSWER_HEAD_BYTES_MAX = 64 * 2**10
"""OpenRouter's heads are 1 to 2 KiB. The same limit holds for bytes in a row, within a body, that carry none of it."""
ANSWER_HEADERS_MAX = 128
"""OpenRouter sends about 20."""
PIECES_MAX = 256
"""Reading stops while so many pieces wait for whoever reads the answer; the largest has 256 KiB."""

_NO_HEADERS: dict[str, str] = {}
_log = structlog.get_logger("preflight_proxy.upstream.connection")


class BrokenAnswerError(UpstreamError):
    """The answer is malformed, or the connection was lost before its end."""


class TimeLimit:
    """How long an answer may take. Whoever waits for it may change that at any time; it is looked at about once a second.

    Attributes:
        due_at_s: When the connection of an unfinished answer is closed, in the loop's time.
    """

    __slots__ = ("_now_s", "due_at_s")

    def __init__(self) -> None:
        self._now_s = asyncio.get_running_loop().time
        self.due_at_s = math.inf

    @property
    def is_over(self) -> bool:
        """True if the time is over."""
        return self._now_s() >= self.due_at_s

    def end_in(self, seconds: float) -> None:
        """Set the time from now on."""
        self.due_at_s = self._now_s() + seconds


class UpstreamAnswer:
    """The answer to one request. Its callbacks are called by the parser.

    Attributes:
        status: The status; 0 before the head is there.
        headers: Names and values as they came.
        header: Returns the last value of a header whose name is given in lower case; None if there is none.
    """

    __slots__ = (
        *("status", "headers", "header", "on_body", "ended", "keeps_alive", "is_followed"),
        *("_transport", "_loop", "_parser", "_fields", "_pieces", "_final_status", "_ends_with_connection"),
        *("_bodyless_bytes", "_error", "_waiter", "_is_paused", "_take"),
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.header: Callable[[str], str | None] = _NO_HEADERS.get
        self.ended = False
        self.keeps_alive = False
        self.is_followed = False
        self._transport = transport
        self._loop = loop
        self._fields: list[bytes] = []
        self._pieces: list[bytes] = []
        self._final_status = 0
        self._ends_with_connection = False
        self._bodyless_bytes = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._take: Callable[[bytes], None] | None = None
        self.on_body = self._pieces.append
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def more(self) -> asyncio.Future[None]:
        """Return what is done once more of the answer is there, or it broke off.

        Raises:
            BrokenAnswerError: It has broken off.
        """
        if self._error is not None:
            raise self._error
        self._waiter = waiter = self._loop.create_future()
        return waiter

    async def pour(self, take: Callable[[bytes], None]) -> None:
        """Give the body to `take`, each part in the turn of the loop in which it comes, and return at its end.

        Raises:
            BrokenAnswerError: It broke off before its end, and all before was given.
            Exception: What `take` raised. Nothing more is given, and the connection is closed unless the answer has ended.
        """
        self._take = take
        self._give()
        if self._is_paused and not self.ended:
            self._transport.resume_reading()
        while not self.ended:
            await self.more()
        if self._error is not None:
            self._give()  # what came with malformed bytes
            raise self._error

    def _give(self) -> None:
        take, pieces = self._take, self._pieces
        if take is None or not pieces:
            return
        data = b"".join(pieces)  # no copy of a single one
        del pieces[:]
        try:
            take(data)
        except Exception as exc:
            self._take, self._error = None, exc
            self.close()
            self.ended = True
            self._parser = None
            self._wake()

    def close(self) -> None:
        """Close the connection if the answer has not ended. It is in the pool again, or closed, where it has."""
        if not self.ended:
            self._transport.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def feed(self, data: bytes) -> None:
        """Read what came."""
        assert self._parser is not None, "after its end"
        try:
            self._parser.feed_data(data)
        except Exception as exc:  # also an upgrade
            self.fail(f"malformed: {exc.__context__ or exc}")
            return
        pieces, has_ended = self._pieces, self.ended
        if has_ended:
            self._parser = None
        if pieces or has_ended:
            self._bodyless_bytes = 0
        else:
            self._bodyless_bytes += len(data)
            if self._bodyless_bytes > ANSWER_HEAD_BYTES_MAX:
                self.fail("malformed: no end of a head or of a chunk's")
                return
        if self._take is None:
            self.status = self._final_status
            if not has_ended and len(pieces) > PIECES_MAX and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()
            self._wake()
            return
        if pieces:
            self._give()
        if has_ended:
            self._wake()

    def feed_eof(self) -> None:
        """Upstream ended the connection in order: the end of a body that states no length."""
        if self._ends_with_connection and self._error is None:
            self.ended = True
            self._parser = None
            self._wake()

    def fail(self, why: str) -> None:
        """It broke off."""
        self._break_off(BrokenAnswerError(why))

    def _break_off(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self.ended = True
            self._parser = None
            self._wake()

    # What the parser calls

    def on_message_begin(self) -> None:
        """An answer begins; after the end of one, more bytes: they are kept apart, and are no part of this one."""
        if self.ended:
            self.is_followed = True
            self._pieces = self._pieces.copy()  # the parser adds to the other list

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody reads."""
        self._fields += (name, value)

    def on_headers_complete(self) -> None:
        """The head is there; an interim one (1xx) is ignored."""
        if self.ended:
            return
        parser = self._parser
        assert parser is not None
        fields, self._fields = self._fields, []
        status = parser.get_status_code()
        if 100 <= status < 200:
            return
        joined = b"\n".join(fields)  # the parser lets no line end through
        if len(joined) > ANSWER_HEAD_BYTES_MAX or len(fields) > 2 * ANSWER_HEADERS_MAX:
            raise ValueError("a head above every limit")
        if status < 100 or parser.get_http_version() not in ("1.1", "1.0"):
            raise ValueError("no answer of HTTP/1")
        text = joined.decode("utf-8", "surrogateescape")
        parts = text.split("\n")
        values = parts[1::2]  # without a header there is one empty part
        self.headers = list(zip(parts[::2], values, strict=False))
        named = dict(zip(text.lower().split("\n")[::2], values, strict=False))
        self.header = named.get
        if "transfer-encoding" not in named:
            self._ends_with_connection = "content-length" not in named
        elif named["transfer-encoding"].lower() != "chunked":
            raise ValueError("an encoding that nobody asked for")
        self._final_status = status

    def on_message_complete(self) -> None:
        """The answer has ended, unless it was an interim one."""
        if self._final_status and not self.ended:
            assert self._parser is not None
            self.keeps_alive = self._parser.should_keep_alive()
            self.ended = True


class UpstreamConnection(asyncio.Protocol):
    """One connection, which carries one request at a time. Bytes that come while it is idle close it, and an error is logged.

    Args:
        sock: Its socket.
        idle: Where it is put after each answer.
        connections: Where it is while it is open.
    """

    def __init__(
        self, sock: socket.socket, idle: list[UpstreamConnection], connections: set[UpstreamConnection]
    ) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self._now_s = self._loop.time
        self._idle = idle
        self._connections = connections
        self._transport: asyncio.Transport
        self._tls: ssl.SSLObject | None = None
        self._answer: UpstreamAnswer | None = None
        self._was_used = False
        self._limit = TimeLimit()
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("ssl_object")
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._connections.discard(self)
        if self._answer is not None:
            self._answer.fail(f"connection lost: {exc}" if exc else "connection lost")
            self._answer = None

    def data_received(self, data: bytes) -> None:
        """Read what came. What comes too late breaks its answer off: evidence counts on a call that is over having ended (M13)."""
        answer = self._answer
        if answer is None:
            self._give_up()
            return
        if self._now_s() < self._limit.due_at_s:
            answer.feed(data)
        else:
            answer.fail("its time is over")
        if not answer.ended:
            return
        self._answer = None
        if answer.is_followed:
            self._give_up()
        elif answer.keeps_alive and not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self.idle_since_s = self._now_s()
            self._idle.append(self)
        else:
            self._transport.abort()

    def eof_received(self) -> None:
        """Upstream will send no more: the connection is closed. Under TLS only its own end counts, which nobody else can send."""
        if self._answer is not None and (self._tls is None or _has_ended(self._tls)):
            self._answer.feed_eof()

    def send(self, head: bytes, body: bytes, limit: TimeLimit) -> UpstreamAnswer:
        """Write a request, in this turn of the loop, and return its answer, which breaks off when its time is over."""
        self._answer = answer = UpstreamAnswer(self._transport, self._loop)
        self._was_used, self._limit = True, limit
        self._transport.writelines((head, body))
        return answer

    def is_quiet(self) -> bool:
        """True if a request may be written: it is open, and nothing has come that none asked for. Else it is closed.

        What lies unread in the system's buffers counts. Under TLS that may be the end of the handshake, before the first
        request, or its regular end.
        """
        if self._transport.is_closing():
            return False
        if self._tls is not None and not self._was_used:
            return True
        if not self._poll.poll(0):
            return True
        try:
            waiting = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            waiting = b""
        if waiting and self._tls is None:
            self._give_up()
        self._transport.abort()
        return False

    def is_overdue(self, now_s: float) -> bool:
        """True if the time of its answer is over."""
        return self._answer is not None and now_s >= self._limit.due_at_s

    def abort(self) -> None:
        """Close it at once; its answer has broken off."""
        self._transport.abort()

    def _give_up(self) -> None:
        if not self._transport.is_closing():
            _log.error(
                "upstream.unasked_bytes", why="bytes came that no request had asked for; the connection is closed"
            )
            self._transport.abort()


def _has_ended(tls: ssl.SSLObject) -> bool:
    """Whether the other side has ended TLS itself (`close_notify`); a bare end of TCP may be anyone's."""
    try:
        return tls.read(1) == b""
    except ssl.SSLError:
        return False
