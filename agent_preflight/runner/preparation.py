"""The steps of a run before its proxy: plan, sweep, open the folder, check, prepare the sandboxes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from agent_preflight.base.config import Environment
from agent_preflight.checks.inputs import unique
from agent_preflight.docker.agent_files import LinkPlace
from agent_preflight.docker.gates import GateMode, choose_gate_mode
from agent_preflight.docker.images import agents_image, ensure_image
from agent_preflight.docker.sandbox import DockerSandbox
from agent_preflight.engine.client import Engine, Image
from agent_preflight.estimates.price_list import widest_prompt_pusd
from agent_preflight.options.settings import RunSettings
from agent_preflight.runner.loop import StopSignal, in_thread, run_until
from agent_preflight.runner.machine_check import MachineReport, make_folders
from agent_preflight.runs.choice import named_run
from agent_preflight.runs.folder import RunFolder, open_named, open_new, open_resumed, open_single
from agent_preflight.runs.plan import TrialPlan, default_run_id, network_access, plan_trials
from agent_preflight.runs.plan_file import KEY_HEADROOM_PUSD
from agent_preflight.runs.request import RunRequest
from agent_preflight.sandboxes.interface import AgentSpec, Sandbox
from agent_preflight.sandboxes.process import ProcessSandbox
from agent_preflight.sweeping import SweepScope
from agent_preflight.sweeping.dead_runs import check_gone, sweep_before_run
from agent_preflight.sweeping.orphans import end_orphans
from preflight_proxy.core.errors import ConfigError, UpstreamError

KEY_NAME_BYTES = 6
_OF_32_BITS = ("386", "arm")
_NO_EXEC = "agents may end with `exec format error`"


def run_id_of(request: RunRequest) -> str:
    """Return the id that a run is to have. The folder of a new run may get a number behind it."""
    return request.settings.run_id or request.suggested_id or default_run_id(datetime.now().astimezone())


def trials_of(request: RunRequest, run_id: str) -> tuple[TrialPlan, ...]:
    """Return a run's trials, each with a sub-key's name of its own. Raises as `plan_trials`."""
    return plan_trials(request.settings, run_id, lambda: secrets.token_hex(KEY_NAME_BYTES))


async def sweep_for(request: RunRequest, aliases: Sequence[str], engine: Engine | None) -> None:
    """Remove the leftovers of dead runs. Of a run that is resumed, end the agents and the proxy first.

    Raises:
        ConfigError: Something of the run that is resumed is still there.
    """
    settings, run_dir = request.settings, request.runs_dir.absolute() / str(request.settings.run_id)
    if settings.resume:
        await end_orphans(run_dir, aliases, request.say)
    containers = settings.sandbox == "docker"
    scope = SweepScope(request.runs_dir, request.admin_key, settings.openrouter_base_url, containers=containers)
    report = await sweep_before_run(scope, request.say, engine)
    if settings.resume:
        check_gone(run_dir, report)


def open_folder(request: RunRequest, run_id: str, aliases: Sequence[str]) -> RunFolder:
    """Open the run's folder.

    Raises:
        ConfigError: It cannot be made, or another run uses it.
    """
    runs_dir = request.runs_dir.absolute()
    try:
        if request.single:
            return open_single(runs_dir, aliases[0])
        if request.settings.resume:
            return open_resumed(named_run(run_id, runs_dir))
        if request.settings.run_id is None:
            return open_new(runs_dir, run_id)
        return open_named(runs_dir, run_id, aliases, "resume=True" if request.origin is None else f"--resume {run_id}")
    except OSError as exc:
        raise ConfigError(
            f"{runs_dir} cannot hold a run's folder: {exc.strerror}. Give another one with --runs-dir (runs_dir=)."
        ) from exc


async def check_all(request: RunRequest, stop: StopSignal, report: MachineReport) -> None:
    """Run the checks that come before a run's keys. Afterwards folders exist for all mounts.

    Args:
        request: What to do.
        stop: How a person ends it early.
        report: What is wrong on this machine, and what a person should know.

    Raises:
        PreflightError: Something is wrong. The report of the checks has been printed.
        ConfigError: Something is wrong on this machine, and the checks are left out.
    """
    if request.preflight is not None:
        checks = in_thread(partial(request.preflight, found=report.lines), "preflight")
        await run_until(asyncio.ensure_future(checks), stop.hurry)  # at their end they delete their test keys
    if report.problems:
        raise ConfigError("\n".join(report.problems))
    for line in report.lines if request.preflight is None else ():  # else the checks have printed them
        request.say(f"warning: {line.name}: {line.detail}")
    if not stop.ending.is_set():
        make_folders(report.missing, request.say)


async def with_key_rooms(request: RunRequest, trials: Sequence[TrialPlan]) -> list[TrialPlan]:
    """Return trials whose sub-keys have the room that OpenRouter's own check of a call needs: M20 (refusals by OpenRouter).

    That is more than a cent where a known prompt is reserved at less than the price at which OpenRouter checks it.

    Raises:
        UpstreamError: A model's prices cannot be read.
    """
    settings = request.settings
    if settings.cache_bound == "write":
        return list(trials)
    models = unique([trial.model_id for trial in trials])
    reads = [
        in_thread(partial(widest_prompt_pusd, model, settings.or_key, settings.openrouter_base_url), "prices")
        for model in models
    ]
    try:
        widest_pusd = dict(zip(models, await asyncio.gather(*reads), strict=True))
    except UpstreamError as exc:
        raise UpstreamError(
            f'The limit of a sub-key cannot be set: {exc}. With cache_bound = "billed" it must have room for the longest prompt of '
            'the trial\'s model. Nothing was spent. Try again, or leave cache_bound at "write".'
        ) from exc
    return [replace(trial, key_room_pusd=KEY_HEADROOM_PUSD + widest_pusd[trial.model_id]) for trial in trials]


class SandboxSetup(msgspec.Struct, frozen=True):
    """What a run's trials run in.

    Attributes:
        make_sandbox: Makes a trial's sandbox.
        gate: The kind of gate that its trials have; unused by processes.
        sentences: Lines for a person.
        image_env: The variables of the agents' image.
        engine: Where containers are made; None for processes.
    """

    make_sandbox: Callable[[AgentSpec], Sandbox]
    gate: GateMode = msgspec.field(default_factory=GateMode)
    sentences: tuple[str, ...] = ()
    image_env: Mapping[str, str] = {}
    engine: Engine | None = None


async def prepare_sandboxes(engine: Engine | None, request: RunRequest, run_dir: Path, short_dir: Path) -> SandboxSetup:
    """Return what a run's trials run in. For containers, all images exist afterwards.

    Args:
        engine: Where containers are made; None for processes.
        request: What is to be done.
        run_dir: The run's folder.
        short_dir: The run's directory for sockets.

    Raises:
        OperatingError: An image is missing, or no kind of gate works on this engine.
    """
    if engine is None:
        return SandboxSetup(ProcessSandbox)
    settings = request.settings
    image = await agents_image(engine, settings.image_name)
    gate_image = await ensure_image(engine, "gate", request.gate_base or Environment.read().gate_base)
    gate = await choose_gate_mode(engine, settings.gate, gate_image, run_dir, short_dir)
    ports = network_access(settings).ports
    sentences = tuple(filter(None, (_platform_warning(image, engine, settings), gate.sentence)))
    make = partial(DockerSandbox, engine=engine, gate_image=gate_image, ports=ports, link_place=LinkPlace())
    return SandboxSetup(make, gate, sentences, image.env, engine)


def _platform_warning(image: Image, engine: Engine, settings: RunSettings) -> str:
    """Return a warning if the agents' image is for another platform."""
    theirs, ours = f"{image.os}/{image.architecture}", f"{engine.version.os}/{engine.version.arch}"
    if theirs == ours or settings.engine_options.platform is not None:
        return ""
    what = "32-bit programs do not run in a trial" if image.architecture in _OF_32_BITS else _NO_EXEC
    return f"the image {settings.image_name} is for {theirs}, and this engine is {ours}: {what}"
