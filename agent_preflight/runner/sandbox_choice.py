"""Prepares what a run's trials run in: the images, the kind of gate, and what makes a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_preflight.base.config import Environment
from agent_preflight.docker.gate_modes import GateMode, choose_gate_mode
from agent_preflight.docker.images import agents_image, ensure_image
from agent_preflight.docker.sandbox import DockerSandbox
from agent_preflight.engine.client import Engine, Image
from agent_preflight.runs.plan import Surroundings
from agent_preflight.sandboxes.interface import AgentSpec, Sandbox
from agent_preflight.sandboxes.process import ProcessSandbox

_OF_32_BITS = ("386", "arm")
_NO_EXEC = "agents may end with `exec format error`"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run's trials run in.

    Attributes:
        make_sandbox: Makes a trial's sandbox.
        gate: The kind of gate that its trials have; means nothing for processes.
        sentences: What a person should know of it.
        image_env: The variables of the agents' image.
    """

    make_sandbox: Callable[[AgentSpec], Sandbox]
    gate: GateMode = field(default_factory=lambda: GateMode(None))
    sentences: tuple[str, ...] = ()
    image_env: Mapping[str, str] = field(default_factory=dict)


async def prepare(
    engine: Engine | None, around: Surroundings, gate_base: str | None, run_dir: Path, short_dir: Path
) -> Prepared:
    """Return what a run's trials run in; for containers all images are there when this returns.

    Args:
        engine: Where containers are made; None for processes.
        around: What all trials have in common.
        gate_base: What the gate image is built on; None for `PREFLIGHT_GATE_BASE`, else the usual one.
        run_dir: The run's folder.
        short_dir: The run's directory for sockets.

    Raises:
        OperatingError: An image is missing, or no kind of gate works on this engine.
    """
    if engine is None:
        return Prepared(ProcessSandbox)
    image = await agents_image(engine, around.image)
    gate_image = await ensure_image(engine, "gate", gate_base or Environment.read().gate_base)
    gate = await choose_gate_mode(engine, around.gate, gate_image, run_dir, short_dir)
    ports = around.reach.ports
    sentences = tuple(filter(None, (_platform_warning(image, engine, around), gate.sentence)))
    return Prepared(lambda spec: DockerSandbox(spec, engine, gate_image, ports=ports), gate, sentences, image.env)


def _platform_warning(image: Image, engine: Engine, around: Surroundings) -> str:
    """Return a warning if the agents' image is for another platform."""
    theirs, ours = f"{image.os}/{image.architecture}", f"{engine.version.os}/{engine.version.arch}"
    if theirs == ours or around.engine_options.platform is not None:
        return ""
    what = "32-bit programs do not run in a trial" if image.architecture in _OF_32_BITS else _NO_EXEC
    return f"the image {around.image} is for {theirs}, and this engine is {ours}: {what}"
