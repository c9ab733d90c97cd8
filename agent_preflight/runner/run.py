"""A whole run: folder, preflight, plan, proxy, trials, end. The one path behind every public function.

checked -> folder locked -> preflight -> plan.json -> proxy -> trials -> proxy stopped -> lock given back
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_preflight.authority import Authority, make_authority
from agent_preflight.control_client import LedgerEvent
from agent_preflight.eject import EjectPolicy
from agent_preflight.models import RunResult
from agent_preflight.openrouter import resolve_base_url
from agent_preflight.runner.board import Board, Row
from agent_preflight.runner.drive import run_trial
from agent_preflight.runner.folder import RunFolder, open_named, open_new, open_single
from agent_preflight.runner.lane import Lane
from agent_preflight.runner.live import LiveTrial, Shared
from agent_preflight.runner.loop import Stop
from agent_preflight.runner.plan import (
    Arguments,
    Budget,
    Models,
    Surroundings,
    TrialPlan,
    check_run_id,
    default_run_id,
    plan_document,
    plan_trials,
)
from agent_preflight.runner.policies import PolicyGiven, policy_for_trial
from agent_preflight.runner.reach import reach_warnings
from agent_preflight.runner.sandboxes import sandbox_maker
from agent_preflight.runner.tidy import tidy
from agent_preflight.runner.trial import By, Ending
from agent_preflight.sidecar import STOP_S_MAX, Sidecar, SidecarSettings
from agent_preflight.sweeping import Scope
from preflight_proxy.core.secret import Secret

HURRY_STOP_S = 2.0
"""What a proxy gets to end when settlement is not awaited: its books are on disk already."""
KEY_NAME_BYTES = 6

OnEvent = Callable[[dict[str, Any]], object]
OnComplete = Callable[[Path, RunResult], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that a caller may say of a run.

    Attributes:
        models: Pairs of model id and alias.
        admin_key: Makes and deletes the sub-keys.
        budget: Dollars for each trial, or by alias.
        around: What all trials have in common.
        runs_dir: Where the run's folder is made.
        run_id: None for one that is new.
        suggested_id: What a new one is to be, if it is free; made of the time if not given.
        single: The trial's own folder below `runs_dir` is the run's folder (`run_container`).
        arguments: The agents' arguments, for all or by alias.
        policy: The eject policy, or what makes one.
        idle_timeout_s: For the default policy.
        on_event: The user's function for each event.
        on_complete: The user's function for each result.
        workers: How many trials go on at once.
        base_url: OpenRouter's API base; None for the usual one.
        gate_base: What the gate image is built on; None for `PREFLIGHT_GATE_BASE`, else the usual one.
        preflight: Called before anything costs money; raises what ends the run.
        say: Prints a line for a person.
    """

    models: Models
    admin_key: Secret
    budget: Budget
    around: Surroundings
    runs_dir: Path
    run_id: str | None = None
    suggested_id: str | None = None
    single: bool = False
    arguments: Arguments | None = None
    policy: PolicyGiven = None
    idle_timeout_s: float = 300.0
    on_event: OnEvent | None = None
    on_complete: OnComplete | None = None
    workers: int = 8
    base_url: str | None = None
    gate_base: str | None = None
    preflight: Callable[[], object] | None = None
    say: Callable[[str], None] = field(default=lambda line: None)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over: its results in the order of its models, and where its files are."""

    run_dir: Path
    results: list[RunResult]


async def run_field(request: Request, stop: Stop, board: Board | None = None) -> Finished:
    """Run a field of trials to the end of each.

    Args:
        request: What to do.
        stop: How a person ends it early; trials that have not begun then never do, and have no result.
        board: Told of every change, for whoever shows the run.

    Raises:
        ConfigError: The request cannot be carried out; nothing was made.
        OperatingError: No trial could be begun.
    """
    board = board or Board()
    _plans(request, request.run_id or "")
    containers = request.around.sandbox == "docker"
    await tidy(Scope(request.runs_dir, request.admin_key, request.base_url, containers=containers), request.say)
    with _folder(request) as folder:
        run_id = request.run_id or folder.path.name
        trials = _plans(request, run_id)
        policies = [policy_for_trial(request.policy, request.idle_timeout_s) for _ in trials]
        if request.preflight is not None:
            await _preflight(request.preflight, stop)
        if stop.ending.is_set():
            return Finished(folder.path, [])
        folder.write_plan(plan_document(run_id, trials, request.around, datetime.now(UTC).isoformat()))
        _announce(request, folder, run_id, len(trials))
        run = _Run(request, folder, run_id, stop, board)
        return Finished(folder.path, await run.trials(list(zip(trials, policies, strict=True))))


def _plans(request: Request, run_id: str) -> tuple[TrialPlan, ...]:
    return plan_trials(
        request.models, run_id, request.budget, request.arguments, lambda: secrets.token_hex(KEY_NAME_BYTES)
    )


def _folder(request: Request) -> RunFolder:
    """Open the run's folder, after everything has been checked that can be checked without one."""
    run_id = check_run_id(request.run_id or request.suggested_id or default_run_id(local_now()))
    plans = _plans(request, run_id)
    policy_for_trial(request.policy, request.idle_timeout_s)
    runs_dir = request.runs_dir.absolute()
    if request.single:
        return open_single(runs_dir, plans[0].alias)
    if request.run_id is None:
        return open_new(runs_dir, run_id)
    return open_named(runs_dir, run_id, [plan.alias for plan in plans])


def local_now() -> datetime:
    """Return local time: run ids show it, as ever."""
    return datetime.now().astimezone()


async def _preflight(check: Callable[[], object], stop: Stop) -> None:
    """Run the checks off the loop; they delete their own test keys, so only a person in a hurry leaves them alone."""
    lane = Lane("preflight")
    checking = asyncio.ensure_future(lane.call(check))
    hurry = asyncio.ensure_future(stop.hurry.wait())
    await asyncio.wait([checking, hurry], return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    lane.close()
    if checking.done():
        checking.result()
    else:
        checking.cancel()


def _announce(request: Request, folder: RunFolder, run_id: str, count: int) -> None:
    if request.single:
        return
    request.say(f"Starting {count} trial{'s' if count > 1 else ''} in {folder.path}")
    request.say(f"  network: {request.around.network}; budgets hold whatever the agents do")
    if request.around.sandbox == "process":
        request.say(
            "  agents reach OpenRouter by the base URL that they are told; https://openrouter.ai is not the proxy"
        )
    for warning in reach_warnings(
        request.around.reach, request.around.env or {}, in_container=request.around.sandbox == "docker"
    ):
        request.say(f"  {warning}")
    request.say(f"  watch with: agent-preflight status {run_id}")


class _Run:
    """The part of a run that has a proxy."""

    def __init__(self, request: Request, folder: RunFolder, run_id: str, stop: Stop, board: Board) -> None:
        self._request = request
        self._folder = folder
        self._run_id = run_id
        self._stop = stop
        self._board = board
        self._live: dict[str, LiveTrial] = {}
        self._stopped: set[str] = set()
        self._base_url = resolve_base_url(request.base_url)
        settings = SidecarSettings(
            data=folder.path,
            upstream=self._base_url,
            run=run_id,
            short_dir=folder.short_dir,
            listen="127.0.0.1:0" if request.around.sandbox == "process" else None,
        )
        self._sidecar = Sidecar(settings, self._hear, self._dead, request.say)

    async def trials(self, planned: Sequence[tuple[TrialPlan, EjectPolicy]]) -> list[RunResult]:
        """Run all trials, some at once; the results of those that began, in the given order."""
        for plan, _ in planned:
            self._board.put(Row(plan.alias, plan.model_id, plan.budget_pusd))
        try:
            around = self._request.around
            make_sandbox = await sandbox_maker(around.sandbox, self._request.gate_base, around.reach.ports)
            await self._sidecar.start()
            shared = Shared(
                run_id=self._run_id,
                folder=self._folder,
                around=around,
                admin_key=self._request.admin_key,
                base_url=self._base_url,
                sidecar=self._sidecar,
                make_sandbox=make_sandbox,
                stop=self._stop,
                board=self._board,
                say=self._request.say,
                authority=self._authority(),
            )
            places = asyncio.Semaphore(max(1, self._request.workers))
            results = await asyncio.gather(
                *(self._one(places, plan, number, policy, shared) for number, (plan, policy) in enumerate(planned))
            )
            return [result for result in results if result is not None]
        finally:
            await self._sidecar.stop(within_s=HURRY_STOP_S if self._stop.hurry.is_set() else STOP_S_MAX)

    def _authority(self) -> Authority | None:
        if self._request.around.sandbox == "process":
            return None
        return make_authority(self._run_id, datetime.now(UTC))

    async def _one(
        self,
        places: asyncio.Semaphore,
        plan: TrialPlan,
        number: int,
        policy: EjectPolicy,
        shared: Shared,
    ) -> RunResult | None:
        async with places:
            if self._stop.ending.is_set() or plan.alias in self._stopped:
                self._board.update(plan.alias, state="not started")
                return None
            trial = self._live[plan.alias] = LiveTrial(plan, number, policy, self._request.on_event, shared)
            result = await run_trial(trial)
            await self._complete(trial, result)
            return result

    async def _complete(self, trial: LiveTrial, result: RunResult) -> None:
        """Call the user's function; what it raises costs nobody a result."""
        if self._request.on_complete is None:
            return
        lane, on_complete = Lane(f"on_complete {trial.alias}"), self._request.on_complete
        try:
            await lane.call(lambda: on_complete(self._folder.path, result))
        except Exception as exc:
            trial.say(f"on_complete raised {type(exc).__name__}: {exc}")
        finally:
            lane.close()

    def _hear(self, event: LedgerEvent) -> None:
        if event.type == "stop":
            self._stop_by_hand(event.facts.get("trial"), str(event.facts.get("reason") or "stopped by a person"))
            return
        trial = self._live.get(event.account)
        if trial is not None:
            trial.hear(event)

    def _stop_by_hand(self, alias: str | None, reason: str) -> None:
        """End a trial, or all, in order; what has not begun never does."""
        for trial in self._live.values():
            if alias in (None, trial.alias):
                trial.end(Ending(By.STOPPED, reason))
        if alias is None:
            self._stop.ending.set()
        else:
            self._stopped.add(alias)

    def _dead(self, reason: str) -> None:
        for trial in self._live.values():
            trial.end(Ending(By.ERROR, reason))
