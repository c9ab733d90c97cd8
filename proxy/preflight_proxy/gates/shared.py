"""Shared gates: a gate hands its listening sockets to the proxy, which then serves inside the trial's network namespace (C1, C2).

A gate connects to its own unix socket and passes its listening sockets as file descriptors (SCM_RIGHTS). Which account a request
belongs to follows from which unix socket they came over, never from a byte that the gate sends. The gate keeps the connection
open: its end means that the gate is gone, and what comes after it on the same socket is not taken (C4). A proxy that is started
again gets the same listeners handed over again.

    WAITING --hand-over accepted--> READY --connection ends--> LOST
    WAITING --hand-over refused--> REFUSED                     (all file descriptors closed, the trial must fail)

REFUSED and LOST are final: nothing more is accepted on that socket. A connection that breaks off before it has handed anything
over is no hand-over, and may be followed by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path

import structlog

from preflight_proxy.base.gate_handshake import netns_cookie
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.server.listeners import ACCEPT_AGAIN_S, Acceptor, stop_all

HANDOVER_S_MAX = 5.0
"""A gate sends one small message right after it connects; a slower one is dropped and may connect again."""
TAKEN = b"K"
"""What the gate reads once its listeners are served."""

_log = structlog.get_logger("preflight_proxy.gates.shared")


class GateState(Enum):
    """The state of the hand-over of one trial's listeners."""

    WAITING = "waiting"
    READY = "ready"
    LOST = "lost"
    REFUSED = "refused"


class HandoverRefusedError(OperatingError):
    """A gate handed over something else than it must."""


class Namespaces:
    """The network namespaces in use: ours, and one for each trial.

    Raises:
        HandoverRefusedError: The kernel has no cookies (before Linux 5.14, or not Linux).
    """

    def __init__(self) -> None:
        self._own = netns_cookie()
        if self._own is None:
            raise HandoverRefusedError("this kernel cannot tell network namespaces apart (Linux 5.14 is needed)")
        self._taken: dict[str, int] = {}

    def claim(self, account: str, cookies: Sequence[int | None]) -> None:
        """Record that `account`'s gate lives in the one namespace that `cookies` name.

        Raises:
            HandoverRefusedError: The cookies differ, are ours or another trial's, or changed since the last hand-over; or a
                listener has no cookie.
        """
        first = cookies[0]
        if first is None or any(cookie != first for cookie in cookies):
            raise HandoverRefusedError("the listeners come from more than one network namespace")
        if first == self._own:
            raise HandoverRefusedError("the listeners are in the proxy's own network namespace")
        if any(cookie == first and other != account for other, cookie in self._taken.items()):
            raise HandoverRefusedError("the listeners are in another trial's network namespace")
        if self._taken.setdefault(account, first) != first:
            raise HandoverRefusedError("the gate's network namespace changed")

    def release(self, account: str) -> None:
        """Forget `account`'s namespace."""
        self._taken.pop(account, None)


def check_listener(sock: socket.socket, port: int) -> int | None:
    """Check one handed-in socket and return its namespace cookie; None if the kernel has none.

    Raises:
        HandoverRefusedError: It is not a plain TCP listener on 127.0.0.1:`port`.
    """
    if (sock.family, sock.type, sock.proto) != (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP):
        raise HandoverRefusedError("a handed-in socket is not TCP over IPv4")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise HandoverRefusedError("a handed-in socket does not listen")
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        raise HandoverRefusedError("a handed-in socket shares its port (SO_REUSEPORT)")
    if sock.getsockname() != ("127.0.0.1", port):
        raise HandoverRefusedError(f"a handed-in socket does not listen on 127.0.0.1:{port}")
    return netns_cookie(sock)


class SharedGate:
    """One trial's unix socket for its gate, and the listeners that came over it.

    Args:
        account: The account that every request on these listeners belongs to.
        path: Where the unix socket is made; the directory exists.
        ports: The ports that the gate must hand over, in this order.
        namespaces: Shared by all gates of the proxy.
        serve: Starts serving the listener of each port; returns the acceptor of each.
        on_state: Called after each change of `state`.
        handover_s_max: See `HANDOVER_S_MAX`.
    """

    def __init__(
        self,
        account: str,
        path: Path,
        ports: Sequence[int],
        namespaces: Namespaces,
        serve: Callable[[Mapping[int, socket.socket]], Awaitable[Mapping[int, Acceptor]]],
        on_state: Callable[[GateState], None],
        *,
        handover_s_max: float = HANDOVER_S_MAX,
    ) -> None:
        self.account = account
        self.path = path
        self.ports = tuple(ports)
        self.state = GateState.WAITING
        self._namespaces = namespaces
        self._serve = serve
        self._on_state = on_state
        self._handover_s_max = handover_s_max
        self._tasks = Tasks()
        self._listeners: list[socket.socket] = []
        self._acceptors: Mapping[int, Acceptor] = {}
        self._server: socket.socket | None = None

    async def open(self) -> None:
        """Make the unix socket and wait for the gate in the background.

        Raises:
            OperatingError: The socket cannot be made.
        """
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.unlink(missing_ok=True)
            server.bind(str(self.path))
            self.path.chmod(0o666)  # C17: a gate runs under a user id that is not ours; its directory keeps others out
            server.setblocking(False)
            server.listen(1)
        except OSError as exc:
            server.close()
            raise OperatingError(f"The gate's socket {self.path} cannot be made: {exc}") from exc
        self._server = server
        self._tasks.spawn(self._accept(server), f"gate {self.account}")

    async def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(server)
            except OSError as exc:
                _log.error("gate.not_accepted", account=self.account, why=str(exc))
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            with connection:
                connection.setblocking(False)
                try:
                    await self._hand_over(connection)
                except HandoverRefusedError as exc:
                    _log.error("gate.refused", account=self.account, why=str(exc))
                    server.close()
                    self._become(GateState.REFUSED)
                    return
                except (TimeoutError, OSError) as exc:
                    _log.warning("gate.dropped", account=self.account, why=str(exc) or type(exc).__name__)
                    continue
                self._become(GateState.READY)
                with contextlib.suppress(OSError):
                    while await asyncio.get_running_loop().sock_recv(connection, 16):
                        pass
            server.close()
            self._become(GateState.LOST)
            return

    async def _hand_over(self, connection: socket.socket) -> None:
        async with asyncio.timeout(self._handover_s_max):
            fds = await self._receive(connection)
        await self._take(fds)
        try:
            await asyncio.get_running_loop().sock_sendall(connection, TAKEN)
        except OSError:
            await self._stop_serving()  # the gate is gone, and hands them over again when it is back
            raise

    async def _receive(self, connection: socket.socket) -> list[int]:
        await _readable(connection)
        message, fds, _, _ = socket.recv_fds(connection, 16, len(self.ports) + 1)
        for fd in fds:
            os.set_inheritable(fd, False)  # `recv_fds` of Python 3.11 ignores the flag for it
        if len(fds) == len(self.ports):
            return fds
        for fd in fds:
            os.close(fd)
        if not message:
            raise ConnectionError("the gate left before it handed anything over")
        raise HandoverRefusedError(f"the gate handed over {len(fds)} sockets where {len(self.ports)} were due")

    async def _take(self, fds: Sequence[int]) -> None:
        listeners = _sockets(fds)
        try:
            cookies = [check_listener(sock, port) for sock, port in zip(listeners, self.ports, strict=True)]
            self._namespaces.claim(self.account, cookies)
            for sock in listeners:
                sock.setblocking(False)
            self._acceptors = await self._serve(dict(zip(self.ports, listeners, strict=True)))
            self._listeners = listeners
        except BaseException:
            for sock in listeners:
                sock.close()
            raise

    def _become(self, state: GateState) -> None:
        self.state = state
        self._on_state(state)

    async def _stop_serving(self) -> None:
        """End connections and close our copies of the listeners; the gate's copies go on listening."""
        await stop_all(self._acceptors.values())
        for sock in self._listeners:
            sock.close()
        self._listeners, self._acceptors = [], {}

    async def release(self) -> None:
        """Stop serving without shutting the listeners: the gate hands them to the proxy that comes next."""
        await self._tasks.cancel()
        await self._stop_serving()
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Stop serving: no copy of the listeners accepts any more, and the unix socket is gone."""
        await self._tasks.cancel()
        for sock in self._listeners:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # C4: ends every copy of the listener, the gate's own included
        await self.release()
        self.path.unlink(missing_ok=True)
        self._namespaces.release(self.account)


def _sockets(fds: Sequence[int]) -> list[socket.socket]:
    """Own these file descriptors as sockets; all are closed if one of them is no socket."""
    sockets: list[socket.socket] = []
    try:
        for fd in fds:
            sockets.append(socket.socket(fileno=fd))
    except OSError as exc:
        for sock in sockets:
            sock.close()
        for fd in fds[len(sockets) :]:
            os.close(fd)
        raise HandoverRefusedError("what the gate handed over is no socket") from exc
    return sockets


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def is_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, is_ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
