"""Portable gates: connections from inside a trial that come over TCP, because the engine shares no unix socket with us.

The trial's forwarder, a container of its own, takes the gate's listeners and connects here for each connection that they
accept. First both prove that they know the trial's pass (see `core.portal_proof`); what follows is the agent's connection, byte
for byte. So the account follows from the pass, never from what the agent sends, and a data-plane request needs the account's
token besides. Only agents' doors stand behind a portal: no control plane.

The connection for port 0, the *watch*, stays open as long as the forwarder has the gate, and beats. Its end is the gate's end
(C4), and so is its silence: a forwarder that does not move serves nobody, and its agent would wait for ever.

    WAITING --watch begins--> READY --watch ends, or is silent--> LOST
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from preflight_proxy.core.gate_proof import (
    CLAIM_BYTES,
    NONCE_BYTES,
    Claim,
    claim_holds,
    pass_id,
    portal_proof,
    read_claim,
)
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.ports import GatePorts, Stop
from preflight_proxy.gates.shared import GateState
from preflight_proxy.server.acceptor import Acceptor

CLAIM_S_MAX = 5.0
"""A forwarder answers the nonce at once."""
UNAUTHENTICATED_PER_ADDRESS_MAX = 128
"""Connections at once from one address that have proved nothing; where an engine has one address for all its containers, a
burst of more only makes forwarders ask again."""
UNAUTHENTICATED_MAX = 256
"""The same from all addresses; half of the open files that every proxy has beside its trials'."""
FORWARDER_CONNECTIONS_MAX = 4096
"""Watches, strangers, and those that were just cut off."""
SILENT_S_MAX = 15.0
"""A forwarder beats every 3 s."""
FORWARDERS_LOGGED_MAX = 100
"""Whoever knocks without end must not fill the disk."""

_log = structlog.get_logger("preflight_proxy.gates.portable")


class PortableGate:
    """One trial's portable gate.

    Args:
        account: The account that every request through it belongs to.
        on_state: Called after each change of `state`.
        silent_s_max: See `SILENT_S_MAX`.
    """

    def __init__(
        self, account: str, on_state: Callable[[GateState], None], *, silent_s_max: float = SILENT_S_MAX
    ) -> None:
        self.account = account
        self.state = GateState.WAITING
        self._on_state = on_state
        self._silent_s_max = silent_s_max
        self._entries: Mapping[int, Acceptor] = {}
        self._stop: Stop | None = None
        self._leave: Callable[[], None] = lambda: None

    async def open(self, portal: ForwarderListener, pass_: str, doors: GatePorts, ports: list[int]) -> None:
        """Let the forwarder that knows this pass in."""
        self._entries, self._stop = await doors.enter(ports)
        self._leave = portal.register(Secret(pass_), self)

    async def enter(self, connection: socket.socket, port: int, proof: bytes) -> None:
        """Answer with the portal's proof and serve the connection, for as long as it is the portal's to count.

        It is closed without an answer if there is no such port, or no watch: its forwarder may ask again.
        """
        if port == 0:
            await self._watch(connection, proof)
            return
        try:
            if port in self._entries and self.state is GateState.READY:
                await asyncio.get_running_loop().sock_sendall(connection, proof)
                if (entry := self._entries.get(port)) is not None:  # not closed meanwhile
                    entry.take(connection)
                    return
        except BaseException:
            connection.close()
            raise
        connection.close()

    async def _watch(self, connection: socket.socket, proof: bytes) -> None:
        with connection:
            if self.state is not GateState.WAITING:
                return
            self._become(GateState.READY)
            try:
                await self._until_gone(connection, proof)
            except TimeoutError:
                _log.warning("portal.silent", account=self.account, for_s=self._silent_s_max)
            except OSError as exc:
                _log.warning("portal.watch_broke", account=self.account, why=str(exc))
            self._become(GateState.LOST)

    async def _until_gone(self, connection: socket.socket, proof: bytes) -> None:
        """Return at the connection's end.

        Raises:
            TimeoutError: Nothing came for as long as a forwarder may be silent, and that in two waits of half the time: in one
                alone this process itself may have stood still.
        """
        loop, missed = asyncio.get_running_loop(), 0
        await loop.sock_sendall(connection, proof)
        while missed < 2:
            try:
                async with asyncio.timeout(self._silent_s_max / 2):
                    if not await loop.sock_recv(connection, 16):
                        return
                missed = 0
            except TimeoutError:
                missed += 1
        raise TimeoutError

    def _become(self, state: GateState) -> None:
        self.state = state
        self._on_state(state)

    async def close(self) -> None:
        """Let nobody in any more, not even who has shown the pass already, and end what is served."""
        self._leave()
        self._entries = {}
        if self._stop is not None:
            await self._stop()

    async def release(self) -> None:
        """At the end of the process: the forwarder comes back to whoever listens next."""
        await self.close()


class UnauthenticatedConnections:
    """Those that are here.

    Args:
        from_one_max: Connections at once from one address.
        in_all_max: Connections at once.

    Attributes:
        cut_off: How many had to give way.
    """

    def __init__(self, from_one_max: int, in_all_max: int) -> None:
        self._from_one_max = from_one_max
        self._in_all_max = in_all_max
        self._by_address: dict[str, dict[socket.socket, None]] = {}
        self._all: dict[socket.socket, str] = {}
        self.cut_off = 0

    def __len__(self) -> int:
        """How many are here."""
        return len(self._all)

    @contextmanager
    def one(self, connection: socket.socket, address: str) -> Iterator[None]:
        """Count a connection for as long as the context lasts; one that must give way reads its end."""
        if len(self._by_address.get(address, ())) >= self._from_one_max:
            self._cut_off(next(iter(self._by_address[address])))
        elif len(self._all) >= self._in_all_max:
            self._cut_off(next(iter(self._all)))
        self._all[connection] = address
        self._by_address.setdefault(address, {})[connection] = None
        try:
            yield
        finally:
            self._forget(connection)

    def _cut_off(self, connection: socket.socket) -> None:
        self.cut_off += 1
        self._forget(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _forget(self, connection: socket.socket) -> None:
        address = self._all.pop(connection, None)
        if address is None:
            return
        of_address = self._by_address[address]
        del of_address[connection]
        if not of_address:
            del self._by_address[address]


class ForwarderListener:
    """The one TCP listener for forwarders of portable gates.

    Attributes:
        strangers: Who has connected and not proved to be a forwarder.
        refused: How many were no forwarder, or did not show it in time.
    """

    def __init__(self) -> None:
        self._gates: dict[str, tuple[Secret, PortableGate]] = {}
        self._acceptor: Acceptor | None = None
        self._server: socket.socket | None = None
        self.strangers = UnauthenticatedConnections(UNAUTHENTICATED_PER_ADDRESS_MAX, UNAUTHENTICATED_MAX)
        self.refused = 0

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept forwarders; returns the bound address.

        Args:
            host: An address. With `%` and its interface's name behind it, no connection by another interface: not from
                neighbours of this machine, nor from its other networks, though they may have a route to the address.
            port: 0 for any that is free.

        Raises:
            OSError: The address cannot be bound.
        """
        self._server = server = _listener(host, port)
        self._acceptor = Acceptor("portal", server, self._serve, FORWARDER_CONNECTIONS_MAX)
        self._acceptor.start()
        return host, int(server.getsockname()[1])

    @property
    def listens(self) -> bool:
        """Whether forwarders can come in at all."""
        return self._server is not None

    def register(self, trial_pass: Secret, gate: PortableGate) -> Callable[[], None]:
        """Know a pass from now on; returns what forgets it."""
        name = pass_id(trial_pass.reveal())
        self._gates[name] = (trial_pass, gate)

        def leave() -> None:
            self._gates.pop(name, None)

        return leave

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with self.strangers.one(connection, str(connection.getpeername()[0])):
                async with asyncio.timeout(CLAIM_S_MAX):
                    gate, port, proof = await self._meet(connection)
        except BaseException as exc:
            connection.close()
            if isinstance(exc, OSError):
                self._refuse(str(exc) or type(exc).__name__)
                return
            raise
        await gate.enter(connection, port, proof)

    async def _meet(self, connection: socket.socket) -> tuple[PortableGate, int, bytes]:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        nonce = secrets.token_hex(NONCE_BYTES)
        await asyncio.get_running_loop().sock_sendall(connection, nonce.encode())
        claim = read_claim(await _exactly(connection, CLAIM_BYTES))
        if claim is None:
            raise PermissionError("what connected is no forwarder")
        trial_pass, gate = self._known(claim, nonce)
        return gate, claim.port, portal_proof(claim, trial_pass, nonce)

    def _known(self, claim: Claim, nonce: str) -> tuple[str, PortableGate]:
        known = self._gates.get(claim.pass_id)
        if known is None or not claim_holds(claim, known[0].reveal(), nonce):
            raise PermissionError("the pass is no trial's")
        return known[0].reveal(), known[1]

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if self.refused <= FORWARDERS_LOGGED_MAX:
            _log.warning("portal.refused", why=why)

    async def close(self) -> None:
        """Accept nobody any more; the log says how many were turned away."""
        if self._acceptor is not None:
            await self._acceptor.stop()
        if self._server is not None:
            self._server.close()
        if self.refused:
            _log.warning("portal.closed", refused=self.refused, cut_off=self.strangers.cut_off)


def _listener(host: str, port: int) -> socket.socket:
    address, _, interface = host.partition("%")
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface:
            _stay_on(server, interface)
        server.bind((address, port))
        server.listen(1024)
        server.setblocking(False)
    except BaseException:
        server.close()
        raise
    return server


def _stay_on(server: socket.socket, interface: str) -> None:
    """Take only what arrives by this interface; before Linux 5.7 the kernel lets only root ask for that."""
    with contextlib.suppress(PermissionError):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())


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
