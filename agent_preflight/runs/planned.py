"""The trials that a run's plan.json names, read without trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent_preflight.artifacts import read_json_object


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial of a plan.json, as far as it can be read."""

    alias: str
    model_id: str
    budget_usd: str
    key_name: str


def planned(run_dir: Path) -> list[PlannedTrial]:
    """Return the trials of a run's plan, all that were ever planned; the latest of an alias comes last."""
    trials = (read_json_object(run_dir, "plan.json") or {}).get("trials")
    found = (_planned(each) for each in (trials if isinstance(trials, list) else []))
    return [trial for trial in found if trial is not None]


def _planned(trial: object) -> PlannedTrial | None:
    match trial:
        case {"alias": str(alias), "key_name": str(key_name)} if Path(alias).name == alias:
            model_id, budget_usd = trial.get("model_id"), trial.get("budget_usd")  # type: ignore[attr-defined]  # a dict
            return PlannedTrial(alias, str(model_id), str(budget_usd), key_name)
    return None


def trial_folder(run_dir: Path, alias: str) -> Path:
    """Return a trial's folder; a trial that is a run by itself has no other than the run's."""
    single = alias == run_dir.name and not (run_dir / alias).is_dir()
    return run_dir if single else run_dir / alias
