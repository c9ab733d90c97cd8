"""The client to OpenRouter: sends each inference request at most once, and knows whether a byte of it left.

The last look at the account and the first byte happen with no await between them (M10 order), on a connection that was found
quiet in the same turn of the loop. A request that never came there is proven not to have been sent (M13 i).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import structlog

from preflight_proxy.core.environment_proxy import HttpProxy
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.upstream.connection import BrokenAnswerError, TimeLimit, UpstreamAnswer, UpstreamConnection
from preflight_proxy.upstream.pool import Pool

ANSWER_HEAD_S_MAX = 30 * 60.0
"""From the request to the response's head; a call ends after this time, whatever it does (M17)."""
SWEEP_S = 1.0
"""How often idle and overdue connections are closed."""
READ_S_MAX = 15.0
"""A small read of ours (prices, key usage, a generation) that takes longer is given up and repeated later."""
ERROR_BODY_BYTES_MAX = 2**20
"""An error document larger than this is replaced by ours."""
ERROR_BODY_S_MAX = 30.0
"""An error document that takes longer than this is replaced by ours."""
HEADS_MAX = 64
"""Heads of requests that are kept: the calls of one client differ by the length of their bodies alone."""
SMALL_BODY_BYTES_MAX = 64 * 2**20
"""The whole model list is about 1 MiB; an answer of ours larger than this is refused rather than held in memory."""

_USER_AGENT = ("User-Agent", "agent-preflight")
_log = structlog.get_logger("preflight_proxy.upstream.client")


class NoAnswerError(UpstreamError):
    """OpenRouter cannot be reached, or does not answer in time."""


class NotSentError(UpstreamError):
    """No byte of the request left: nothing can have been charged."""


class WithdrawnError(NotSentError):
    """The guard said no at the last moment: the account was frozen or changed, or the client left."""


class UncertainError(UpstreamError):
    """The request left, at least in part, and no response head came: it may be charged."""


class OverdueError(UncertainError):
    """As its parent: a limit of ours ended the wait for the head, so it may still be generated and charged in full."""


class Upstream:
    """OpenRouter behind one base URL.

    Args:
        base_url: API base without a trailing slash, such as `https://openrouter.ai/api/v1`.
        proxy: The HTTP proxy to use; None for a direct connection.
        head_s_max: See `ANSWER_HEAD_S_MAX`.
    """

    def __init__(self, base_url: str, proxy: HttpProxy | None = None, *, head_s_max: float = ANSWER_HEAD_S_MAX) -> None:
        self.base_url = base_url.rstrip("/")
        self._proxy = proxy
        self._head_s_max = head_s_max
        self._heads: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        self._pool = Pool(self.base_url, proxy, min(SWEEP_S, head_s_max / 4))

    async def __aenter__(self) -> Upstream:
        """Begin to keep connections."""
        self._pool.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._pool.close()

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Iterable[tuple[str, str]],
        guard: Callable[[], bool],
        limit: TimeLimit | None = None,
    ) -> UpstreamAnswer:
        """Send one inference request, once, and return when the answer's head is there.

        Args:
            path: Path below the base, query included.
            body: The exact bytes to send.
            headers: All headers but Host and Content-Length.
            guard: Asked in the instant before the first byte leaves; False withdraws the request.
            limit: Set to `ANSWER_HEAD_S_MAX` as the request leaves. The caller may change it, also while this waits.

        Returns:
            The answer, body unread. Its body is not decompressed, and redirects are not followed. Its reader closes it.

        Raises:
            WithdrawnError: The guard refused; nothing left.
            NotSentError: Upstream could not be reached; nothing left.
            UncertainError: Something left, and no answer's head came.
            OverdueError: The same, because our own limit of time was over.
        """
        if (key := (path, tuple(headers))) not in self._heads:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[key] = self._post_head(*key)
        head = b"%bContent-Length: %d\r\n\r\n" % (self._heads[key], len(body))
        try:
            connection = self._pool.idle() or await self._pool.connect()
        except OSError as exc:
            via = self._proxy.url if self._proxy is not None else None
            _log.warning("upstream.unreachable", why=type(exc).__name__, via=via)
            raise NotSentError("OpenRouter cannot be reached. Nothing was sent, nothing is charged.") from exc
        limit = limit or TimeLimit()
        try:
            if not guard():
                raise WithdrawnError("The request was withdrawn before it was sent.")
            limit.end_in(self._head_s_max)
            answer = connection.send(head, body, limit)
            while not answer.status:
                await answer.more()
        except BrokenAnswerError as exc:
            kind = OverdueError if limit.is_over else UncertainError
            raise kind(f"OpenRouter broke off before it answered ({exc}).") from exc
        except BaseException:
            connection.abort()
            raise
        return answer

    async def get(self, path: str, key: str | None = None) -> tuple[int, bytes]:
        """Read one small JSON document. An idle connection that breaks off before it answers is replaced, once.

        Args:
            path: Path below the base, query included.
            key: Key to authorise with, or None for the public lists.

        Returns:
            Status and body.

        Raises:
            NoAnswerError: No complete answer within `READ_S_MAX` seconds.
            UpstreamError: One above `SMALL_BODY_BYTES_MAX`.
        """
        headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), _USER_AGENT]
        if key is not None:
            headers.append(("Authorization", f"Bearer {key}"))
        head = self._head("GET", path, headers) + b"\r\n"
        try:
            async with asyncio.timeout(READ_S_MAX):
                if (connection := self._pool.idle()) is not None:
                    with contextlib.suppress(BrokenAnswerError):
                        return await self._read(connection, head)
                return await self._read(await self._pool.connect(), head)
        except (BrokenAnswerError, OSError) as exc:
            cause = exc if isinstance(exc, BrokenAnswerError) else type(exc).__name__
            raise NoAnswerError(f"OpenRouter did not answer {path.partition('?')[0]} ({cause}).") from exc

    async def _read(self, connection: UpstreamConnection, head: bytes) -> tuple[int, bytes]:
        answer = connection.send(head, b"", TimeLimit())
        try:
            while not answer.status:
                await answer.more()
            return answer.status, await read_capped(answer, SMALL_BODY_BYTES_MAX)
        finally:
            answer.close()

    def _post_head(self, path: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        has_agent = "user-agent" in [name.lower() for name, _ in headers]
        return self._head("POST", path, headers if has_agent else (*headers, _USER_AGENT))

    def _head(self, method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
        """Return the head of a request, without the empty line at its end.

        Raises:
            ValueError: The path or a header would end its line.
        """
        pool = self._pool
        lines = [f"{method} {pool.target}{path} HTTP/1.1", *pool.header_lines]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join([*lines, ""])
        if not head.count("\r") == head.count("\n") == len(lines) or "\0" in head:
            raise ValueError("a line break within a header")
        return head.encode("utf-8", "surrogateescape")


async def read_capped(answer: UpstreamAnswer, bytes_max: int) -> bytes:
    """Read a whole body of at most `bytes_max` bytes.

    Raises:
        BrokenAnswerError: It broke off before its end.
        UpstreamError: The body is larger.
    """
    body = bytearray()

    def take(part: bytes) -> None:
        body.extend(part)
        if len(body) > bytes_max:
            raise UpstreamError(f"OpenRouter sent more than {bytes_max} bytes where a small answer was due.")

    await answer.pour(take)
    return bytes(body)


async def error_body(answer: UpstreamAnswer) -> bytes | None:
    """The whole body of an answer without a 2xx, as it was written; None where it cannot be had. Raises nothing."""
    if answer.header("content-encoding") not in (None, "", "identity"):
        return None
    try:
        async with asyncio.timeout(ERROR_BODY_S_MAX):
            return await read_capped(answer, ERROR_BODY_BYTES_MAX)
    except (UpstreamError, TimeoutError):
        return None
