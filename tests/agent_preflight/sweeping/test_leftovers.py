"""What a run's folder names is removed only if it has the form of ours."""

import json
import tempfile
from pathlib import Path
from typing import Any

from agent_preflight.runs.control_file import RunControl, short_dir_name
from agent_preflight.sweeping.leftovers import leftovers_of, run_folders


def plan(run_dir: Path, *trials: dict[str, Any]) -> Path:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "plan.json").write_text(json.dumps({"trials": trials}))
    return run_dir


def trial(alias: str, key_name: str) -> dict[str, Any]:
    return {"alias": alias, "model_id": "m/m", "budget_usd": "0.25", "key_name": key_name}


def summary(folder: Path, **preflight: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"preflight": preflight}))


def control(run_dir: Path, directory: Path) -> None:
    document = RunControl(directory / "control.sock", directory, 1).document()
    (run_dir / "control.json").write_text(json.dumps(document))


def test_a_key_is_owed_until_somebody_saw_it_deleted(tmp_path: Path) -> None:
    run_dir = plan(
        tmp_path / "r", *(trial(name, f"agent-preflight:r:{name}") for name in ("ok", "bad", "none", "never"))
    )
    summary(run_dir / "ok", cleanup={"sub_key": "ok"})
    summary(run_dir / "bad", cleanup={"sub_key": "unverified"})
    summary(run_dir / "never", ended_by="provisioning", cleanup={})
    assert leftovers_of(run_dir).keys == ("agent-preflight:r:bad", "agent-preflight:r:none")
    (run_dir / "swept.json").write_text(
        json.dumps({"keys": {"agent-preflight:r:bad": None, "agent-preflight:r:none": {}}})
    )
    assert not leftovers_of(run_dir)


def test_the_summary_of_a_trial_says_nothing_of_an_earlier_key_of_that_alias(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r", trial("a", "agent-preflight:1"), trial("a", "agent-preflight:2"))
    summary(run_dir / "a", cleanup={"sub_key": "ok"})
    assert leftovers_of(run_dir).keys == ("agent-preflight:1",)


def test_keys_of_another_form_and_aliases_that_lead_away_are_passed_over(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r", trial("a", "production"), trial("../x", "agent-preflight:x"), {"alias": 1}, {"x": 2})
    assert not leftovers_of(run_dir)


def test_a_directory_of_sockets_is_ours_private_and_named_for_the_run_wherever_it_is(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    directory = tmp_path / short_dir_name(run_dir, "0123abcd")
    control(run_dir, directory)
    assert leftovers_of(run_dir).control is not None  # it is gone, and only its mention is left
    directory.mkdir(0o700)
    assert leftovers_of(run_dir).control is not None
    directory.chmod(0o755)
    assert leftovers_of(run_dir).control is None
    of_another = tmp_path / short_dir_name(plan(tmp_path / "r2"), "0123abcd")
    for foreign in (tmp_path, Path.home(), Path(tempfile.gettempdir()) / "other", tmp_path / "ap-x", of_another):
        control(run_dir, foreign)
        assert leftovers_of(run_dir).control is None


def test_a_run_that_is_reached_by_a_link_has_the_directory_of_its_true_place(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    (tmp_path / "link").symlink_to(run_dir)
    control(run_dir, tmp_path / short_dir_name(run_dir, "0123abcd"))
    assert leftovers_of(tmp_path / "link").control is not None


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    run_dir = plan(tmp_path / "r")
    link = tmp_path / short_dir_name(run_dir, "0123abcd")
    link.symlink_to(tmp_path)
    control(run_dir, link)
    assert leftovers_of(run_dir).control is None


def test_trials_that_are_runs_by_themselves_lie_one_level_deeper(tmp_path: Path) -> None:
    plan(tmp_path / "run" / "inner")
    plan(tmp_path / "run")
    plan(tmp_path / "shared" / "a")
    (tmp_path / "empty").mkdir()
    assert list(run_folders(tmp_path)) == [tmp_path / "empty", tmp_path / "run", tmp_path / "shared" / "a"]


def test_no_runs_are_no_folders(tmp_path: Path) -> None:
    assert list(run_folders(tmp_path / "none")) == []
