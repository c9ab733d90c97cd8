"""`agent-preflight stop`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from agent_preflight.runs.status import read_run
from tests.support.live_field import WAITING, LiveField
from tests.support.run_on_disk import alive, plan
from tests.support.trial_field import Field

pytestmark = pytest.mark.wire


def stop(runs_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["stop", *arguments, "--runs-dir", str(runs_dir)])


def test_one_trial_ends_in_order_and_the_others_go_on(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    goes_on = f"say('ready')\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)\ncall()"
    with LiveField(trials, {"a": WAITING, "b": goes_on}, ready=2) as live:
        told = stop(trials.runs_dir, "live", "a")
        assert told.exit_code == 0, told.output
        assert "a: stopped, $" in told.output
        assert "b" not in told.stdout
        flag.touch()
        a, b = live.results()
    assert (a.error, b.error) == ("stopped by a person", None)
    extra = trials.summary("a")["preflight"]
    assert extra["ended_by"] == "stopped"
    assert next(iter(extra["cleanup"])) == "freeze"
    assert set(extra["cleanup"].values()) == {"ok"}


def test_a_whole_run_ends_and_what_has_not_begun_never_does(trials: Field) -> None:
    with LiveField(trials, {"a": WAITING, "later": WAITING}, max_workers=1) as live:
        told = stop(trials.runs_dir, "live")
        assert told.exit_code == 0, told.output
        assert "later: not started" in told.output
        assert [result.error for result in live.results()] == ["stopped by a person"]
    assert not (live.run_dir / "later").exists()
    assert not (live.run_dir / "control.json").exists()


def test_the_only_live_run_need_not_be_named_for_one_trial_and_for_all(trials: Field) -> None:
    with LiveField(trials, {"a": WAITING, "b": WAITING}, ready=2) as live:
        told = stop(trials.runs_dir, "foo")
        assert (told.exit_code, "The run live has no trial 'foo': its trials are a, b." in told.output) == (1, True)
        told = stop(trials.runs_dir, "a")
        assert (told.exit_code, "a: stopped, $" in told.output, "b:" in told.output) == (0, True, False), told.output
        told = stop(trials.runs_dir)
        assert (told.exit_code, "b: stopped, $" in told.output) == (0, True), told.output
        assert [result.error for result in live.results()] == ["stopped by a person"] * 2
    assert "No run is live in" in stop(trials.runs_dir).output
    assert 'There is no run "a" in' in stop(trials.runs_dir, "a").output


def test_a_word_that_names_a_run_is_no_trial_s(tmp_path: Path) -> None:
    with alive(plan(tmp_path / "live", "old")):
        plan(tmp_path / "old", "a")
        told = stop(tmp_path, "old")
    assert (told.exit_code, "The run old is not going on" in told.output) == (1, True)


def test_a_trial_that_waits_for_its_turn_is_stopped_at_once_and_stays_so(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    first = f"say('ready')\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)"
    agents = {"a": first, "later": WAITING, "last": "say('ready')"}
    with LiveField(trials, agents, max_workers=1) as live:
        told = stop(trials.runs_dir, "live", "later")
        assert (told.exit_code, flag.exists()) == (0, False), told.output
        assert "later: stopped before it began; nothing was spent" in told.output
        standing = {trial.alias: trial.status for trial in read_run(live.run_dir).trials}
        assert standing == {"a": "running", "later": "stopped", "last": "pending"}
        flag.touch()
        results = live.results()
    assert [(result.alias, result.preflight["status"]) for result in results] == [
        ("a", "done"),
        ("later", "stopped"),
        ("last", "done"),
    ]
    assert not any("not complete" in line for line in trials.said)
    made = [key.name for key in trials.simulator.bill().keys.values() if "later" in key.name]
    assert made == []
    again = trials.run(agents, run_id="live", resume=True)
    assert [result.preflight["status"] for result in again] == ["done", "stopped", "done"]


def test_a_trial_that_waits_to_begin_again_keeps_what_it_has_spent(trials: Field) -> None:
    flag = trials.runs_dir.parent / "go"
    first = f"say('ready')\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)\ncall()"
    agents = {"a": first, "later": "call(); say('ready'); time.sleep(60)"}
    with LiveField(trials, agents, ready=2) as live:
        assert stop(trials.runs_dir, "live").exit_code == 0
        live.results()
    for alias in agents:
        summary = trials.summary(alias)
        summary["preflight"] |= {"ended_by": "interrupted", "status": "interrupted"}
        (live.run_dir / alias / "summary.json").write_text(json.dumps(summary))
    spent = trials.summary("later")["preflight"]["posted_usd"]
    assert spent != "0"
    with LiveField(trials, agents, max_workers=1, resume=True) as live:
        told = stop(trials.runs_dir, "live", "later")
        assert f"later: stopped before it began again; ${spent} was spent before" in told.output
        flag.touch()
        live.results()
    assert trials.summary("later")["preflight"]["posted_usd"] == spent


def test_who_is_not_there_is_not_stopped(trials: Field, tmp_path: Path) -> None:
    assert stop(tmp_path, "none").exit_code == 1
    trials.run({"a": "say('hello')"}, run_id="over")
    told = stop(trials.runs_dir, "over")
    assert told.exit_code == 1
    assert "not going on" in told.output
    assert "no trial 'b': its trials are a" in stop(trials.runs_dir, "over", "b").output
