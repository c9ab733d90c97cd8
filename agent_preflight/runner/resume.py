"""Resumes a run: which trials are kept, and which begin again with what is left of their budgets.

A trial that has ended is kept: its summary is its result. A trial begins again, in its folder and on its account, if a person
interrupted it, if its runner died, or if no call was served because the OpenRouter account had no credit. A failed one does if
the caller asks for it, a spent one if it gets a higher budget. What it has spent counts, because its account is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from agent_preflight.artifacts import number, read_json_object
from agent_preflight.base.usd import pusd
from agent_preflight.checks.inputs import as_list
from agent_preflight.eject import EXHAUSTED
from agent_preflight.models import RunResult
from agent_preflight.options.container_values import absolute_mount
from agent_preflight.runner.progress import KEPT, TrialProgress
from agent_preflight.runner.trial_start import NO_CREDIT
from agent_preflight.runs.costs import LEDGER, read_ledgers
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.plan_file import by_alias, plan_differences
from agent_preflight.runs.trial_state import Ender
from agent_preflight.sandboxes.kept_output import RECORD, WORKSPACE, set_workspace_aside
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.errors import ConfigError

SUMMARY = "summary.json"
BEGIN_AGAIN = frozenset({Ender.INTERRUPTED.value, Ender.LOST.value, Ender.PROVISIONING.value})
"""Ends that neither the agent nor a policy caused. In the last no agent was started."""
FAILED = "failed"
"""The status of a trial with an error."""
TRIALS_ASIDE_MAX = 1000


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """A run before it is resumed.

    Attributes:
        plan: Its plan.json; empty for a new run.
        kept: Results of the trials that do not begin again, by alias.
        accounts: The accounts of the others, by alias.
    """

    plan: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, RunResult] = field(default_factory=dict)
    accounts: Mapping[str, PriorAttempt] = field(default_factory=dict)

    def continued(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return plan.json for the trials that begin; for a resumed run, with the times of its begin and resumes."""
        due = {**document, "trials": [trial for trial in document["trials"] if trial["alias"] not in self.kept]}
        if self.plan:
            due["resumed_at"] = [*self.plan.get("resumed_at", ()), due["created_at"]]
            due["created_at"] = self.plan.get("created_at")
        return due

    def progress(self, trial: TrialPlan) -> TrialProgress:
        """Return a trial's progress at the start of the run."""
        result = self.kept.get(trial.alias)
        if result is None:
            due = self.of(trial)
            account = Balance(limit_pusd=due.limit_pusd, posted_pusd=due.spent_before_pusd)
            return TrialProgress(trial.alias, trial.model_id, due.limit_pusd, balance=account)
        return TrialProgress(
            trial.alias,
            trial.model_id,
            pusd(result.budget_usd),
            state=KEPT,
            balance=Balance(
                posted_pusd=pusd(result.cost_usd or 0),
                calls=int(number(result.preflight.get("calls"))),
                refused=int(number(result.preflight.get("refused"))),
                prompt_tokens=result.cache.total_prompt_tokens,
                completion_tokens=int(number(result.preflight.get("completion_tokens"))),
            ),
            tool_calls=result.tool_calls,
            started_s=0.0,
            ended_s=float(result.duration_s),
            note=result.error or "ended before",
            ok=result.ok,
        )

    def of(self, trial: TrialPlan) -> TrialPlan:
        """Return a trial that begins, with its account."""
        return replace(trial, prior=self.accounts.get(trial.alias))


def read_previous_run(run_dir: Path, wanted: Mapping[str, Any], *, retry_failed: bool = False) -> PreviousRun:
    """Return a run before it is resumed. Its folder is locked, and its proxy has ended.

    Args:
        run_dir: Its folder.
        wanted: The plan.json of the resume.
        retry_failed: Trials that failed begin again too.

    Raises:
        ConfigError: It has no plan, or the plan differs; the text shows each difference. Higher budgets and the budgets of kept
            trials may differ. Or the machine restarted, and the cost of the last calls is not known yet: M21 (the ledger file).
        LedgerError: Its ledger cannot be read.
    """
    plan = read_json_object(run_dir, "plan.json")
    if plan is None:
        raise ConfigError(f"The run {run_dir.name} has no plan, so it cannot be resumed: start a new run.")
    plan["mounts"] = list(map(absolute_mount, as_list(plan.get("mounts"))))  # older plans have relative sources
    budgets = {alias: _amount_pusd(trial.get("budget_usd")) for alias, trial in by_alias(wanted).items()}
    kept = kept_results(run_dir, budgets, retry_failed=retry_failed)
    if differences := plan_differences(_with_budgets(plan, wanted, kept), wanted):
        lines = "".join(f"\n  {line}" for line in differences)
        raise ConfigError(
            f"The plan has changed since the run {run_dir.name} began, so it cannot be resumed:{lines}\n"
            "Use the options of its start (only a budget may be higher), or start a new run."
        )
    return PreviousRun(plan, kept, _accounts(run_dir, [alias for alias in budgets if alias not in kept]))


def kept_results(run_dir: Path, budgets: Mapping[str, int], *, retry_failed: bool = False) -> dict[str, RunResult]:
    """Return the results of the trials that a resume keeps, by alias.

    Args:
        run_dir: The run's folder.
        budgets: The budgets of all its trials in pico-USD, by alias.
        retry_failed: Trials that failed begin again.
    """
    kept = {}
    for alias, budget_pusd in budgets.items():
        if summary := read_json_object(run_dir / alias, SUMMARY):
            result = result_of_summary(summary)
            if not begins_again(result, retry_failed=retry_failed, budget_pusd=budget_pusd):
                kept[alias] = result
    return kept


def _amount_pusd(written: object) -> int:
    """Return dollars from a file as pico-USD; 0 for an invalid amount."""
    try:
        return pusd(str(written))
    except ArithmeticError:
        return 0


def _with_budgets(plan: Mapping[str, Any], wanted: Mapping[str, Any], kept: Container[str]) -> dict[str, Any]:
    """Return the stored plan with the new budgets where they may differ: higher ones, and those of kept trials."""
    trials = dict(by_alias(plan))
    for alias, trial in by_alias(wanted).items():
        old = trials.get(alias)
        if old is not None and (
            alias in kept or _amount_pusd(trial.get("budget_usd")) > _amount_pusd(old.get("budget_usd"))
        ):
            trials[alias] = {**old, "budget_usd": trial.get("budget_usd")}
    return {**plan, "trials": list(trials.values())}


def begins_again(result: RunResult, *, retry_failed: bool = False, budget_pusd: int = 0) -> bool:
    """Whether a trial with this result begins once more when its run is resumed.

    Args:
        result: Of its last attempt.
        retry_failed: It does if it failed.
        budget_pusd: What it may spend in all. It begins again if its budget was spent and this is more than it had.
    """
    extra = result.preflight
    if money_was_gone(result) and "limit_usd" in extra and budget_pusd > _amount_pusd(extra["limit_usd"]):
        return True
    if retry_failed and extra.get("status") == FAILED:
        return True
    ended_by = str(extra.get("ended_by"))
    return ended_by in BEGIN_AGAIN or (extra.get("never_served") == NO_CREDIT and ended_by != Ender.STOPPED.value)


def money_was_gone(result: RunResult) -> bool:
    """Whether a trial ended because its budget covered no further call."""
    if result.preflight.get("status") == "spent":
        return True
    was_ejected = result.preflight.get("ended_by") == Ender.EJECTED.value
    return was_ejected and str(result.error).startswith(f"ejected: {EXHAUSTED}")


def _accounts(run_dir: Path, aliases: Sequence[str]) -> dict[str, PriorAttempt]:
    if not (run_dir / LEDGER).exists():
        return {}
    ledgers = read_ledgers(run_dir)
    accounts = [account for _, snapshot, _ in ledgers for account in snapshot.accounts if account.id in aliases]
    if unread := [each.id for each in accounts if each.usage_unread]:
        raise ConfigError(
            f"The machine restarted while {', '.join(unread)} of {run_dir.name} ran, and what the last calls cost is not known "
            "yet. Nothing has been started. `agent-preflight sweep` says from when on it is; resume the run then."
        )
    return {each.id: PriorAttempt(each.posted_pusd, each.limit_pusd) for each in accounts}


def result_of_summary(summary: Mapping[str, Any]) -> RunResult:
    """Return the result in a summary.json. Missing or invalid fields are empty."""
    result = RunResult(alias="", model_id="", budget_usd=0.0)
    for name, kind in get_type_hints(RunResult).items():
        with contextlib.suppress(msgspec.ValidationError):
            value = msgspec.convert(summary.get(name), kind)
            if not isinstance(value, float) or number(value) == value:  # too large and infinite ones are invalid
                setattr(result, name, value)
    if (error := summary.get("error")) is not None:  # never read as a success
        result.error = str(error)
    exact = result.preflight.get("posted_usd")
    if result.cost_usd is not None and isinstance(exact, str):
        with contextlib.suppress(ValueError):
            result.cost_usd = float(exact)
    return result


def set_aside(folder: Path) -> None:
    """Rename the summary and the kept output of an attempt that begins again, so that there are none until its end.

    The working directory of a process stays, and the next attempt continues in it.
    """
    summary, record = folder / SUMMARY, folder / RECORD
    if not summary.exists():
        return
    for count in range(1, TRIALS_ASIDE_MAX):
        aside = folder / f"summary.{count}.json"
        if aside.exists() or (folder / f"{WORKSPACE}.{count}").exists():
            continue
        if record.exists():
            set_workspace_aside(folder, count)
            record.rename(folder / f"output.{count}.json")
        summary.rename(aside)
        return
    raise ConfigError(f"{folder} holds {TRIALS_ASIDE_MAX} attempts already.")
