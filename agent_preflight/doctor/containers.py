"""The container engine, and which networks and gates are possible on it: found by starting a gate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agent_preflight.checks.report import CheckLine, passed, warned
from agent_preflight.docker.gates import try_portable_gate, try_shared_gate
from agent_preflight.docker.images import DEFAULT_BASE, LOCAL_BASE, ensure_image
from agent_preflight.engine.client import Engine, on_engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.runs.folder import open_try
from preflight_proxy.core.errors import OperatingError

UNTRIED = (
    warned("userns-remap, rootless", "limits need a delegated control group v2; the gate's handshake decides"),
    warned("SELinux", "may deny the mounted socket; mounts of yours are never relabelled, labels never switched off"),
    warned("Docker Desktop, remote engines", "share no unix socket with us; a portable gate's handshake decides"),
    warned(
        "a second dockerd", "must not run in the network namespace of a live one: it removed the other's bridge (C18)"
    ),
)
"""What nobody has tried, so nothing is promised for it; C18 (one engine)."""

CLIENTS = (
    passed(
        "that read the bundle",
        "tested: curl, Python (urllib, requests, httpx), Node; the same variables are read by pip, git, boto, Deno, Go",
    ),
    warned(
        "with roots of their own",
        "some rustls builds, Java's key store: these need the base URL, in OPENROUTER_BASE_URL",
    ),
    warned(
        "whose image sets variables",
        "these are replaced by ours; to keep yours, set them in `env` to a file that has both",
    ),
)
"""Which clients find the proxy at https://openrouter.ai in a container; C10 (agents with the address built in)."""


def engine_lines() -> list[CheckLine]:
    """Return the findings on the engine. If none answers, it is one warning, whose detail says why."""

    async def read(engine: Engine) -> tuple[str, Mapping[str, Any]]:
        return engine.url, await engine.info()

    try:
        return info_lines(*on_engine(read))
    except DockerError as exc:
        return [warned("Docker", str(exc), "install or start Docker, or use --sandbox process")]


def info_lines(url: str, info: Mapping[str, Any]) -> list[CheckLine]:
    """Return the findings on an engine.

    Args:
        url: Its address.
        info: Its answer to `GET /info`.
    """
    options = [str(option).partition(",")[0].removeprefix("name=") for option in info.get("SecurityOptions") or ()]
    version, system, cgroup = (
        str(info.get(name) or "?") for name in ("ServerVersion", "OperatingSystem", "CgroupVersion")
    )
    if "docker desktop" in system.lower():
        options.append("Docker Desktop")
    untried = [name for name in ("rootless", "userns", "selinux", "Docker Desktop") if name in options]
    return [
        passed("Docker", f"{version} on {system}, control groups v{cgroup}, at {url}"),
        *(warned("Docker", f"{name} is in use, which nobody has tried with this version") for name in untried),
    ]


def try_handshake(base: str | None, *, portable: bool = False) -> float | str:
    """Start a gate as a sealed trial's and see whether its listeners arrive. Builds the gate's image if it is missing.

    Args:
        base: The image to build the gate on; None for the first of the usual ones that is here. Nothing is pulled.
        portable: Try the gate that needs no unix socket shared with the engine.

    Returns:
        The seconds it took, start of the container included; or why it failed, or was not tried.
    """
    bases = (base,) if base is not None else (DEFAULT_BASE, LOCAL_BASE)

    async def handshake(engine: Engine) -> float | str:
        usable = [name for name in bases if await engine.image(name) is not None]
        if not usable:
            advice = f"docker pull {bases[0]}, or name one with python3 in PREFLIGHT_GATE_BASE"
            return f"not tried: no image is here to build the gate on ({advice})"
        image = await ensure_image(engine, "gate", usable[0])
        started_s = time.monotonic()
        with open_try("handshake") as folder:
            if portable:
                await try_portable_gate(engine, image, folder.path)
            else:
                await try_shared_gate(engine, image, folder.path, folder.short_dir)
        return time.monotonic() - started_s

    try:
        return on_engine(handshake)
    except OperatingError as exc:
        return str(exc)


def network_lines(shared: float | str, portable: float | str, *, cookies: bool) -> list[CheckLine]:
    """Return the findings on sealed, bridged and no containers, and on both kinds of gate.

    Args:
        shared: The seconds in which a shared gate's listeners arrived, or why such a gate is not possible.
        portable: The same of a portable gate.
        cookies: The kernel tells network namespaces apart.
    """
    if not cookies and not isinstance(shared, str):
        shared = "the kernel cannot tell network namespaces apart, so the proxy refuses the listeners of a gate"
    gates = [_gate_line("shared gate", shared), _gate_line("portable gate", portable)]
    possible = next((gate for gate in gates if gate.ok), None)
    if possible is None:
        hint = "run agents with --sandbox process: their budgets hold all the same"
        networks = [warned(name, f"not possible: {shared}", hint) for name in ("sealed", "bridge")]
    else:
        networks = [
            passed("sealed", f"possible, with a {possible.name}"),
            passed("bridge", "possible, with the same gate; and any Docker network by its name"),
        ]
    processes = passed("processes", "always possible: agents see what you see, their calls are metered and bounded")
    return [*networks, processes, *gates]


def _gate_line(name: str, handshake: float | str) -> CheckLine:
    if isinstance(handshake, str):
        return warned(name, f"not possible: {handshake}")
    return passed(name, f"possible: its listeners arrived in {handshake:.2f} s (at most 5 s)")
