"""Where an agent runs: one interface for containers and for plain processes.

A trial drives a sandbox through six calls, always in this order: `create`, `start`, then (`wait` | `kill`), `keep`, `close`.
`kill` and `close` may come at any time, also before `create` has returned, and more than once.
"""

from __future__ import annotations

from asyncio import StreamReader
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from agent_preflight.options.container_options import DockerArgs
from agent_preflight.sandboxes.kept_output import KEEP_OFF, KeptOutput, OutputPolicy
from preflight_proxy.core.secret import Secret

Step = Literal["ok", "unverified", "failed"]
"""How one clean-up step ended: done and seen to be done; perhaps done; known not to be done."""


class ForwarderTarget(msgspec.Struct, frozen=True):
    """How a portable gate's forwarder reaches the proxy.

    Attributes:
        host: Where the proxy listens for forwarders, seen from a container.
        port: The port there.
        trial_pass: The secret of this trial's gate; it is of no use for anything else.
    """

    host: str
    port: int
    trial_pass: Secret


class AgentSpec(msgspec.Struct, frozen=True):
    """What is needed to run one agent, whatever it runs in.

    Attributes:
        run_id: The run's id, in full.
        alias: The trial's name within its run.
        run_dir: Absolute directory of the run.
        image: Image name or id; unused by the process sandbox.
        command: Arguments after the image (its entrypoint's arguments); the whole command line for the process sandbox.
        env: Environment of the agent. Never holds a real key: `OPENROUTER_API_KEY` in it is a trial token.
        network: `"sealed"`, `"bridge"` or a Docker network's name.
        workspace_path: Directory inside the container that gets the `budget.txt` link (C16).
        budget_dir: Host directory that holds `budget.txt`; mounted read-only at `/run/preflight`.
        gate_socket: Unix socket on which the proxy waits for this trial's gate; None for the process sandbox and portable gates.
        portal: How the forwarder of a portable gate reaches the proxy; None for other gates.
        output: What is kept of what the agent writes; means nothing for the process sandbox, whose files are here already.
        docker_args: The user's mounts, limits and other options for the engine (C9).
        services: Names that lead to the gate inside a container, each with the `host:port` of its service on the host.
    """

    run_id: str
    alias: str
    run_dir: Path
    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    network: str
    workspace_path: str
    budget_dir: Path
    gate_socket: Path | None
    docker_args: DockerArgs = msgspec.field(default_factory=DockerArgs)
    services: Mapping[str, str] = {}
    portal: ForwarderTarget | None = None
    output: OutputPolicy = msgspec.field(default_factory=lambda: OutputPolicy(unkept=KEEP_OFF))


class Exit(msgspec.Struct, frozen=True):
    """How an agent ended by itself.

    Attributes:
        code: Exit code, or None where the engine lost it.
        out_of_memory: True if the engine killed it for passing its memory limit.
        bad_system_call: True if a container ended by SIGSYS, as 32-bit programs do (C7).
    """

    code: int | None
    out_of_memory: bool = False
    bad_system_call: bool = False


class AgentInput(Protocol):
    """An agent's standard input, which stays open until it is closed."""

    def write(self, data: bytes) -> None:
        """Send this, in order, without waiting for the agent to read it."""

    def close(self) -> None:
        """End the input after what was written."""


class Pipes(msgspec.Struct, frozen=True):
    """The agent's standard streams. Both readers must be read without pause, or the agent stalls."""

    stdin: AgentInput
    stdout: StreamReader
    stderr: StreamReader


class Sandbox(Protocol):
    """One agent's place to run."""

    async def create(self) -> None:
        """Make everything that the agent needs; it does not run yet.

        Raises:
            OperatingError: The engine refused or did not answer; `close` removes what was made.
        """

    async def start(self) -> Pipes:
        """Start the agent and attach its standard streams.

        Raises:
            OperatingError: It did not start.
        """

    async def wait(self) -> Exit:
        """Return when the agent has ended by itself, or is gone.

        Raises:
            OperatingError: Its output was lost while it ran, so it has been ended.
        """

    async def kill(self) -> Step:
        """End the agent: TERM, half a second, KILL; `"ok"` only when it is seen to run no more."""

    async def keep(self, folder: Path) -> KeptOutput:
        """Copy what the agent wrote into a folder of this machine; it has been ended. Its container stays until `close`.

        Raises:
            OperatingError: It could not be copied. The container stays, also after `close`, for a sweep to copy from.
        """

    async def close(self) -> dict[str, Step]:
        """Remove all that `create` made (container, gate, files), after the agent is gone; step name to result."""
