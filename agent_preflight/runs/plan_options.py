"""The options of a run, from its plan.json: for a resume, and for a report that says how to do the run again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_preflight.options.settings import read_option
from agent_preflight.runs.plan_file import COMPARED, MAY_CHANGE, by_alias, score_options


def plan_options(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a plan, by the keywords of `run_multi`, without the agents' variables.

    Raises:
        ConfigError: A value is wrong.
    """
    trials, may_change = by_alias(plan), plan.get("may_change")
    options = {name: plan.get(key) for key, name in COMPARED.items()}
    if isinstance(may_change, dict):
        options |= {name: may_change.get(name) for name in MAY_CHANGE}
    models = {str(trial.get("base") or alias): trial.get("model_id") for alias, trial in trials.items()}
    options["models"] = [(model_id, alias) for alias, model_id in models.items()]
    options |= {"repeats": plan.get("repeats"), "tags": plan.get("tags"), **score_options(plan)}
    options["budget_usd"] = {alias: trial.get("budget_usd") for alias, trial in trials.items()}
    program = "command" if plan.get("sandbox") == "process" else "container_args"
    options[program] = {alias: trial.get("command") for alias, trial in trials.items()}
    options = {name: value for name, value in options.items() if value not in (None, "", {}, [])}
    for name, value in options.items():
        read_option(name, value, f"plan.json: {name}")
    return options
