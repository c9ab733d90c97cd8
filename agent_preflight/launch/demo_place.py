"""Where the demo's agents run: in containers if this machine can, else as processes; and how we know."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent_preflight.docker.gates import choose_gate_mode
from agent_preflight.docker.images import DEFAULT_BASE, context_dir, ensure_image, missing_base
from agent_preflight.engine.client import Engine
from agent_preflight.options.settings import SandboxKind
from agent_preflight.runs.folder import open_try
from preflight_proxy.core.errors import ConfigError, OperatingError

DemoSandboxChoice = Literal["auto", "docker", "process"]

LOCAL_BASE = "local/python:base"
"""An image of plain Python that machines without a registry build for themselves."""

IN_CONTAINERS = "Agents run in containers, sealed: no network but the proxy, no key but a trial token."
AS_PROCESSES = (
    "Agents run as processes of this machine: their budgets hold all the same, because they have no key but a trial "
    "token, but they see what you may see."
)


@dataclass(frozen=True, slots=True)
class DemoPlace:
    """Where agents run.

    Attributes:
        sandbox: In what.
        image: The demo image's id, empty for processes.
        base: What our images are built on, None for processes.
        command: What comes before an agent's arguments.
        sentence: What that means, for a person.
    """

    sandbox: SandboxKind
    image: str
    base: str | None
    command: tuple[str, ...]
    sentence: str


async def choose_place(wish: DemoSandboxChoice, base: str | None) -> DemoPlace:
    """Return where the demo's agents run. Nothing is ever pulled.

    Args:
        wish: `"auto"` takes containers where they work.
        base: The image to build on; None for the first of `DEFAULT_BASE`, `LOCAL_BASE` that is here.

    Raises:
        OperatingError: Containers were wished for and do not work here.
    """
    if wish == "process":
        return _processes("as --sandbox process asks")
    try:
        return await _containers(base)
    except OperatingError as exc:
        if wish == "docker":
            raise
        return _processes(str(exc))


def _processes(reason: str) -> DemoPlace:
    script = context_dir("demo") / "agent.py"
    return DemoPlace("process", "", None, (sys.executable, str(script)), f"{AS_PROCESSES} ({reason})")


async def _containers(base: str | None) -> DemoPlace:
    async with Engine.open() as engine:
        found = await _present(engine, (base,) if base else (DEFAULT_BASE, LOCAL_BASE))
        image, gate = await ensure_image(engine, "demo", found), await ensure_image(engine, "gate", found)
        with open_try("handshake") as folder:
            await choose_gate_mode(engine, "auto", gate, folder.path, folder.short_dir)
    return DemoPlace("docker", image, found, (), IN_CONTAINERS)


async def _present(engine: Engine, bases: Sequence[str]) -> str:
    for base in bases:
        if await engine.image(base) is not None:
            return base
    told = await missing_base(engine, "demo", bases[0])
    raise ConfigError(f"{told} Or run it without containers: --sandbox process. Nothing was spent.")
