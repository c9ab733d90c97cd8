"""Completes what a dead run's trials left: copies the output of their containers, writes their summaries or completes them.

A lost trial's summary is made from the plan, the ledger and the event log. A summary that was written before the last costs
were known, or before the output was copied, gets these.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.docker.agent_files import keep
from agent_preflight.docker.sweep import EngineLeftover
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.runs.costs import LEDGER, accounts_of
from agent_preflight.runs.event_log import read_events
from agent_preflight.runs.folder import write_private
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials, trial_folder
from agent_preflight.runs.result import TrialFacts, result_of, summary_document
from agent_preflight.runs.trial_state import CleanUpStep, Ender, EndReason
from agent_preflight.sandboxes.kept_output import RECORD, KeptOutput, OutputPolicy
from agent_preflight.scoring.reading import unscored
from preflight_proxy.base.control_messages import Balance, balance_of
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.ledger.rows import Account

LOST = EndReason(Ender.LOST, "the runner was lost before the trial's end")
SETTLED_LATE = "what its last calls cost was found out by a sweep, after its end"
KEPT_LATE = "its output was copied by a sweep, after its end"
COST_STEPS = (CleanUpStep.SETTLE.value, CleanUpStep.ACCOUNT.value, CleanUpStep.SUB_KEY.value)
SANDBOX_PARTS = ("gate", "forwarder", "volume")


class Outputs:
    """Copies outputs during one sweep, as a `Keeper`.

    Attributes:
        notes: Which outputs were copied.
        trouble: Which could not be copied.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.trouble: list[str] = []

    async def keep(self, engine: Engine, agent: EngineLeftover) -> bool:
        """Copy the output of a stopped container into its trial's folder. Returns False if its container must stay.

        If the engine fails to read it a second time, the readable part is kept and the container may go: else an agent could
        make a folder that no engine reads, and its container would never be removed.
        """
        policy, folder = OutputPolicy.read(agent.output), _folder_of(agent)
        if policy is None or folder is None or kept_of(folder, agent.id) is not None:
            return True
        try:
            kept = await keep(engine, agent.id, policy, folder, last_try=True)
        except (OSError, DockerError) as exc:
            reason = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
            self.trouble.append(
                f"the output of {folder} could not be copied: {reason}; its stopped container stays until a sweep can copy it"
            )
            return False
        if kept.path is not None:
            self.notes.append(f"output of {folder} copied: {kept.files} files in {kept.path}")
        if (warning := kept.warning(policy)) is not None:
            self.notes.append(warning)
        return True

    def gone(self, agent: EngineLeftover) -> None:
        """Complete the summary of a trial whose container a sweep removed."""
        folder = _folder_of(agent)
        kept = None if folder is None else kept_of(folder, agent.id)
        if folder is None or kept is None:
            return
        summary = read_json_object(folder, "summary.json") or {}
        cleanup = _cleanup_of(summary)
        if cleanup.get("output", "ok") == "ok":
            return
        steps = {"output": "ok", "agent": "ok"}
        if all(cleanup.get(part, "ok") == "ok" for part in SANDBOX_PARTS):
            steps["sandbox"] = "ok"
        self.notes += _write(folder, _amended(summary, KEPT_LATE, steps, {"output": kept.document()}))


def kept_of(folder: Path, container: str | None = None) -> KeptOutput | None:
    """Return what was kept of a trial's last container; None if there is no record, or it is of another container."""
    record = read_json_object(folder, RECORD) or {}
    if container is not None and record.get("container") != container:
        return None
    return KeptOutput.read(record.get("output"))


def _folder_of(agent: EngineLeftover) -> Path | None:
    """Return the trial's folder; None if the alias is not a plain name, or the folder does not exist or is a link."""
    if Path(agent.alias).name != agent.alias or agent.alias in ("", ".."):
        return None
    folder = trial_folder(agent.run_dir, agent.alias)
    return folder if folder.is_dir() and not folder.is_symlink() else None


def write_lost_summaries(run_dir: Path, gone: Mapping[str, Decimal | None], engine_clean: bool) -> list[str]:
    """Write the missing summaries of a dead run's trials that began, and complete the unfinished ones.

    Args:
        run_dir: The run's folder, which must be locked.
        gone: Names of sub-keys that are verified as gone, with what OpenRouter had counted for each; None if unknown.
        engine_clean: Nothing of the run is left on the container engine.

    Returns:
        Lines for a person.
    """
    plan = read_json_object(run_dir, "plan.json") or {}
    network = str(plan.get("network", ""))
    latest = {trial.alias: trial for trial in planned_trials(run_dir)}
    notes: list[str] = []
    accounts, balances = _ledger_figures(run_dir, notes)
    for trial in latest.values():
        folder, account = trial_folder(run_dir, trial.alias), accounts.get(trial.alias)
        if not folder.is_dir():
            continue
        key_gone, usage = trial.key_name in gone, gone.get(trial.key_name)
        balance = balances.get(trial.alias)
        if (folder / "summary.json").exists():
            summary = completed(read_json_object(folder, "summary.json") or {}, account, usage) if key_gone else None
        else:
            facts = _facts(folder, balance, key_gone, usage, engine_clean)
            result = result_of(_plan(trial, account), network, facts)
            result.preflight["score"] = unscored(LOST.text).document() if plan.get("score") else None
            result.preflight["tags"] = plan.get("tags") or {}
            summary = summary_document(result)
        if summary is not None:
            notes += _write(folder, summary) or [_line(folder, balance or Balance())]
    return notes


def _ledger_figures(run_dir: Path, notes: list[str]) -> tuple[Mapping[str, Account], Mapping[str, Balance]]:
    """Return a run's accounts by name, also as balances with tokens; none if there is no ledger, or it cannot be read."""
    if not (run_dir / LEDGER).exists():
        notes.append(f"{run_dir}: its proxy never started, so nothing was spent")
        return {}, {}
    try:
        accounts = accounts_of(run_dir)
    except OperatingError as exc:
        notes.append(str(exc))
        return {}, {}
    return accounts, {name: balance_of(account) for name, account in accounts.items()}


def _facts(
    folder: Path, balance: Balance | None, key_gone: bool, usage: Decimal | None, engine_clean: bool
) -> TrialFacts:
    now, events = datetime.now(UTC), read_events(folder)
    pending = balance is not None and balance.pending_pusd > 0
    return TrialFacts(
        ending=LOST,
        exit=None,
        started_at=_time(events.started_at, now),
        finished_at=now,
        duration_s=events.duration_s or 0.0,
        balance=balance,
        key_usage_usd=usage,
        tool_calls=events.tool_calls,
        events_count=events.count,
        warnings=("the summary was written by a sweep, from the ledger and the event log",),
        cleanup={
            "freeze": "ok",
            "sandbox": "ok" if engine_clean else "unverified",
            "settle": "unverified" if pending else "ok",
            "sub_key": "ok" if key_gone else "unverified",
        },
        output=kept_of(folder) or KeptOutput(why="nothing of it was found"),
    )


def _time(text: str | None, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return otherwise


def _plan(trial: PlannedTrial, account: Account | None) -> TrialPlan:
    try:
        budget_pusd = pusd(trial.budget_usd)
    except ArithmeticError:
        budget_pusd = 0
    spent_before_pusd = _spent_before_pusd(account)
    prior = PriorAttempt(spent_before_pusd, budget_pusd) if spent_before_pusd else None
    room_pusd = trial.key_room_pusd
    return TrialPlan(trial.alias, trial.model_id, budget_pusd, trial.key_name, (), prior, key_room_pusd=room_pusd)


def _spent_before_pusd(account: Account | None) -> int:
    """Return what was posted before the last attempt.

    A new sub-key has no usage, so its base is minus what was spent with the keys before it.
    """
    return max(-(account.key_usage_base_pusd or 0), 0) if account is not None else 0


def completed(summary: Mapping[str, Any], account: Account | None, usage: Decimal | None) -> dict[str, Any] | None:
    """Return a summary with the final figures, if its trial was not settled at its end; None if nothing is to be completed.

    Args:
        summary: The content of the file.
        account: The ledger's account; None if it was never opened.
        usage: Dollars that OpenRouter had counted for the sub-key before its deletion; None if unknown.
    """
    cleanup = _cleanup_of(summary)
    open_steps = [step for step in COST_STEPS if cleanup.get(step, "ok") != "ok"]
    if account is None or account.pending_pusd or not open_steps:
        return None
    figures: dict[str, Any] = {
        "posted_usd": exact(account.posted_pusd),
        "pending_usd": exact(account.pending_pusd),
        "assumed_usd": exact(account.assumed_pusd),
        "overrun_usd": exact(account.overrun_pusd),
        "calls": account.calls,
    }
    if usage is not None:
        figures["key_usage_usd"] = format(usage.normalize(), "f")
        figures["drift_usd"] = exact(pusd(usage) + _spent_before_pusd(account) - account.posted_pusd)
    amended = _amended(summary, SETTLED_LATE, dict.fromkeys(open_steps, "ok"), figures)
    return {**amended, "cost_usd": float(usd(account.posted_pusd))}


def _cleanup_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the clean-up steps in a summary; none if it has no such object."""
    match summary:
        case {"preflight": {"cleanup": dict(cleanup)}}:
            return cleanup
    return {}


def _amended(
    summary: Mapping[str, Any], warning: str, steps: Mapping[str, str], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a summary that has clean-up steps, with a warning more, these steps and these figures."""
    extra = summary["preflight"]
    warnings = extra.get("warnings")
    texts = [*(warnings if isinstance(warnings, list) else []), warning]
    return {
        **summary,
        "preflight": {**extra, **figures, "warnings": texts, "cleanup": {**extra["cleanup"], **steps}},
    }


def _write(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Write a trial's summary. Returns a line for a person if that fails."""
    try:
        write_private(folder / "summary.json", summary)
    except OSError as exc:
        return [f"the summary of {folder} could not be written: {exc}"]
    return []


def _line(folder: Path, balance: Balance) -> str:
    pending = f", ${exact(balance.pending_pusd)} not known yet" if balance.pending_pusd else ""
    return f"summary of {folder} written: ${exact(balance.posted_pusd)} spent{pending}"
