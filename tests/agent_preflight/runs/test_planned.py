"""A plan is read without trust."""

import json
from pathlib import Path

import pytest

from agent_preflight.runs.planned import PlannedTrial, planned, trial_folder


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"trials": 5}', '{"trials": [5, null]}'])
def test_a_plan_that_cannot_be_read_names_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    assert planned(tmp_path) == []


def test_an_alias_that_leads_away_is_passed_over(tmp_path: Path) -> None:
    good = {"alias": "a", "model_id": "m/m", "budget_usd": "0.25", "key_name": "k"}
    trials = [good, {**good, "alias": "../x"}, {"alias": 1}, {"x": 2}]
    (tmp_path / "plan.json").write_text(json.dumps({"trials": trials}))
    assert planned(tmp_path) == [PlannedTrial("a", "m/m", "0.25", "k")]


def test_a_trial_that_is_a_run_by_itself_has_no_folder_but_the_runs(tmp_path: Path) -> None:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    assert trial_folder(tmp_path / "shared" / "a", "a") == tmp_path / "shared" / "a"
    assert trial_folder(tmp_path / "run", "inner") == tmp_path / "run" / "inner"
