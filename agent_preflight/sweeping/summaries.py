"""Summaries of trials whose runner died before it could write them, or before it was known what their last calls cost.

Written from the plan, the ledger and the event log; those that are there are brought up to what a sweep has found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import pusd, usd
from agent_preflight.runs.costs import LEDGER, cost_lines, read_ledgers, sums_by_account
from agent_preflight.runs.folder import write_private
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.plan_file import PlannedTrial, planned_trials, trial_folder
from agent_preflight.runs.result import TrialFacts, exact, result_of, summary_document
from agent_preflight.runs.trial_state import CleanUpStep, Ender, EndReason
from agent_preflight.runs.trial_status import read_events
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.sweeping.outputs import kept_of
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import OperatingError

LOST = EndReason(Ender.LOST, "the runner was lost before the trial's end")


def write_lost_summaries(run_dir: Path, gone: Mapping[str, Decimal | None], engine_clean: bool) -> list[str]:
    """Write the summary of each trial of a dead run that began and has none, and complete those that were left open.

    Args:
        run_dir: The run's folder, which must be locked.
        gone: Names of sub-keys that are seen to be gone, with what OpenRouter had counted for each, if it was told.
        engine_clean: Nothing of the run is left on the container engine.

    Returns:
        What a person should know.
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
        known = accounts.get(trial.alias, LedgerFigures())
        key_gone, usage = trial.key_name in gone, gone.get(trial.key_name)
        if (folder / "summary.json").exists():
            summary = completed(read_json_object(folder, "summary.json") or {}, known, usage) if key_gone else None
        else:
            facts = _facts(folder, known.balance, key_gone, usage, engine_clean)
            summary = summary_document(result_of(_plan(trial, known), network, facts))
        if summary is not None:
            notes.append(_write(folder, summary, known.balance or Balance()))
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
    now, seen = datetime.now(UTC), read_events(folder)
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
        started_at=_time(seen.started_at, now),
        finished_at=now,
        duration_s=seen.duration_s or 0.0,
        balance=balance,
        key_usage_usd=usage,
        tool_calls=seen.tool_calls,
        events_count=seen.count,
        warnings=("the summary was written by a sweep, from the ledger and the event log",),
        cleanup=cleanup,
        output=kept_of(folder) or KeptOutput(why="nothing of it was found"),
    )


def _time(text: object, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return otherwise


def _plan(trial: PlannedTrial, known: LedgerFigures) -> TrialPlan:
    try:
        budget_pusd = pusd(trial.budget_usd)
    except ArithmeticError:
        budget_pusd = 0
    before = PriorAttempt(known.spent_before_pusd, budget_pusd) if known.spent_before_pusd else None
    return TrialPlan(trial.alias, trial.model_id, budget_pusd, trial.key_name, (), before)


def _accounts(run_dir: Path, notes: list[str]) -> dict[str, LedgerFigures]:
    """The accounts of a run's ledger as they stand; none if there is no ledger that can be read."""
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
            # A sub-key has used nothing at its making, so that its base is what was spent with those before it.
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
    """What the ledger knows of an account.

    Attributes:
        balance: As it stands; None if there never was one.
        spent_before_pusd: What was posted before the last attempt.
    """

    balance: Balance | None = None
    spent_before_pusd: int = 0


def completed(summary: Mapping[str, Any], known: LedgerFigures, usage: Decimal | None) -> dict[str, Any] | None:
    """Return a summary whose trial was not settled at its end with the figures of now; None if there is nothing to complete.

    Args:
        summary: As it stands on disk.
        known: What the ledger knows of the account.
        usage: What OpenRouter had counted for the sub-key before it was deleted, dollars; None if it was not told.
    """
    extra, balance = _object(summary.get("preflight")), known.balance
    cleanup = _object(extra.get("cleanup"))
    if balance is None or balance.pending_pusd:
        return None
    late = [
        step.value for step in (CleanUpStep.SETTLE, CleanUpStep.ACCOUNT, CleanUpStep.SUB_KEY) if not _ok(cleanup, step)
    ]
    if not late:
        return None
    figures = _figures(balance, usage, known.spent_before_pusd)
    steps = {**cleanup, **dict.fromkeys(late, "ok")}
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
