"""The container engine: which one answers, what it is, and whether a gate on it can hand its listeners to this machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent_preflight import commands
from agent_preflight.checks.line import Line, passed, warned
from agent_preflight.demo_place import LOCAL_BASE
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.engines import TRIED, Kind
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.handshake import shake_hands, shake_hands_portable
from agent_preflight.docker.images import DEFAULT_BASE, ensure_gate_image, image_exists
from preflight_proxy.errors import OperatingError

CALL_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine says of itself.

    Attributes:
        kind: Whose it is.
        version: Its version.
        system: The operating system that it says it runs on.
        cgroup: Version of its control groups.
        security: Names of its security options: `seccomp`, `rootless`, `userns`, `selinux`, ...
    """

    version: str
    system: str
    cgroup: str
    security: tuple[str, ...] = ()
    kind: Kind = Kind.DOCKER

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


def look_for_engine(executable: str = "docker") -> Engine | str:
    """Return the engine that answers, or why there is none, or none that is used."""
    try:
        read = read_podman_info if Docker(executable).is_podman else read_info
    except DockerError as exc:
        return str(exc)
    match commands.run([executable, "info", "--format", "{{json .}}"], timeout_s=CALL_S_MAX):
        case commands.Finished(stdout=text, stderr=complaint):
            return read(text) or (complaint.splitlines() or ["no engine answers"])[-1][:200]
        case commands.NotInstalled():
            return f"there is no command `{executable}`"
        case commands.TimedOut():
            return f"the engine does not answer within {CALL_S_MAX:.0f} s"


def read_info(text: str) -> Engine | None:
    """Read what `docker info` prints; None if no engine's version is in it."""
    try:
        told: dict[str, Any] = json.loads(text.splitlines()[0])
        security = tuple(_security_name(str(option)) for option in told.get("SecurityOptions") or ())
        version = str(told.get("ServerVersion") or "")
    except (ValueError, IndexError, AttributeError):
        return None
    system, cgroup = str(told.get("OperatingSystem") or "?"), str(told.get("CgroupVersion") or "?")
    return Engine(version, system, cgroup, security) if version else None


def read_podman_info(text: str) -> Engine | None:
    """Read what `podman info` prints; None if its version is not in it."""
    try:
        told: dict[str, Any] = json.loads(text)
        host, version = told["host"], str(told["version"]["Version"])
        system = f"{host['distribution']['distribution']} {host['distribution']['version']}"
        security = ("selinux",) if host["security"]["selinuxEnabled"] else ()
        return Engine(version, system, str(host["cgroupVersion"]).removeprefix("v"), security, Kind.PODMAN)
    except (ValueError, KeyError, TypeError):
        return None


def _security_name(option: str) -> str:
    return option.partition(",")[0].removeprefix("name=")


def engine_lines(found: Engine | str, podman: str | None) -> tuple[Line, ...]:
    """Return the findings on the engine and on podman's version, None if it is not there."""
    lines: list[Line] = []
    if isinstance(found, Engine):
        name = found.kind.value
        lines.append(passed(name, f"{found.version} on {found.system}, control groups v{found.cgroup}"))
        lines += [warned(name, f"{each} is in use, which nobody has tried with this version") for each in found.untried]
    else:
        lines.append(
            Line(ok=None, name="Docker", detail=found, hint="install or start Docker, or use --sandbox process")
        )
    if podman is not None and not (isinstance(found, Engine) and found.kind is Kind.PODMAN):
        lines.append(warned("Podman", f"{podman} is here; {_offer(podman)}"))
    return tuple(lines)


def _offer(podman: str) -> str:
    if podman.split(".")[:2] == TRIED.split("."):
        return "PREFLIGHT_ENGINE=podman runs trials on it, as root"
    return f"it is not used, for our container tests have passed on {TRIED} alone"


def podman_version() -> str | None:
    """Return podman's version; None if it is not installed."""
    match commands.run(["podman", "--version"], timeout_s=CALL_S_MAX):
        case commands.Finished(code=0, stdout=text):
            return text.split()[-1] if text else "?"
    return None


def try_handshake(base: str | None, *, portable: bool = False) -> Handshake:
    """Start a gate as a sealed trial's and see whether its listeners arrive; builds the gate's image if need be.

    Args:
        base: The image to build the gate on; None for the first of the usual ones that is here. Nothing is pulled.
        portable: Try the gate that needs no unix socket shared with the engine.
    """
    bases = (base,) if base is not None else (DEFAULT_BASE, LOCAL_BASE)
    found = next((each for each in bases if image_exists(each)), None)
    if found is None:
        return Handshake(None, _no_base(bases))
    try:
        return Handshake(asyncio.run(_timed(found, portable=portable)))
    except OperatingError as exc:
        return Handshake(None, str(exc))


async def _timed(base: str, *, portable: bool) -> float:
    image = await ensure_gate_image(base=base)
    began_s = time.monotonic()
    await (shake_hands_portable if portable else shake_hands)(image)
    return time.monotonic() - began_s


def _no_base(bases: Sequence[str]) -> str:
    advice = f"docker pull {bases[0]}, or name one with python3 in PREFLIGHT_GATE_BASE"
    return f"not tried: no image is here to build the gate on ({advice})"
