"""Whether this machine can carry a run out, looked at before anything is made: program, mounts, images, network, limits, options.

Each thing is told once, with what to do. What only OpenRouter can tell is the part of preflight.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_preflight.base.config import Environment, variable
from agent_preflight.checks.images import image_name
from agent_preflight.checks.line import Line, failed, warned
from agent_preflight.docker.agent_files import link_copies
from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import GATE_MOUNT, check_network
from agent_preflight.docker.images import missing_base, missing_image
from agent_preflight.docker.labels import TrialLabels, this_process
from agent_preflight.docker.mounts import Bind, binds, refuse_sockets, targets, volumes
from agent_preflight.engine.client import Engine, Image
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.environment.variables import BUDGET_MOUNT
from agent_preflight.options.container_options import SEALED, merge
from agent_preflight.options.settings import unused_by_processes
from agent_preflight.runner.mount_sources import MountSource, check_sources
from agent_preflight.runs.folder import open_try
from agent_preflight.runs.plan import Surroundings, TrialPlan
from preflight_proxy.core.errors import OperatingError

MEMORY_BYTES_MIN = 6 * 2**20
"""Source: docs.docker.com/engine/containers/resource_constraints, read 2026-11."""
MOUNTS, LIMITS, OPTIONS, PROGRAM, SANDBOX = "Mounts", "Limits", "Docker options", "Program", "Sandbox"
LOCAL = "unix://"


@dataclass(frozen=True, slots=True)
class MachineReport:
    """What a look at this machine found: failures and warnings, nothing of what is in order."""

    lines: tuple[Line, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """The sentences of the failures."""
        return tuple(line.failure for line in self.lines if line.failure)


@dataclass(slots=True)
class _Findings:
    lines: list[Line] = field(default_factory=list)

    def fail(self, name: str, text: str) -> None:
        self.lines.append(failed(name, text.partition(". ")[0], text))

    def warn(self, name: str, text: str) -> None:
        self.lines.append(warned(name, text))

    @contextlib.contextmanager
    def told(self, name: str) -> Iterator[None]:
        """Take an error for a finding."""
        try:
            yield
        except OperatingError as exc:
            self.fail(name, str(exc))


async def check_machine(
    engine: Engine | None,
    around: Surroundings,
    trials: Sequence[TrialPlan],
    gate_base: str | None = None,
    *,
    makes_sources: bool = True,
) -> MachineReport:
    """Return what stands in the way of a run on this machine. Makes no key and no folder, and starts no container.

    Args:
        engine: Where containers are made; None for processes.
        around: What all trials have in common.
        trials: The trials that are due.
        gate_base: What the gate image is built on; None for `PREFLIGHT_GATE_BASE`, else the usual one.
        makes_sources: Folders are made for mounts that agents may write to and that are missing; else they are errors.
    """
    found = _Findings()
    if engine is None:
        for text in dict.fromkeys(filter(None, (_no_program(trial.command, around.env) for trial in trials))):
            found.fail(PROGRAM, text)
        if unused := unused_by_processes(around.settings):
            found.warn(SANDBOX, f"not used with --sandbox process: {', '.join(unused)}")
        return MachineReport(tuple(found.lines))
    _mounts(found, engine, around, trials, makes_sources=makes_sources)
    with found.told("Network"):
        await _network(engine, around.network)
    with found.told("Workspace"):
        link_copies(around.workspace_path)
    image = await _images(found, engine, around, gate_base or Environment.read().gate_base)
    await _volumes(found, engine, around, trials)
    await _limits(found, engine, around)
    if image is not None:
        for text in dict.fromkeys(filter(None, (_no_command(image, around, trial) for trial in trials))):
            found.fail(image_name(around.image), text)
        if around.engine_options.agent and all(line.ok is not False for line in found.lines):
            with found.told(OPTIONS):
                await _try_options(engine, around, trials[0].command)
    return MachineReport(tuple(found.lines))


def mount_sources_of(
    engine: Engine | None, around: Surroundings, trials: Sequence[TrialPlan], *, makes_sources: bool
) -> list[MountSource]:
    """Return the paths of this machine that trials mount; none where the engine is on another machine.

    A source that holds a trial's name is a folder for each, and so is made wherever agents may write to it.
    """
    if engine is None or not engine.url.startswith(LOCAL):
        return []
    plain = _binds(around)
    return [
        MountSource(bind, bind.is_bind and (makes_sources or bind.path != before.path))
        for trial in trials
        for before, bind in zip(plain, _binds(replace(around, mounts=trial.mounts)), strict=True)
    ]


def _binds(around: Surroundings) -> list[Bind]:
    return binds(around.engine_options.agent.get("HostConfig") or {})


def _mounts(
    found: _Findings, engine: Engine, around: Surroundings, trials: Sequence[TrialPlan], *, makes_sources: bool
) -> None:
    fields = around.engine_options.agent
    with found.told(MOUNTS):
        for trial in trials:
            refuse_sockets(replace(around, mounts=trial.mounts).engine_options.agent.get("HostConfig") or {})
    taken = [*targets(fields), BUDGET_MOUNT, GATE_MOUNT]
    for target in dict.fromkeys(target for target in taken if taken.count(target) > 1):
        found.fail(MOUNTS, f"Two mounts go to {target} in the container: leave one off.")
    if _binds(around) and not engine.url.startswith(LOCAL):
        found.warn(MOUNTS, f"not looked at: the paths are those of the machine behind {engine.url}")
    for text in check_sources(mount_sources_of(engine, around, trials, makes_sources=makes_sources)).problems:
        found.fail(MOUNTS, text)


async def _network(engine: Engine, network: str) -> None:
    check_network(network)
    if network == SEALED:
        return
    try:
        await engine.network(network)
    except DockerError as exc:
        if exc.failure is not Failure.GONE:
            raise
        names = sorted(str(each.get("Name")) for each in await engine.listed("networks", {}))
        usable = ", ".join(name for name in names if name not in ("host", "none"))
        raise DockerError(
            f"Docker has no network {network!r}. Run `docker network create {shlex.quote(network)}`, or choose 'sealed' or one "
            f"of: {usable}.",
            Failure.GONE,
        ) from exc


async def _images(found: _Findings, engine: Engine, around: Surroundings, base: str | None) -> Image | None:
    image = None
    with found.told(image_name(around.image)):
        image = await engine.image(around.image)
        if image is None:
            found.fail(image_name(around.image), missing_image(around.image))
    with found.told("Gate image"):
        if (text := await missing_base(engine, "gate", base)) is not None:
            found.fail("Gate image", text)
    return image


async def _volumes(found: _Findings, engine: Engine, around: Surroundings, trials: Sequence[TrialPlan]) -> None:
    """A volume that is not there is made by the engine, and is empty: a folder may have been meant."""
    each = [replace(around, mounts=trial.mounts).engine_options.agent.get("HostConfig") or {} for trial in trials]
    named = {volume.path: volume for host_config in each for volume in volumes(host_config)}
    if not named:
        return
    with found.told(MOUNTS):
        known = {str(told.get("Name")) for told in await engine.listed("volumes", {})}
        for name, volume in named.items():
            if name not in known:
                found.warn(MOUNTS, _new_volume(volume))


def _new_volume(volume: Bind) -> str:
    meant = f"; for the folder write ./{volume.path}" if Path(volume.path).exists() else ""
    return f"{volume.path} is the name of a Docker volume, which does not exist: Docker makes an empty one{meant}"


async def _limits(found: _Findings, engine: Engine, around: Surroundings) -> None:
    host_config = around.engine_options.agent.get("HostConfig") or {}
    memory, nano_cpus = host_config.get("Memory"), host_config.get("NanoCpus")
    if memory is None and nano_cpus is None:
        return
    with found.told(LIMITS):
        info = await engine.info()
        cpus, total = info.get("NCPU"), info.get("MemTotal")
        if nano_cpus and isinstance(cpus, int) and nano_cpus > cpus * 10**9:
            found.fail(LIMITS, f"cpus is {nano_cpus / 10**9:g}, but Docker's machine has {cpus}: give at most {cpus}.")
        if memory and memory < MEMORY_BYTES_MIN:
            found.fail(LIMITS, f"memory is {memory} bytes, but Docker needs at least 6m for a container: give more.")
        if memory and isinstance(total, int) and memory > total:
            found.warn(LIMITS, f"memory is {memory / 2**30:.1f} GiB, but Docker's machine has {total / 2**30:.1f} GiB")


def _no_command(image: Image, around: Surroundings, trial: TrialPlan) -> str:
    config = image.config or {}
    if image.config is None or trial.command or around.engine_options.agent.get("Entrypoint"):
        return ""
    if config.get("Cmd") or config.get("Entrypoint"):
        return ""
    return (
        f"The image {around.image} has no command of its own: give the agent's command, on the command line after `--`."
    )


async def _try_options(engine: Engine, around: Surroundings, command: Sequence[str]) -> None:
    """Have the engine judge the user's options, by a container that is made, never started, and removed."""
    fields = around.engine_options.agent
    body: dict[str, Any] = {"Image": around.image, "Cmd": list(command) or None}
    merge(body, {name: value for name, value in fields.items() if name != "Volumes"})
    body["HostConfig"] = {**(body.get("HostConfig") or {}), "NetworkMode": "none"}
    for name in ("Binds", "Mounts"):  # their volumes would be made
        body["HostConfig"].pop(name, None)
    with open_try("options") as folder:
        tag = TrialLabels("options", folder.path, "options", this_process(), "", secrets.token_hex(6))
        tried = Container(engine, tag.name("agent"), "a container with your options", owns_network=True)
        try:
            await tried.create(body | {"Labels": tag.labels("agent")}, around.engine_options.platform)
        finally:
            await tried.end()


def _no_program(command: Iterable[str], env: Mapping[str, str] | None) -> str:
    program = next(iter(command), "")
    if "{" in program or not program:
        return ""
    if program.startswith(os.sep):
        if not Path(program).exists():
            return f"The agent's program {program} does not exist: correct `command`."
        return "" if os.access(program, os.X_OK) else f"The agent's program {program} cannot be executed: chmod +x it."
    if os.sep in program:
        return f"The agent's program {program} is looked for in its own new folder: write {Path.cwd() / program}"
    path = (env or {}).get("PATH", variable("PATH"))
    return "" if shutil.which(program, path=path) else f"There is no program {program!r} in PATH: correct `command`."


def say_all(lines: Iterable[Line], say: Callable[[str], None]) -> None:
    """Say warnings where no report shows them."""
    for line in lines:
        if line.ok is None:
            say(f"warning: {line.name}: {line.detail}")
