"""A score's command in a container of its own: no network, no key, the output read-only, the caps of the agents' containers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import CAPABILITIES, NO_NEW_PRIVILEGES, PIDS_MAX
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.docker.sandbox import OUTPUT_LOST, seccomp_profile
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.engine.streams import AttachedStreams, attach
from agent_preflight.options.container_options import DockerArgs, merge
from agent_preflight.sandboxes.interface import Exit, Pipes, Step
from agent_preflight.scoring.command import LAST_SCORE_OUTPUT_S, SHELL

SCORED_OUTPUT = "/workspace/output"
"""Where the command finds the agent's output."""
SCORE_FOLDER = "/run/preflight-score"
"""The fresh empty folder that the command works in."""
SCORE_FOLDER_OPTIONS = "rw,exec,nosuid,nodev,mode=1777,size=1g"
NO_LIMITS = ("Binds", "Mounts", "Tmpfs", "DeviceRequests", "GroupAdd")
"""Options of the agents' containers that give something instead of limiting it."""
ROOT = "0:0"
"""The output belongs to whoever started the run, and is private: in every kind of engine, only root reads it."""


def score_config(
    image: str, command: str, names: Mapping[str, str], output: Path, labels: TrialLabels, docker_args: DockerArgs
) -> dict[str, Any]:
    """Return what creates the container, by C6 (privileges), C7 (system calls) and C8 (no log).

    Args:
        image: The image.
        command: For `/bin/sh -c`.
        names: The trial's variables.
        output: The folder of what the agent wrote.
        labels: Names and labels.
        docker_args: The user's options for the agents' containers. Their limits and their user hold here too.
    """
    host = {
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": [f"seccomp={seccomp_profile()}", NO_NEW_PRIVILEGES],
        "PidsLimit": PIDS_MAX,
        "LogConfig": {"Type": "none"},
        "Mounts": [{"Type": "bind", "Source": str(output), "Target": SCORED_OUTPUT, "ReadOnly": True}],
        "Tmpfs": {SCORE_FOLDER: SCORE_FOLDER_OPTIONS},
        "Init": True,
    }
    limits = docker_args.agent.get("HostConfig") or {}
    merge(host, {name: value for name, value in limits.items() if name not in NO_LIMITS})
    return {
        "Image": image,
        "Labels": labels.labels("score"),
        "HostConfig": host,
        "Env": [f"{name}={value}" for name, value in {**names, "PREFLIGHT_OUTPUT": SCORED_OUTPUT}.items()],
        "Entrypoint": list(SHELL),
        "Cmd": [command],
        "WorkingDir": SCORE_FOLDER,
        "User": docker_args.agent.get("User") or ROOT,
        "OpenStdin": True,
        "StdinOnce": True,
    }


class ScoreContainer:
    """The command in a container.

    Args:
        engine: Where it is made.
        labels: Its name and labels.
        body: What creates it.
    """

    def __init__(self, engine: Engine, labels: TrialLabels, body: Mapping[str, Any]) -> None:
        self._engine, self._body = engine.apart(), body
        self._container = Container(self._engine, labels.name("score"), "the score's container", owns_network=True)
        self._attached: AttachedStreams | None = None

    async def start(self) -> Pipes:
        """Start it.

        Raises:
            DockerError: The engine refused, or did not answer.
        """
        async with self._engine.starts.turn():
            await self._container.create(self._body)
            self._attached = await attach(self._engine, self._container.id)
            await self._container.start()
        return self._attached.pipes

    async def wait(self) -> Exit:
        """Return when it has ended.

        Raises:
            DockerError: Its output was lost while it ran.
        """
        assert self._attached is not None
        if (exit_ := await self._container.until_ended(self._attached.over)) is None:
            raise DockerError(OUTPUT_LOST.replace("agent", "score"), Failure.LOST)
        return exit_

    async def close(self) -> dict[str, Step]:
        """End and remove it; `"ok"` only when it is seen to be gone."""
        step = await self._container.end()
        if self._attached is not None:
            await self._attached.end(LAST_SCORE_OUTPUT_S)
        return {"score": step}
