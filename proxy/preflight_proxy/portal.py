r"""Portable gates: connections from inside a trial that come over TCP, because the engine shares no unix socket with us.

The trial's forwarder, a container of its own, takes the gate's listeners and connects here for each connection that they
accept. It says first, in one line of fixed length, which trial it serves and on which port of the gate the connection came:

    AP1 PASS PORT\n         PASS: 43 characters that this trial's forwarder alone knows; PORT: 5 digits, 00000 for its watch

What follows is the agent's connection, byte for byte. So the account follows from the pass, never from what the agent sends,
and a data-plane request needs the account's token besides. Only agents' doors stand behind a portal: no control plane.

The connection on port 00000 stays open as long as the forwarder has the gate; its end is the gate's end (C4):

    WAITING --watch begins--> READY --watch ends--> LOST
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import socket
from collections.abc import Callable, Mapping

import structlog

from preflight_proxy.acceptor import Acceptor
from preflight_proxy.gate_doors import GateDoors, Stop
from preflight_proxy.gate_listener import TAKEN, GateState

LINE_BYTES = 54
LINE_S_MAX = 5.0
"""A forwarder sends its line right after it connects."""
STRANGERS_MAX = 1024
"""Connections at once that have not yet shown a pass, or watch a gate; many trials may open many at once."""
REFUSED_LOGGED_MAX = 100
"""Whoever knocks without end must not fill the disk."""

_LINE = re.compile(rb"AP1 ([A-Za-z0-9_-]{43}) ([0-9]{5})\n")
_log = structlog.get_logger("preflight_proxy.portal")


class PortalGate:
    """One trial's portable gate.

    Args:
        account: The account that every request through it belongs to.
        on_state: Called after each change of `state`.
    """

    def __init__(self, account: str, on_state: Callable[[GateState], None]) -> None:
        self.account = account
        self.state = GateState.WAITING
        self._on_state = on_state
        self._entries: Mapping[int, Acceptor] = {}
        self._stop: Stop | None = None
        self._leave: Callable[[], None] = lambda: None

    async def open(self, portal: Portal, pass_: str, doors: GateDoors, ports: list[int]) -> None:
        """Let the forwarder that shows this pass in."""
        self._entries, self._stop = await doors.enter(ports)
        self._leave = portal.let_in(pass_, self)

    async def enter(self, connection: socket.socket, port: int) -> None:
        """Serve one connection, for as long as it is the portal's to count; it is closed if there is no such port."""
        if port == 0:
            await self._watch(connection)
        elif (entry := self._entries.get(port)) is not None and self.state is GateState.READY:
            entry.take(connection)
        else:
            connection.close()

    async def _watch(self, connection: socket.socket) -> None:
        with connection:
            if self.state is not GateState.WAITING:
                return
            self._become(GateState.READY)
            loop = asyncio.get_running_loop()
            try:
                await loop.sock_sendall(connection, TAKEN)
                while await loop.sock_recv(connection, 16):
                    pass
            except OSError as exc:
                _log.warning("portal.watch_broke", account=self.account, why=str(exc))
            self._become(GateState.LOST)

    def _become(self, state: GateState) -> None:
        self.state = state
        self._on_state(state)

    async def close(self) -> None:
        """Let nobody in any more, and end what is served."""
        self._leave()
        if self._stop is not None:
            await self._stop()

    async def let_go(self) -> None:
        """At the end of the process: the forwarder comes back to whoever listens next."""
        await self.close()


class Portal:
    """The one TCP listener for forwarders of portable gates."""

    def __init__(self) -> None:
        self._gates: dict[bytes, PortalGate] = {}
        self._acceptor: Acceptor | None = None
        self._server: socket.socket | None = None
        self._refused = 0

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept forwarders; returns the bound address.

        Raises:
            OSError: The address cannot be bound.
        """
        self._server = server = socket.create_server((host, port), backlog=256)
        server.setblocking(False)
        self._acceptor = Acceptor("portal", server, self._serve, STRANGERS_MAX)
        self._acceptor.start()
        bound = server.getsockname()
        return str(bound[0]), int(bound[1])

    @property
    def listens(self) -> bool:
        """Whether forwarders can come in at all."""
        return self._server is not None

    def let_in(self, pass_: str, gate: PortalGate) -> Callable[[], None]:
        """Know a pass from now on; returns what forgets it."""
        digest = hashlib.sha256(pass_.encode()).digest()
        self._gates[digest] = gate

        def leave() -> None:
            self._gates.pop(digest, None)

        return leave

    async def _serve(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(LINE_S_MAX):
                line = await _exactly(connection, LINE_BYTES)
            gate, port = self._find(line)
        except BaseException as exc:
            connection.close()
            if isinstance(exc, (TimeoutError, ConnectionError, PermissionError)):
                self._tell(str(exc) or type(exc).__name__)
                return
            raise
        await gate.enter(connection, port)

    def _tell(self, why: str) -> None:
        self._refused += 1
        if self._refused <= REFUSED_LOGGED_MAX:
            _log.warning("portal.refused", why=why)

    def _find(self, line: bytes) -> tuple[PortalGate, int]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise PermissionError("what connected is no forwarder")
        digest = hashlib.sha256(match[1]).digest()
        for known, gate in self._gates.items():
            if hmac.compare_digest(known, digest):
                return gate, int(match[2])
        raise PermissionError("the pass is no trial's")

    async def close(self) -> None:
        """Accept nobody any more."""
        if self._acceptor is not None:
            await self._acceptor.stop()
        if self._server is not None:
            self._server.close()


async def _exactly(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes and no more: what follows is somebody else's.

    Raises:
        ConnectionError: It ended before.
    """
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        more = await loop.sock_recv(connection, count - len(data))
        if not more:
            raise ConnectionResetError("it left before it had shown a pass")
        data += more
    return data
