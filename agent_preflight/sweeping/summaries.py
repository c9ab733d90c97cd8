"""Writes the summaries of a dead run's trials, and completes those that were written before their last costs were known.

A lost trial's summary is made from the plan, the ledger and the event log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import exact, pusd, usd
from agent_preflight.runs.costs import LEDGER, cost_lines, read_ledgers, sums_by_account
from agent_preflight.runs.folder import write_private
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials, trial_folder
from agent_preflight.runs.result import TrialFacts, result_of, summary_document
from agent_preflight.runs.trial_state import CleanUpStep, Ender, EndReason
from agent_preflight.runs.trial_status import read_events
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.sweeping.outputs import kept_of
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import OperatingError

LOST = EndReason(Ender.LOST, "the runner was lost before the trial's end")


def write_lost_summaries(run_dir: Path, gone: Mapping[str, Decimal | None], engine_clean: bool) -> list[str]:
    """Write the missing summaries of a dead run's trials that began, and complete the unfinished ones.

    Args:
        run_dir: The run's folder, which must be locked.
        gone: Names of sub-keys that are verified as gone, with what OpenRouter had counted for each, if figures.
        engine_clean: Nothing of the run is left on the container engine.

    Returns:
        Lines for a person.
    """
    document = read_json_object(run_dir, "plan.json") or {}
    network = str(document.get("network", ""))
    latest = {trial.alias: trial for trial in planned_trials(run_dir)}
    notes: list[str] = []
    accounts = _accounts(run_dir, notes)
    for trial in latest.values():
        folder = trial_folder(run_dir, trial.alias)
        if not folder.is_dir():
            continue
        figures = accounts.get(trial.alias, LedgerFigures())
        key_gone, usage = trial.key_name in gone, gone.get(trial.key_name)
        if (folder / "summary.json").exists():
            summary = completed(read_json_object(folder, "summary.json") or {}, figures, usage) if key_gone else None
        else:
            facts = _facts(folder, figures.balance, key_gone, usage, engine_clean)
            summary = summary_document(result_of(_plan(trial, figures), network, facts))
        if summary is not None:
            notes.append(_write(folder, summary, figures.balance or Balance()))
    return notes


def _write(folder: Path, summary: Mapping[str, Any], balance: Balance) -> str:
    try:
        write_private(folder / "summary.json", summary)
    except OSError as exc:
        return f"the summary of {folder} could not be written: {exc}"
    pending = f", ${exact(balance.pending_pusd)} not known yet" if balance.pending_pusd else ""
    return f"summary of {folder} written: ${exact(balance.posted_pusd)} spent{pending}"


def _facts(
    folder: Path, balance: Balance | None, key_gone: bool, usage: Decimal | None, engine_clean: bool
) -> TrialFacts:
    now, events = datetime.now(UTC), read_events(folder)
    pending = balance is not None and balance.pending_pusd > 0
    cleanup: dict[str, Step] = {
        "freeze": "ok",
        "sandbox": "ok" if engine_clean else "unverified",
        "settle": "unverified" if pending else "ok",
        "sub_key": "ok" if key_gone else "unverified",
    }
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
        cleanup=cleanup,
        output=kept_of(folder) or KeptOutput(why="nothing of it was found"),
    )


def _time(text: object, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return otherwise


def _plan(trial: PlannedTrial, figures: LedgerFigures) -> TrialPlan:
    try:
        budget_pusd = pusd(trial.budget_usd)
    except ArithmeticError:
        budget_pusd = 0
    prior = PriorAttempt(figures.spent_before_pusd, budget_pusd) if figures.spent_before_pusd else None
    return TrialPlan(trial.alias, trial.model_id, budget_pusd, trial.key_name, (), prior)


def _accounts(run_dir: Path, notes: list[str]) -> dict[str, LedgerFigures]:
    """Return the figures of a run's accounts; none if there is no ledger, or it cannot be read."""
    if not (run_dir / LEDGER).exists():
        notes.append(f"{run_dir}: its proxy never started, so nothing was spent")
        return {}
    try:
        accounts = [account for ledger in read_ledgers(run_dir) for account in ledger.accounts]
        tokens = sums_by_account(list(cost_lines(run_dir)))
    except OperatingError as exc:
        notes.append(str(exc))
        return {}
    return {
        account.id: LedgerFigures(
            Balance(
                id=account.id,
                limit_pusd=account.limit_pusd,
                posted_pusd=account.posted_pusd,
                pending_pusd=account.pending_pusd,
                assumed_pusd=account.assumed_pusd,
                overrun_pusd=account.overrun_pusd,
                calls=account.calls,
                refused=account.refused,
                outcomes=account.outcomes,
                **_tokens(tokens[account.id].tokens if account.id in tokens else {}),
            ),
            # A new sub-key has no usage, so its base is minus what was spent with the keys before it.
            spent_before_pusd=max(-(account.key_usage_base_pusd or 0), 0),
        )
        for account in accounts
    }


def _tokens(sums: Mapping[str, int]) -> dict[str, Any]:
    names = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens")
    return {name: sums.get(name, 0) for name in names}


SETTLED_LATE = "what its last calls cost was found out by a sweep, after its end"


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """The ledger's figures of one account.

    Attributes:
        balance: The account; None if it was never opened.
        spent_before_pusd: What was posted before the last attempt.
    """

    balance: Balance | None = None
    spent_before_pusd: int = 0


def completed(summary: Mapping[str, Any], account: LedgerFigures, usage: Decimal | None) -> dict[str, Any] | None:
    """Return a summary with the final figures, if its trial was not settled at its end; None if nothing is to be completed.

    Args:
        summary: As it stands on disk.
        account: The ledger's figures.
        usage: Dollars that OpenRouter had counted for the sub-key before its deletion; None if unknown.
    """
    extra, balance = _object(summary.get("preflight")), account.balance
    cleanup = _object(extra.get("cleanup"))
    if balance is None or balance.pending_pusd:
        return None
    open_steps = [
        step.value for step in (CleanUpStep.SETTLE, CleanUpStep.ACCOUNT, CleanUpStep.SUB_KEY) if not _ok(cleanup, step)
    ]
    if not open_steps:
        return None
    figures = _figures(balance, usage, account.spent_before_pusd)
    steps = {**cleanup, **dict.fromkeys(open_steps, "ok")}
    warnings = [*_texts(extra.get("warnings")), SETTLED_LATE]
    return {
        **summary,
        "cost_usd": float(usd(balance.posted_pusd)),
        "preflight": {**extra, **figures, "warnings": warnings, "cleanup": steps},
    }


def _ok(cleanup: Mapping[str, Any], step: CleanUpStep) -> bool:
    return str(cleanup.get(step.value, "ok")) == "ok"


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _figures(balance: Balance, usage: Decimal | None, spent_before_pusd: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "posted_usd": exact(balance.posted_pusd),
        "pending_usd": exact(balance.pending_pusd),
        "assumed_usd": exact(balance.assumed_pusd),
        "overrun_usd": exact(balance.overrun_pusd),
        "calls": balance.calls,
    }
    if usage is not None:
        figures["key_usage_usd"] = format(usage.normalize(), "f")
        figures["drift_usd"] = exact(pusd(usage) + spent_before_pusd - balance.posted_pusd)
    return figures


def _texts(value: object) -> list[object]:
    return value if isinstance(value, list) else []
