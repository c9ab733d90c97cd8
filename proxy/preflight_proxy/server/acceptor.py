"""Accepts connections on a listener, or is given them one by one: counts, limits, and ends them together (C5, open files)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterable

import structlog

from preflight_proxy.base.tasks import Tasks

ACCEPT_AGAIN_S = 1.0
"""When the system is out of file descriptors, accepting is tried again after this time (C5)."""

_log = structlog.get_logger("preflight_proxy.server.acceptor")


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
        with contextlib.suppress(OSError):  # an agent that leaves, or speaks another protocol, is no fault of ours
            await self._serve(connection)


async def stop_all(acceptors: Iterable[Acceptor]) -> None:
    """Stop several acceptors, one after the other."""
    for acceptor in acceptors:
        await acceptor.stop()
