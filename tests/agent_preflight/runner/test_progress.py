"""The progress of a run, for views."""

from agent_preflight.runner.progress import RunProgress, TrialProgress


def test_rows_keep_the_order_of_the_trials_and_each_change_is_reported() -> None:
    told: list[tuple[str | None, str]] = []
    progress = RunProgress(lambda before, row: told.append((before.state if before else None, row.state)))
    progress.put(TrialProgress("b", "m", 1))
    progress.put(TrialProgress("a", "m", 1))
    progress.update("b", state="running", started_s=2.0)
    assert [(row.alias, row.state) for row in progress.rows()] == [("b", "running"), ("a", "planned")]
    assert told == [(None, "planned"), (None, "planned"), ("planned", "running")]


def test_time_runs_from_the_agents_start_to_the_trials_end() -> None:
    row = TrialProgress("a", "m", 1)
    assert row.seconds(5.0) == 0.0
    assert TrialProgress("a", "m", 1, started_s=2.0).seconds(5.0) == 3.0
    assert TrialProgress("a", "m", 1, started_s=2.0, ended_s=4.0).seconds(5.0) == 2.0


def test_what_must_be_read_at_once_goes_to_whoever_shows_the_run() -> None:
    told: list[str] = []
    RunProgress(on_alert=told.append).alert("no credit")
    RunProgress().alert("nobody shows this")
    assert told == ["no credit"]


def test_a_view_is_called_when_trials_begin() -> None:
    told: list[str] = []
    progress = RunProgress(on_begin=lambda: told.append(progress.title))
    progress.begin("run-1")
    RunProgress().begin("nobody shows this")
    assert told == ["run-1"]
