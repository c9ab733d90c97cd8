"""A whole run. Every public function goes through `run_field`.

trials planned -> folder locked -> machine checked -> dead runs swept -> checks -> plan.json -> proxy -> trials -> proxy stopped
-> lock released

If the folder may be that of an earlier run, the sweep comes first: it ends what that run has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from agent_preflight.base.usd import exact
from agent_preflight.eject import EjectPolicy
from agent_preflight.engine.client import Engine
from agent_preflight.environment.authority import make_authority
from agent_preflight.models import RunResult
from agent_preflight.openrouter.http import resolve_base_url
from agent_preflight.openrouter.patch_points import read
from agent_preflight.provision import get_account_balance
from agent_preflight.runner.cleanup import clean_up
from agent_preflight.runner.drive import run_trial
from agent_preflight.runner.loop import StopSignal, in_thread
from agent_preflight.runner.machine_check import check_machine
from agent_preflight.runner.messages import announce, how_to_stop, no_credit, stopping
from agent_preflight.runner.notices import WARNING, Notices, run_done
from agent_preflight.runner.preparation import (
    SandboxSetup,
    check_all,
    open_folder,
    prepare_sandboxes,
    run_id_of,
    sweep_for,
    trials_of,
    with_key_rooms,
)
from agent_preflight.runner.progress import RunProgress
from agent_preflight.runner.resume import PreviousRun, read_previous_run, set_aside
from agent_preflight.runner.running_trial import RunContext, RunningTrial
from agent_preflight.runner.trial_start import NO_CREDIT, AccountCredit, TrialSlots
from agent_preflight.runs.plan import TrialPlan, policy_for_trial
from agent_preflight.runs.plan_file import plan_document
from agent_preflight.runs.request import Finished, RunRequest
from agent_preflight.runs.trial_state import Ender, EndReason
from agent_preflight.sidecar.keeper import STOP_S_MAX, Sidecar
from preflight_proxy.base.config import Config, user_counts_file
from preflight_proxy.base.control_messages import LedgerEvent
from preflight_proxy.base.tasks import Tasks

T = TypeVar("T")

KEPT_S = 0.1
"""How long the start of the proxy waits for the gate mode. A mode that an earlier run has stored is known by then."""
HURRY_STOP_S = 2.0
"""How long a proxy may take to stop in a hurry. Its ledger is on disk already."""


async def run_field(request: RunRequest, stop: StopSignal, progress: RunProgress | None = None) -> Finished:
    """Run all trials of a run to their ends.

    Args:
        request: What to do.
        stop: How a person ends it early. Trials that have not begun then do not begin, and have no result.
        progress: Gets every change, for a view.

    Raises:
        ConfigError: The request cannot be carried out; nothing was made.
        OperatingError: No trial could be begun.
    """
    progress = progress or RunProgress()
    stop.on_first(lambda: _aloud(request, progress, stopping(stop.again)))
    run_id = run_id_of(request)
    trials = trials_of(request, run_id)
    policy, idle_timeout_s = request.settings.eject_policy, request.settings.idle_timeout_s
    policies = {trial.alias: policy_for_trial(policy, idle_timeout_s) for trial in trials}
    aliases = list(policies)
    async with Engine.open() if request.settings.sandbox == "docker" else nullcontext() as engine:
        if request.may_have_begun:
            await sweep_for(request, aliases, engine)
        with open_folder(request, run_id, aliases) as folder:
            if request.settings.run_id is None and folder.path.name != run_id:  # that name was taken
                run_id = folder.path.name
                trials = trials_of(request, run_id)
            base_url = resolve_base_url(request.settings.openrouter_base_url)
            run = _FieldRun(request, run_id, folder, stop, progress, base_url, engine=engine, policies=policies)
            return await run.run(trials)


def _aloud(request: RunRequest, progress: RunProgress, text: str) -> None:
    """Say what a person must read at once, even if a view hides what the run says."""
    progress.alert(text)
    request.say(text)


@dataclass(kw_only=True)
class _FieldRun(RunContext):
    """A run whose folder is locked."""

    engine: Engine | None
    policies: Mapping[str, EjectPolicy]

    def __post_init__(self) -> None:
        self._running: dict[str, RunningTrial] = {}
        self._slots = TrialSlots(self.request.workers)
        self.sidecar = self._new_sidecar()
        self._tasks = Tasks()
        self._credit = AccountCredit(self._balance_usd, self._no_credit, self._tasks)
        self._held_back: list[str] = []
        settings = self.settings
        self.notices = Notices(self.folder.path, self.run_id, settings.notify, settings.on_event, self.request.say)

    async def run(self, trials: Sequence[TrialPlan]) -> Finished:
        """Run the trials that are due. Steps that do not need each other's results run at the same time."""
        request, folder = self.request, self.folder
        try:
            document = plan_document(self.run_id, trials, request, datetime.now(UTC).isoformat())
            previous = PreviousRun()
            if self.settings.resume:
                previous = read_previous_run(folder.path, document, retry_failed=self.settings.retry_failed)
            due = [previous.of(trial) for trial in trials if trial.alias not in previous.kept]
            results = dict(previous.kept)
            for trial in trials:
                self.progress.put(previous.progress(trial))
            sweep = None
            if due:
                folder.is_wanted = False
                due = await with_key_rooms(request, due)
                begun = {trial.alias: trial for trial in due}
                planned = [begun.get(trial.alias, trial) for trial in trials]
                document = plan_document(self.run_id, planned, request, document["created_at"])
                report = await check_machine(self.engine, request, due)
                checking = self._begin(check_all(request, self.stop, report), "checks")
                if report.problems:
                    await checking  # it raises
                if not request.may_have_begun:  # else the sweep came before the folder was opened
                    sweep = self._begin(sweep_for(request, list(self.policies), self.engine), "sweep")
                work = prepare_sandboxes(self.engine, request, folder.path, folder.short_dir)
                preparing = self._begin(work, "preparation")
                await checking
                folder.is_wanted = True  # also if a person stopped the run: its folder is named at the end
                if not self.stop.ending.is_set():
                    folder.write_plan(previous.continued(document))
                    announce(request, folder.path, self.run_id, due)
                    title = "" if request.single else how_to_stop(request, self.run_id)
                    self.progress.begin(folder.path, title)
                    results |= await self._run_due(due, preparing)
                    in_order = [results[trial.alias] for trial in trials if trial.alias in results]
                    text, facts = run_done(in_order, len(trials) - len(in_order))
                    self.notices.add("run_done", text, **facts)
            if sweep is not None:
                await sweep
            in_order = [results[trial.alias] for trial in trials if trial.alias in results]
            return Finished(folder.path, in_order, tuple(self._held_back))
        finally:
            await self.notices.close(self.stop.hurry)
            await self._tasks.cancel()

    def _begin(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task that is awaited later; never, if something else fails first."""
        task = self._tasks.spawn(work, name, awaited=True)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _new_sidecar(self) -> Sidecar:
        request, folder = self.request, self.folder
        config = Config(
            data=str(folder.path),
            upstream=self.base_url,
            run=self.run_id,
            listen="127.0.0.1:0" if self.settings.sandbox == "process" else None,
            byok=self.settings.byok,
            bound=self.settings.bound,
            cache_bound=self.settings.cache_bound,
            weigh=self.settings.weigh,
            share_preambles=self.settings.share_preambles,
            shared_counts_file=str(user_counts_file()),
            tags=dict(self.settings.tags or {}),
        )
        return Sidecar(config, folder.short_dir, self._on_ledger_event, self._on_dead_proxy, request.say)

    async def _run_due(self, due: Sequence[TrialPlan], preparing: asyncio.Task[SandboxSetup]) -> dict[str, RunResult]:
        """Run the due trials, several at once. Returns the results of those that began, by alias."""
        starting = self._begin(self._start_proxy(preparing), "proxy start")
        try:
            self.setup, now = await preparing, datetime.now(UTC)
            self.authority = None if self.engine is None else await asyncio.to_thread(make_authority, self.run_id, now)
            if self.setup.gate.listen_host is not None or self.engine is None:
                await starting  # trials need its address
            for sentence in self.setup.sentences:
                self.request.say(sentence)
            results = await asyncio.gather(*(self._one(plan, number) for number, plan in enumerate(due)))
            await starting  # if the proxy did not start, every trial has ended, and that is the run's error
            return {result.alias: result for result in results if result is not None}
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            await self.sidecar.stop(within_s=HURRY_STOP_S if self.stop.hurry.is_set() else STOP_S_MAX)

    async def _start_proxy(self, preparing: asyncio.Task[SandboxSetup]) -> None:
        """Start the proxy while the sandboxes are prepared. If those need portable gates, start it again with a TCP port."""
        await asyncio.wait([preparing], timeout=KEPT_S)
        host = preparing.result().gate.listen_host if preparing.done() else None
        await self.sidecar.start(portal_host=host)
        needed_host = (await preparing).gate.listen_host
        if needed_host != host:
            await self.sidecar.stop()
            self.sidecar = self._new_sidecar()
            await self.sidecar.start(portal_host=needed_host)

    async def _one(self, plan: TrialPlan, number: int) -> RunResult | None:
        async with self._slots.slot(plan.alias):
            if self.stop.ending.is_set():
                self.progress.update(plan.alias, state="not started")
                return None
            if self._slots.stopped(plan.alias) is None and not await self._credit.settled():
                self.progress.update(plan.alias, state="not started", note="the OpenRouter account has no credit")
                self._held_back.append(plan.alias)
                return None
            if self.settings.resume:
                set_aside(self.folder.trial_dir(plan.alias))
            trial = self._running[plan.alias] = RunningTrial(plan, number, self.policies[plan.alias], self)
            if (reason := self._slots.stopped(plan.alias)) is not None:
                trial.end(EndReason(Ender.STOPPED, reason))
            result = await (run_trial(trial) if reason is None else clean_up(trial))
            if result.preflight["never_served"] == NO_CREDIT:  # its event may not have arrived yet
                self._credit.refused()
            await self._complete(trial, result)
            return result

    async def _complete(self, trial: RunningTrial, result: RunResult) -> None:
        """Call the user's function. An exception does not change the result."""
        if (on_complete := self.settings.on_complete) is None:
            return
        try:
            await in_thread(lambda: on_complete(self.folder.path, result), f"on_complete {trial.alias}")
        except Exception as exc:
            trial.say(f"on_complete raised {type(exc).__name__}: {exc}")

    def _on_ledger_event(self, event: LedgerEvent) -> None:
        match event.type:
            case "stop":
                self._stop_trials(event.trial, event.reason or "stopped by a person")
            case "ledger":
                text = (
                    f"{event.closed}. The proxy sends no further call of this run; calls under way go on, and their costs "
                    "cannot be posted."
                )
                self.notices.add(WARNING, text)
                self.request.say(text)
            case _:
                if (trial := self._running.get(event.account or "")) is not None:
                    trial.on_ledger_event(event)
                if event.type == "refused" and event.code == NO_CREDIT:
                    self._credit.refused()

    def _balance_usd(self) -> float | None:
        return read(get_account_balance, self.request.admin_key.reveal(), self.base_url)[0]

    def _no_credit(self) -> None:
        rows = self.progress.rows()
        text = no_credit(rows, self.request, self.run_id)
        spent, limit = sum(row.balance.posted_pusd for row in rows), sum(row.limit_pusd for row in rows)
        self.notices.add("no_credit", text, spent_usd=exact(spent), limit_usd=exact(limit))
        _aloud(self.request, self.progress, text)

    def _stop_trials(self, alias: str | None, reason: str) -> None:
        """End a trial, or all. Trials that have not begun do not begin. One that was named gets the status `stopped`."""
        for trial in self._running.values():
            if alias in (None, trial.alias):
                trial.end(EndReason(Ender.STOPPED, reason))
        if alias is None:
            self.stop.ending.set()
        else:
            self._slots.stop(alias, reason)

    def _on_dead_proxy(self, reason: str) -> None:
        for trial in self._running.values():
            trial.end(EndReason(Ender.ERROR, reason))
