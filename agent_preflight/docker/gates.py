"""How gates reach the proxy: which mode works on an engine, and the forwarders of portable gates.

A shared gate hands its listeners to the proxy over a unix socket. A portable gate is for engines that share no unix socket with
this machine, such as Docker Desktop. The gate itself stays as it is, without any network if the trial is sealed. It hands its
listeners to its forwarder, a container on the bridge network, over a volume inside the engine. The forwarder connects to the
proxy over TCP, and proves that it knows the trial's pass. An agent has no more network than with a shared gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil

from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import GATE_PORTS, forwarder_config, gate_config
from agent_preflight.docker.labels import TrialLabels, boot_id
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.options.container_options import SEALED
from agent_preflight.options.settings import GateChoice
from agent_preflight.sandboxes.interface import ForwarderTarget, Step
from preflight_proxy.base.atomic_file import replace_file
from preflight_proxy.base.config import state_dir
from preflight_proxy.base.gate_handshake import authenticate, listen_for_forwarders, netns_cookie
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.secret import Secret

HANDSHAKE_S_MAX = 5.0
"""A gate hands its listeners over in about 0.3 s if the engine shares a unix socket with this machine."""
CLAIM_S_MAX = 1.0
"""A connection that sends nothing must not use up the handshake's time."""
KEPT_MAX = 16
"""How many engines' results are kept."""
KEPT_FILE = "gates.json"
HOST_NAME = "host.docker.internal"
"""This machine, for containers of an engine that runs in a virtual machine."""
_BRIDGE_NAME = "com.docker.network.bridge.name"


class GateMode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a run's gates reach the proxy.

    Attributes:
        listen_host: Where the proxy listens for the forwarders of portable gates: never all addresses. `%` and an interface after
            it limit it to what arrives by that. None for shared gates, which hand the proxy their listeners.
        host: The same address as forwarders write it.
        sentence: Why gates are portable, for a person; empty for shared gates.
    """

    listen_host: str | None = None
    host: str | None = None
    sentence: str = ""


async def choose_gate_mode(
    engine: Engine, choice: GateChoice, gate_image: str, run_dir: Path, short_dir: Path
) -> GateMode:
    """Return the gate mode that passes a handshake on this engine.

    The result is kept until the engine's id or version, this machine's boot, the gate image or the choice changes.

    Args:
        engine: Where the gates will be.
        choice: `"auto"` tries a shared gate, then a portable one; `"portable"` tries only that; `"shared"` tries nothing,
            because each trial's gate shows it.
        gate_image: The gate image's id.
        run_dir: The run that the gate is tried for; its sweep finds what a crash leaves.
        short_dir: A private directory with a short path, for a socket.

    Raises:
        OperatingError: No mode that was tried works on this engine.
    """
    if choice == "shared":
        return GateMode()
    daemon = (await engine.info()).get("ID")
    key = ":".join((str(daemon), engine.version.version, engine.url, boot_id(), gate_image, choice))
    if (mode := _kept_modes().get(key)) is None:
        mode = await _choose(engine, choice, gate_image, run_dir, short_dir)
        modes = dict(list(_kept_modes().items())[1 - KEPT_MAX :]) | {key: mode}
        with contextlib.suppress(OSError):
            state_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(state_dir() / KEPT_FILE, msgspec.json.encode(modes))
    return mode


def _kept_modes() -> dict[str, GateMode]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((state_dir() / KEPT_FILE).read_bytes(), type=dict[str, GateMode])
    return {}


def forget_gate_modes() -> None:
    """Make the next run try its gates again: a gate did not hand over its listeners, though an earlier one did."""
    with contextlib.suppress(OSError):
        (state_dir() / KEPT_FILE).unlink(missing_ok=True)


async def _choose(engine: Engine, choice: GateChoice, gate_image: str, run_dir: Path, short_dir: Path) -> GateMode:
    if choice == "portable":
        return await try_portable_gate(engine, gate_image, run_dir, "gates are portable, as you wish")
    try:
        if netns_cookie() is None:
            raise OperatingError("the kernel cannot tell network namespaces apart (Linux 5.14 and later does)")
        await try_shared_gate(engine, gate_image, run_dir, short_dir)
    except OperatingError as shared:
        try:
            return await try_portable_gate(engine, gate_image, run_dir, f"gates are portable: {shared}")
        except OperatingError as portable:
            raise OperatingError(f"no gate works on this engine: {shared}; portable: {portable}") from portable
    return GateMode()


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


async def try_portable_gate(engine: Engine, gate_image: str, run_dir: Path, sentence: str = "") -> GateMode:
    """Return the mode of portable gates if the forwarder of one reaches a process on this machine.

    Args:
        engine: Where the gate is tried.
        gate_image: The gate image's id.
        run_dir: The run that it is tried for.
        sentence: Why portable gates are used, for the mode.

    Raises:
        OperatingError: It does not, or the engine does not start it.
    """
    trial_pass, (listen_host, host) = Secret(secrets.token_urlsafe(32)), await forwarder_address(engine)
    try:
        listener = listen_for_forwarders(listen_host, 0)
    except OSError as exc:
        raise OperatingError(f"this machine cannot listen on {listen_host}: {exc}") from exc
    with listener:
        labels = _labels(run_dir)
        forwarder = Forwarder(engine, labels, ForwarderTarget(host, listener.getsockname()[1], trial_pass))
        try:
            await forwarder.open(gate_image, GATE_PORTS)
            async with _gate(engine, labels, None, gate_image), asyncio.timeout(HANDSHAKE_S_MAX):
                while not await _is_forwarder(listener, trial_pass):
                    pass
        except TimeoutError as exc:
            raise OperatingError(
                f"a container on the bridge network did not reach this machine at {host} within "
                f"{HANDSHAKE_S_MAX:.0f} s; if a firewall is in the way, {firewall_advice(listen_host)}"
            ) from exc
        finally:
            await forwarder.close()
    return GateMode(listen_host, host, sentence)


async def _is_forwarder(listener: socket.socket, trial_pass: Secret) -> bool:
    """Return whether the next connection proves that it knows the pass; any container of the bridge network may connect."""
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    with connection:
        try:
            async with asyncio.timeout(CLAIM_S_MAX):
                await authenticate(connection, lambda _: trial_pass)
        except OSError:
            return False
    return True


def _labels(run_dir: Path) -> TrialLabels:
    return TrialLabels("handshake", run_dir, "handshake")


@asynccontextmanager
async def _gate(engine: Engine, labels: TrialLabels, path: Path | None, image: str) -> AsyncIterator[None]:
    gate = Container(engine, labels.name("gate"), "a gate that is tried", owns_network=True)
    try:
        await gate.create(gate_config(labels, SEALED, path, image))
        await gate.start()
        yield
    finally:
        await gate.end()


class Forwarder:
    """One trial's forwarder, and the volume that it shares with the gate."""

    def __init__(self, engine: Engine, labels: TrialLabels, target: ForwarderTarget) -> None:
        self._engine, self._labels, self._target = engine, labels, target
        self._volume = labels.name("volume")
        self._container = Container(engine, labels.name("forwarder"), "the gate's forwarder", owns_network=True)
        self._has_volume = False

    async def open(self, image: str, ports: Sequence[int]) -> None:
        """Make the volume and start the forwarder, which then waits for the gate.

        Args:
            image: The gate image's id.
            ports: What the gate hands over.

        Raises:
            DockerError: The engine refused; `close` removes what was made.
        """
        self._has_volume = True
        await self._engine.make_volume(self._volume, self._labels.labels("volume"))
        await self._container.create(forwarder_config(self._labels, self._target, image, ports))
        await self._container.start()

    async def close(self) -> dict[str, Step]:
        """Remove forwarder and volume, after the gate is gone; `"ok"` only for what is seen to be gone."""
        step = await self._container.end()
        return {"forwarder": step, "volume": await self._remove_volume() if self._has_volume else "ok"}

    async def _remove_volume(self) -> Step:
        for _ in range(2):  # the second call sees that it is gone
            try:
                await self._engine.remove_volume(self._volume)
            except DockerError as exc:
                return "ok" if exc.failure is Failure.GONE else "unverified"
        return "failed"


async def forwarder_address(engine: Engine) -> tuple[str, str]:
    """Return where the proxy listens for forwarders, and the same address as forwarders write it; see `GateMode`.

    An engine on this machine has its bridge among our interfaces, and containers arrive by that. An engine in a virtual
    machine (Docker Desktop) has not; it carries `host.docker.internal` to our loopback.

    Raises:
        DockerError: The engine has no bridge network, or did not answer.
    """
    options = (await engine.network("bridge")).get("Options") or {}
    interface = str(options.get(_BRIDGE_NAME) or "docker0")
    for entry in psutil.net_if_addrs().get(interface, ()):
        if entry.family == socket.AF_INET:
            return f"{entry.address}%{interface}", entry.address
    return "127.0.0.1", HOST_NAME


def firewall_advice(listen_host: str) -> str:
    """Return what a firewall must allow so that forwarders reach the proxy there."""
    address, _, interface = listen_host.partition("%")
    if not interface:
        return f"let the Docker engine connect to {address}, TCP"
    return (
        f"let it accept TCP from the interface {interface} to {address}, for instance by "
        f"`sudo ufw allow in on {interface} to {address} proto tcp`"
    )
