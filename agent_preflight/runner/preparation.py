"""The steps of a run before its proxy: make way, open the folder, check, say what starts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from agent_preflight.base.config import Environment
from agent_preflight.base.usd import dollars, usd
from agent_preflight.docker.container_config import privileges_text
from agent_preflight.docker.gate_modes import GateMode, choose_gate_mode
from agent_preflight.docker.images import agents_image, ensure_image
from agent_preflight.docker.mounts import tmpfs_warning
from agent_preflight.docker.sandbox import DockerSandbox
from agent_preflight.engine.client import Engine, Image
from agent_preflight.environment.network_access import network_warnings
from agent_preflight.options.container_options import SEALED
from agent_preflight.options.naming import check_run_id
from agent_preflight.runner.loop import StopSignal
from agent_preflight.runner.machine_check import MachineReport, check_machine, mount_sources_of, say_all
from agent_preflight.runner.messages import elsewhere, go_on
from agent_preflight.runner.mount_sources import MountSource, check_sources, make_folders
from agent_preflight.runner.progress import TrialProgress
from agent_preflight.runner.resume import kept_results
from agent_preflight.runner.user_thread import UserThread
from agent_preflight.runs.folder import RunFolder, open_named, open_new, open_resumed, open_single
from agent_preflight.runs.plan import Surroundings, TrialPlan, default_run_id, plan_trials, policy_for_trial
from agent_preflight.runs.request import Request
from agent_preflight.sandboxes.interface import AgentSpec, Sandbox
from agent_preflight.sandboxes.process import ProcessSandbox
from agent_preflight.sweeping import SweepScope
from agent_preflight.sweeping.dead_runs import sweep_before_run
from agent_preflight.sweeping.orphans import check_gone, end_orphans
from preflight_proxy.core.errors import ConfigError

KEY_NAME_BYTES = 6


async def sweep_for(request: Request, engine: Engine | None) -> None:
    """Remove what dead runs left; of the run that is to go on, first of all whatever of it still acts.

    Raises:
        ConfigError: The request cannot be carried out, or something of the run that is to go on is still there.
    """
    aliases = [plan.alias for plan in trials_of(request, request.run_id or "")]
    run_dir = request.runs_dir.absolute() / request.run_id if request.resume and request.run_id else None
    if run_dir is not None:
        await end_orphans(run_dir, aliases, request.say)
    containers = request.around.sandbox == "docker"
    scope = SweepScope(request.runs_dir, request.admin_key, request.base_url, containers=containers)
    swept = await sweep_before_run(scope, request.say, engine)
    if run_dir is not None:
        check_gone(run_dir, swept)


async def sweep_beside(request: Request, engine: Engine | None) -> None:
    """Remove what dead runs left, unless that came first."""
    if not request.may_have_begun:
        await sweep_for(request, engine)


def trials_of(request: Request, run_id: str) -> tuple[TrialPlan, ...]:
    """Return a run's trials, each with a sub-key's name of its own. Raises as `plan_trials`."""
    return plan_trials(
        request.models,
        run_id,
        request.budget,
        request.arguments,
        lambda: secrets.token_hex(KEY_NAME_BYTES),
        request.around.mounts,
    )


def open_folder(request: Request) -> RunFolder:
    """Open the run's folder, after everything has been checked that can be checked without one.

    Raises:
        ConfigError: The request cannot be carried out, or the folder is taken.
    """
    try:
        run_id = check_run_id(request.run_id or request.suggested_id or default_run_id(local_now()))
    except ValueError as exc:
        raise ConfigError(f"{exc}.") from None
    plans = trials_of(request, run_id)
    policy_for_trial(request.policy, request.idle_timeout_s)
    runs_dir = request.runs_dir.absolute()
    try:
        return _folder(request, runs_dir, run_id, [plan.alias for plan in plans])
    except (OSError, RuntimeError) as exc:
        if isinstance(exc, ConfigError):
            raise
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigError(
            f"{runs_dir} cannot hold a run's folder: {reason}. Give another one with --runs-dir (runs_dir=)."
        ) from exc


def _folder(request: Request, runs_dir: Path, run_id: str, aliases: Sequence[str]) -> RunFolder:
    if request.single:
        return open_single(runs_dir, aliases[0])
    if request.resume:
        return open_resumed(runs_dir, run_id)
    if request.run_id is None:
        return open_new(runs_dir, run_id)
    return open_named(runs_dir, run_id, aliases, "resume=True" if request.origin is None else f"--resume {run_id}")


def local_now() -> datetime:
    """Return local time: run ids show it, as ever."""
    return datetime.now().astimezone()


async def checked(check: Callable[[], object], stop: StopSignal) -> None:
    """Run the checks off the loop; they delete their own test keys, so only a person in a hurry leaves them alone."""
    user_thread = UserThread("preflight")
    checking = asyncio.ensure_future(user_thread.call(check))
    hurry = asyncio.ensure_future(stop.hurry.wait())
    await asyncio.wait([checking, hurry], return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    user_thread.close()
    if checking.done():
        checking.result()
    else:
        checking.cancel()


async def check_all(
    request: Request, stop: StopSignal, folder: RunFolder, found: MachineReport, wanted: Iterable[MountSource]
) -> None:
    """Do what comes before a run's keys; its folder stays only if nothing is wrong.

    Args:
        request: What to do.
        stop: How a person ends it early.
        folder: The run's.
        found: What was found on this machine.
        wanted: Paths that trials mount; folders are made for those that are missing.
    """
    folder.is_wanted = False
    if request.preflight is not None:
        await checked(partial(request.preflight, found=found.lines), stop)
    else:
        say_all(found.lines, request.say)
    if not stop.ending.is_set():
        looked = check_sources(wanted)
        if looked.problems:
            raise ConfigError("\n".join(looked.problems))
        make_folders(looked.missing, request.say)
    folder.is_wanted = True  # also that of a run that a person has stopped: it is named at the end


async def look_first(request: Request, engine: Engine | None, stop: StopSignal) -> MachineReport:
    """Return what a person should know of this machine; if something is wrong, tell it with what the checks find.

    Nothing is looked at for trials that are kept.

    Raises:
        PreflightError: Something is wrong; the report has been printed.
        ConfigError: Something is wrong, and there are no checks.
    """
    trials = trials_of(request, request.run_id or request.suggested_id or default_run_id(local_now()))
    if request.resume and request.run_id is not None:
        budgets = {trial.alias: trial.budget_pusd for trial in trials}
        kept = kept_results(request.runs_dir / request.run_id, budgets, retry_failed=request.retry_failed)
        trials = tuple(trial for trial in trials if trial.alias not in kept)
        if not trials:
            return MachineReport()
    base, makes_sources = request.gate_base, request.makes_sources
    found = await check_machine(engine, request.around, trials, base, makes_sources=makes_sources)
    if not found.problems:
        return found
    if request.preflight is not None:
        await checked(partial(request.preflight, found=found.lines), stop)
    raise ConfigError("\n".join(found.problems))


def sources_of(request: Request, engine: Engine | None, due: Sequence[TrialPlan]) -> list[MountSource]:
    """Return the paths that the trials mount which are due."""
    return mount_sources_of(engine, request.around, due, makes_sources=request.makes_sources)


def announce(request: Request, folder: RunFolder, run_id: str, due: Sequence[TrialPlan]) -> None:
    """Say what starts, where, and what a person should know of it; of a single trial, only that its network is open.

    Of a run that goes on each trial is named that begins, with its budget and what of that is spent.
    """
    network = network_line(request.around)
    if request.single:
        if is_open(request.around):
            request.say(f"  {network}")
        return
    request.say(f"Starting {len(due)} trial{'s' if len(due) > 1 else ''} in {folder.path}")
    if request.resume:
        request.say(f"  these begin: {', '.join(map(_with_budget, due))}")
    request.say(f"  {network}")
    if request.around.sandbox == "process":
        request.say(
            "  agents reach OpenRouter by the base URL that they are told; https://openrouter.ai is not the proxy"
        )
    else:
        request.say(f"  containers: {privileges_text(request.around.memory, request.around.cpus)}")
        if (lost := tmpfs_warning(request.around.output, request.around.engine_options.agent)) is not None:
            request.say(f"  warning: {lost}")
    for warning in network_warnings(
        request.around.reach, request.around.env or {}, in_container=request.around.sandbox == "docker"
    ):
        request.say(f"  {warning}")
    request.say(f"  watch with: agent-preflight status {run_id}{elsewhere(request)}")
    request.say(f"  stop with: Ctrl-C, or agent-preflight stop {run_id}{elsewhere(request)}")


def _with_budget(trial: TrialPlan) -> str:
    spent = f", {dollars(trial.spent_before_pusd)} of it spent" if trial.spent_before_pusd else ""
    return f"{trial.alias} (budget {dollars(trial.limit_pusd)}{spent})"


def is_open(around: Surroundings) -> bool:
    """Whether agents in containers reach more than the proxy and what the user named."""
    return around.sandbox == "docker" and around.network != SEALED


def network_line(around: Surroundings) -> str:
    """Return what the network of a run means for its agents and for its budget, and how to seal it."""
    if not is_open(around):
        return f"network: {around.network}; budgets hold whatever the agents do"
    reached = (
        "the internet and your network" if around.network == "bridge" else f"what the network {around.network} reaches"
    )
    return (
        f"network: {around.network}; agents reach {reached}. The budget holds, because no real key is in the container. "
        f'To leave them nothing but the proxy: network="{SEALED}"'
    )


def no_credit(rows: Sequence[TrialProgress], request: Request, run_id: str) -> str:
    """Return what a person must know once OpenRouter has refused a call for want of credit."""
    left_pusd = sum(max(row.limit_pusd - row.balance.posted_pusd, 0) for row in rows)
    what = (
        f"OpenRouter refused a call: the account has no credit left. This run's budget still has ${usd(left_pusd):.4f}."
    )
    if request.single:
        return f"{what} Add credit, then run it again."
    return f"{what} Trials that run go on, no other is started. Add credit, then `{go_on(request, run_id)}`."


_OF_32_BITS = ("386", "arm")
_NO_EXEC = "agents may end with `exec format error`"


@dataclass(frozen=True, slots=True)
class SandboxSetup:
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


async def prepare_sandboxes(
    engine: Engine | None, around: Surroundings, gate_base: str | None, run_dir: Path, short_dir: Path
) -> SandboxSetup:
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
        return SandboxSetup(ProcessSandbox)
    image = await agents_image(engine, around.image)
    gate_image = await ensure_image(engine, "gate", gate_base or Environment.read().gate_base)
    gate = await choose_gate_mode(engine, around.gate, gate_image, run_dir, short_dir)
    ports = around.reach.ports
    sentences = tuple(filter(None, (_platform_warning(image, engine, around), gate.sentence)))
    return SandboxSetup(lambda spec: DockerSandbox(spec, engine, gate_image, ports=ports), gate, sentences, image.env)


def _platform_warning(image: Image, engine: Engine, around: Surroundings) -> str:
    """Return a warning if the agents' image is for another platform."""
    theirs, ours = f"{image.os}/{image.architecture}", f"{engine.version.os}/{engine.version.arch}"
    if theirs == ours or around.engine_options.platform is not None:
        return ""
    what = "32-bit programs do not run in a trial" if image.architecture in _OF_32_BITS else _NO_EXEC
    return f"the image {around.image} is for {theirs}, and this engine is {ours}: {what}"
