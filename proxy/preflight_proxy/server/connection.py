"""Reads the requests of one connection, one after the other, and refuses malformed HTTP (C5, open files).

httptools parses. What it leaves to its user is checked here, so that no request is taken for another one: fields that may come
once, the target, the version, the sizes of fields and heads, and which bytes are still HTTP.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import httptools
import structlog

from preflight_proxy.core.headers import LOWER_NAMES, Headers
from preflight_proxy.core.refusals.refusals import error_body
from preflight_proxy.server.heads import ConnectionHeads
from preflight_proxy.server.request import ServerRequest, is_target
from preflight_proxy.server.response import JSON_HEADER, whole_answer

if TYPE_CHECKING:
    from preflight_proxy.server.http_server import HttpServer

KEEPALIVE_S = 75.0
"""An idle connection is kept this long; longer than most clients keep theirs, so that they close first."""
FIELD_BYTES_MAX = 32 * 1024
"""One header field or request line; Claude Code's list of beta names is the longest seen, well below 1 KiB."""
FIELDS_MAX = 128
"""Header fields of one request, trailers included."""
PIECE_BYTES = 16 * 1024
"""Heads are parsed in pieces of this size, so that one is refused soon after it has grown too large."""
PIPELINED_MAX = 32
"""Requests of one connection that wait behind the one that is served; the client of more of them waits."""
REFUSED_LINGER_S = 1.0
"""What a refused client still sends is read for this long, so that it gets the reason."""

SINGLE_FIELDS = frozenset(
    {"content-length", "content-location", "content-range", "content-type", "etag", "host", "max-forwards"}
    | {"server", "transfer-encoding", "user-agent"}
)
"""Fields that a request has once: two readers could choose different ones. Source: RFC 9110, section 5.3."""

_HEAD_TOO_LARGE = "The head of the request is too large. Nothing was sent."
_MALFORMED = "The request is not valid HTTP."

_log = structlog.get_logger("preflight_proxy.server.connection")


class MalformedHeadError(Exception):
    """A head that httptools takes and we refuse."""


class ServerConnection(asyncio.Protocol):
    """One connection: requests are read ahead, a few at most, and served one after the other.

    Args:
        server: Whose connection it is.

    Attributes:
        transport: None before the connection is made and after it is lost.
        deadline_s: When it is closed, by the loop's clock, unless something happens.
        serving: The request whose answer has not ended.
        scheme: "http" or "https".
    """

    def __init__(self, server: HttpServer) -> None:
        self._heads = ConnectionHeads(server.heads, self._abandon)
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._now_s = asyncio.get_running_loop().time
        self._target = b""
        self._fields: list[bytes] = []
        self._fields_count = 0
        self._trailers: tuple[str, ...] = ()
        self._field_bytes = 0
        self._in_head = False
        self._body_came = False
        self._body_left_bytes = 0
        self._completed: list[ServerRequest] = []
        self._receiving: ServerRequest | None = None
        self._waiting: deque[ServerRequest] = deque()
        self._unparsed = b""
        self._reads_no_more = False
        self._is_offer = False
        self._is_paused = False
        self._refusal: bytes | None = None
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.deadline_s = math.inf
        self.serving: ServerRequest | None = None
        self.scheme = "http"

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read, or end the connection if there are too many."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        if not self.server.admit(self):
            transport.abort()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            with suppress(OSError):  # it may be gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.transport = transport
        self.scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self.deadline_s = self._now_s() + self.server.head_s_max

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free its place and its memory, and tell the request that is served."""
        self.server.forget(self)
        self._parser = self.transport = None
        self.end()

    def data_received(self, data: bytes) -> None:
        """Parse what has come; after a last request, or a refused one, it is thrown away."""
        if self._reads_no_more:
            return
        is_new = self.serving is None and not self._in_head
        self._in_head = self._in_head or is_new
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse()
        if is_new and self._in_head and self.serving is None and not self._reads_no_more:
            self.deadline_s = self._now_s() + self.server.head_s_max

    def end(self) -> None:
        """Close the connection: what is written is still delivered, what runs is told that its client has left."""
        self._abandon()
        self._heads.forget()
        self.deadline_s = math.inf
        request, self.serving = self.serving, None
        if request is not None and not request.response.closed:
            request.on_client_left()

    # the request and its response call these

    def go_on_reading(self) -> None:
        """Read on if the body that comes may grow again."""
        if self._is_paused:
            self._parse()

    def answer_ended(self, request: ServerRequest) -> None:
        """Go on to the next request, once all of this one has come; or close."""
        if request is not self.serving:
            return
        if not request.body_ended:
            self.deadline_s = self._now_s() + REFUSED_LINGER_S
            request.discard()
        elif not request.keep_alive:
            self._close()
        else:
            self.serving = None
            self.deadline_s = self._now_s() + (self.server.head_s_max if self._in_head else KEEPALIVE_S)
            if self._waiting or self._refusal is not None:
                self._serve_next()
            if self._is_paused:
                self._parse()

    # parsing

    def _parse(self) -> None:
        """Parse what has come, piece by piece, and stop where too much waits."""
        data, start = self._unparsed, 0
        self._unparsed = b""
        size_bytes = len(data)
        while start < size_bytes and not self._reads_no_more:
            if (self._receiving or self._waiting) and self._is_full():
                self._unparsed = data[start:]
                break
            is_last = size_bytes - start <= PIECE_BYTES
            end = size_bytes if is_last else min(size_bytes, start + max(PIECE_BYTES, self._body_left_bytes))
            self._take(data[start:end], end - start)
            start = end
        if self.transport is None or not (self._receiving or self._waiting or self._is_paused):
            return
        if self._is_paused is not self._is_full():
            self._is_paused = not self._is_paused
            if self._is_paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _is_full(self) -> bool:
        return len(self._waiting) >= PIPELINED_MAX or (self._receiving is not None and self._receiving.fills_up)

    def _take(self, piece: bytes, size_bytes: int) -> None:
        """Parse a piece; count what is kept of it, and refuse a head, or trailers, that grow too large."""
        assert self._parser is not None
        self._body_came = False
        self._field_bytes += size_bytes
        try:
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as offer:
                self._read_offers_body(piece[offer.args[0] :])
        except httptools.HttpParserError as exc:
            if not self._is_offer or self._receiving is not None:  # what follows an offer may be in its protocol
                self._malformed(exc)
                return
        if self._completed:
            completed, self._completed = self._completed, []
            if self.serving is None and len(completed) == 1 and not self._heads.receiving_bytes:
                self._serve(completed[0])  # as nearly always: it came whole and alone, and waits for nothing
                return
            self._waiting.extend(completed)
            self._heads.completed(len(completed), size_bytes)
            self._serve_next()
        elif self._body_came:
            self._heads.body_came()
        elif not self._heads.received(size_bytes):
            self._too_large()
        elif self._field_bytes > FIELD_BYTES_MAX and self._receiving is None:
            self._malformed(None)

    def _read_offers_body(self, rest: bytes) -> None:
        """Read the body of a request that offers another protocol.

        httptools ends such a request with its head, so a second parser reads the body, behind a head that has its framing alone.
        """
        request = self._receiving
        if request is None or request.body_ended:
            return
        framing = "".join(
            f"{name}: {request.headers[name]}\r\n"
            for name in ("content-length", "transfer-encoding")  # each comes once
            if name in request.headers
        )
        self._is_offer = True
        self._parser = httptools.HttpRequestParser(_BodyOfOffer(self))
        self._parser.feed_data(f"POST / HTTP/1.1\r\nConnection: close\r\n{framing}\r\n".encode() + rest)

    def _malformed(self, exc: httptools.HttpParserError | None) -> None:
        """Refuse what is no HTTP, after the answers to what came before it; read no more.

        Requests that were completed by the same piece are not served: their sender may have meant another thing.
        """
        if isinstance(exc, httptools.HttpParserCallbackError) and not isinstance(exc.__context__, MalformedHeadError):
            _log.error("connection.crashed", exc_info=exc)
        self._reads_no_more = True
        broken, self._receiving = self._receiving, None
        if broken is not None and broken not in self._completed:
            broken.end_body(is_broken=True)
            if broken.response.closed:
                self._close()
        else:
            self._refusal = _error(400, _MALFORMED)
            self._serve_next()
        self._completed.clear()

    def _too_large(self) -> None:
        """Answer that the head is too large, unless another answer has begun; read no more, and end."""
        self._reads_no_more = True
        if self.serving is not None or self._waiting or self.transport is None:
            self._abandon()
            return
        self.transport.write(_error(431, _HEAD_TOO_LARGE))
        self.deadline_s = self._now_s() + REFUSED_LINGER_S

    def _serve_next(self) -> None:
        if self.serving is not None:
            return
        if self._waiting:
            self._heads.served()
            self._serve(self._waiting.popleft())
        elif self._refusal is not None and self.transport is not None:
            self.transport.write(self._refusal)
            self._close()

    def _serve(self, request: ServerRequest) -> None:
        self.serving = request
        self.deadline_s = math.inf
        self.server.begin(request)

    def _close(self) -> None:
        self._reads_no_more = True
        if self.transport is not None:
            self.transport.close()

    def _abandon(self) -> None:
        """End the connection at once, and drop the requests that wait."""
        self._reads_no_more = True
        self._waiting.clear()
        self._close()

    # httptools calls these; what they raise is malformed

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = True
        self._field_bytes = 0
        self._target = b""
        self._fields = []
        self._fields_count = 0
        self._trailers = ()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._target += url
        if self._field_bytes > PIECE_BYTES and len(self._target) > FIELD_BYTES_MAX:  # a long one fills a piece
            raise MalformedHeadError("the target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head, or check one of the trailers, which are dropped."""
        if self._field_bytes > PIECE_BYTES and len(name) + len(value) > FIELD_BYTES_MAX:  # a long one fills a piece
            raise MalformedHeadError("a field is too long")
        self._field_bytes = 0
        self._fields_count += 1
        if self._fields_count > FIELDS_MAX:
            raise MalformedHeadError("too many fields")
        if self._receiving is None:
            self._fields += (name, value)
            return
        trailer = LOWER_NAMES[name.decode("ascii")]
        if trailer in SINGLE_FIELDS and (trailer in self._receiving.headers or trailer in self._trailers):
            raise MalformedHeadError("a field comes twice")
        self._trailers += (trailer,)

    def on_headers_complete(self) -> None:
        """Make a request of the head."""
        assert self._parser is not None
        self._in_head = False
        headers = self._read_fields()
        version, method = self._parser.get_http_version(), self._parser.get_method().decode()
        target = self._target.decode("utf-8", "surrogateescape")
        if version not in ("1.1", "1.0") or (version == "1.1" and "host" not in headers):
            raise MalformedHeadError("the version is unknown, or the host is not named")
        if (target[:1] != "/" and not is_target(method, target)) or "sec-websocket-key1" in headers:
            raise MalformedHeadError("no target, or a protocol that is no longer spoken")
        length: int | None = 0
        if "transfer-encoding" in headers:
            length = None
        elif "content-length" in headers:
            length = int(headers["content-length"] or 0)
        may_follow = method != "CONNECT" and "upgrade" not in headers  # what follows could be in either protocol
        keep_alive = may_follow and self._parser.should_keep_alive()
        self._receiving = ServerRequest(self, method, target, headers, length, version, keep_alive)
        self._body_left_bytes = length or 0
        self._completed.append(self._receiving)

    def _read_fields(self) -> Headers:
        """Return the fields of the head, all decoded at once."""
        text = b"\n".join(self._fields).decode("utf-8", "surrogateescape")  # no field has a line end
        parts = text.split("\n")
        if " \n" in text or "\t\n" in text or text[-1:] in (" ", "\t"):
            parts = [part.rstrip(" \t") for part in parts]
        headers = Headers()
        headers.pairs = pairs = [*zip(parts[::2], parts[1::2], strict=False)]  # without a field there is one empty part
        for name, value in pairs:
            lower = LOWER_NAMES[name]
            if lower not in headers:
                headers[lower] = value
            elif lower in SINGLE_FIELDS:
                raise MalformedHeadError("a field comes twice")
        return headers

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        assert self._receiving is not None
        self._body_came = True
        self._field_bytes = 0
        self._body_left_bytes -= self._receiving.feed(body)

    def on_message_complete(self) -> None:
        """End the body, unless it is one that only `_read_offers_body` reads."""
        assert self._parser is not None
        request = self._receiving
        assert request is not None
        if request.keep_alive or not (
            self._parser.should_upgrade() and request.method != "CONNECT" and request.content_length != 0
        ):
            self.body_ended()

    def body_ended(self) -> None:
        """Note that all of a request has come."""
        request, self._receiving = self._receiving, None
        assert request is not None
        self._reads_no_more = self._reads_no_more or not request.keep_alive
        request.end_body()
        if request is self.serving and request.response.closed:
            self.answer_ended(request)


class _BodyOfOffer:
    """What httptools calls for the body of a request that offers another protocol."""

    def __init__(self, connection: ServerConnection) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.body_ended


def _error(status: int, text: str) -> bytes:
    return whole_answer(status, [JSON_HEADER], error_body(None, status, text, "invalid_request"))
