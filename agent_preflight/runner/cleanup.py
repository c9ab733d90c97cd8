"""Cleans up after a trial, in one order: M17 (how long an answer is read), C11 (one step at a time), C12 (ending a container).

Freeze the account, kill the agent, copy its output, remove its sandbox, settle, read the key's usage, close the account, delete
the key, write the summary. Each step is verified, logged as an event and named in the summary: `ok`, `unverified` or `failed`.
The steps after a failed one are still carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from agent_preflight.base.usd import exact, pusd
from agent_preflight.models import RunResult
from agent_preflight.openrouter.patch_points import replacement
from agent_preflight.provision import delete_sub_key, get_usage, read_sub_key_usage
from agent_preflight.runner.loop import run_until
from agent_preflight.runner.notices import WARNING
from agent_preflight.runner.progress import now_s
from agent_preflight.runner.running_trial import RunningTrial
from agent_preflight.runner.trial_score import NOT_YET, score_trial
from agent_preflight.runs.folder import write_private
from agent_preflight.runs.plan import output_policy
from agent_preflight.runs.result import SPENT, TrialFacts, result_of, summary_document, unexplained_usage_pusd
from agent_preflight.runs.status import end_note
from agent_preflight.runs.trial_state import CleanUpStep, Ender, EndReason, TrialState, owed, worst
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.scoring.reading import unscored
from agent_preflight.sidecar.control_client import ControlError
from preflight_proxy.base.control_messages import UNKNOWN_ACCOUNT
from preflight_proxy.core.errors import OperatingError

TRIAL_SETTLE_S_MAX = 240.0
"""After this long the summary is written although costs are pending, and the sub-key stays, as evidence for them."""
LOOK_S = (0.05, 1.0)
"""Pause between two reads of the balance: the first, and the longest."""
TRIAL_LAST_OUTPUT_S = 2.0
"""How long the streams of an ended agent are read: a child process may hold them open for ever."""
OF_THE_ACCOUNT = frozenset({CleanUpStep.FREEZE, CleanUpStep.SETTLE, CleanUpStep.ACCOUNT})
"""Steps without work if no account was opened."""
CONTAINER = "agent"
"""The part of a sandbox's removal that removes the agent's container."""
DRIFT_PUSD_MIN = pusd("0.000001")
"""OpenRouter rounds its figure for a key at about this. A larger excess over the ledger is M23 (two checks of the ledger)."""


async def clean_up(trial: RunningTrial) -> RunResult:
    """Undo what the trial's set-up made, write its summary and return its result. Raises nothing."""
    end = _TrialCleanUp(trial)
    await end.run()
    result = result_of(trial.plan, trial.run.settings.agents_network, end.facts())
    notes = [str(note) for note in result.preflight["notes"]]
    for note in notes:  # the table at the end of a run shows them, and one trial by itself has none
        (trial.say if trial.run.folder.single else trial.log)(note)
    if result.preflight["status"] == SPENT:
        trial.take_balance(replace(trial.balance, spent=True))  # which is noticed once
    if trial.run.settings.score is not None:
        await _score(trial, result, end)
    _write(trial, result)
    trial.move(TrialState.SUMMARISED)
    trial.update(
        state=result.preflight["status"],
        note=end_note(result.error, notes) or trial.output.end_status,
        ok=result.ok,
    )
    trial.watch.close()  # else its thread waits for ever after a failed step
    await trial.tasks.cancel()
    trial.events.close()
    return result


async def _score(trial: RunningTrial, result: RunResult, end: _TrialCleanUp) -> None:
    """Put a trial's score into its result. The summary is written before that, because a runner may be lost meanwhile."""
    extra = result.preflight
    extra["score"] = unscored(NOT_YET).document()
    _write(trial, result)
    trial.update(state="scoring")
    score, steps = await score_trial(trial, result, end.kept)
    extra["score"] = score.document()
    extra["cleanup"] = {**extra["cleanup"], **steps}
    for step, how in steps.items():
        trial.events.log("preflight_cleanup", step=step, result=how)
        if how != "ok":
            extra["warnings"].append(f"{step}: not seen to be gone ({how})")
    trial.events.log("preflight_score", score=score.value, success=score.success, reason=score.reason)
    if score.reason is not None:
        trial.say(f"no score: {score.reason}" if score.value is None else f"score: {score.reason}")


def _write(trial: RunningTrial, result: RunResult) -> None:
    try:
        write_private(trial.folder / "summary.json", summary_document(result))
    except OSError as exc:
        trial.say(f"summary.json could not be written: {exc}")


class _TrialCleanUp:
    """The clean-up of one trial."""

    def __init__(self, trial: RunningTrial) -> None:
        self.trial = trial
        self.sidecar = trial.run.sidecar
        self.hurry = trial.run.stop.hurry
        self.opened = self.sidecar.served and not trial.state < TrialState.OPENED
        self.settled = not self.opened
        self.key_usage_usd: Decimal | None = None
        self.kept = KeptOutput(why="the agent never ran")
        self.steps: dict[str, Step] = {}
        self.warnings: list[str] = [*trial.warnings, *getattr(trial.sandbox, "warnings", ())]

    @property
    def ending(self) -> EndReason:
        """Why the trial ended."""
        return self.trial.ending or EndReason(Ender.ERROR, "the trial ended without a reason")

    async def run(self) -> None:
        """Carry out the steps that the trial's state needs, in order."""
        actions: dict[CleanUpStep, tuple[Callable[[], Awaitable[Step]], TrialState | None]] = {
            CleanUpStep.FREEZE: (self._freeze, TrialState.FROZEN),
            CleanUpStep.KILL: (self._kill, None),
            CleanUpStep.OUTPUT: (self._keep_output, None),
            CleanUpStep.SANDBOX: (self._close_sandbox, TrialState.GONE),
            CleanUpStep.SETTLE: (self._settle, TrialState.SETTLED),
            CleanUpStep.KEY_USAGE: (self._read_key_usage, None),
            CleanUpStep.ACCOUNT: (self._close_account, None),
            CleanUpStep.SUB_KEY: (self._delete_key, TrialState.KEY_DELETED),
        }
        for step in owed(self.trial.state):
            action, reached = actions[step]
            await self._perform(step, action)
            if reached is not None:
                self.trial.move(reached)

    async def _perform(self, step: CleanUpStep, action: Callable[[], Awaitable[Step]]) -> None:
        try:
            result = "ok" if step in OF_THE_ACCOUNT and not self.opened else await action()
        except Exception as exc:
            result = "failed"
            self._warn(f"{step.value}: {EndReason.broken(exc).text}")
        self.steps[step.value] = result
        self.trial.events.log("preflight_cleanup", step=step.value, result=result)

    def _warn(self, text: str, kind: str = WARNING) -> None:
        self.warnings.append(text)
        self.trial.warn(text, kind)

    async def _freeze(self) -> Step:
        try:
            balance = await self.sidecar.freeze(self.trial.alias, f"trial ended: {self.ending.by.value}")
        except ControlError as exc:
            if self.trial.alias not in self.sidecar.not_opened or exc.code != UNKNOWN_ACCOUNT:
                raise
            self.opened, self.settled = False, True  # no account was opened, and none can be opened after this
        else:
            self.trial.take_balance(balance)
        return "ok"

    async def _kill(self) -> Step:
        return "ok" if self.trial.sandbox is None else await self.trial.sandbox.kill()

    async def _keep_output(self) -> Step:
        """Copy the agent's output. A hurry does not skip this, because the output would be lost; it has a time limit."""
        trial = self.trial
        if trial.sandbox is None:
            return "ok"
        try:
            self.kept = await trial.sandbox.keep(trial.folder)
        except OperatingError as exc:
            self.kept = KeptOutput(why="it could not be copied yet")
            self._warn(str(exc))
            return "unverified"
        if (warning := self.kept.warning(output_policy(trial.run.settings))) is not None:
            self._warn(warning)
        return "ok"

    async def _close_sandbox(self) -> Step:
        parts = {} if self.trial.sandbox is None else await self.trial.sandbox.close()
        await self._take_last_output()
        is_kept = self.steps.get(CleanUpStep.OUTPUT.value) == "ok"
        for name, result in parts.items():
            if result != "ok" and (is_kept or name != CONTAINER):  # else the warning about the output says it
                self._warn(f"{name}: not seen to be gone ({result})")
            self.steps[name] = result
        return worst(parts)

    async def _take_last_output(self) -> None:
        """Read the streams to their end, then wait until the user's code has handled all events."""
        if self.trial.readers:
            await asyncio.wait([*self.trial.readers, *self.trial.exiting], timeout=TRIAL_LAST_OUTPUT_S)
        self.trial.watch.close()
        if self.trial.watching is not None:
            await run_until(self.trial.watching, self.hurry)

    async def _settle(self) -> Step:
        """Wait until nothing is pending. The proxy decides unknown costs meanwhile: M13 (a void needs proof)."""
        until_s, pause_s = now_s() + TRIAL_SETTLE_S_MAX, LOOK_S[0]
        while True:
            self.trial.take_balance(await self.sidecar.balance(self.trial.alias))
            if not self.trial.balance.pending_pusd:
                self.settled = True
                return "ok"
            if now_s() > until_s or self.hurry.is_set():
                self._warn(f"${exact(self.trial.balance.pending_pusd)} is still pending: its cost is not known yet")
                return "unverified"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.hurry.wait(), pause_s)
            pause_s = min(pause_s * 2, LOOK_S[1])

    async def _read_key_usage(self) -> Step:
        """Read what OpenRouter has counted for the sub-key, to compare. It lags, so it does not change the cost."""
        trial, sub_key = self.trial, self.trial.sub_key
        assert sub_key is not None
        if (own_get_usage := replacement(get_usage)) is not None:
            usage = await asyncio.to_thread(own_get_usage, sub_key.key.reveal())
            self.key_usage_usd = None if usage is None else Decimal(str(usage))
        else:
            self.key_usage_usd = await asyncio.to_thread(
                read_sub_key_usage, trial.run.request.admin_key, sub_key.hash, trial.run.base_url
            )
        if self.key_usage_usd is None:
            return "unverified"
        excess_pusd = unexplained_usage_pusd(trial.plan, trial.balance, self.key_usage_usd)
        if self.opened and excess_pusd > DRIFT_PUSD_MIN:
            ledger_pusd = pusd(self.key_usage_usd) - excess_pusd
            drift = f"drift: OpenRouter counts ${self.key_usage_usd}, the ledger ${exact(ledger_pusd)}"
            self._warn(drift, "drift")
        return "ok"

    async def _close_account(self) -> Step:
        if not self.settled:
            return "unverified"
        self.trial.take_balance(await self.sidecar.close(self.trial.alias))
        return "ok"

    async def _delete_key(self) -> Step:
        """Delete the sub-key, unless its usage is still needed as evidence for what is pending."""
        run, sub_key = self.trial.run, self.trial.sub_key
        assert sub_key is not None
        if not self.settled:
            return "unverified"
        if await asyncio.to_thread(delete_sub_key, run.request.admin_key, sub_key.hash, run.base_url):
            return "ok"
        self._warn(f"sub-key {sub_key.name} could not be seen to be deleted; it ends by itself within 7 days")
        return "unverified"

    def facts(self) -> TrialFacts:
        """Return the facts for the trial's result."""
        trial, output = self.trial, self.trial.output
        output.caps_hit["on_event_backlog"] += trial.watch.dropped
        output.caps_hit["policy_events"] += trial.watch.forgotten
        output.caps_hit["log_lines"] += trial.events.lost
        return TrialFacts(
            ending=self.ending,
            exit=trial.exit,
            started_at=trial.began_at,
            finished_at=datetime.now(UTC),
            duration_s=trial.elapsed_s,
            balance=trial.balance if self.opened or trial.plan.prior is not None else None,
            key_usage_usd=self.key_usage_usd,
            tool_calls=output.tool_calls,
            events_count=output.events_count,
            claims=output.claims,
            policy_errors=trial.watch.policy_errors,
            caps_hit=+output.caps_hit,
            warnings=tuple(self.warnings),
            cleanup=self.steps,
            output=self.kept,
            last_words=output.last_words,
            tags=trial.run.settings.tags or {},
        )
