"""Answers one client: head, bytes, end; and says whether the client is still there.

A write never waits for a slow reader: the transport may hold `BEHIND_BYTES_MAX`, and a client further behind counts as gone
(M17), so that one slow agent cannot hold up a settlement.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preflight_proxy.server.connection import ServerConnection
    from preflight_proxy.server.request import ServerRequest

BEHIND_BYTES_MAX = 8 * 2**20
"""A client this far behind its stream is taken for gone (M17)."""

NO_BODY = (204, 304)
"""Such answers have no body, nor have those below 200. Source: RFC 9110, sections 15.2, 15.3.5 and 15.4.5."""

AnswerHeaders = Iterable[tuple[str, str]]
Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""
JSON_HEADER = ("Content-Type", "application/json")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class ClientResponse:
    """One response to one client. Every method does nothing once the response has ended or the client has left.

    Args:
        connection: The client's.
        request: What is answered.

    Attributes:
        extra: Headers that go with the answer, whatever it is.
        started: True once a status and headers were sent.
        closed: True once the response has ended, or its client has left.
    """

    __slots__ = (
        *("_behind_bytes_max", "_connection", "_is_chunked", "_is_without_body", "_request"),
        *("closed", "extra", "started"),
    )

    def __init__(self, connection: ServerConnection, request: ServerRequest) -> None:
        self._connection = connection
        self._request = request
        self._behind_bytes_max = BEHIND_BYTES_MAX
        self._is_chunked = False
        self._is_without_body = request.method == "HEAD"
        self.extra: AnswerHeaders = ()
        self.started = False
        self.closed = False

    @property
    def is_gone(self) -> bool:
        """True once no answer can be sent: it has ended, or the connection is lost."""
        transport = self._connection.transport
        return self.closed or transport is None or transport.is_closing()

    def leave(self) -> None:
        """The client is gone: nothing more is sent, and its connection is dropped."""
        if not self.closed:
            self.closed = True
            if self._connection.transport is not None:
                self._connection.transport.abort()

    def invite(self) -> None:
        """Send `100 Continue`, so that a client which waits for it sends its body."""
        if not self.is_gone and not self.started:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def start(self, status: int, headers: AnswerHeaders) -> None:
        """Send status and headers; the length of the body is not known."""
        if not self.closed and not self.started:
            has_no_body = status < 200 or status in NO_BODY
            self._is_without_body = self._is_without_body or has_no_body
            self._is_chunked = self._request.version == "1.1" and not has_no_body
            self._request.keep_alive = self._request.keep_alive and (self._is_chunked or has_no_body)
            self._send(self._head(status, headers, "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""))

    def write(self, data: bytes) -> None:
        """Send bytes of the body."""
        if data and self.started and not self.closed and not self._is_without_body:
            self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def finish(self, data: bytes = b"") -> None:
        """Send the last bytes of a body that has started, and end it in order."""
        if not self.started or self.closed:
            return
        if not self._is_without_body:
            if self._is_chunked:
                data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self._send(data)
        self.break_off()

    def answer(self, status: int, headers: AnswerHeaders, body: bytes, *, close: bool = False) -> None:
        """Send a whole response; after a start, its body alone, as the last bytes.

        Args:
            status: Of the answer.
            headers: Without the length.
            body: The whole body.
            close: The connection ends with this answer, because what the client sends next was not or cannot be understood.
        """
        if close:
            self._request.keep_alive = False
        if self.started:
            self.finish(body)
        elif not self.closed:
            has_no_body = status < 200 or status in NO_BODY
            head = self._head(status, headers, "" if has_no_body else f"Content-Length: {len(body)}\r\n")
            self._send(head if has_no_body or self._is_without_body else head + body)
            self.break_off()

    def break_off(self) -> None:
        """End a body that has started without its proper end, so that the client knows that it is not whole."""
        if not self.closed:
            self.closed = True
            self._connection.answer_ended(self._request)

    def _head(self, status: int, headers: AnswerHeaders, framing: str) -> bytes:
        request = self._request
        text = _status_line(request.version, status) + self._connection.server.date_line + framing
        is_named = False
        for name, value in (*headers, *self.extra):
            if "\n" in value or "\r" in value or "\0" in value:
                raise ValueError(f"a line break in the header {name}")
            is_named = is_named or name == "Connection"
            text += f"{name}: {value}\r\n"
        if not request.keep_alive and not is_named:
            text += "Connection: close\r\n"
        elif request.version == "1.0":
            text += "Connection: keep-alive\r\n"
        self.started = True
        return (text + "\r\n").encode("utf-8", "surrogateescape")

    def _send(self, data: bytes) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            self.leave()
            return
        behind_bytes = transport.get_write_buffer_size()
        if behind_bytes <= BEHIND_BYTES_MAX:
            # One event may be larger than the limit: who had caught up before it has the time to take it in.
            self._behind_bytes_max = BEHIND_BYTES_MAX + len(data)
        elif behind_bytes > self._behind_bytes_max:
            self.leave()
            return
        transport.write(data)


def whole_answer(status: int, headers: AnswerHeaders, body: bytes) -> bytes:
    """Return a response that ends its connection, as bytes: for what could not be read as a request."""
    fields = [f"{name}: {value}\r\n" for name, value in headers]
    head = f"{_status_line('1.1', status)}{''.join(fields)}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@lru_cache(maxsize=128)
def _status_line(version: str, status: int) -> str:
    return f"HTTP/{version} {status} {_PHRASES.get(status, '')}\r\n"
