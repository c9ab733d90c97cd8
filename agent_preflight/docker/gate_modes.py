"""Which kind of gate this engine can have, found by starting one: whether its listeners arrive here, directly or portable."""

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
from agent_preflight.docker.container_config import GATE_PORTS, TrialLabels, gate_config
from agent_preflight.docker.forwarder import Forwarder
from agent_preflight.docker.owner import boot_id, this_process
from agent_preflight.docker.portal import ForwarderAddress, forwarder_address
from agent_preflight.engine.client import Engine
from agent_preflight.options.container_options import SEALED
from agent_preflight.options.settings import GateWish
from agent_preflight.sandboxes.interface import ForwarderTarget
from preflight_proxy.base.config import state_dir
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.gate_proof import CLAIM_BYTES, NONCE_BYTES, claim_holds, read_claim
from preflight_proxy.core.secret import Secret

HANDSHAKE_S_MAX = 5.0
"""A gate hands its listeners over in about 0.3 s where the engine shares a unix socket with this machine."""
STRANGER_S_MAX = 1.0
"""What connects to us and says nothing does not use up the handshake's time."""
KEPT_MAX = 16
"""How many engines' results are kept."""
KEPT_FILE = "gates.json"

SO_NETNS_COOKIE = 71
"""Linux 5.14 and later: a number that names the network namespace of a socket; without it the proxy takes no listeners."""


@dataclass(frozen=True, slots=True)
class GateMode:
    """What kind of gate a run's trials have.

    Attributes:
        portal: Where the proxy listens for forwarders; None for gates that hand their listeners to it.
        sentence: Why, for a person; empty where that goes without saying.
    """

    portal: ForwarderAddress | None
    sentence: str = ""

    @property
    def listen_host(self) -> str | None:
        """The portal's address for the proxy."""
        return None if self.portal is None else self.portal.listen_host

    @property
    def host(self) -> str | None:
        """The portal's address for forwarders."""
        return None if self.portal is None else self.portal.host


async def choose_gate_mode(engine: Engine, wish: GateWish, gate_image: str, run_dir: Path, short_dir: Path) -> GateMode:
    """Return what kind of gate to use: the one that passes a handshake; nothing is guessed.

    The result is kept for the life of the engine: its id, its version, and the boot of this machine.

    Args:
        engine: Where the gates are to be.
        wish: `"auto"` tries a gate that hands over, and takes a portable one if that fails; `"portable"` tries just that;
            `"shared"` tries nothing, because each trial's gate shows it.
        gate_image: The gate image's id.
        run_dir: The run on whose behalf it is tried; its sweep finds what a crash leaves.
        short_dir: A private directory with a short path, for a socket.

    Raises:
        OperatingError: No kind that was tried works on this engine.
    """
    if wish == "shared":
        return GateMode(None)
    daemon = (await engine.info()).get("ID")
    key = ":".join((str(daemon), engine.version.version, engine.url, boot_id(), gate_image, wish))
    if (choice := _kept().get(key)) is None:
        choice = await _choose(engine, wish, gate_image, run_dir, short_dir)
        _keep(key, choice)
    return choice


def _kept() -> dict[str, GateMode]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((state_dir() / KEPT_FILE).read_bytes(), type=dict[str, GateMode])
    return {}


def _keep(key: str, choice: GateMode) -> None:
    choices = dict(list(_kept().items())[1 - KEPT_MAX :]) | {key: choice}
    draft = state_dir() / f".{KEPT_FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        state_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(choices))
        draft.replace(state_dir() / KEPT_FILE)


def forget_gate_modes() -> None:
    """Let the next run shake hands again: a gate did not come although one did before."""
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
            place = await try_portable_gate(engine, gate_image, run_dir)
        except OperatingError as portable:
            raise OperatingError(f"no gate works on this engine: {shared}; portable: {portable}") from portable
        return GateMode(place, f"gates are portable: {shared}")
    return GateMode(None)


def netns_cookie() -> int | None:
    """Return the cookie of our own network namespace; None where the kernel tells none."""
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
        run_dir: The run on whose behalf it is tried.
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
            async with _gate(engine, _tag(run_dir), path, gate_image), asyncio.timeout(HANDSHAKE_S_MAX):
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                with connection:
                    await asyncio.get_running_loop().sock_recv(connection, 1)
        except TimeoutError as exc:
            raise OperatingError("this Docker engine does not share a unix socket with this machine") from exc


async def try_portable_gate(engine: Engine, gate_image: str, run_dir: Path) -> ForwarderAddress:
    """Return where a portable gate's forwarder reaches a process on this machine, having seen it.

    Raises:
        OperatingError: It does not, or the engine does not start it.
    """
    trial_pass, place = Secret(secrets.token_urlsafe(32)), await forwarder_address(engine)
    with _listening(place.listen_host) as listener:
        tag = _tag(run_dir)
        forwarder = Forwarder(engine, tag, ForwarderTarget(place.host, listener.getsockname()[1], trial_pass))
        try:
            await forwarder.open(gate_image, GATE_PORTS)
            async with _gate(engine, tag, None, gate_image), asyncio.timeout(HANDSHAKE_S_MAX):
                while not await _is_forwarder(listener, trial_pass.reveal()):
                    pass
        except TimeoutError as exc:
            raise OperatingError(
                f"a container on the bridge network did not reach this machine at {place.host} within "
                f"{HANDSHAKE_S_MAX:.0f} s; if a firewall is in the way, {place.advice}"
            ) from exc
        finally:
            await forwarder.close()
    return place


async def _is_forwarder(listener: socket.socket, trial_pass: str) -> bool:
    """Tell whether what connects next knows the pass; anybody of the bridge network may connect."""
    loop, nonce, said = asyncio.get_running_loop(), secrets.token_hex(NONCE_BYTES), b""
    connection, _ = await loop.sock_accept(listener)
    with connection, contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(STRANGER_S_MAX):
            await loop.sock_sendall(connection, nonce.encode())
            while more := await loop.sock_recv(connection, CLAIM_BYTES - len(said)):
                said += more
    claim = read_claim(said)
    return claim is not None and claim_holds(claim, trial_pass, nonce)


def _listening(host: str) -> socket.socket:
    address, _, interface = host.partition("%")
    try:
        listener = socket.create_server((address, 0))
    except OSError as exc:
        raise OperatingError(f"this machine cannot listen on {host}: {exc}") from exc
    if interface:
        with contextlib.suppress(
            PermissionError
        ):  # as the proxy's portal: before Linux 5.7 root alone may ask for that
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    listener.setblocking(False)
    return listener


def _tag(run_dir: Path) -> TrialLabels:
    return TrialLabels("handshake", run_dir, "handshake", this_process(), "", secrets.token_hex(6))


@asynccontextmanager
async def _gate(engine: Engine, tag: TrialLabels, path: Path | None, image: str) -> AsyncIterator[None]:
    gate = Container(engine, tag.name("gate"), "a gate that is tried", owns_network=True)
    try:
        await gate.create(gate_config(tag, SEALED, path, image))
        await gate.start()
        yield
    finally:
        await gate.end()
