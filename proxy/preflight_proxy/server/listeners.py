"""Listeners with limits: how many connections each, and what their request heads may take together (C5, open files).

A single connection's limits are in `connection`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.server.heads import UnservedHeads
from preflight_proxy.server.http_server import REQUEST_HEAD_S_MAX, Handler, HttpServer

TCP_CONNECTIONS_MAX = 8192
"""Of a listener on TCP: hundreds of agents, each with a dozen idle connections. An idle one takes about 10 KiB."""
LISTENER_CONNECTIONS_MAX = 256
"""Open connections of one listener; one agent's flood must not take another trial's file descriptors (C5)."""

BACKLOG = 128
"""Connections that wait to be accepted."""
ACCEPT_AGAIN_S = 1.0
"""When the system is out of file descriptors, accepting is tried again after this time (C5)."""

_log = structlog.get_logger("preflight_proxy.server.listeners")


class Acceptor:
    """Accepts on one listener, or is given connections, until it is stopped.

    Args:
        name: For the log.
        listener: Listens, does not block; stays its owner's to close. None where `take` is all there is.
        serve: Takes a connection over, closes it, and returns when it may be counted no more.
        connections_max: How many connections may be served at once; one more is closed as soon as it is accepted.
        open_elsewhere: Counts those that `serve` has passed on and that are still open.
        on_surplus: Called for each connection that was one too many.
        on_stop: Ends what `serve` has passed on.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket | None,
        serve: Callable[[socket.socket], Awaitable[None]],
        connections_max: int,
        *,
        open_elsewhere: Callable[[], int] = lambda: 0,
        on_surplus: Callable[[], None] = lambda: None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._name = name
        self._listener = listener
        self._serve = serve
        self._connections_max = connections_max
        self._open_elsewhere = open_elsewhere
        self._on_surplus = on_surplus
        self._on_stop = on_stop
        self._tasks = Tasks()
        self._accepting = Tasks()

    @property
    def accepting(self) -> bool:
        """Whether connections are accepted: from the start until it is stopped or the listener is shut."""
        return len(self._accepting) > 0

    def start(self) -> None:
        """Accept in the background."""
        if self._listener is not None:
            self._accepting.spawn(self._accept(self._listener), f"accept {self._name}")

    def take(self, connection: socket.socket) -> None:
        """Serve one connection, or close it if it is one too many."""
        if len(self._tasks) + self._open_elsewhere() >= self._connections_max:
            connection.close()
            self._on_surplus()
            return
        connection.setblocking(False)
        self._tasks.spawn(self._one(connection), self._name)

    async def stop(self) -> None:
        """Accept no more and end what is served; the listener itself stays open."""
        await self._accepting.cancel()
        await self._tasks.cancel()
        if self._on_stop is not None:
            await self._on_stop()

    async def _accept(self, listener: socket.socket) -> None:
        loop, is_logged = asyncio.get_running_loop(), False
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as exc:
                if exc.errno == errno.EINVAL:
                    return  # the listener was shut: the trial is over
                if not is_logged:
                    _log.error("acceptor.not_accepted", listener=self._name, why=str(exc))
                    is_logged = True
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            self.take(connection)
            await asyncio.sleep(0)  # a flood of connections leaves the loop to others after each one

    async def _one(self, connection: socket.socket) -> None:
        with suppress(OSError):  # an agent that leaves, or speaks another protocol, is no fault of ours
            await self._serve(connection)


async def stop_all(acceptors: Iterable[Acceptor]) -> None:
    """Stop several acceptors, one after the other."""
    for acceptor in acceptors:
        await acceptor.stop()


class Listeners:
    """The listeners of one proxy; closed together.

    Args:
        head_s_max: See `REQUEST_HEAD_S_MAX`.
        heads: Counts unserved request heads.
    """

    def __init__(self, head_s_max: float = REQUEST_HEAD_S_MAX, heads: UnservedHeads | None = None) -> None:
        self._head_s_max = head_s_max
        self._heads = heads or UnservedHeads()
        self._servers: list[HttpServer] = []

    def _server(self, handler: Handler, connections_max: int) -> HttpServer:
        server = HttpServer(handler, connections_max, self._head_s_max, self._heads)
        self._servers.append(server)
        return server

    async def on_tcp(
        self, handler: Handler, host: str, port: int, connections_max: int = TCP_CONNECTIONS_MAX
    ) -> tuple[str, int]:
        """Serve on TCP; returns the bound host and port.

        Raises:
            OSError: The address cannot be bound.
        """
        server = self._server(handler, connections_max)
        listener = await asyncio.get_running_loop().create_server(server, host, port, backlog=BACKLOG)
        server.listener = listener
        bound = listener.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def on_unix(
        self, handler: Handler, path: Path, mode: int = 0o600, connections_max: int = LISTENER_CONNECTIONS_MAX
    ) -> None:
        """Serve on a unix socket of file mode `mode`; a socket left by a dead process is replaced, nothing else is.

        Raises:
            OSError: The path cannot be bound, is no socket, or is another process's that still listens.
        """
        sock = bind_unix(path, mode)
        server = self._server(handler, connections_max)
        server.listener = await asyncio.get_running_loop().create_unix_server(server, sock=sock, backlog=BACKLOG)

    async def on_connections(
        self,
        handler: Handler,
        sock: socket.socket | None,
        context: ssl.SSLContext | None = None,
        connections_max: int = LISTENER_CONNECTIONS_MAX,
    ) -> Acceptor:
        """Serve connections that are accepted here or given one by one, in TLS or not; the acceptor's `stop` ends all of this.

        A connection counts from the moment it is accepted, and a handshake has the time of a request head (C5).

        Args:
            handler: Answers requests.
            sock: A socket that already listens; None where connections are given to the acceptor.
            context: For TLS; None for plain HTTP.
            connections_max: See `LISTENER_CONNECTIONS_MAX`.
        """
        server = self._server(handler, connections_max)
        tls_only: dict[str, Any] = {"ssl_handshake_timeout": self._head_s_max, "ssl_shutdown_timeout": 1.0}

        async def begin(connection: socket.socket) -> None:
            await asyncio.get_running_loop().connect_accepted_socket(
                server, connection, ssl=context, **(tls_only if context is not None else {})
            )

        acceptor = Acceptor(
            "http" if context is None else "tls",
            sock,
            begin,
            connections_max,
            open_elsewhere=lambda: server.open_count,
            on_stop=partial(self._end, server),
        )
        acceptor.start()
        return acceptor

    async def _end(self, server: HttpServer) -> None:
        if server in self._servers:
            self._servers.remove(server)
        await server.close()

    async def close(self) -> None:
        """Stop accepting and end every connection."""
        for server in list(self._servers):
            await self._end(server)


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Return a socket that is bound to a path of file mode `mode`; one left by a dead process is replaced, nothing else is.

    Raises:
        OSError: The path cannot be bound, is no socket, or is another process's that still listens.
    """
    remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(mode)  # before it listens, so that no connection is made under another mode
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def naming(address: str) -> Iterator[None]:
    """Turn the OSError of an address that cannot be bound into an error that names it, says why, and what to do.

    Raises:
        ConfigError: It cannot be bound.
    """
    try:
        yield
    except OSError as exc:
        why = exc.strerror or str(exc)  # asyncio's own sentence would name the address again
        if exc.errno is not None and not isinstance(exc, socket.gaierror):
            why = os.strerror(exc.errno)
        raise ConfigError(
            f"The proxy cannot listen on {address}: {why}. Choose another address, or end what has this one."
        ) from exc


def check_free(host: str, port: int) -> None:
    """Check that a TCP address can be bound; nothing stays bound.

    Raises:
        OSError: It cannot.
    """
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)


def remove_dead_socket(path: Path) -> None:
    """Remove a unix socket that nobody listens on.

    Raises:
        OSError: The path is no socket, or another process listens there.
    """
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
