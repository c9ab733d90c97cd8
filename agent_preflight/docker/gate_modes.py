"""Chooses how a run's gates reach the proxy, shared or portable, by starting a gate and waiting for its listeners."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import GATE_PORTS, gate_config
from agent_preflight.docker.labels import TrialLabels, boot_id, this_process
from agent_preflight.docker.portable_gate import Forwarder, ForwarderAddress, forwarder_address
from agent_preflight.engine.client import Engine
from agent_preflight.options.container_options import SEALED
from agent_preflight.options.settings import GateWish
from agent_preflight.sandboxes.interface import ForwarderTarget
from preflight_proxy.base.config import state_dir
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.gate_proof import CLAIM_BYTES, NONCE_BYTES, claim_holds, read_claim
from preflight_proxy.core.secret import Secret

HANDSHAKE_S_MAX = 5.0
"""A gate hands its listeners over in about 0.3 s if the engine shares a unix socket with this machine."""
CLAIM_S_MAX = 1.0
"""A connection that sends nothing must not use up the handshake's time."""
KEPT_MAX = 16
"""How many engines' results are kept."""
KEPT_FILE = "gates.json"

SO_NETNS_COOKIE = 71
"""Linux 5.14 and later: a number that names a socket's network namespace. The proxy takes no listeners without it."""


@dataclass(frozen=True, slots=True)
class GateMode:
    """How a run's gates reach the proxy.

    Attributes:
        portal: Where the proxy listens for forwarders of portable gates; None for shared gates, which hand it their listeners.
        sentence: Why, for a person; empty for shared gates.
    """

    portal: ForwarderAddress | None
    sentence: str = ""

    @property
    def listen_host(self) -> str | None:
        """The address on which the proxy listens for forwarders."""
        return None if self.portal is None else self.portal.listen_host

    @property
    def host(self) -> str | None:
        """The address to which forwarders connect."""
        return None if self.portal is None else self.portal.host


async def choose_gate_mode(engine: Engine, wish: GateWish, gate_image: str, run_dir: Path, short_dir: Path) -> GateMode:
    """Return the gate mode that passes a handshake on this engine.

    The result is kept until the engine's id or version, this machine's boot, the gate image or the wish changes.

    Args:
        engine: Where the gates will be.
        wish: `"auto"` tries a shared gate, then a portable one; `"portable"` tries only that; `"shared"` tries nothing,
            because each trial's gate shows it.
        gate_image: The gate image's id.
        run_dir: The run that the gate is tried for; its sweep finds what a crash leaves.
        short_dir: A private directory with a short path, for a socket.

    Raises:
        OperatingError: No mode that was tried works on this engine.
    """
    if wish == "shared":
        return GateMode(None)
    daemon = (await engine.info()).get("ID")
    key = ":".join((str(daemon), engine.version.version, engine.url, boot_id(), gate_image, wish))
    if (mode := _kept_modes().get(key)) is None:
        mode = await _choose(engine, wish, gate_image, run_dir, short_dir)
        _keep(key, mode)
    return mode


def _kept_modes() -> dict[str, GateMode]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((state_dir() / KEPT_FILE).read_bytes(), type=dict[str, GateMode])
    return {}


def _keep(key: str, mode: GateMode) -> None:
    modes = dict(list(_kept_modes().items())[1 - KEPT_MAX :]) | {key: mode}
    draft = state_dir() / f".{KEPT_FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        state_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(modes))
        draft.replace(state_dir() / KEPT_FILE)


def forget_gate_modes() -> None:
    """Make the next run try its gates again, because a gate did not come although one did before."""
    with contextlib.suppress(OSError):
        (state_dir() / KEPT_FILE).unlink(missing_ok=True)


async def _choose(engine: Engine, wish: GateWish, gate_image: str, run_dir: Path, short_dir: Path) -> GateMode:
    if wish == "portable":
        return GateMode(await try_portable_gate(engine, gate_image, run_dir), "gates are portable, as you wish")
    try:
        if netns_cookie() is None:
            raise OperatingError("the kernel cannot tell network namespaces apart (Linux 5.14 and later does)")
        await try_shared_gate(engine, gate_image, run_dir, short_dir)
    except OperatingError as shared:
        try:
            address = await try_portable_gate(engine, gate_image, run_dir)
        except OperatingError as portable:
            raise OperatingError(f"no gate works on this engine: {shared}; portable: {portable}") from portable
        return GateMode(address, f"gates are portable: {shared}")
    return GateMode(None)


def netns_cookie() -> int | None:
    """Return the cookie of our own network namespace; None if the kernel has none."""
    try:
        with socket.socket() as own:
            return int(struct.unpack("=Q", own.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0])
    except (OSError, struct.error):
        return None


async def try_shared_gate(engine: Engine, gate_image: str, run_dir: Path, short_dir: Path) -> None:
    """Return if a gate on this engine can hand its listeners to a process on this machine.

    Args:
        engine: Where the gate is tried.
        gate_image: The gate image's id.
        run_dir: The run that it is tried for.
        short_dir: A private directory with a short path, for the gate's socket.

    Raises:
        OperatingError: It cannot, or the engine does not start it.
    """
    path = short_dir / "try" / "gate.sock"
    path.parent.mkdir(mode=0o711, exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(1)
        listener.setblocking(False)
        try:
            async with _gate(engine, _labels(run_dir), path, gate_image), asyncio.timeout(HANDSHAKE_S_MAX):
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                with connection:
                    await asyncio.get_running_loop().sock_recv(connection, 1)
        except TimeoutError as exc:
            raise OperatingError("this Docker engine does not share a unix socket with this machine") from exc


async def try_portable_gate(engine: Engine, gate_image: str, run_dir: Path) -> ForwarderAddress:
    """Return where a portable gate's forwarder reached a process on this machine.

    Raises:
        OperatingError: It did not, or the engine does not start it.
    """
    trial_pass, address = Secret(secrets.token_urlsafe(32)), await forwarder_address(engine)
    with _listening(address.listen_host) as listener:
        labels = _labels(run_dir)
        target = ForwarderTarget(address.host, listener.getsockname()[1], trial_pass)
        forwarder = Forwarder(engine, labels, target)
        try:
            await forwarder.open(gate_image, GATE_PORTS)
            async with _gate(engine, labels, None, gate_image), asyncio.timeout(HANDSHAKE_S_MAX):
                while not await _is_forwarder(listener, trial_pass.reveal()):
                    pass
        except TimeoutError as exc:
            raise OperatingError(
                f"a container on the bridge network did not reach this machine at {address.host} within "
                f"{HANDSHAKE_S_MAX:.0f} s; if a firewall is in the way, {address.advice}"
            ) from exc
        finally:
            await forwarder.close()
    return address


async def _is_forwarder(listener: socket.socket, trial_pass: str) -> bool:
    """Return whether the next connection proves that it knows the pass; any container of the bridge network may connect."""
    loop, nonce, received = asyncio.get_running_loop(), secrets.token_hex(NONCE_BYTES), b""
    connection, _ = await loop.sock_accept(listener)
    with connection, contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(CLAIM_S_MAX):
            await loop.sock_sendall(connection, nonce.encode())
            while more := await loop.sock_recv(connection, CLAIM_BYTES - len(received)):
                received += more
    claim = read_claim(received)
    return claim is not None and claim_holds(claim, trial_pass, nonce)


def _listening(host: str) -> socket.socket:
    address, _, interface = host.partition("%")
    try:
        listener = socket.create_server((address, 0))
    except OSError as exc:
        raise OperatingError(f"this machine cannot listen on {host}: {exc}") from exc
    if interface:
        with contextlib.suppress(PermissionError):  # as the proxy does: before Linux 5.7 only root may do it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    listener.setblocking(False)
    return listener


def _labels(run_dir: Path) -> TrialLabels:
    return TrialLabels("handshake", run_dir, "handshake", this_process(), "", secrets.token_hex(6))


@asynccontextmanager
async def _gate(engine: Engine, labels: TrialLabels, path: Path | None, image: str) -> AsyncIterator[None]:
    gate = Container(engine, labels.name("gate"), "a gate that is tried", owns_network=True)
    try:
        await gate.create(gate_config(labels, SEALED, path, image))
        await gate.start()
        yield
    finally:
        await gate.end()
