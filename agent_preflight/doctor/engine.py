"""The container engine: which one answers, what it is, and whether a gate on it can hand its listeners to this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_preflight.checks.line import Line, passed, warned
from agent_preflight.docker.gate_modes import try_portable_gate, try_shared_gate
from agent_preflight.docker.images import DEFAULT_BASE, ensure_image
from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.launch.demo_place import LOCAL_BASE
from agent_preflight.runs.folder import open_try
from preflight_proxy.core.errors import OperatingError


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself.

    Attributes:
        version: Its version.
        system: The operating system that it says it runs on.
        cgroup: Version of its control groups.
        security: Names of its security options: `seccomp`, `rootless`, `userns`, `selinux`, ...
        url: Where it is.
    """

    version: str
    system: str
    cgroup: str
    security: tuple[str, ...] = ()
    url: str = ""

    @property
    def untried(self) -> tuple[str, ...]:
        """What about it nobody has tried."""
        found = [name for name in ("rootless", "userns", "selinux") if name in self.security]
        return (*found, *(["Docker Desktop"] if "docker desktop" in self.system.lower() else []))


@dataclass(frozen=True, slots=True)
class Handshake:
    """How the attempt to hand listeners over went.

    Attributes:
        seconds: What it took, start of the container included; None if it failed.
        reason: Why it failed, or was not tried.
    """

    seconds: float | None
    reason: str = ""


def look_for_engine() -> EngineFacts | str:
    """Return what the engine that answers says of itself, or why there is none that is used."""

    async def asked(engine: Engine) -> EngineFacts:
        return read_info(engine.url, await engine.info())

    try:
        return on_engine(asked)
    except DockerError as exc:
        return str(exc)


def read_info(url: str, told: Mapping[str, Any]) -> EngineFacts:
    """Read what an engine answers to `GET /info`."""
    security = tuple(_security_name(str(option)) for option in told.get("SecurityOptions") or ())
    version, system, cgroup = (
        str(told.get(name) or "?") for name in ("ServerVersion", "OperatingSystem", "CgroupVersion")
    )
    return EngineFacts(version, system, cgroup, security, url)


def _security_name(option: str) -> str:
    return option.partition(",")[0].removeprefix("name=")


def engine_lines(found: EngineFacts | str) -> tuple[Line, ...]:
    """Return the findings on the engine."""
    if isinstance(found, str):
        hint = "install or start Docker, or use --sandbox process"
        return (Line(ok=None, name="Docker", detail=found, hint=hint),)
    engine = passed("Docker", f"{found.version} on {found.system}, control groups v{found.cgroup}, at {found.url}")
    untried = (f"{each} is in use, which nobody has tried with this version" for each in found.untried)
    return (engine, *(warned("Docker", text) for text in untried))


def try_handshake(base: str | None, *, portable: bool = False) -> Handshake:
    """Start a gate as a sealed trial's and see whether its listeners arrive; builds the gate's image if need be.

    Args:
        base: The image to build the gate on; None for the first of the usual ones that is here. Nothing is pulled.
        portable: Try the gate that needs no unix socket shared with the engine.
    """
    bases = (base,) if base is not None else (DEFAULT_BASE, LOCAL_BASE)

    async def tried(engine: Engine) -> Handshake:
        found = [each for each in bases if await engine.image(each) is not None]
        if not found:
            return Handshake(None, _no_base(bases))
        image = await ensure_image(engine, "gate", found[0])
        began_s = time.monotonic()
        with open_try("handshake") as folder:
            if portable:
                await try_portable_gate(engine, image, folder.path)
            else:
                await try_shared_gate(engine, image, folder.path, folder.short_dir)
        return Handshake(time.monotonic() - began_s)

    try:
        return on_engine(tried)
    except OperatingError as exc:
        return Handshake(None, str(exc))


def _no_base(bases: Sequence[str]) -> str:
    advice = f"docker pull {bases[0]}, or name one with python3 in PREFLIGHT_GATE_BASE"
    return f"not tried: no image is here to build the gate on ({advice})"
