"""Checks whether this machine can carry out a run, before anything is made: program, mounts, images, network, limits, options.

Each problem is reported once, with what to do. Checks that call OpenRouter are in `checks/`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from agent_preflight.base.config import Environment, variable
from agent_preflight.checks.machine import image_name
from agent_preflight.checks.report import CheckLine, failed, warned
from agent_preflight.docker.agent_files import link_copies
from agent_preflight.docker.container import Container
from agent_preflight.docker.container_config import GATE_MOUNT, check_network
from agent_preflight.docker.images import missing_base, missing_image
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.docker.mounts import Bind, binds, refuse_sockets, targets, volumes
from agent_preflight.engine.client import Engine, Image
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.environment.variables import BUDGET_MOUNT
from agent_preflight.options.container_options import SEALED, merge
from agent_preflight.options.settings import RunSettings, unused_by_processes
from agent_preflight.runs.folder import open_try
from agent_preflight.runs.plan import TrialPlan
from agent_preflight.runs.request import RunRequest
from preflight_proxy.core.errors import ConfigError, OperatingError

MEMORY_BYTES_MIN = 6 * 2**20
"""Source: docs.docker.com/engine/containers/resource_constraints, read 2026-11."""
MOUNTS, LIMITS, OPTIONS, PROGRAM, SANDBOX = "Mounts", "Limits", "Docker options", "Program", "Sandbox"
SCORE = "Score image"
LOCAL = "unix://"
FOLDER_MODE = 0o777
"""Less the umask, as for a folder that the user makes."""


@dataclass(slots=True)
class MachineReport:
    """The result of a check of this machine.

    Attributes:
        lines: Failures and warnings; checks that passed have no line.
        missing: Folders to be made for mounts, if nothing is wrong.
    """

    lines: list[CheckLine] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """The sentences of the failures."""
        return [line.failure for line in self.lines if line.failure]

    def fail(self, name: str, *texts: str | None) -> None:
        """Add failures, each text once. An empty text is none."""
        self.lines += [failed(name, text.partition(". ")[0], text) for text in dict.fromkeys(texts) if text]

    def warn(self, name: str, text: str) -> None:
        """Add a warning."""
        self.lines.append(warned(name, text))

    @contextlib.contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Add an error that is raised in the context as a failure."""
        try:
            yield
        except OperatingError as exc:
            self.fail(name, str(exc))


async def check_machine(engine: Engine | None, request: RunRequest, trials: Sequence[TrialPlan]) -> MachineReport:
    """Return what prevents a run on this machine. Makes no key and no folder, and starts no container.

    Args:
        engine: Where containers are made; None for processes.
        request: What is to be done.
        trials: The trials that are due.
    """
    settings = request.settings
    report = MachineReport()
    if engine is None:
        report.fail(PROGRAM, *(_no_program(trial.command, settings.env) for trial in trials))
        if unused := unused_by_processes(settings):
            report.warn(SANDBOX, f"not used with --sandbox process: {', '.join(unused)}")
        return report
    _mounts(report, engine, request, trials)
    with report.failing("Network"):
        await _network(engine, settings.network)
    with report.failing("Workspace"):
        link_copies(settings.workspace_path)
    image = await _images(report, engine, settings, request.gate_base or Environment.read().gate_base)
    if settings.score_image:
        await _score_image(report, engine, settings.score_image)
    await _volumes(report, engine, settings, trials)
    await _limits(report, engine, settings)
    if image is not None:
        report.fail(image_name(settings.image_name), *(_no_command(image, settings, trial) for trial in trials))
        if settings.engine_options.agent and all(line.ok is not False for line in report.lines):
            with report.failing(OPTIONS):
                await _try_options(engine, settings, trials[0].command)
    return report


def _host_config(settings: RunSettings, trial: TrialPlan | None = None) -> Mapping[str, Any]:
    """Return the `HostConfig` of the agent's container. With a trial, the placeholders in its mounts are replaced."""
    settings = settings if trial is None else replace(settings, mounts=trial.mounts)
    return settings.engine_options.agent.get("HostConfig") or {}


def _mounts(report: MachineReport, engine: Engine, request: RunRequest, trials: Sequence[TrialPlan]) -> None:
    settings = request.settings
    with report.failing(MOUNTS):
        for trial in trials:
            refuse_sockets(_host_config(settings, trial))
    used = [*targets(settings.engine_options.agent), BUDGET_MOUNT, GATE_MOUNT]
    twice = (target for target in used if used.count(target) > 1)
    report.fail(MOUNTS, *(f"Two mounts go to {target} in the container: leave one off." for target in twice))
    plain = binds(_host_config(settings))
    if plain and not engine.url.startswith(LOCAL):
        report.warn(MOUNTS, f"not looked at: the paths are those of the machine behind {engine.url}")
        return
    sources = [  # one with a placeholder is a folder for each trial, and is made if the agent may write to it
        structs.replace(bind, is_made=bind.is_made and (request.makes_sources or bind.path != as_given.path))
        for trial in trials
        for as_given, bind in zip(plain, binds(_host_config(settings, trial)), strict=True)
    ]
    problems, report.missing = check_sources(sources)
    report.fail(MOUNTS, *problems)


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


async def _images(report: MachineReport, engine: Engine, settings: RunSettings, base: str | None) -> Image | None:
    image, name = None, image_name(settings.image_name)
    with report.failing(name):
        image = await engine.image(settings.image_name)
        if image is None:
            report.fail(name, missing_image(settings.image_name))
    with report.failing("Gate image"):
        report.fail("Gate image", await missing_base(engine, "gate", base))
    return image


async def _score_image(report: MachineReport, engine: Engine, name: str) -> None:
    """Check that the score's container can be made. It mounts what an agent wrote, which is on this machine."""
    if not engine.url.startswith(LOCAL):
        report.fail(SCORE, f"score_image needs Docker on this machine, and this is {engine.url}: leave it off.")
    with report.failing(SCORE):
        report.fail(SCORE, "" if await engine.image(name) is not None else missing_image(name))


async def _volumes(report: MachineReport, engine: Engine, settings: RunSettings, trials: Sequence[TrialPlan]) -> None:
    """Warn of a volume that does not exist: the engine makes an empty one, but a folder may have been meant."""
    names = dict.fromkeys(volume.path for trial in trials for volume in volumes(_host_config(settings, trial)))
    if not names:
        return
    with report.failing(MOUNTS):
        existing = {str(row.get("Name")) for row in await engine.listed("volumes", {})}
        for name in names:
            if name not in existing:
                meant = f"; for the folder write ./{name}" if Path(name).exists() else ""
                report.warn(
                    MOUNTS,
                    f"{name} is the name of a Docker volume, which does not exist: Docker makes an empty one{meant}",
                )


async def _limits(report: MachineReport, engine: Engine, settings: RunSettings) -> None:
    host_config = _host_config(settings)
    memory, nano_cpus = host_config.get("Memory"), host_config.get("NanoCpus")
    if memory is None and nano_cpus is None:
        return
    with report.failing(LIMITS):
        info = await engine.info()
        cpus, total = info.get("NCPU"), info.get("MemTotal")
        if nano_cpus and isinstance(cpus, int) and nano_cpus > cpus * 10**9:
            report.fail(LIMITS, f"cpus is {nano_cpus / 10**9:g}, but Docker's machine has {cpus}: give at most {cpus}.")
        if memory and memory < MEMORY_BYTES_MIN:
            report.fail(LIMITS, f"memory is {memory} bytes, but Docker needs at least 6m for a container: give more.")
        if memory and isinstance(total, int) and memory > total:
            report.warn(LIMITS, f"memory is {memory / 2**30:.1f} GiB, but Docker's machine has {total / 2**30:.1f} GiB")


def _no_command(image: Image, settings: RunSettings, trial: TrialPlan) -> str:
    config = image.config
    if config is None or trial.command or settings.engine_options.agent.get("Entrypoint"):
        return ""
    if config.get("Cmd") or config.get("Entrypoint"):
        return ""
    return f"The image {settings.image_name} has no command of its own: give the agent's command, on the command line after `--`."


async def _try_options(engine: Engine, settings: RunSettings, command: Sequence[str]) -> None:
    """Have the engine check the user's options: create a container with them, do not start it, remove it."""
    body: dict[str, Any] = {"Image": settings.image_name, "Cmd": list(command) or None}
    merge(body, {name: value for name, value in settings.engine_options.agent.items() if name != "Volumes"})
    body["HostConfig"] = {**(body.get("HostConfig") or {}), "NetworkMode": "none"}
    for name in ("Binds", "Mounts"):  # else their volumes would be made
        body["HostConfig"].pop(name, None)
    with open_try("options") as folder:
        tag = TrialLabels("options", folder.path, "options")
        container = Container(engine, tag.name("agent"), "a container with your options", owns_network=True)
        try:
            await container.create(body | {"Labels": tag.labels("agent")}, settings.engine_options.platform)
        finally:
            await container.end()


def _no_program(command: Sequence[str], env: Mapping[str, str] | None) -> str:
    program = command[0]
    if program.startswith(os.sep):
        if not Path(program).exists():
            return f"The agent's program {program} does not exist: correct `command`."
        return "" if os.access(program, os.X_OK) else f"The agent's program {program} cannot be executed: chmod +x it."
    if os.sep in program:
        return f"The agent's program {program} is looked for in its own new folder: write {Path.cwd() / program}"
    path = (env or {}).get("PATH", variable("PATH"))
    return "" if shutil.which(program, path=path) else f"There is no program {program!r} in PATH: correct `command`."


def check_sources(sources: Iterable[Bind]) -> tuple[list[str], list[str]]:
    """Check that the paths which trials mount exist, each path once. Makes nothing.

    Returns:
        What is wrong, in sentences; and the folders to be made if nothing is wrong.
    """
    problems: dict[str, str] = {}
    missing: list[str] = []
    for bind in sources:
        path = bind.path
        if path in problems or path in missing or (reason := _reason(path)) is None:
            continue
        if not (bind.is_made and bind.writable and reason.errno == errno.ENOENT and not Path(path).is_symlink()):
            problems[path] = f"The mount's source {path} {_sentence(bind, reason)}"
            continue
        above = next(folder for folder in Path(path).parents if folder.is_dir())
        if os.access(above, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            missing.append(path)
        else:
            problems[path] = f"The mount's source {path} is missing and cannot be made: {above} cannot be written."
    return list(problems.values()), missing


def make_folders(missing: Sequence[str], say: Callable[[str], None]) -> None:
    """Make folders that `check_sources` found missing, and say so.

    Raises:
        ConfigError: One cannot be made.
    """
    for path in missing:
        try:
            Path(path).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"The mount's source {path} is missing and cannot be made: {exc.strerror}.") from exc
        say(f"warning: the mount's source {path} was missing: an empty folder was made, which is yours")


def _reason(path: str) -> OSError | None:
    """Return why a path does not exist; None if it does, or if only the engine may read there."""
    try:
        Path(path).stat()
    except PermissionError:
        return None
    except (OSError, ValueError) as exc:
        return exc if isinstance(exc, OSError) else OSError(errno.EINVAL, str(exc))
    return None


def _sentence(bind: Bind, reason: OSError) -> str:
    if reason.errno not in (errno.ENOENT, errno.ENOTDIR):
        return f"cannot be used: {reason.strerror}."
    if Path(bind.path).is_symlink():
        return f"is a link to {Path(bind.path).readlink()}, which does not exist."
    empty = f"The agent would find nothing in {bind.target}. " if not bind.writable else ""
    return f"does not exist. {empty}Correct the path, or make it: mkdir -p {shlex.quote(bind.path)}"
