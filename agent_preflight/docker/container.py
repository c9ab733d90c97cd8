"""The sandbox made of containers: a gate that owns the network, and the agent that joins it (C1, C11, C12).

create:  gate created and started, agent created, budget link placed    nothing of the agent runs
start:   the agent runs, and its streams are ours                       `docker start -a -i`
wait:    `docker wait` is the signal, `inspect` the truth               the attached client's end is neither
kill:    TERM, half a second, KILL, removed, seen to be gone            at any time, also before `create` is done
close:   agent gone, then gate gone                                     the gate stays if the agent may still be there

A portable gate has a forwarder, made before it and removed after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent_preflight.docker import argv
from agent_preflight.docker.allow_list import Split, split
from agent_preflight.docker.budget_link import LinkCopy, link_copies, place_link
from agent_preflight.docker.cli import Docker, end, start_limiter
from agent_preflight.docker.ending import end_container, remove_container, remove_strays
from agent_preflight.docker.engines import Kind
from agent_preflight.docker.failure import DockerError, Failure
from agent_preflight.docker.forwarder import Forwarder
from agent_preflight.docker.gate import check_socket, create_gate, only_id, start_gate
from agent_preflight.docker.images import ensure_gate_image
from agent_preflight.docker.mounts import check_mounts
from agent_preflight.docker.owner import this_process
from agent_preflight.docker.podman import write_names
from agent_preflight.docker.podman_calls import remove_layer
from agent_preflight.docker.running import attach, until_ended, until_started
from agent_preflight.sandbox import AgentSpec, Exit, Pipes, Step
from preflight_proxy.errors import ConfigError

SECCOMP_FILE = Path(__file__).with_name("seccomp.json")
LIFETIME = timedelta(days=7)
"""After this long nobody can still want what a trial made; the same as its sub-key's life."""
CREATE_ENDS_S_MAX = 5.0
"""How long an ending waits for a `create` that is under way; after that it looks for what was made by its labels."""


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


class DockerSandbox:
    """One agent in a container of its own, behind a gate of its own.

    Args:
        spec: The agent. Its `gate_socket` must lie in a directory of its own (`/short/dir/0/gate.sock`), which is mounted;
            or it has a `portal`, and the gate is portable.
        executable: The docker command.
        gate_image: Id of the gate image; None builds it at first use.
        gate_base: What the gate image is built on if it has to be built.
        ports: What the gate listens on, in the order in which the proxy expects the listeners.
        allow_docker_socket: Accept a mount that hands the engine's socket to the agent.
        now: The calendar, for the label that says when everything may be thrown away.

    Attributes:
        warnings: What did not work and does not stop the trial, for a person.
    """

    def __init__(
        self,
        spec: AgentSpec,
        *,
        executable: str = "docker",
        gate_image: str | None = None,
        gate_base: str | None = None,
        ports: Sequence[int] = argv.GATE_PORTS,
        allow_docker_socket: bool = False,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.warnings: list[str] = []
        self._spec = spec
        if (spec.gate_socket is None) is (spec.portal is None):
            raise ConfigError("a container needs a gate, and this spec names no socket for one and no portal, or both")
        self._docker = Docker(executable)
        self._gate_image, self._gate_base, self._ports = gate_image, gate_base, tuple(ports)
        self._allow_docker_socket = allow_docker_socket
        self._tag = argv.Tag(
            run_id=spec.run_id,
            run_dir=spec.run_dir,
            alias=spec.alias,
            owner=this_process(),
            expires=(now() + LIFETIME).isoformat(timespec="seconds"),
            suffix=secrets.token_hex(6),
        )
        self._forwarder = None if spec.portal is None else Forwarder(self._docker, self._tag, spec.portal)
        self._gate_id: str | None = None
        self._agent_id: str | None = None
        self._attached: Process | None = None
        self._exit: Exit | None = None
        self._agent_step: Step = "unverified"
        self._gate_step: Step = "unverified"
        self._over = False
        self._begun = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = asyncio.Lock()

    @property
    def container_name(self) -> str:
        """The agent's container name."""
        return self._tag.name("agent")

    async def create(self) -> None:
        """Make gate and agent and place the budget link; the gate runs, the agent does not.

        Raises:
            ConfigError: The spec asks for what is not allowed.
            ValueError: A variable of the environment cannot be passed to a container.
            DockerError: The engine refused or did not answer; `close` removes what was made.
        """
        options, links, environment = self._check()
        self._refuse_if_over()
        self._begun = True
        self._idle.clear()
        try:
            async with start_limiter():
                await self._open_gate(options.gate)
                self._agent_id = await self._create_agent(options.agent, environment)
            if not await place_link(self._docker, self._agent_id, links):
                self.warnings.append(_no_link(self._spec.workspace_path))
        finally:
            self._idle.set()
        self._refuse_if_over()

    def _check(self) -> tuple[Split, list[LinkCopy], str]:
        """Refuse what is not allowed, before anything is made; what follows from the spec otherwise."""
        spec = self._spec
        argv.check_network(spec.network)
        if spec.gate_socket is not None:
            check_socket(spec.gate_socket)
        options = split(spec.docker_args, spec.network)
        mounts = check_mounts(
            spec.mounts,
            options.agent,
            run_dir=str(spec.run_dir),
            own_dir=str(spec.budget_dir.parent),
            allow_engine_socket=self._allow_docker_socket,
        )
        self.warnings += mounts.warnings
        return options, link_copies(spec.workspace_path), argv.env_file_text(spec.env)

    async def _open_gate(self, extra: Sequence[str]) -> None:
        spec, docker = self._spec, self._docker
        image = self._gate_image or await ensure_gate_image(base=self._gate_base, executable=docker.executable)
        self._refuse_if_over()
        if self._forwarder is not None:
            await self._forwarder.open(image, self._ports)
            self._refuse_if_over()
        self._gate_id = await create_gate(
            docker, self._tag, spec.network, spec.gate_socket, image, extra, self._ports, spec.services
        )
        await start_gate(docker, self._gate_id)

    async def _create_agent(self, extra: Sequence[str], environment: str) -> str:
        self._refuse_if_over()
        assert self._gate_id is not None
        with tempfile.TemporaryDirectory(prefix="ap-") as private:
            env_file = Path(private) / "env"
            env_file.touch(mode=0o600)
            env_file.write_text(environment, encoding="utf-8", errors="surrogateescape")
            if (kind := self._docker.engine.kind) is Kind.PODMAN:
                write_names(self._spec.budget_dir, ["openrouter.ai", *self._spec.services])
            args = argv.agent_create(self._spec, self._tag, self._gate_id, env_file, SECCOMP_FILE, extra, kind)
            try:
                printed = await self._docker.must(f"creating the container of {self._spec.alias}", *args)
            except DockerError as exc:
                raise _with_advice(exc, self._spec.image) from exc
        return only_id(printed)

    async def start(self) -> Pipes:
        """Start the agent and return its streams, once the engine says that it runs (or has run).

        Raises:
            DockerError: It did not start.
        """
        if self._agent_id is None:
            raise DockerError("the agent's container was not created")
        async with start_limiter():
            self._refuse_if_over()
            self._attached = attached = await attach(self._docker, self._agent_id)
            await until_started(self._docker, self._agent_id, attached, f"starting the agent {self._spec.alias}")
        assert attached.stdin is not None
        assert attached.stdout is not None
        assert attached.stderr is not None
        return Pipes(stdin=attached.stdin, stdout=attached.stdout, stderr=attached.stderr)

    async def wait(self) -> Exit:
        """Return when the engine says that the agent has ended or is gone.

        An agent whose attached client died while it ran is killed: nobody would read its output, and its exit code is lost.
        """
        assert self._agent_id is not None
        assert self._attached is not None
        found = await until_ended(self._docker, self._agent_id, self._attached)
        if found is None:
            self.warnings.append("the docker client that carried the agent's output died, so the agent was ended")
            await self.kill()
            return Exit(None)
        async with self._ending:  # an ending that removed the container knows how it ended
            return self._exit or found

    async def kill(self) -> Step:
        """End the agent and remove its container; `"ok"` only when the engine says that there is no such container."""
        self._over = True
        await self._until_created()
        async with self._ending:
            if self._agent_step != "ok":
                self._agent_step = await self._end_agent()
            return self._agent_step

    async def _end_agent(self) -> Step:
        if self._agent_id is None:
            return await self._remove_strays("agent")
        ended = await end_container(self._docker, self._agent_id)
        self._exit = self._exit or ended.exit
        return ended.step

    async def close(self) -> dict[str, Step]:
        """Remove the agent's container, then its gate; the gate is left to a sweep while the agent may be there."""
        agent = await self.kill()
        async with self._ending:
            if agent == "ok" and self._gate_step != "ok":
                self._gate_step = await self._remove_gate()
            if self._attached is not None:
                await end(self._attached)
            steps: dict[str, Step] = {"agent": agent, "gate": self._gate_step}
            if self._forwarder is not None:
                gone = self._gate_step == "ok"
                steps |= await self._forwarder.close() if gone else {"forwarder": "unverified", "volume": "unverified"}
            return steps

    async def _remove_gate(self) -> Step:
        if self._gate_id is None:
            return await self._remove_strays("gate")
        return await remove_container(self._docker, self._gate_id)

    async def _remove_strays(self, role: argv.Role) -> Step:
        """Remove what a `create` that did not return may have made; nothing if none was tried."""
        if not self._begun:
            return "ok"
        await remove_layer(self._docker, self._tag.name(role))
        return await remove_strays(self._docker, self._tag.filters(role))

    async def _until_created(self) -> None:
        """Give a `create` that is under way the time to see that it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CREATE_ENDS_S_MAX):
                await self._idle.wait()

    def _refuse_if_over(self) -> None:
        if self._over:
            raise DockerError(f"the trial {self._spec.alias} was ended before its agent started")


def _with_advice(error: DockerError, image: str) -> DockerError:
    if error.failure is not Failure.GONE or "image" not in str(error).lower():
        return error
    return DockerError(
        f"the image {image} is not on this machine, and nothing is pulled unasked: run `docker pull {image}`, or build it",
        Failure.GONE,
    )


def _no_link(workspace_path: str) -> str:
    return f"budget.txt could not be placed in {workspace_path}; the agent finds it at {argv.BUDGET_FILE}"
