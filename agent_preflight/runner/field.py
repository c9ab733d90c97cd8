"""A whole run: folder, preflight, plan, proxy, trials, end. The one path behind every public function.

way made -> folder locked -> preflight -> plan.json -> proxy -> trials -> proxy stopped -> lock given back
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar

from agent_preflight.eject import EjectPolicy
from agent_preflight.engine.client import Engine
from agent_preflight.environment.authority import Authority, make_authority
from agent_preflight.models import RunResult
from agent_preflight.openrouter.http import resolve_base_url
from agent_preflight.openrouter.patch_points import in_force, is_replaced
from agent_preflight.provision import get_account_balance
from agent_preflight.runner.cleanup import clean_up
from agent_preflight.runner.drive import run_trial
from agent_preflight.runner.loop import StopSignal
from agent_preflight.runner.machine_check import MachineReport
from agent_preflight.runner.messages import how_to_stop, stopping
from agent_preflight.runner.preparation import (
    SandboxSetup,
    announce,
    check_all,
    look_first,
    no_credit,
    open_folder,
    prepare_sandboxes,
    sources_of,
    sweep_beside,
    sweep_for,
    trials_of,
)
from agent_preflight.runner.progress import RunProgress
from agent_preflight.runner.resume import PreviousRun, read_previous_run, set_aside
from agent_preflight.runner.running_trial import RunContext, RunningTrial
from agent_preflight.runner.trial_start import NO_CREDIT, AccountCredit, TrialSlots
from agent_preflight.runner.user_thread import UserThread
from agent_preflight.runs.folder import RunFolder
from agent_preflight.runs.plan import TrialPlan, policy_for_trial
from agent_preflight.runs.plan_file import plan_document
from agent_preflight.runs.request import Finished, Request
from agent_preflight.runs.trial_state import Ender, EndReason
from agent_preflight.sidecar import STOP_S_MAX, Sidecar, SidecarSettings
from preflight_proxy.base.control_messages import LedgerEvent
from preflight_proxy.base.tasks import Tasks

T = TypeVar("T")

KEPT_S = 0.1
"""A kind of gate that was found out before is known within this."""
HURRY_STOP_S = 2.0
"""What a proxy gets to end when settlement is not awaited: its books are on disk already."""


async def run_field(request: Request, stop: StopSignal, progress: RunProgress | None = None) -> Finished:
    """Run a field of trials to the end of each.

    Args:
        request: What to do.
        stop: How a person ends it early; trials that have not begun then never do, and have no result.
        progress: Told of every change, for whoever shows the run.

    Raises:
        ConfigError: The request cannot be carried out; nothing was made.
        OperatingError: No trial could be begun.
    """
    progress = progress or RunProgress()
    stop.on_first(lambda: _aloud(request, progress, stopping(stop.again)))
    trials_of(request, request.run_id or "")  # what is wrong with them is told before an engine is looked for
    async with _engine(request) as engine:
        found = await look_first(request, engine, stop)
        if request.may_have_begun:
            await sweep_for(request, engine)
        with open_folder(request) as folder:
            return await _in_folder(request, stop, progress, engine, folder, found)


def _engine(request: Request) -> AbstractAsyncContextManager[Engine | None]:
    return Engine.open() if request.around.sandbox == "docker" else nullcontext()


async def _in_folder(
    request: Request,
    stop: StopSignal,
    progress: RunProgress,
    engine: Engine | None,
    folder: RunFolder,
    found: MachineReport,
) -> Finished:
    """Run what is due of a run. What needs no answer of another step goes on beside it."""
    beside = Tasks()
    try:
        run_id = request.run_id or folder.path.name
        trials = trials_of(request, run_id)
        document = plan_document(run_id, trials, request, datetime.now(UTC).isoformat())
        retry = request.retry_failed
        earlier = read_previous_run(folder.path, document, retry_failed=retry) if request.resume else PreviousRun()
        due = [earlier.of(trial) for trial in trials if trial.alias not in earlier.kept]
        policies = [policy_for_trial(request.policy, request.idle_timeout_s) for _ in due]
        results = dict(earlier.kept)
        held_back: tuple[str, ...] = ()
        for trial in trials:
            progress.put(earlier.row(trial))
        swept = _begin(beside, sweep_beside(request, engine), "sweep")
        if due:
            work = prepare_sandboxes(engine, request.around, request.gate_base, folder.path, folder.short_dir)
            preparing = _begin(beside, work, "preparation")
            await check_all(request, stop, folder, found, sources_of(request, engine, due))
            if not stop.ending.is_set():
                folder.write_plan(earlier.continued(document))
                announce(request, folder, run_id, due)
                progress.begin("" if request.single else how_to_stop(request, run_id))
                run = _Run(request, folder, run_id, stop, progress)
                results |= await run.trials(list(zip(due, policies, strict=True)), preparing)
                held_back = tuple(run.held_back)
        await swept
        return Finished(folder.path, [results[trial.alias] for trial in trials if trial.alias in results], held_back)
    finally:
        await beside.cancel()


def _aloud(request: Request, progress: RunProgress, text: str) -> None:
    """Say what a person must read at once, also where a view hides what the run says."""
    progress.alert(text)
    request.say(text)


def _begin(beside: Tasks, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Begin what is awaited later, or never, if something else fails before."""
    task = beside.spawn(work, name, awaited=True)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class _Run:
    """The part of a run that has a proxy."""

    def __init__(
        self, request: Request, folder: RunFolder, run_id: str, stop: StopSignal, progress: RunProgress
    ) -> None:
        self._request = request
        self._folder = folder
        self._run_id = run_id
        self._stop = stop
        self._board = progress
        self._live: dict[str, RunningTrial] = {}
        self._turns = TrialSlots(request.workers)
        self._base_url = resolve_base_url(request.base_url)
        self._sidecar = self._new_sidecar()
        self._tasks = Tasks()
        self._starting: asyncio.Task[None] | None = None
        self._credit = AccountCredit(self._balance_usd, self._no_credit)
        self.held_back: list[str] = []

    def _new_sidecar(self) -> Sidecar:
        request, folder = self._request, self._folder
        settings = SidecarSettings(
            data=folder.path,
            upstream=self._base_url,
            run=self._run_id,
            short_dir=folder.short_dir,
            listen="127.0.0.1:0" if request.around.sandbox == "process" else None,
            byok=request.byok,
        )
        return Sidecar(settings, self._hear, self._dead, request.say)

    async def trials(
        self, planned: Sequence[tuple[TrialPlan, EjectPolicy]], preparing: asyncio.Task[SandboxSetup]
    ) -> dict[str, RunResult]:
        """Run all trials, some at once; the results of those that began, by alias."""
        try:
            around = self._request.around
            prepared = await self._start_proxy(preparing)
            for sentence in prepared.sentences:
                self._request.say(sentence)
            authority = await asyncio.to_thread(self._authority)  # loads a library: the proxy starts meanwhile
            shared = RunContext(
                run_id=self._run_id,
                folder=self._folder,
                around=around,
                admin_key=self._request.admin_key,
                base_url=self._base_url,
                sidecar=self._sidecar,
                make_sandbox=prepared.make_sandbox,
                stop=self._stop,
                progress=self._board,
                say=self._request.say,
                free_bytes_min=self._request.free_bytes_min,
                authority=authority,
                portal_host=prepared.gate.host,
                image_env=prepared.image_env,
            )
            results = await asyncio.gather(
                *(self._one(plan, number, policy, shared) for number, (plan, policy) in enumerate(planned))
            )
            if self._starting is not None:
                await self._starting  # a proxy that did not start has ended every trial, and is the error of the run
            return {result.alias: result for result in results if result is not None}
        finally:
            await self._tasks.cancel()
            await self._credit.close()
            await self._sidecar.stop(within_s=HURRY_STOP_S if self._stop.hurry.is_set() else STOP_S_MAX)

    async def _start_proxy(self, preparing: asyncio.Task[SandboxSetup]) -> SandboxSetup:
        """Start the proxy beside the preparation; once more if that finds, late, that gates are portable.

        Trials wait for the proxy where they need it. Only an address of the proxy that agents are told is waited for here.
        """
        await asyncio.wait([preparing], timeout=KEPT_S)
        host = (await preparing).gate.listen_host if preparing.done() else None
        self._starting = _begin(self._tasks, self._sidecar.start(portal_host=host), "proxy start")
        prepared = await preparing
        if prepared.gate.listen_host != host:
            await self._starting
            await self._sidecar.stop()
            self._sidecar = self._new_sidecar()
            await self._sidecar.start(portal_host=prepared.gate.listen_host)
        elif host is not None or self._request.around.sandbox == "process":
            await self._starting
        return prepared

    def _authority(self) -> Authority | None:
        if self._request.around.sandbox == "process":
            return None
        return make_authority(self._run_id, datetime.now(UTC))

    async def _one(self, plan: TrialPlan, number: int, policy: EjectPolicy, shared: RunContext) -> RunResult | None:
        async with self._turns.turn(plan.alias):
            if self._stop.ending.is_set():
                self._board.update(plan.alias, state="not started")
                return None
            if self._turns.stopped(plan.alias) is None and not await self._credit.settled():
                self._board.update(plan.alias, state="not started", note="the OpenRouter account has no credit")
                self.held_back.append(plan.alias)
                return None
            if self._request.resume:
                set_aside(self._folder.trial_dir(plan.alias))
            trial = self._live[plan.alias] = RunningTrial(plan, number, policy, self._request.on_event, shared)
            if (reason := self._turns.stopped(plan.alias)) is not None:
                trial.end(EndReason(Ender.STOPPED, reason))
            result = await (run_trial(trial) if reason is None else clean_up(trial))
            if result.preflight["never_served"] == NO_CREDIT:  # its event may still be on its way
                self._credit.refused()
            await self._complete(trial, result)
            return result

    async def _complete(self, trial: RunningTrial, result: RunResult) -> None:
        """Call the user's function; what it raises costs nobody a result."""
        if self._request.on_complete is None:
            return
        user_thread, on_complete = UserThread(f"on_complete {trial.alias}"), self._request.on_complete
        try:
            await user_thread.call(lambda: on_complete(self._folder.path, result))
        except Exception as exc:
            trial.say(f"on_complete raised {type(exc).__name__}: {exc}")
        finally:
            user_thread.close()

    def _hear(self, event: LedgerEvent) -> None:
        if event.type == "stop":
            self._stop_by_hand(event.trial, event.reason or "stopped by a person")
            return
        if event.type == "ledger":
            self._request.say(
                f"{event.closed}. The proxy sends no further call of this run; calls under way go on, and their costs "
                "cannot be booked."
            )
            return
        trial = self._live.get(event.account or "")
        if trial is not None:
            trial.hear(event)
        if event.type == "refused" and event.code == NO_CREDIT:
            self._credit.refused()

    def _balance_usd(self) -> float | None:
        key = self._request.admin_key
        if is_replaced(get_account_balance):
            return in_force(get_account_balance)(key.reveal())[0]
        return get_account_balance(key, base_url=self._base_url)[0]

    def _no_credit(self) -> None:
        _aloud(self._request, self._board, no_credit(self._board.rows(), self._request, self._run_id))

    def _stop_by_hand(self, alias: str | None, reason: str) -> None:
        """End a trial, or all, in order; what has not begun never does, and is `stopped` only if it is meant alone."""
        for trial in self._live.values():
            if alias in (None, trial.alias):
                trial.end(EndReason(Ender.STOPPED, reason))
        if alias is None:
            self._stop.ending.set()
        else:
            self._turns.stop(alias, reason)

    def _dead(self, reason: str) -> None:
        for trial in self._live.values():
            trial.end(EndReason(Ender.ERROR, reason))
