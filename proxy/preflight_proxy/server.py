"""HTTP listeners with limits: how many connections, how long a request head may take, how large it may be (C5).

aiohttp parses and serves; what it leaves open is closed here, for data plane and control plane alike.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from preflight_proxy.acceptor import Acceptor
from preflight_proxy.core.refusals import error_body

CONNECTIONS_MAX = 256
"""Open connections of one listener; one agent's flood must not take another trial's file descriptors (C5)."""
HEAD_S_MAX = 10.0
"""From a connection's first byte, or its opening, to the end of a request head: a slow head holds a connection for no one (C5)."""
KEEPALIVE_S = 75.0
"""An idle connection is kept this long; longer than most clients keep theirs, so that they close first."""
HEAD_BYTES_MAX = 32 * 1024
"""One header field or request line; Claude Code's list of beta names is the longest seen, well below 1 KiB."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = structlog.get_logger("preflight_proxy.server")


class _LimitedProtocol(web.RequestHandler):
    """One connection: closed at once when there are too many, and when a request head dawdles."""

    def __init__(self, manager: _LimitedServer, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's own keywords
        super().__init__(manager, **kwargs)
        self._limits = manager
        self._head_timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._limits.open_count >= self._limits.connections_max:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
            return
        self._counted = True
        self._limits.open_count += 1
        self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._limits.open_count -= 1
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._busy and self._head_timer is None:
            self._arm()
        super().data_received(data)

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self._limits.head_s_max, self.force_close)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def request_begins(self) -> None:
        """A request head is complete: the head's time limit is over."""
        self._busy = True
        self._disarm()

    def request_ends(self) -> None:
        """The response is out: the next head may take its time again, once it has begun."""
        self._busy = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be parsed, or a bug of ours, in OpenRouter's shape; no text of an exception leaves."""
        if status >= 500:
            _log.error("request.crashed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("A response has begun: a second one inside it would be taken for its body.")
        text = (
            "The request is not valid HTTP."
            if status < 500
            else "The proxy failed. Nothing more is sent for this call."
        )
        body = error_body(None, status, text, "invalid_request" if status < 500 else "server")
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
    """A request; one that offers another protocol is the last of its connection, for what follows could be in either."""
    if "Upgrade" in message.headers:
        message = message._replace(should_close=True)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


class _LimitedServer(web.Server):
    """Makes a `_LimitedProtocol` for each connection of one listener."""

    def __init__(self, handler: Handler, connections_max: int, head_s_max: float) -> None:
        async def timed(request: web.BaseRequest) -> web.StreamResponse:
            protocol = request.protocol
            assert isinstance(protocol, _LimitedProtocol)
            protocol.request_begins()
            try:
                return await handler(request)
            finally:
                protocol.request_ends()

        super().__init__(timed, request_factory=_request, handler_cancellation=True)
        self.connections_max = connections_max
        self.head_s_max = head_s_max
        self.open_count = 0

    def __call__(self) -> web.RequestHandler:
        return _LimitedProtocol(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            lingering_time=1.0,
            auto_decompress=False,
            access_log=None,
        )


class Listeners:
    """Every place where one handler is served; closed together.

    Args:
        head_s_max: See `HEAD_S_MAX`.
    """

    def __init__(self, head_s_max: float = HEAD_S_MAX) -> None:
        self._head_s_max = head_s_max
        self._runners: list[web.ServerRunner] = []

    async def _runner(self, handler: Handler, connections_max: int) -> web.ServerRunner:
        server = _LimitedServer(handler, connections_max, self._head_s_max)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def on_tcp(self, handler: Handler, host: str, port: int, connections_max: int = 4096) -> tuple[str, int]:
        """Serve on TCP; returns the bound host and port.

        Raises:
            OSError: The address cannot be bound.
        """
        runner = await self._runner(handler, connections_max)
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def on_unix(
        self, handler: Handler, path: Path, mode: int = 0o600, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        """Serve on a unix socket of file mode `mode`; a socket left by a dead process is replaced, nothing else is.

        Raises:
            OSError: The path cannot be bound, is no socket, or is another process's that still listens.
        """
        _remove_dead_socket(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(path))
            path.chmod(mode)  # nobody can connect before it listens, so nobody came in under another mode
            await web.SockSite(await self._runner(handler, connections_max), sock).start()
        except BaseException:
            sock.close()
            raise

    async def on_sockets(
        self, handler: Handler, sockets: Sequence[socket.socket], connections_max: int = CONNECTIONS_MAX
    ) -> Callable[[], Awaitable[None]]:
        """Serve on sockets that already listen; returns what ends this, connections included."""
        runner = await self._runner(handler, connections_max)
        for sock in sockets:
            await web.SockSite(runner, sock).start()

        async def stop() -> None:
            await self._end(runner)

        return stop

    async def on_connections(
        self,
        handler: Handler,
        sock: socket.socket | None,
        context: ssl.SSLContext | None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> tuple[Acceptor, Callable[[], Awaitable[None]]]:
        """Serve connections that are accepted here or given one by one, in TLS or not; returns also what ends this.

        A connection counts from the moment it is accepted, and a handshake has the time of a request head (C5).

        Args:
            handler: Answers requests.
            sock: A socket that already listens; None where connections are given to the acceptor.
            context: For TLS; None for plain HTTP.
            connections_max: See `CONNECTIONS_MAX`.
        """
        runner = await self._runner(handler, connections_max)
        server = runner.server
        assert isinstance(server, _LimitedServer)

        tls_only: dict[str, Any] = {"ssl_handshake_timeout": self._head_s_max, "ssl_shutdown_timeout": 1.0}

        async def begin(connection: socket.socket) -> None:
            await asyncio.get_running_loop().connect_accepted_socket(
                server, connection, ssl=context, **(tls_only if context is not None else {})
            )

        name = "http" if context is None else "tls"
        acceptor = Acceptor(name, sock, begin, connections_max, open_elsewhere=lambda: server.open_count)
        acceptor.start()

        async def stop() -> None:
            await acceptor.stop()
            await self._end(runner)

        return acceptor, stop

    async def _end(self, runner: web.ServerRunner) -> None:
        if runner in self._runners:
            self._runners.remove(runner)
        with suppress(OSError):
            await runner.cleanup()

    async def close(self) -> None:
        """Stop accepting and end every connection."""
        for runner in self._runners:
            with suppress(OSError):
                await runner.cleanup()
        self._runners.clear()


def _remove_dead_socket(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(f"{path} is there already, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise FileExistsError(f"another process listens on {path}")
