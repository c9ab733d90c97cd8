"""Which run a command means."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_preflight.runs.choice import live_runs, named_run, run_to_change, run_to_read
from preflight_proxy.core.errors import ConfigError
from tests.support.run_on_disk import alive, plan


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Five dead runs, `run-5` the latest."""
    for number in range(1, 6):
        run = plan(tmp_path / f"run-{number}", "a")
        os.utime(run / "plan.json", (1e9 + number, 1e9 + number))
    return tmp_path


def test_a_run_that_is_named_is_taken(runs: Path) -> None:
    with alive(runs / "run-4"):
        assert run_to_read("run-1", runs) == run_to_change("run-1", runs) == named_run("run-1", runs) == runs / "run-1"


def test_for_a_look_the_only_live_run_is_taken_else_the_latest(runs: Path) -> None:
    assert run_to_read(None, runs) == runs / "run-5"
    with alive(runs / "run-2"):
        assert run_to_read(None, runs) == runs / "run-2"
        with alive(runs / "run-3"):
            assert run_to_read(None, runs) == runs / "run-5"


def test_where_there_is_no_run_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert run_to_read(None, tmp_path) is None
    assert run_to_read(None, tmp_path / "none") is None


def test_for_a_change_exactly_one_run_must_be_live(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"^No run is live in .*/, .*Latest: run-5, run-4, run-3\.$"):
        run_to_change(None, runs)
    with ExitStack() as stack:
        stack.enter_context(alive(runs / "run-2"))
        assert run_to_change(None, runs) == runs / "run-2"
        stack.enter_context(alive(runs / "run-3"))
        with pytest.raises(ConfigError, match=r"Several runs are live in .*name one: run-3, run-2\."):
            run_to_change(None, runs)
        assert live_runs(runs) == [runs / "run-3", runs / "run-2"]


@pytest.mark.parametrize("run_id", ["run-nope", "..", ".", "", "../x", "a\x1bb"])
def test_a_run_that_is_not_there_is_said_so_with_the_latest(runs: Path, run_id: str) -> None:
    for choose in (run_to_read, run_to_change, named_run):
        with pytest.raises(ConfigError) as told:
            choose(run_id, runs)
        assert str(told.value) == f'There is no run "{run_id}" in {runs}/. Latest: run-5, run-4, run-3.'


def test_without_any_run_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no run "x" in .*/none/\. There are no runs there; --runs-dir'):
        named_run("x", tmp_path / "none")
