"""Run folders are read with care, and prompts rendered without reach."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.artifacts import (
    SUMMARY_BYTES_MAX,
    find_run,
    latest_run,
    number,
    read_json_object,
    read_start,
    render_prompt,
    run_dirs,
    summarize_run,
    trial_dirs,
)
from agent_preflight.models import CacheStats, RunResult
from tests.support.cases import each


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return tmp_path / "prompt.txt"


def test_names_are_filled_in_and_doubled_braces_stand(template: Path) -> None:
    template.write_text("Hi {NAME}, {{x}} {COST:.2f} {NAME!r}")
    assert render_prompt(template, NAME="bob", COST=1.5) == "Hi bob, {x} 1.50 'bob'"
    assert render_prompt(str(template), NAME="bob", COST=1.5).startswith("Hi bob")


def test_a_missing_variable_is_named(template: Path) -> None:
    template.write_text("{NAME}")
    with pytest.raises(KeyError, match="NAME"):
        render_prompt(template)


def test_a_missing_template_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        render_prompt(tmp_path / "absent")


@pytest.mark.parametrize("place", ["{X.__class__}", "{X[0]}", "{}", "{0}", "{X.y[z]}", "{X:{X.__class__}}", "{"])
def test_a_place_that_reaches_into_a_value_is_refused(template: Path, place: str) -> None:
    template.write_text(place)
    with pytest.raises(ValueError):
        render_prompt(template, X="value")


def write(run: Path, alias: str, **fields: Any) -> None:
    result = RunResult(alias, "m", 1.0, **fields)
    (run / alias).mkdir(parents=True)
    (run / alias / "summary.json").write_text(json.dumps(result.to_dict()))


def test_a_run_s_sums(tmp_path: Path) -> None:
    write(tmp_path, "a", cost_usd=0.1, tool_calls=2, cache=CacheStats(1000, 500, 0, 1, 1))
    write(tmp_path, "b", cost_usd=None, tool_calls=1, error="ejected: idle", cache=CacheStats(1000, 100, 0, 1, 1))
    assert summarize_run(tmp_path) == {
        "total_cost": 0.1,
        "total_tools": 3,
        "cache_hit_rate": 0.3,
        "cached_tokens": 600,
        "errors": [("b", "ejected: idle")],
    }


def test_an_error_is_told_by_the_folder_it_stands_in_whatever_the_summary_says(tmp_path: Path) -> None:
    for name, document in (("a", {"alias": "other", "error": "x"}), ("b", {"error": "y"}), ("c", {"error": ""})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(document))
    assert summarize_run(tmp_path)["errors"] == [("a", "x"), ("b", "y")]


def test_an_empty_run_sums_to_nothing(tmp_path: Path) -> None:
    empty = {"total_cost": 0.0, "total_tools": 0, "cache_hit_rate": 0.0, "cached_tokens": 0, "errors": []}
    assert summarize_run(tmp_path) == empty
    assert summarize_run(str(tmp_path / "absent")) == empty


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", '{"cost_usd": "x", "tool_calls": [], "cache": 5}', "\x00"])
def test_a_corrupt_summary_is_passed_over(tmp_path: Path, content: str) -> None:
    write(tmp_path, "a", cost_usd=0.1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "summary.json").write_text(content)
    assert summarize_run(tmp_path)["total_cost"] == 0.1


def test_the_latest_run_is_the_one_changed_last(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / "file").write_text("")
    assert latest_run(tmp_path) == tmp_path / "new"
    assert latest_run(str(tmp_path)) == tmp_path / "new"
    assert [run.name for run in run_dirs(tmp_path)] == ["new", "old", "older"]


def test_reading_a_run_makes_it_no_later_run(tmp_path: Path) -> None:
    """A reader of a ledger makes and removes files beside it, and so changes the folder's time."""
    for age, name, file in ((0, "second", "plan.json"), (1, "first", "lock")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
        os.utime(tmp_path / name / file, (1e9 - age, 1e9 - age))
    (tmp_path / "first" / "ledger.sqlite3-shm").write_text("")
    os.utime(tmp_path / "second", (1e9 - 9, 1e9 - 9))
    assert latest_run(tmp_path) == tmp_path / "second"


def test_without_runs_there_is_no_latest(tmp_path: Path) -> None:
    assert latest_run(tmp_path) is None
    assert latest_run(tmp_path / "absent") is None


def test_a_run_is_found_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    assert find_run("run-1", tmp_path / "runs") == tmp_path / "runs" / "run-1"
    assert find_run("run-2", tmp_path / "runs") is None


@pytest.mark.parametrize("run_id", ["..", ".", "", "../outside", "/", "a/b", "run-1/"])
def test_an_id_never_leads_out_of_the_runs(tmp_path: Path, run_id: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    assert find_run(run_id, tmp_path / "runs") is None


def test_a_link_is_no_run_and_no_trial(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "real")
    assert find_run("link", tmp_path / "runs") is None
    assert trial_dirs(tmp_path / "runs") == []
    assert latest_run(tmp_path / "runs") is None


def test_trials_come_sorted(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "lock").write_text("")
    assert [t.name for t in trial_dirs(tmp_path)] == ["a", "b", "c"]


def test_what_an_agent_wrote_is_no_trial_of_the_run_that_its_trial_is(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    for name in ("lock", "plan.json", "summary.json", "ledger.sqlite3"):
        (tmp_path / "workspace" / name).write_text('{"cost_usd": 1000}')
    (tmp_path / "events.jsonl").touch()
    assert trial_dirs(tmp_path) == []
    assert summarize_run(tmp_path)["total_cost"] == 0


def test_only_the_start_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    assert read_start(tmp_path, "f", 4) == b"0123"


def test_no_part_below_the_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "f").write_text("secret")
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "file").symlink_to(tmp_path / "secret" / "f")
    (tmp_path / "trial" / "dir").symlink_to(tmp_path / "secret")
    assert read_start(tmp_path / "trial", "file", 100) is None
    assert read_start(tmp_path / "trial", "dir/f", 100) is None
    assert read_start(tmp_path, "secret/f", 100) == b"secret"


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_start(tmp_path, "pipe", 10) is None
    assert read_start(tmp_path, "absent", 10) is None
    (tmp_path / "dir").mkdir()
    assert read_start(tmp_path, "dir", 10) is None


def test_an_enormous_summary_is_no_summary(tmp_path: Path) -> None:
    with (tmp_path / "summary.json").open("wb") as file:
        file.truncate(SUMMARY_BYTES_MAX + 1)
    assert read_json_object(tmp_path, "summary.json") is None


@each("value", ["1", None, True, [], float("nan"), float("inf"), 10**30])
def test_what_is_no_number_counts_as_nothing(value: object) -> None:
    assert number(value) == 0
