"""The client to OpenRouter: sends each inference request at most once, and knows whether a byte of it left.

aiohttp buffers the head of a request until the first write of its body, so `GuardedBody` is the place where the first byte
leaves: the last look at the account and that byte happen with no await between them (M10), and a request that never came
there is proven not to have been sent (M13 i).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import aiohttp
import structlog
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from preflight_proxy.core.environment_proxy import HttpProxy
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.upstream.http_pool import Connections, UpstreamConnection

UPSTREAM_CONNECT_S_MAX = 10.0
"""A TCP and TLS handshake takes well under a second; after this time OpenRouter counts as unreachable."""
ANSWER_HEAD_S_MAX = 30 * 60.0
"""From the request to the response's head; a call ends after this time, whatever it does (M17)."""
IDLE_CONNECTION_S = 15.0
"""Idle connections older than this are dropped: a server that closes as we write leaves an outcome unknown (M11)."""
READ_S_MAX = 15.0
"""A small read of ours (prices, key usage, a generation) that takes longer is given up and repeated later."""
ERROR_BODY_BYTES_MAX = 2**20
"""An error document larger than this is replaced by ours."""
ERROR_BODY_S_MAX = 30.0
"""An error document that takes longer than this is replaced by ours."""
SMALL_BODY_BYTES_MAX = 64 * 2**20
"""The whole model list is about 1 MiB; an answer of ours larger than this is refused rather than held in memory."""


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


class GuardedBody(aiohttp.Payload):
    """A request body that asks `guard` in the instant before the first byte leaves.

    Attributes:
        left: True once a byte may be on the wire.
        withdrawn: True if the guard refused.
    """

    def __init__(self, value: bytes, guard: Callable[[], bool]) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)
        self._guard = guard
        self.left = False
        self.withdrawn = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body, and with it the buffered head, if the connection is open and the guard still agrees."""
        if self.left:
            raise RuntimeError("an inference request is sent once")
        connection = getattr(writer, "protocol", None)
        if not isinstance(connection, UpstreamConnection) or not connection.is_quiet():
            raise ConnectionResetError("the connection could not be used, and no byte was written")
        if not self._guard():
            self.withdrawn = True
            raise WithdrawnError("The request was withdrawn before it was sent.")
        self.left = True
        await writer.write(self._value)


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
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Upstream:
        """Open the connection pool. It reads no environment variable and no netrc file."""
        self._session = aiohttp.ClientSession(
            proxy=self._proxy.url if self._proxy is not None else None,
            connector=Connections(IDLE_CONNECTION_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=UPSTREAM_CONNECT_S_MAX),
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _login(self) -> dict[str, str] | None:
        """What opens a tunnel through the HTTP proxy."""
        login = self._proxy.authorization if self._proxy is not None else None
        return {"Proxy-Authorization": login.reveal()} if login is not None else None

    def _login_of_plain(self) -> list[tuple[str, str]]:
        """The same as headers of a request to an http upstream, which the HTTP proxy reads itself."""
        return list((self._login() or {}).items()) if self.base_url.startswith("http://") else []

    def _url(self, path: str) -> URL:
        return URL(self.base_url + path, encoded=True)

    async def post(
        self, path: str, body: bytes, headers: Iterable[tuple[str, str]], guard: Callable[[], bool]
    ) -> aiohttp.ClientResponse:
        """Send one inference request, once, and return when the response head is there.

        Args:
            path: Path below the base, query included.
            body: The exact bytes to send.
            headers: All headers but Host and Content-Length.
            guard: Asked in the instant before the first byte leaves; False withdraws the request.

        Returns:
            The response, body unread. Its body is not decompressed, and redirects are not followed.

        Raises:
            WithdrawnError: The guard refused; nothing left.
            NotSentError: Upstream could not be reached; nothing left.
            UncertainError: Something left, and no response head came.
            OverdueError: The same, because our own limit of time was over.
        """
        assert self._session is not None, "used outside its context"
        sent = [*headers, *self._login_of_plain()]
        for _attempt in range(2):
            payload = GuardedBody(body, guard)
            try:
                async with asyncio.timeout(self._head_s_max) as limit:
                    response = await self._session.post(
                        self._url(path), data=payload, headers=sent, allow_redirects=False, proxy_headers=self._login()
                    )
                if payload.left:
                    return response
                response.close()  # it came before the first byte of the request: it answers something else
                cause = "an answer before the request"
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                if payload.withdrawn:
                    raise WithdrawnError("The request was withdrawn before it was sent.") from None
                if payload.left:
                    kind = OverdueError if limit.expired() else UncertainError
                    raise kind(f"OpenRouter broke off before it answered ({type(exc).__name__}).") from exc
                cause = type(exc).__name__
                if isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                    break
            # A pooled connection could not be used, and that was found before a byte was written: one more may serve.
        _log.warning("upstream.unreachable", why=cause, via=self._proxy.url if self._proxy is not None else None)
        raise NotSentError("OpenRouter cannot be reached. Nothing was sent, nothing is charged.")

    async def get(self, path: str, key: str | None = None) -> tuple[int, bytes]:
        """Read one small JSON document.

        Args:
            path: Path below the base, query included.
            key: Key to authorise with, or None for the public lists.

        Returns:
            Status and body.

        Raises:
            NoAnswerError: No complete answer within `READ_S_MAX` seconds.
            UpstreamError: One above `SMALL_BODY_BYTES_MAX`.
        """
        assert self._session is not None, "used outside its context"
        headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), *self._login_of_plain()]
        if key is not None:
            headers.append(("Authorization", f"Bearer {key}"))
        timeout = aiohttp.ClientTimeout(total=READ_S_MAX, connect=UPSTREAM_CONNECT_S_MAX)
        try:
            async with self._session.get(
                self._url(path), headers=headers, allow_redirects=False, timeout=timeout, proxy_headers=self._login()
            ) as response:
                return response.status, await read_capped(response, SMALL_BODY_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise NoAnswerError(f"OpenRouter did not answer {path.partition('?')[0]} ({type(exc).__name__}).") from exc


async def read_capped(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """Read a whole body of at most `bytes_max` bytes.

    Raises:
        UpstreamError: The body is larger.
    """
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in response.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes > bytes_max:
            raise UpstreamError(f"OpenRouter sent more than {bytes_max} bytes where a small answer was due.")
        chunks.append(chunk)
    return b"".join(chunks)


async def error_body(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body of an answer without a 2xx, as it was written; None where it cannot be had. Raises nothing."""
    if last_header(list(response.headers.items()), "content-encoding") not in (None, "", "identity"):
        return None
    try:
        async with asyncio.timeout(ERROR_BODY_S_MAX):
            return await read_capped(response, ERROR_BODY_BYTES_MAX)
    except (UpstreamError, aiohttp.ClientError, TimeoutError, OSError):
        return None


def last_header(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    """The value of the last header called `name`, whatever its case; None if there is none."""
    values = [value for key, value in headers if key.lower() == name]
    return values[-1] if values else None
