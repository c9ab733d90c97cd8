"""The container engine, and which networks and gates are possible on it: found by starting a gate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_preflight.checks.report import CheckLine, passed, warned
from agent_preflight.docker.gates import try_portable_gate, try_shared_gate
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


def read_info(url: str, info: Mapping[str, Any]) -> EngineFacts:
    """Read what an engine answers to `GET /info`."""
    options = (str(option) for option in info.get("SecurityOptions") or ())
    security = tuple(option.partition(",")[0].removeprefix("name=") for option in options)
    version, system, cgroup = (
        str(info.get(name) or "?") for name in ("ServerVersion", "OperatingSystem", "CgroupVersion")
    )
    return EngineFacts(version, system, cgroup, security, url)


def engine_lines(found: EngineFacts | str) -> tuple[CheckLine, ...]:
    """Return the findings on the engine."""
    if isinstance(found, str):
        hint = "install or start Docker, or use --sandbox process"
        return (CheckLine(ok=None, name="Docker", detail=found, hint=hint),)
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


PROCESS = "processes"
WITHOUT = "run agents with --sandbox process: their budgets hold all the same"


def network_lines(
    engine: EngineFacts | str, handshake: Handshake, portable: Handshake, cookies: bool
) -> tuple[CheckLine, ...]:
    """Return the findings on sealed, bridged and no containers, and on both kinds of gate.

    Args:
        engine: The engine, or why there is none.
        handshake: How a gate's hand-over went.
        portable: How a portable gate's way to this machine went.
        cookies: The kernel tells network namespaces apart.
    """
    alone = passed(PROCESS, "always possible: agents see what you see, their calls are metered and bounded")
    obstacle = _obstacle(engine, handshake, cookies)
    found = engine if isinstance(engine, str) else None
    gates = (
        _gate_line("shared gate", obstacle, handshake),
        _gate_line("portable gate", found or portable.reason, portable),
    )
    works = next((gate for gate in gates if gate.ok), None)
    if works is None:
        reason = obstacle or portable.reason
        lines = [
            CheckLine(ok=None, name=name, detail=f"not possible: {reason}", hint=WITHOUT)
            for name in ("sealed", "bridge")
        ]
        return (*lines, alone, *gates)
    return (
        passed("sealed", f"possible, with a {works.name}"),
        passed("bridge", "possible, with the same gate; and any Docker network by its name"),
        alone,
        *gates,
    )


def _gate_line(name: str, obstacle: str | None, handshake: Handshake) -> CheckLine:
    if obstacle or handshake.seconds is None:
        return CheckLine(ok=None, name=name, detail=f"not possible: {obstacle or handshake.reason}")
    return passed(name, f"possible: its listeners arrived in {handshake.seconds:.2f} s (at most 5 s)")


def _obstacle(engine: EngineFacts | str, handshake: Handshake, cookies: bool) -> str | None:
    """What is in the way of a gate that hands its listeners over."""
    if isinstance(engine, str):
        return engine
    if not cookies:
        return "the kernel cannot tell network namespaces apart, so the proxy refuses what a gate hands over"
    return handshake.reason if handshake.seconds is None else None


def untried_lines() -> tuple[CheckLine, ...]:
    """Return what nobody has tried, so that no claim is made for it."""
    return tuple(
        warned(name, text)
        for name, text in (
            ("userns-remap, rootless", "limits need a delegated control group v2; the gate's handshake decides"),
            ("SELinux", "may deny the mounted socket; mounts of yours are never relabelled, labels never switched off"),
            (
                "Docker Desktop, remote engines",
                "share no unix socket with us; a portable gate's handshake decides",
            ),
            (
                "a second dockerd",
                "must not run in the network namespace of a live one: it removed the other's bridge (C18)",
            ),
        )
    )


def client_lines() -> tuple[CheckLine, ...]:
    """Return which clients find the proxy at https://openrouter.ai inside a container, and which do not (C10)."""
    tested = (
        "tested: curl, Python (urllib, requests, httpx), Node; the same variables are read by pip, git, boto, Deno, Go"
    )
    own_roots = "some rustls builds, Java's key store: these need the base URL, in OPENROUTER_BASE_URL"
    image = "are replaced by ours; to keep yours, set them in `env` to a file that has both"
    return (
        passed("that read the bundle", tested),
        warned("with roots of their own", own_roots),
        warned("whose image sets variables", f"these {image}"),
    )
