"""Where the files and answers of a run are."""

from pathlib import Path

from agent_preflight.models import RunResult
from agent_preflight.runs.places import answers_lines, place_lines


def test_where_the_files_are_and_how_the_costs_are_shown(tmp_path: Path) -> None:
    assert list(place_lines(tmp_path / "gone")) == []
    run_dir = tmp_path / "my run"
    run_dir.mkdir()
    assert list(place_lines(run_dir)) == [f"files: {run_dir}"]
    (run_dir / "ledger.sqlite3").touch()
    assert list(place_lines(run_dir, " --runs-dir x"))[1:] == ["costs: agent-preflight costs 'my run' --runs-dir x"]


def answered(alias: str, path: str | None, files: int | None = 1, **cleanup: str) -> RunResult:
    return RunResult(alias, "m", 1.0, preflight={"output": {"path": path, "files": files}, "cleanup": cleanup})


def test_the_last_lines_say_where_the_answers_are() -> None:
    one = answered("a", "/runs/r/a/workspace")
    assert list(answers_lines([one], Path("/runs/r"))) == ["Answers: /runs/r/a/workspace (1 of 1 trials)"]
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
