"""The pool of connections to OpenRouter: connects, directly or through the HTTP proxy of the environment, and keeps idle ones.

Source: RFC 9110, section 9.3.6 (CONNECT); RFC 9112, section 3.2.2 (absolute form, for a proxy).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohappyeyeballs

from preflight_proxy.core.environment_proxy import HttpProxy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.upstream.connection import UpstreamConnection

UPSTREAM_CONNECT_S_MAX = 10.0
"""A TCP and TLS handshake takes well under a second; after this time OpenRouter counts as unreachable."""
IDLE_CONNECTION_S = 15.0
"""Idle connections older than this are dropped: a server that closes as we write leaves an outcome unknown (M11 once)."""
NEXT_ADDRESS_S = 0.25
"""A host with several addresses: the next one is tried after this time. Source: RFC 8305, section 8."""
TUNNEL_HEAD_BYTES_MAX = 16 * 2**10
"""An HTTP proxy's answer to CONNECT is one line and a few headers."""


class Pool:
    """Connections to one origin.

    Args:
        base_url: The API base.
        proxy: The HTTP proxy to use; None for a direct connection.
        sweep_s: Idle and overdue connections are closed each time that so many seconds have passed.

    Attributes:
        target: What stands before a path in a request line.
        header_lines: Headers of each request: the host, and our login if the HTTP proxy reads the request.

    Raises:
        ConfigError: The base has a port that cannot be.
    """

    def __init__(self, base_url: str, proxy: HttpProxy | None, sweep_s: float) -> None:
        url = urlsplit(base_url)
        is_tls = url.scheme == "https"
        try:
            self._address = (url.hostname or "", url.port or (443 if is_tls else 80))
        except ValueError as exc:
            raise ConfigError(f"The API base {base_url} has no port that exists. Nothing was sent.") from exc
        self._tls = ssl.create_default_context() if is_tls else None
        self._proxy = urlsplit(proxy.url) if proxy is not None else None
        login = proxy.authorization if proxy is not None else None
        self._login = [] if login is None else [f"Proxy-Authorization: {login.reveal()}"]
        is_read_by_proxy = proxy is not None and not is_tls
        self.target = base_url if is_read_by_proxy else url.path
        self.header_lines = [f"Host: {url.netloc.rpartition('@')[2]}", *(self._login if is_read_by_proxy else [])]
        self._sweep_s = sweep_s
        self._now_s: Callable[[], float]
        self._sweeping: asyncio.TimerHandle | None = None
        self._idle: list[UpstreamConnection] = []
        self._connections: set[UpstreamConnection] = set()

    def start(self) -> None:
        """Begin to close idle and overdue connections, or go on to."""
        loop = asyncio.get_running_loop()
        self._now_s = loop.time
        self._sweeping = loop.call_later(self._sweep_s, self._sweep)

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in [*self._connections]:
            connection.abort()
        await asyncio.sleep(0)

    def idle(self) -> UpstreamConnection | None:
        """Return an open connection that has answered before, the last used first; None if there is none.

        In this turn of the loop it is still quiet, and a request may be written.
        """
        oldest_s = self._now_s() - IDLE_CONNECTION_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since_s < oldest_s:
                connection.abort()
            elif connection.is_quiet():
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """Return a new connection. In this turn of the loop nothing has come on it.

        Raises:
            OSError: There is none within `UPSTREAM_CONNECT_S_MAX` (TimeoutError), the handshake failed, or upstream spoke first.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(UPSTREAM_CONNECT_S_MAX):
            sock = await self._socket(loop)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._proxy is not None and self._tls is not None:
                    await self._open_tunnel(loop, sock)
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(sock, self._idle, self._connections),
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=self._address[0] if self._tls is not None else None,
                )
            except BaseException:
                sock.close()
                raise
        if not connection.is_quiet():
            raise ConnectionResetError("upstream sent something before it was asked")
        return connection

    async def _socket(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        host, port = self._address if self._proxy is None else (self._proxy.hostname, self._proxy.port)
        try:
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except UnicodeError as exc:
            raise OSError(f"{host} is no host name") from exc
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1)

    async def _open_tunnel(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        host, port = self._address
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = "\r\n".join([f"CONNECT {name} HTTP/1.1", f"Host: {name}", *self._login, "", ""])
        await loop.sock_sendall(sock, request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = await loop.sock_recv(sock, 4096)
            head += data
            if not data or len(head) > TUNNEL_HEAD_BYTES_MAX:
                raise ConnectionResetError("the HTTP proxy did not answer")
        if not (head.startswith(b"HTTP/1.") and head[8:10] == b" 2" and head.endswith(b"\r\n\r\n")):
            raise ConnectionRefusedError("the HTTP proxy opened no tunnel")

    def _sweep(self) -> None:
        self.start()
        now_s = self._now_s()
        for connection in [*self._connections]:
            if connection.is_overdue(now_s):
                connection.abort()
        oldest_s = now_s - IDLE_CONNECTION_S
        for connection in self._idle:
            if connection.idle_since_s < oldest_s:
                connection.abort()
        self._idle[:] = [each for each in self._idle if each in self._connections and each.idle_since_s >= oldest_s]
