"""Which sandbox stands behind a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_preflight.config import Environment
from agent_preflight.docker.container import DockerSandbox
from agent_preflight.docker.images import ensure_gate_image
from agent_preflight.process import ProcessSandbox
from agent_preflight.runner.plan import SandboxKind
from agent_preflight.runner.reach import Reach
from agent_preflight.sandbox import AgentSpec, Sandbox


async def sandbox_maker(
    kind: SandboxKind, gate_base: str | None = None, ports: Sequence[int] = Reach().ports
) -> Callable[[AgentSpec], Sandbox]:
    """Return what makes a trial's sandbox; for containers the gate image is there when this returns.

    Args:
        kind: What agents run in.
        ports: What the gate opens, in the order of the hand-over.
        gate_base: What the gate image is built on; None for `PREFLIGHT_GATE_BASE`, else the usual one.

    Raises:
        DockerError: There is no engine, or the gate image cannot be built.
    """
    if kind == "process":
        return ProcessSandbox
    image = await ensure_gate_image(base=gate_base or Environment.read().gate_base)
    return lambda spec: DockerSandbox(spec, gate_image=image, ports=ports)
