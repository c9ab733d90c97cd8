"""Portable gates: an agent's connections come over TCP, for engines that share no unix socket with the proxy (Docker Desktop).

The trial's forwarder, a container of its own, takes the gate's listeners and opens one TCP connection to the proxy for each
connection that they accept. First both sides prove that they know the trial's pass (`core.gate_proof`); what follows is the
agent's connection, byte for byte. So the account follows from the pass, never from what the agent sends, and a call needs the
account's token besides. A gate serves agents only: the control socket cannot be reached through it.

The connection for port 0, the *watch*, stays open as long as the forwarder has the gate, and beats. The gate is lost when the
watch ends (C4, lost gate) or falls silent: a forwarder that hangs passes nothing on, and its agent would wait for ever.

    WAITING --watch begins--> READY --watch ends, or is silent--> LOST
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from preflight_proxy.base.gate_handshake import authenticate, listen_for_forwarders
from preflight_proxy.core.gate_proof import pass_id
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.shared import GateState
from preflight_proxy.server.listeners import Acceptor, stop_all

FORWARDER_CLAIM_S_MAX = 5.0
"""A forwarder answers the nonce at once."""
UNAUTHENTICATED_PER_ADDRESS_MAX = 128
"""Unauthenticated connections from one address. Some engines have one address for all containers: a larger burst makes forwarders
connect again, no more."""
UNAUTHENTICATED_MAX = 256
"""The same from all addresses; half of the open files that every proxy has beside its trials'."""
FORWARDER_CONNECTIONS_MAX = 4096
"""Watches, unauthenticated connections, and those that were just closed."""
SILENT_S_MAX = 15.0
"""A forwarder beats every 3 s."""
REFUSALS_LOGGED_MAX = 100
"""Refused connections that are logged; all are counted. A client that connects in a loop must not fill the disk."""

_log = structlog.get_logger("preflight_proxy.gates.portable")


class PortableGate:
    """One trial's portable gate.

    Args:
        account: The account that every request through it belongs to.
        trial_pass: The secret that the trial's forwarder proves to know.
        ports: The gate's ports.
        forwarders: Accepts and authenticates the trial's forwarder.
        serve: Starts serving ports without listeners; returns the acceptor of each.
        on_state: Called after each change of `state`.
        silent_s_max: See `SILENT_S_MAX`.
    """

    def __init__(
        self,
        account: str,
        trial_pass: Secret,
        ports: Sequence[int],
        forwarders: ForwarderListener,
        serve: Callable[[Mapping[int, None]], Awaitable[Mapping[int, Acceptor]]],
        on_state: Callable[[GateState], None],
        *,
        silent_s_max: float = SILENT_S_MAX,
    ) -> None:
        self.account = account
        self.trial_pass = trial_pass
        self.state = GateState.WAITING
        self._ports, self._forwarders, self._serve_ports = ports, forwarders, serve
        self._on_state = on_state
        self._silent_s_max = silent_s_max
        self._acceptors: Mapping[int, Acceptor] = {}

    async def open(self) -> None:
        """Serve the forwarder that knows this gate's pass."""
        self._acceptors = await self._serve_ports(dict.fromkeys(self._ports))
        self._forwarders.register(self)

    async def serve(self, connection: socket.socket, port: int, proof: bytes) -> None:
        """Send the proxy's proof and serve an authenticated connection, until another counts it or it ends.

        The connection is closed without an answer if there is no such port, or no watch: its forwarder may connect again.
        """
        if port == 0:
            await self._watch(connection, proof)
            return
        try:
            if port in self._acceptors and self.state is GateState.READY:
                await asyncio.get_running_loop().sock_sendall(connection, proof)
                if (acceptor := self._acceptors.get(port)) is not None:  # not closed meanwhile
                    acceptor.take(connection)
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
            TimeoutError: Nothing came in two successive waits of half the allowed time each. After one alone the proxy itself may
                have stood still.
        """
        loop, missed_count = asyncio.get_running_loop(), 0
        await loop.sock_sendall(connection, proof)
        while missed_count < 2:
            try:
                async with asyncio.timeout(self._silent_s_max / 2):
                    if not await loop.sock_recv(connection, 16):
                        return
                missed_count = 0
            except TimeoutError:
                missed_count += 1
        raise TimeoutError

    def _become(self, state: GateState) -> None:
        self.state = state
        self._on_state(state)

    async def close(self) -> None:
        """Refuse new connections, those that have proved the pass included, and end what is served."""
        self._forwarders.unregister(self)
        acceptors, self._acceptors = self._acceptors, {}
        await stop_all(acceptors.values())

    async def release(self) -> None:
        """Stop serving at the end of the process: the forwarder connects to the proxy that comes next."""
        await self.close()


class UnauthenticatedConnections:
    """Limits unauthenticated connections, per address and in total. When a limit is reached, the oldest one is closed.

    A forwarder authenticates within milliseconds, so a flood of connections can neither fill the limit nor keep it.

    Args:
        per_address_max: Connections at once from one address.
        total_max: Connections at once.

    Attributes:
        closed_count: How many were closed for newer ones.
    """

    def __init__(self, per_address_max: int, total_max: int) -> None:
        self._per_address_max = per_address_max
        self._total_max = total_max
        self._addresses: dict[socket.socket, str] = {}
        self.closed_count = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._addresses)

    @contextmanager
    def one(self, connection: socket.socket, address: str) -> Iterator[None]:
        """Count a connection for as long as the context lasts; one that is closed for a newer one reads its end."""
        same = [other for other, its_address in self._addresses.items() if its_address == address]
        if len(same) >= self._per_address_max:
            self._close(same[0])
        elif len(self._addresses) >= self._total_max:
            self._close(next(iter(self._addresses)))
        self._addresses[connection] = address
        try:
            yield
        finally:
            self._addresses.pop(connection, None)

    def _close(self, connection: socket.socket) -> None:
        self.closed_count += 1
        del self._addresses[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class ForwarderListener:
    """The one TCP listener for the forwarders of all portable gates.

    Attributes:
        unauthenticated: Connections that have not proved a pass yet.
        refused_count: How many proved none, or not in time.
    """

    def __init__(self) -> None:
        self._gates: dict[str, PortableGate] = {}
        self._acceptor: Acceptor | None = None
        self._server: socket.socket | None = None
        self.unauthenticated = UnauthenticatedConnections(UNAUTHENTICATED_PER_ADDRESS_MAX, UNAUTHENTICATED_MAX)
        self.refused_count = 0

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept forwarders; returns the bound address.

        Args:
            host: See `listen_for_forwarders`.
            port: 0 for any that is free.

        Raises:
            OSError: The address cannot be bound.
        """
        self._server = server = listen_for_forwarders(host, port)
        self._acceptor = Acceptor("portal", server, self._serve, FORWARDER_CONNECTIONS_MAX)
        self._acceptor.start()
        return host, int(server.getsockname()[1])

    @property
    def listens(self) -> bool:
        """Whether forwarders can connect at all."""
        return self._server is not None

    def register(self, gate: PortableGate) -> None:
        """Serve whoever proves this gate's pass."""
        self._gates[pass_id(gate.trial_pass.reveal())] = gate

    def unregister(self, gate: PortableGate) -> None:
        """Refuse this gate's pass. Does nothing if it is not registered."""
        self._gates.pop(pass_id(gate.trial_pass.reveal()), None)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with self.unauthenticated.one(connection, str(connection.getpeername()[0])):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(FORWARDER_CLAIM_S_MAX):
                    claim, proof = await authenticate(connection, self._pass_of)
        except BaseException as exc:
            connection.close()
            if isinstance(exc, OSError):
                self.refused_count += 1
                if self.refused_count <= REFUSALS_LOGGED_MAX:
                    _log.warning("portal.refused", why=str(exc) or type(exc).__name__)
                return
            raise
        await self._gates[claim.pass_id].serve(connection, claim.port, proof)

    def _pass_of(self, identity: str) -> Secret | None:
        gate = self._gates.get(identity)
        return None if gate is None else gate.trial_pass

    async def close(self) -> None:
        """Accept no more forwarders; the log says how many connections were refused."""
        if self._acceptor is not None:
            await self._acceptor.stop()
        if self._server is not None:
            self._server.close()
        if self.refused_count:
            _log.warning("portal.closed", refused=self.refused_count, cut_off=self.unauthenticated.closed_count)
