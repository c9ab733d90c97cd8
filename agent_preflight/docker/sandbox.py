"""The sandbox made of containers: a gate that owns the network, and the agent that joins it.

C1 (the gate container), C11 (one step at a time) and C12 (ending a container) give this order:

create:  gate created and started, agent created, budget link placed    nothing of the agent runs
start:   attached, then started                                         the agent runs, and its streams are ours
wait:    the engine's `wait` is the signal, an inspection the proof    the end of its output is neither
kill:    TERM, half a second, KILL, seen to be over                     at any time, also before `create` is done
keep:    the output folder copied                                       from the stopped container
close:   agent removed and gone, then gate gone                         the gate stays if the agent may still run

A portable gate has a forwarder, made before it and removed after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent_preflight.docker.agent_files import LinkPlace, keep, link_copies, place_link
from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import (
    GATE_PORTS,
    agent_config,
    check_network,
    gate_config,
)
from agent_preflight.docker.gates import Forwarder
from agent_preflight.docker.images import agents_image
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.docker.mounts import check_mounts, targets
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import UNKNOWN, DockerError, Failure
from agent_preflight.engine.streams import AttachedStreams, attach
from agent_preflight.environment.variables import CONTAINER_BUDGET_FILE
from agent_preflight.sandboxes.interface import AgentSpec, Exit, Pipes, Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from preflight_proxy.core.errors import ConfigError

CREATE_ENDS_S_MAX = 5.0
"""How long an end waits for a `create` that is running; after that it looks for the container by its name."""
CONTAINER_LAST_OUTPUT_S = 1.0
"""How long the rest of an agent's output may take once its container is gone."""
OUTPUT_LOST = "the connection that carried the agent's output was lost, so the agent was ended"
NOT_OF_INIT = {"ptrace": 1, "process_vm_writev": 0}
"""Calls that could stop a container's first process, whose end is the container's; each with the argument that names a process."""
NOT_STARTED = "The agent did not start, so this trial spent nothing."
PERHAPS_STARTED = "The agent may have started: its account is frozen now, and the summary says what it spent."


@functools.cache
def seccomp_profile() -> str:
    """Return the system calls that agents may make, as the engine takes them (C7)."""
    profile = json.loads(Path(__file__).with_name("seccomp.json").read_text("utf-8"))
    profile["syscalls"] += [rule for name, index in NOT_OF_INIT.items() for rule in _but_init(name, index)]
    return json.dumps(profile)


def _but_init(name: str, index: int) -> Iterator[dict[str, Any]]:
    """Allow a call unless the low 32 bits of an argument, which is all that the kernel takes of a process id, are 1.

    A filter cannot say "unless": a rule allows what has the lowest bit clear, and one for each other bit what has that set.
    """
    for bit in range(32):
        masked = {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": 1 << bit, "valueTwo": 1 << bit if bit else 0}
        yield {"action": "SCMP_ACT_ALLOW", "names": [name], "args": [masked]}


class DockerSandbox:
    """One agent in a container of its own, behind a gate of its own.

    Args:
        spec: The agent. Its `gate_socket` must lie in a directory of its own (`/short/dir/0/gate.sock`), which is mounted;
            or it has a `portal`, and the gate is portable.
        engine: Where its containers are made.
        gate_image: Id of the gate image.
        ports: What the gate listens on, in the order in which the proxy expects the listeners.
        link_place: Where trials of the same image and workspace have placed the link to `budget.txt`.

    Attributes:
        container_name: The name of the agent's container.
        warnings: What did not work and does not stop the trial, for a person.
    """

    def __init__(
        self,
        spec: AgentSpec,
        engine: Engine,
        gate_image: str,
        *,
        ports: Sequence[int] = GATE_PORTS,
        link_place: LinkPlace | None = None,
    ) -> None:
        if (spec.gate_socket is None) is (spec.portal is None):
            raise ConfigError("a container needs a gate, and this spec names no socket for one and no portal, or both")
        self.warnings: list[str] = []
        self._engine = engine = engine.apart()
        self._spec, self._gate_image, self._ports = spec, gate_image, tuple(ports)
        has_mounts = bool(targets(spec.docker_args.agent))  # each trial's may hold something else
        self._link_place = LinkPlace() if link_place is None or has_mounts else link_place
        self._labels = TrialLabels(spec.run_id, spec.run_dir, spec.alias)
        self.container_name = self._labels.name("agent")
        self._gate = Container(engine, self._labels.name("gate"), "the trial's gate", owns_network=True)
        self._agent = Container(engine, self.container_name, f"the agent {spec.alias}")
        self._forwarder = None if spec.portal is None else Forwarder(engine, self._labels, spec.portal)
        self._attached: AttachedStreams | None = None
        self._over = False
        self._output_pending = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = asyncio.Lock()

    async def create(self) -> None:
        """Make gate and agent and place the budget link; the gate runs, the agent does not.

        Raises:
            ConfigError: The spec asks for what is not allowed.
            DockerError: The engine refused or did not answer; `close` removes what was made.
        """
        spec = self._spec
        check_network(spec.network)
        if spec.gate_socket is not None:
            check_socket(spec.gate_socket)
        config = functools.partial(agent_config, spec, self._labels, seccomp=seccomp_profile())
        run_dir, own_dir = str(spec.run_dir), str(spec.budget_dir.parent)
        self.warnings += check_mounts(config("")["HostConfig"], run_dir=run_dir, own_dir=own_dir)
        links = link_copies(spec.workspace_path)
        self._refuse_if_over()
        self._idle.clear()
        try:
            with _with_meaning_for_money():
                async with self._engine.starts.turn():
                    await self._open_gate()
                    self._refuse_if_over()
                    await self._create_agent(config(self._gate.id))
                if not await place_link(self._engine, self._agent.id, links, self._link_place):
                    self.warnings.append(
                        f"budget.txt could not be placed in {spec.workspace_path}; the agent finds it at {CONTAINER_BUDGET_FILE}"
                    )
        finally:
            self._idle.set()
        self._refuse_if_over()

    async def _open_gate(self) -> None:
        spec = self._spec
        if self._forwarder is not None:
            await self._forwarder.open(self._gate_image, self._ports)
        own = (self._labels, spec.network, spec.gate_socket, self._gate_image, self._ports)
        await self._gate.create(gate_config(*own, spec.services, spec.docker_args.gate))
        await self._gate.start()

    async def _create_agent(self, body: dict[str, Any]) -> None:
        try:
            await self._agent.create(body, self._spec.docker_args.platform)
        except DockerError as exc:
            if exc.failure is Failure.GONE:
                await agents_image(self._engine, self._spec.image)
            raise

    async def start(self) -> Pipes:
        """Start the agent and return its streams, once the engine says that it runs (or has run).

        Raises:
            DockerError: It did not start.
        """
        async with self._engine.starts.turn(of_agent=True):
            self._refuse_if_over()
            with _with_meaning_for_money():
                attached = await attach(self._engine, self._agent.id)
            try:
                with _with_meaning_for_money(may_have_started=True):
                    await self._agent.start()
            except BaseException:
                await attached.end()
                raise
        self._attached = attached
        return attached.pipes

    async def wait(self) -> Exit:
        """Return when the engine says that the agent has ended or is gone.

        Raises:
            DockerError: Its output was lost while it ran, so it has been ended.
        """
        assert self._attached is not None
        if (exit_ := await self._agent.until_ended(self._attached.over)) is None:
            await self.kill()
            raise DockerError(OUTPUT_LOST, Failure.LOST)
        return exit_

    async def kill(self) -> Step:
        """End the agent; `"ok"` only when the engine says that it runs no more, or that there is no such container."""
        self._over = True
        with contextlib.suppress(TimeoutError):  # a `create` under way gets the time to see that it is over
            async with asyncio.timeout(CREATE_ENDS_S_MAX):
                await self._idle.wait()
        async with self._ending:
            return await self._agent.stop()

    async def keep(self, folder: Path) -> KeptOutput:
        """Copy the output folder out of the agent's stopped container, if the agent ran.

        Raises:
            DockerError: It could not be copied; `close` leaves the container.
        """
        policy = self._spec.output
        async with self._ending:
            if policy.unkept:
                return KeptOutput(why=policy.unkept)
            if not self._agent.is_over and self._attached is None:
                return KeptOutput(why="the agent never ran")
            if not self._agent.is_over:
                self.warnings.append(
                    f"the output in {policy.path} is lost: its container was gone, or had to be removed"
                )
                return KeptOutput(why="its container was gone before it was copied")
            try:
                return await keep(self._engine, self._agent.id, policy, folder)
            except (OSError, DockerError) as exc:
                self._output_pending = True
                raise DockerError(not_kept(policy.path, exc, self.container_name)) from exc

    async def close(self) -> dict[str, Step]:
        """Remove the agent's container, then its gate; the gate is left to a sweep while the agent may run.

        A container whose output could not be copied stays, stopped.
        """
        await self.kill()
        steps: dict[str, Step] = {"agent": "unverified", "gate": "unverified"}
        async with self._ending:
            if not self._output_pending:
                steps["agent"] = await self._agent.end()
            if steps["agent"] == "ok" or self._output_pending:
                steps["gate"] = await self._gate.end()
            if self._forwarder is not None:
                gone = steps["gate"] == "ok"
                steps |= await self._forwarder.close() if gone else {"forwarder": "unverified", "volume": "unverified"}
            if self._attached is not None:
                await self._attached.end(CONTAINER_LAST_OUTPUT_S)
        return steps

    def _refuse_if_over(self) -> None:
        if self._over:
            raise DockerError(f"the trial {self._spec.alias} was ended before its agent started")


@contextlib.contextmanager
def _with_meaning_for_money(*, may_have_started: bool = False) -> Iterator[None]:
    """Say in the engine's error what it means for money."""
    try:
        yield
    except DockerError as exc:
        unknown = may_have_started and exc.failure in UNKNOWN
        meaning = PERHAPS_STARTED if unknown else NOT_STARTED
        raise DockerError(f"{str(exc).rstrip('.')}. {meaning}", exc.failure) from exc


def check_socket(path: Path) -> None:
    """Accept a unix socket that has a directory of its own, because that directory is mounted into the gate.

    Raises:
        ConfigError: Something else lies beside it (another trial's socket, the control socket), or the directory is missing.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"the gate's socket directory {path.parent} does not exist")
    beside = sorted(entry.name for entry in path.parent.iterdir() if entry.name != path.name)
    if beside:
        raise ConfigError(f"the gate's socket {path} needs a directory of its own; {beside[0]} lies beside it")


def not_kept(path: str, exc: Exception, container: str) -> str:
    """Say that an output could not be copied, and what to do, for a person."""
    full = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc).rstrip(".")
    first = "Make room, then" if full else "When that is mended,"
    return (
        f"the output in {path} could not be copied: {reason}. It is kept in the stopped container {container}. "
        f"{first} `agent-preflight sweep` copies it and removes the container"
    )
