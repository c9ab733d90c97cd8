"""The table that a run prints at its end."""

from pathlib import Path

import pytest

from agent_preflight.models import CacheStats, RunResult
from agent_preflight.runs.final_table import answers_lines, final_lines, place_lines


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests are run from."""
    monkeypatch.setenv("COLUMNS", "80")


RESULTS = [
    RunResult("b", "m/b", 1.0, duration_s=75, cost_usd=0.5, tool_calls=3, error="ejected: idle\x1b[31m"),
    RunResult("a", "m/a", 1.0, duration_s=5, cost_usd=None, tool_calls=1, cache=CacheStats(100, 25)),
    RunResult("claude-sonnet-4", "m/c", 1.0, cost_usd=0.00001, error="the agent ended with exit code 3, " + "x" * 60),
]


def test_rows_are_sorted_by_alias_and_summed_and_fit_80_columns() -> None:
    assert list(final_lines(RESULTS, Path("/runs/r"))) == [
        "",
        "trial            status      cost   time  tools  cached",
        "a                done           -   5.0s      1     25%",
        "b                ejected  $0.5000  1m15s      3       -",
        "claude-sonnet-4  failed   $0.0000   0.0s      0       -",
        "TOTAL                     $0.5000             4",
        "b: idle",
        "claude-sonnet-4: the agent ended with exit code 3,",
        "x" * 60,
        "Cache: 25.0% of 100 prompt tokens came from a cache",
    ]


def test_a_spent_budget_and_what_is_to_be_known_stand_where_an_error_would() -> None:
    spent = RunResult("s", "m", 1.0, preflight={"status": "spent", "notes": ["the budget of $1.00 is spent"]})
    silent = RunResult("t", "m", 1.0, preflight={"status": "done", "notes": ["the agent made no call\x1b[31m"]})
    lines = list(final_lines([spent, silent], Path("/runs/r")))
    assert lines[2].split()[:2] == ["s", "spent"]
    assert "\n".join(lines).count("the budget of $1.00 is spent") == 1
    assert lines[3].split()[:2] == ["t", "done"]
    assert "\n".join(lines).count("the agent made no call") == 1


def test_the_cost_of_a_trial_whose_account_was_not_opened_is_not_known() -> None:
    """An earlier attempt may have spent something."""
    unopened = RunResult("u", "m", 1.0, cost_usd=None, error="no sub-key", preflight={"posted_usd": "0"})
    row, total = list(final_lines([unopened], Path("/runs/r")))[2:4]
    assert row.split()[:3] == ["u", "failed", "-"]
    assert "$" not in total


def test_no_escape_reaches_the_terminal() -> None:
    assert "\x1b" not in "".join(final_lines(RESULTS, Path("/runs/r")))


def test_a_run_without_results_prints_nothing() -> None:
    assert list(final_lines([], Path("/runs/r"))) == []


def test_where_the_files_are_and_how_the_costs_are_shown(tmp_path: Path) -> None:
    assert list(place_lines(tmp_path / "gone")) == []
    run_dir = tmp_path / "my run"
    run_dir.mkdir()
    assert list(place_lines(run_dir)) == [f"files: {run_dir}"]
    (run_dir / "ledger.sqlite3").touch()
    assert list(place_lines(run_dir, " --runs-dir x"))[1:] == ["costs: agent-preflight costs 'my run' --runs-dir x"]
    assert f"files: {run_dir}" in list(final_lines(RESULTS, run_dir))


def answered(alias: str, path: str | None, files: int | None = 1, **cleanup: str) -> RunResult:
    return RunResult(alias, "m", 1.0, preflight={"output": {"path": path, "files": files}, "cleanup": cleanup})


def test_the_last_lines_say_where_the_answers_are() -> None:
    one = answered("a", "/runs/r/a/workspace")
    assert list(final_lines([one], Path("/runs/r")))[-1] == "Answers: /runs/r/a/workspace (1 of 1 trials)"
    some = [one, answered("b", None), answered("c", "/runs/r/c/workspace")]
    assert list(answers_lines(some, Path("/runs/r"))) == ["Answers: /runs/r/<alias>/workspace (2 of 3 trials)"]


def test_a_trial_that_wrote_no_file_is_no_answer(tmp_path: Path) -> None:
    one, none = answered("a", "/runs/r/a/workspace"), answered("b", "/runs/r/b/workspace", 0)
    assert list(answers_lines([one, none], Path("/runs/r"))) == ["Answers: /runs/r/a/workspace (1 of 2 trials)"]
    assert list(answers_lines([none, none], Path("/runs/r"))) == []


def test_of_a_process_something_must_be_in_its_working_directory(tmp_path: Path) -> None:
    of_process = answered("a", str(tmp_path), None)
    assert list(answers_lines([of_process], tmp_path)) == []
    (tmp_path / "budget.txt").symlink_to(tmp_path / "budget" / "budget.txt")
    assert list(answers_lines([of_process], tmp_path)) == []
    (tmp_path / "answer.txt").touch()
    assert list(answers_lines([of_process], tmp_path)) == [f"Answers: {tmp_path} (1 of 1 trials)"]
    assert list(answers_lines([answered("a", str(tmp_path / "gone"), None)], tmp_path)) == []


def test_a_file_that_only_has_the_name_of_our_link_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "budget.txt").touch()
    assert list(answers_lines([answered("a", str(tmp_path), None)], tmp_path)) == [
        f"Answers: {tmp_path} (1 of 1 trials)"
    ]


def test_an_answer_that_is_still_in_its_container_is_named() -> None:
    (line,) = answers_lines([answered("a", None, output="unverified")], Path("/runs/r"))
    assert line.startswith("Answers not copied yet: a; ")
