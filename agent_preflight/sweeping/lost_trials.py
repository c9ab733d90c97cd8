"""Summaries of trials whose runner died before it could write them: from the plan, the ledger and the event log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.control_client import Balance
from agent_preflight.costs import cost_lines, read_ledgers, sums_by_account
from agent_preflight.runner.folder import write_private
from agent_preflight.runner.plan import TrialPlan
from agent_preflight.runner.result import Facts, exact, result_of, summary_document
from agent_preflight.runner.trial import By, Ending
from agent_preflight.sandbox import Step
from agent_preflight.status import summarise_model
from agent_preflight.sweeping.remains import PlannedTrial, planned, trial_folder
from agent_preflight.usd import pusd
from preflight_proxy.errors import OperatingError

LOST = Ending(By.LOST, "the runner was lost before the trial's end")


def write_lost_summaries(run_dir: Path, gone: Mapping[str, Decimal | None], engine_clean: bool) -> list[str]:
    """Write the summary of each trial of a dead run that began and has none; returns what a person should know.

    Args:
        run_dir: The run's folder, which must be locked.
        gone: Names of sub-keys that are seen to be gone, with what OpenRouter had counted for each, if it was told.
        engine_clean: Nothing of the run is left on the container engine.
    """
    document = read_json_object(run_dir, "plan.json") or {}
    network = str(document.get("network", ""))
    latest = {trial.alias: trial for trial in planned(run_dir)}
    notes: list[str] = []
    balances = _balances(run_dir, notes)
    for trial in latest.values():
        folder = trial_folder(run_dir, trial.alias)
        if not folder.is_dir() or (folder / "summary.json").exists():
            continue
        facts = _facts(
            folder, balances.get(trial.alias), trial.key_name in gone, gone.get(trial.key_name), engine_clean
        )
        try:
            write_private(folder / "summary.json", summary_document(result_of(_plan(trial), network, facts)))
        except OSError as exc:
            notes.append(f"the summary of {folder} could not be written: {exc}")
            continue
        notes.append(_note(folder, facts))
    return notes


def _note(folder: Path, facts: Facts) -> str:
    balance = facts.balance or Balance()
    pending = f", ${exact(balance.pending_pusd)} pending for good" if balance.pending_pusd else ""
    return f"summary of {folder} written: ${exact(balance.posted_pusd)} spent{pending}"


def _facts(folder: Path, balance: Balance | None, key_gone: bool, usage: Decimal | None, engine_clean: bool) -> Facts:
    now, seen = datetime.now(UTC), summarise_model(folder)
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
        started_at=_time(seen.get("started_at"), now),
        finished_at=now,
        duration_s=float(seen.get("duration_s") or 0.0),
        balance=balance,
        key_usage_usd=usage,
        tool_calls=int(seen.get("tool_calls") or 0),
        events_count=int(seen.get("events") or 0),
        warnings=("the summary was written by a sweep, from the ledger and the event log",),
        cleanup=cleanup,
    )


def _time(text: object, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return otherwise


def _plan(trial: PlannedTrial) -> TrialPlan:
    try:
        budget_pusd = pusd(trial.budget_usd)
    except ArithmeticError:
        budget_pusd = 0
    return TrialPlan(trial.alias, trial.model_id, budget_pusd, trial.key_name, ())


def _balances(run_dir: Path, notes: list[str]) -> dict[str, Balance]:
    """The accounts of a run's ledger as they stand; none if there is no ledger that can be read."""
    try:
        accounts = [account for ledger in read_ledgers(run_dir) for account in ledger.accounts]
        tokens = sums_by_account(list(cost_lines(run_dir)))
    except OperatingError as exc:
        notes.append(str(exc))
        return {}
    return {
        account.id: Balance(
            id=account.id,
            limit_pusd=account.limit_pusd,
            posted_pusd=account.posted_pusd,
            pending_pusd=account.pending_pusd,
            assumed_pusd=account.assumed_pusd,
            overrun_pusd=account.overrun_pusd,
            calls=account.calls,
            refused=account.refused,
            **_tokens(tokens[account.id].tokens if account.id in tokens else {}),
        )
        for account in accounts
    }


def _tokens(sums: Mapping[str, int]) -> dict[str, Any]:
    names = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens")
    return {name: sums.get(name, 0) for name in names}
