"""Which kind of gate this engine can have, found by starting one: whether its listeners arrive here, directly or portable."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent_preflight.docker.argv import GATE_PORTS, SEALED, Tag
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.ending import remove_container
from agent_preflight.docker.forwarder import Forwarder
from agent_preflight.docker.gate import create_gate, start_gate
from agent_preflight.docker.owner import this_process
from agent_preflight.docker.portal import PortalPlace, portal_place
from agent_preflight.sandbox import PortalKey
from preflight_proxy.core.portal_proof import CLAIM_BYTES, NONCE_BYTES, claim_holds, read_claim
from preflight_proxy.core.secret import Secret
from preflight_proxy.errors import OperatingError

GateWish = Literal["auto", "shared", "portable"]
HANDSHAKE_S_MAX = 5.0
"""A gate hands its listeners over in about 0.3 s where the engine shares a unix socket with this machine."""
STRANGER_S_MAX = 1.0
"""What connects to us and says nothing does not use up the handshake's time."""

SO_NETNS_COOKIE = 71
"""Linux 5.14 and later: a number that names the network namespace of a socket; without it the proxy takes no listeners."""


@dataclass(frozen=True, slots=True)
class GateChoice:
    """What kind of gate a run's trials have.

    Attributes:
        portal: Where the proxy listens for forwarders; None for gates that hand their listeners to it.
        sentence: Why, for a person; empty where that goes without saying.
    """

    portal: PortalPlace | None
    sentence: str = ""

    @property
    def listen_host(self) -> str | None:
        """The portal's address for the proxy."""
        return None if self.portal is None else self.portal.listen_host

    @property
    def host(self) -> str | None:
        """The portal's address for forwarders."""
        return None if self.portal is None else self.portal.host


_chosen: dict[tuple[GateWish, str, str], GateChoice] = {}
"""What this process has found out, by wish, image and engine: an engine does not change while we watch it."""


async def choose_gate(wish: GateWish, gate_image: str, run_dir: Path, *, executable: str = "docker") -> GateChoice:
    """Return what kind of gate to use, once found out for this process: the one that passes a handshake; nothing is guessed.

    Args:
        wish: `"auto"` tries a gate that hands over, and takes a portable one if that fails; `"portable"` tries just that;
            `"shared"` tries nothing, because each trial's gate shows it.
        gate_image: The gate image's id.
        run_dir: The run on whose behalf it is tried; its sweep finds what a crash leaves.
        executable: The docker command.

    Raises:
        OperatingError: No kind that was tried works on this engine.
    """
    key = (wish, gate_image, executable)
    if key not in _chosen:
        _chosen[key] = await _choose(wish, gate_image, run_dir, executable)
    return _chosen[key]


async def _choose(wish: GateWish, gate_image: str, run_dir: Path, executable: str) -> GateChoice:
    if wish == "shared":
        return GateChoice(None)
    if wish == "portable":
        place = await shake_hands_portable(gate_image, run_dir=run_dir, executable=executable)
        return GateChoice(place, "gates are portable, as you wish")
    try:
        if netns_cookie() is None:
            raise OperatingError("the kernel cannot tell network namespaces apart (Linux 5.14 and later does)")
        await shake_hands(gate_image, run_dir=run_dir, executable=executable)
    except OperatingError as shared:
        try:
            place = await shake_hands_portable(gate_image, run_dir=run_dir, executable=executable)
        except OperatingError as portable:
            raise OperatingError(f"no gate works on this engine: {shared}; portable: {portable}") from portable
        return GateChoice(place, f"gates are portable: {shared}")
    return GateChoice(None)


def netns_cookie() -> int | None:
    """Return the cookie of our own network namespace; None where the kernel tells none."""
    try:
        with socket.socket() as own:
            return int(struct.unpack("=Q", own.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0])
    except (OSError, struct.error):
        return None


async def shake_hands(gate_image: str, *, run_dir: Path | None = None, executable: str = "docker") -> None:
    """Return if a gate on this engine can hand its listeners to a process on this machine.

    Raises:
        OperatingError: It cannot, or the engine does not start it.
    """
    loop = asyncio.get_running_loop()
    with _private_directory() as directory:
        (directory / "g").mkdir(mode=0o711)
        path = directory / "g" / "gate.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(1)
            listener.setblocking(False)
            async with _gate(Docker(executable), _tag(run_dir or directory), path, gate_image):
                try:
                    async with asyncio.timeout(HANDSHAKE_S_MAX):
                        connection, _ = await loop.sock_accept(listener)
                        with connection:
                            await loop.sock_recv(connection, 1)
                except TimeoutError as exc:
                    raise OperatingError("this Docker engine does not share a unix socket with this machine") from exc


async def shake_hands_portable(
    gate_image: str, *, run_dir: Path | None = None, executable: str = "docker"
) -> PortalPlace:
    """Return where a portable gate's forwarder reaches a process on this machine, having seen it.

    Raises:
        OperatingError: It does not, or the engine does not start it.
    """
    docker, trial_pass = Docker(executable), Secret(secrets.token_urlsafe(32))
    place = await portal_place(docker)
    with _private_directory() as directory, _listening(place.listen_host) as listener:
        tag = _tag(run_dir or directory)
        forwarder = Forwarder(docker, tag, PortalKey(place.host, listener.getsockname()[1], trial_pass))
        try:
            await forwarder.open(gate_image, GATE_PORTS)
            async with _gate(docker, tag, None, gate_image), asyncio.timeout(HANDSHAKE_S_MAX):
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


@contextlib.contextmanager
def _private_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ap-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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


def _tag(run_dir: Path) -> Tag:
    return Tag("handshake", run_dir, "handshake", this_process(), "", secrets.token_hex(6))


@asynccontextmanager
async def _gate(docker: Docker, tag: Tag, path: Path | None, image: str) -> AsyncIterator[None]:
    gate_id = await create_gate(docker, tag, SEALED, path, image, (), GATE_PORTS)
    try:
        await start_gate(docker, gate_id)
        yield
    finally:
        with contextlib.suppress(OperatingError):
            await remove_container(docker, gate_id)
