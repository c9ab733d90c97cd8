"""Which sandbox stands behind a word, and which kind of gate its network is reached through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agent_preflight.config import Environment
from agent_preflight.docker.container import DockerSandbox
from agent_preflight.docker.handshake import GateChoice, GateWish, choose_gate
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


async def gate_choice(kind: SandboxKind, wish: GateWish, run_dir: Path, gate_base: str | None = None) -> GateChoice:
    """Return the kind of gate that a run's trials have (see `choose_gate`); for processes it means nothing.

    Raises:
        OperatingError: No kind of gate works on this engine.
    """
    if kind == "process":
        return GateChoice(None)
    image = await ensure_gate_image(base=gate_base or Environment.read().gate_base)
    return await choose_gate(wish, image, run_dir)
