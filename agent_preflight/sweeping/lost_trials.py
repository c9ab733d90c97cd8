"""Summaries of trials whose runner died before it could write them, or before it was known what their last calls cost.

Written from the plan, the ledger and the event log; those that are there are brought up to what a sweep has found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import pusd
from agent_preflight.runs.costs import LEDGER, cost_lines, read_ledgers, sums_by_account
from agent_preflight.runs.event_facts import read_events
from agent_preflight.runs.folder import write_private
from agent_preflight.runs.plan import Before, TrialPlan
from agent_preflight.runs.planned import PlannedTrial, planned, trial_folder
from agent_preflight.runs.result import Facts, exact, result_of, summary_document
from agent_preflight.runs.trial_state import By, Ending
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.sweeping.completed import Known, completed
from agent_preflight.sweeping.outputs import kept_of
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import OperatingError

LOST = Ending(By.LOST, "the runner was lost before the trial's end")


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
    latest = {trial.alias: trial for trial in planned(run_dir)}
    notes: list[str] = []
    accounts = _accounts(run_dir, notes)
    for trial in latest.values():
        folder = trial_folder(run_dir, trial.alias)
        if not folder.is_dir():
            continue
        known = accounts.get(trial.alias, Known())
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


def _facts(folder: Path, balance: Balance | None, key_gone: bool, usage: Decimal | None, engine_clean: bool) -> Facts:
    now, seen = datetime.now(UTC), read_events(folder)
    pending = balance is not None and balance.pending_pusd > 0
    cleanup: dict[str, Step] = {
        "freeze": "ok",
        "sandbox": "ok" if engine_clean else "unverified",
        "settle": "unverified" if pending else "ok",
        "sub_key": "ok" if key_gone else "unverified",
    }
    return Facts(
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


def _plan(trial: PlannedTrial, known: Known) -> TrialPlan:
    try:
        budget_pusd = pusd(trial.budget_usd)
    except ArithmeticError:
        budget_pusd = 0
    before = Before(known.spent_before_pusd, budget_pusd) if known.spent_before_pusd else None
    return TrialPlan(trial.alias, trial.model_id, budget_pusd, trial.key_name, (), before)


def _accounts(run_dir: Path, notes: list[str]) -> dict[str, Known]:
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
        account.id: Known(
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
