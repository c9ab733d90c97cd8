"""Which sandbox stands behind a word."""

from __future__ import annotations

from collections.abc import Callable

from agent_preflight.config import Environment
from agent_preflight.docker.container import DockerSandbox
from agent_preflight.docker.images import ensure_gate_image
from agent_preflight.process import ProcessSandbox
from agent_preflight.runner.agent_env import GATE_PORT
from agent_preflight.runner.plan import SandboxKind
from agent_preflight.runner.trust import TLS_PORT
from agent_preflight.sandbox import AgentSpec, Sandbox


async def sandbox_maker(kind: SandboxKind, gate_base: str | None = None) -> Callable[[AgentSpec], Sandbox]:
    """Return what makes a trial's sandbox; for containers the gate image is there when this returns.

    Args:
        kind: What agents run in.
        gate_base: What the gate image is built on; None for `PREFLIGHT_GATE_BASE`, else the usual one.

    Raises:
        DockerError: There is no engine, or the gate image cannot be built.
    """
    if kind == "process":
        return ProcessSandbox
    image = await ensure_gate_image(base=gate_base or Environment.read().gate_base)
    return lambda spec: DockerSandbox(spec, gate_image=image, ports=(GATE_PORT, TLS_PORT))
