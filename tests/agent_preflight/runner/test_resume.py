"""A resumed run keeps the trials that have ended, and counts what was spent."""

import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.usd import pusd
from agent_preflight.docker.images import image_exists
from agent_preflight.models import RunResult
from agent_preflight.runner.api import request_of, run_multi
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runner.resume import PreviousRun, begins_again, read_previous_run, result_of_summary, set_aside
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.sandboxes.process import orphan_processes
from agent_preflight.status import container_running
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each
from tests.support.crashed_run import crash
from tests.support.ledger_on_disk import open_account, open_store
from tests.support.trial_field import DEAR_MODEL, MODEL, Field, agent

BASE = os.environ.get("PREFLIGHT_TEST_BASE", "local/python:base")

SUMMARY = {
    "alias": "a",
    "model_id": "m/m",
    "budget_usd": 0.25,
    "duration_s": 3,
    "cost_usd": 0.1235,
    "error": None,
    "tool_calls": 2,
    "events_count": 5,
    "output": {"x": 1},
    "cache": {"total_prompt_tokens": 10, "cached_tokens": 4, "hit_rate": 0.4},
    "preflight": {"ended_by": "agent_end", "posted_usd": "0.12345678", "calls": 7},
}

ONCE_MORE = """
with open("attempts", "a") as file: file.write("x")
attempt = len(open("attempts").read())
status, _ = call(text=f"attempt {attempt}")
say("ready", status=status)
if attempt == 1:
    time.sleep(60)
"""
"""An agent that hangs in its first attempt, without a word that a broken pipe could end, and finishes in its second."""

SPEND_ALL = """
with open("attempts", "a") as file: file.write("x")
count = 0
while call(text="word " * 500)[0] == 200:
    count += 1
    if count == 12 and open("attempts").read() == "x":
        say("ready")
        time.sleep(60)
"""
"""An agent that spends half of $0.002 in its first attempt, and in its second whatever is left."""

DONE = "status, _ = call(); say('ready'); say('agent_end', status=status)"


def billed(trials: Field) -> Decimal:
    keys = trials.simulator.bill().keys.values()
    return sum((key.total_usd for key in keys if key.name.startswith("agent-preflight:")), Decimal(0))


def keys_of(trials: Field, alias: str) -> int:
    return sum(f":{alias}:" in key.name for key in trials.simulator.bill().keys.values())


# Pure


def test_a_result_is_read_back_from_its_summary() -> None:
    result = result_of_summary(SUMMARY)
    assert (result.alias, result.cost_usd, result.ok, result.tool_calls) == ("a", 0.12345678, True, 2)
    assert (result.cache.cached_tokens, result.output, result.preflight["calls"]) == (4, {"x": 1}, 7)


@pytest.mark.parametrize("summary", [{}, {"cost_usd": "x", "cache": 3, "preflight": [], "error": 5}])
def test_an_invalid_summary_is_an_empty_result(summary: dict[str, Any]) -> None:
    assert isinstance(result_of_summary(summary), RunResult)


def test_an_error_that_is_not_text_is_an_error() -> None:
    assert result_of_summary({"error": {"code": 5}}).error == "{'code': 5}"
    assert not result_of_summary({"error": 5}).ok


@each("ended_by", ["interrupted", "lost", "provisioning"])
def test_a_trial_that_was_cut_off_begins_again(ended_by: str) -> None:
    assert begins_again(result_of_summary({"preflight": {"ended_by": ended_by}}))


@each("ended_by", ["agent", "agent_end", "ejected", "stopped", "gate_lost", "on_event", "error"])
def test_a_trial_that_ended_does_not_begin_again(ended_by: str) -> None:
    assert not begins_again(result_of_summary({"preflight": {"ended_by": ended_by}}))
    assert not begins_again(result_of_summary({}))


@each("ended_by, again", [("agent", True), ("ejected", True), ("error", True), ("stopped", False)])
def test_a_trial_without_credit_begins_again_unless_a_person_stopped_it(ended_by: str, again: bool) -> None:
    assert (
        begins_again(result_of_summary({"preflight": {"ended_by": ended_by, "never_served": "account_credit"}}))
        is again
    )
    assert not begins_again(result_of_summary({"preflight": {"ended_by": ended_by, "never_served": "upstream_404"}}))


@each("status, again", [("failed", True), *((word, False) for word in ("done", "spent", "ejected", "stopped"))])
def test_a_failed_trial_begins_again_with_retry_failed(status: str, again: bool) -> None:
    summary = {"preflight": {"status": status, "ended_by": "agent"}}
    assert (begins_again(result_of_summary(summary), retry_failed=True), begins_again(result_of_summary(summary))) == (
        again,
        False,
    )


@each(
    "summary",
    [
        {"preflight": {"status": "spent", "ended_by": "agent", "limit_usd": "0.25"}},
        {
            "error": "ejected: budget exhausted ($0.250 of $0.25, nothing more fits)",
            "preflight": {"status": "ejected", "ended_by": "ejected", "limit_usd": "0.25"},
        },
    ],
)
def test_a_spent_trial_begins_again_with_a_higher_budget(
    summary: dict[str, Any],
) -> None:
    assert [
        begins_again(result_of_summary(summary), budget_pusd=pusd(budget)) for budget in ("0.2", "0.25", "0.26")
    ] == [
        False,
        False,
        True,
    ]
    assert begins_again(result_of_summary(summary), retry_failed=True) is False


def test_other_trials_do_not_begin_again_with_a_higher_budget() -> None:
    for status, ended_by in (("done", "agent"), ("ejected", "ejected"), ("stopped", "stopped"), ("failed", "agent")):
        extra = {"status": status, "ended_by": ended_by, "limit_usd": "0.25"}
        assert not begins_again(result_of_summary({"error": "ejected: idle", "preflight": extra}), budget_pusd=pusd(1))


def test_a_trial_that_was_cut_off_begins_again_with_retry_failed_too() -> None:
    assert begins_again(
        result_of_summary({"preflight": {"status": "interrupted", "ended_by": "interrupted"}}), retry_failed=True
    )


def test_relative_mounts_of_an_older_plan_are_those_of_this_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.json").write_text(json.dumps({"mounts": ["./in:/in:ro", "cache:/c"], "trials": []}))
    wanted = {"mounts": [f"{tmp_path}/in:/in:ro", "cache:/c"], "trials": []}
    assert read_previous_run(tmp_path, wanted).kept == {}


def test_a_resumed_plan_has_the_times_of_start_and_resumes(tmp_path: Path) -> None:
    wanted = {"created_at": "t3", "trials": [{"alias": "a", "key_name": "k"}, {"alias": "b", "key_name": "l"}]}
    earlier = PreviousRun({"created_at": "t1", "resumed_at": ["t2"]}, {"a": result_of_summary(SUMMARY)})
    assert earlier.continued(wanted) == {
        "created_at": "t1",
        "resumed_at": ["t2", "t3"],
        "trials": [{"alias": "b", "key_name": "l"}],
    }
    assert PreviousRun().continued(wanted) == wanted
    row = earlier.progress(TrialPlan("a", "m/m", 25 * 10**10, "k", ()))
    assert (row.state, row.balance.posted_pusd, row.balance.calls, row.ok) == ("kept", 123456780000, 7, True)


def test_the_progress_of_a_trial_that_begins_again_has_its_earlier_cost() -> None:
    row = PreviousRun({}, {}, {"a": PriorAttempt(7, 30)}).progress(TrialPlan("a", "m/m", 25, "k", ()))
    assert (row.state, row.balance.posted_pusd, row.limit_pusd) == ("planned", 7, 30)
    assert PreviousRun().progress(TrialPlan("a", "m/m", 25, "k", ())).balance.posted_pusd == 0


def test_a_run_without_a_plan_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no plan"):
        read_previous_run(tmp_path, {"trials": []})


def test_the_summary_of_an_attempt_is_kept_aside(tmp_path: Path) -> None:
    set_aside(tmp_path)
    for text in ("1", "2"):
        (tmp_path / "summary.json").write_text(text)
        set_aside(tmp_path)
    assert [(tmp_path / f"summary.{n}.json").read_text() for n in (1, 2)] == ["1", "2"]
    assert not (tmp_path / "summary.json").exists()


def test_the_output_of_an_attempt_is_kept_aside_under_the_number_of_its_summary(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / "summary.json").write_text(str(number))
        if number != 1:
            (tmp_path / "workspace").mkdir()
            KeptOutput(str(number)).write_record(tmp_path, "c")
        set_aside(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("summary.1.json", "summary.2.json", "summary.3.json"),
        *("workspace.2", "workspace.3", "output.2.json", "output.3.json"),
    }


def test_earlier_outputs_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "summary.json").touch()
    (tmp_path / "workspace.1").mkdir()
    (tmp_path / "workspace").mkdir()
    KeptOutput().write_record(tmp_path, "c")
    set_aside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("workspace.1", "workspace.2", "summary.2.json", "output.2.json"),
    }


def test_a_processs_working_directory_stays_for_the_next_attempt(tmp_path: Path) -> None:
    (tmp_path / "summary.json").touch()
    (tmp_path / "workspace").mkdir()
    set_aside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"summary.1.json", "workspace"}


def test_after_a_reboot_a_run_is_not_resumed_before_its_costs_are_known(tmp_path: Path) -> None:
    for boot in ("before", "after"):
        store = open_store(tmp_path, boot)
        if boot == "before":
            open_account(store)
        store.close()
    plan = {"trials": [{"alias": "a", "model_id": "m/m"}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match=r"restarted while a of .* Nothing has been started"):
        read_previous_run(tmp_path, plan)


# Whole runs


@pytest.mark.wire
def test_after_a_killed_runner_ended_trials_are_kept_and_others_begin_again(trials: Field) -> None:
    agents = {"done": DONE, "cut": ONCE_MORE}
    run = crash(trials, agents, run_id="r", max_workers=1)
    kept = (run / "done" / "summary.json").read_bytes()
    assert orphan_processes(run / "cut" / "budget" / "budget.txt")
    results = trials.run(agents, run_id="r", resume=True)
    assert [(result.alias, result.error) for result in results] == [("done", None), ("cut", None)]
    assert (run / "done" / "summary.json").read_bytes() == kept
    assert results[0].cost_usd == float(json.loads(kept)["preflight"]["posted_usd"])
    assert (run / "cut" / "workspace" / "attempts").read_text() == "xx"
    assert not orphan_processes(run / "cut" / "budget" / "budget.txt")
    assert (keys_of(trials, "done"), keys_of(trials, "cut")) == (1, 2)
    extra = results[1].preflight
    assert 0 < Decimal(extra["spent_before_usd"]) < Decimal(extra["posted_usd"])
    assert extra["drift_usd"] == "0"
    assert set(extra["cleanup"].values()) == {"ok"}
    assert billed(trials) == sum(Decimal(result.preflight["posted_usd"]) for result in results)


@pytest.mark.wire
def test_a_run_may_be_killed_again_and_again(trials: Field) -> None:
    agents = {"a": ONCE_MORE.replace("attempt == 1", "attempt < 3")}
    run = crash(trials, agents, run_id="r")
    crash(trials, agents, run_id="r", resume=True)
    (result,) = trials.run(agents, run_id="r", resume=True)
    assert (run / "a" / "workspace" / "attempts").read_text() == "xxx"
    assert (result.error, result.preflight["calls"], keys_of(trials, "a")) == (None, 3, 3)
    assert billed(trials) == Decimal(result.preflight["posted_usd"])
    assert (result.preflight["drift_usd"], len(json.loads((run / "plan.json").read_text())["resumed_at"])) == ("0", 2)
    assert {path.name for path in (run / "a").glob("summary*")} == {"summary.json", "summary.1.json", "summary.2.json"}


@pytest.mark.docker
def test_an_agent_in_a_container_begins_again_after_the_first_one_is_removed(
    trials: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not image_exists(BASE):
        pytest.skip(f"the base image {BASE} is not present")
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", BASE)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    options: dict[str, Any] = {
        "sandbox": "docker",
        "image_name": BASE,
        "network": "sealed",
        "mounts": [f"{shared}:/shared"],
        "container_args": ["python3", *agent('os.chdir("/shared")\n' + ONCE_MORE)[1:]],
        "command": None,
        "openrouter_base_url": trials.simulator.base_url,
    }
    run = crash(trials, {"a": ""}, run_id="r", **options)
    assert container_running("a", run)
    (result,) = trials.run({"a": ""}, run_id="r", resume=True, **options)
    assert (result.error, (shared / "attempts").read_text()) == (None, "xx")
    assert not container_running("a", run)
    assert billed(trials) == Decimal(result.preflight["posted_usd"])


@pytest.mark.wire
def test_the_cost_of_an_earlier_attempt_counts(trials: Field) -> None:
    agents = {"a": SPEND_ALL}
    run = crash(trials, agents, run_id="r", budget_usd="0.002")
    (result,) = trials.run(agents, run_id="r", resume=True, budget_usd="0.002")
    assert (run / "a" / "workspace" / "attempts").read_text() == "xx"
    extra = result.preflight
    assert Decimal("0.0008") < Decimal(extra["spent_before_usd"]) < Decimal("0.0015")
    assert Decimal("0.0015") < Decimal(extra["posted_usd"]) <= Decimal("0.002")
    assert result.error is None or "budget exhausted" in result.error
    assert billed(trials) == Decimal(extra["posted_usd"])


@pytest.mark.wire
def test_interrupted_and_unstarted_trials_begin_at_a_resume(trials: Field) -> None:
    stop = StopSignal()
    agents = {"a": ONCE_MORE, "b": DONE}
    options = trials.options(agents, run_id="r", max_workers=1)
    models = [(MODEL, alias) for alias in agents]
    request = request_of({"models": models, **options, "on_event": lambda _: stop.press()})
    first = run_blocking(lambda stop: run_field(request, stop), stop)
    assert [result.error for result in first.results] == ["interrupted"]
    results = run_multi(models, **options, resume=True)
    assert [(result.alias, result.error) for result in results] == [("a", None), ("b", None)]
    assert json.loads((first.run_dir / "a" / "summary.1.json").read_text())["error"] == "interrupted"


@pytest.mark.wire
def test_a_resume_of_a_finished_run_does_nothing(trials: Field) -> None:
    first = trials.run({"a": DONE}, run_id="r")
    again = trials.run({"a": DONE}, run_id="r", resume=True)
    assert [result.preflight for result in again] == [result.preflight for result in first]
    assert keys_of(trials, "a") == 1
    with pytest.raises(ConfigError, match="resume=True"):
        trials.run({"a": DONE}, run_id="r")


@pytest.mark.wire
def test_this_machine_is_not_checked_if_every_trial_is_kept(trials: Field, tmp_path: Path) -> None:
    program = tmp_path / "agent"
    program.write_text(f"#!{sys.executable}\nimport sys; sys.exit(3)")
    program.chmod(0o755)
    options: dict[str, Any] = {"run_id": "r", "command": [str(program)]}
    trials.run({"a": ""}, **options)
    program.unlink()
    (result,) = trials.run({"a": ""}, **options, resume=True)
    assert result.error == "the agent ended with exit code 3"
    with pytest.raises(ConfigError, match=f"The agent's program {program} does not exist"):
        trials.run({"a": ""}, **options, resume=True, retry_failed=True)
    assert (trials.runs_dir / "r" / "plan.json").exists()


FAILS_ONCE = """
with open("attempts", "a") as file: file.write("x")
status, _ = call()
if open("attempts").read() == "x": sys.exit(3)
say("agent_end", status=status)
"""


@pytest.mark.wire
def test_failed_trials_run_again_with_what_is_left_and_the_others_are_kept(trials: Field) -> None:
    agents = {"good": DONE, "bad": FAILS_ONCE}
    first = trials.run(agents, run_id="r")
    assert [result.error for result in first] == [None, "the agent ended with exit code 3"]
    assert trials.said[-2:] == [
        "1 of 2 trials failed. To run bad (failed) again with what is left of the budget:",
        "  run_multi(..., run_id='r', resume=True, retry_failed=True)",
    ]
    unchanged = trials.run(agents, run_id="r", resume=True)
    assert [result.error for result in unchanged] == [result.error for result in first]
    run = trials.run_dirs[0]
    kept, events = (run / "good" / "summary.json").read_bytes(), (run / "bad" / "events.jsonl").read_text()
    results = trials.run(agents, run_id="r", resume=True, retry_failed=True)
    assert [result.error for result in results] == [None, None]
    assert (run / "good" / "summary.json").read_bytes() == kept
    assert json.loads((run / "bad" / "summary.1.json").read_text())["preflight"]["exit_code"] == 3
    assert (run / "bad" / "events.jsonl").read_text().startswith(events)
    assert (keys_of(trials, "good"), keys_of(trials, "bad")) == (1, 2)
    assert results[1].preflight["spent_before_usd"] == first[1].preflight["posted_usd"]
    assert billed(trials) == sum(Decimal(result.preflight["posted_usd"]) for result in results)


@pytest.mark.wire
def test_a_trial_that_runs_again_may_spend_only_what_is_left(trials: Field) -> None:
    again = SPEND_ALL.replace("time.sleep(60)", "sys.exit(3)")
    trials.run({"a": again}, run_id="r", budget_usd="0.002")
    (result,) = trials.run({"a": again}, run_id="r", budget_usd="0.002", resume=True, retry_failed=True)
    assert (trials.run_dirs[0] / "a" / "workspace" / "attempts").read_text() == "xx"
    assert Decimal("0.0008") < Decimal(result.preflight["spent_before_usd"]) < Decimal("0.0015")
    assert Decimal("0.0015") < Decimal(result.preflight["posted_usd"]) <= Decimal("0.002")
    assert billed(trials) == Decimal(result.preflight["posted_usd"])


@pytest.mark.wire
def test_a_changed_plan_is_an_error_that_shows_the_difference(trials: Field) -> None:
    trials.run({"a": DONE}, run_id="r")
    with pytest.raises(ConfigError) as caught:
        trials.run({"a": DONE + "\n"}, run_id="r", resume=True, budget_usd="0.06", env={"X": "secret"})
    assert "budget_usd" not in str(caught.value), "of a trial that is kept it means nothing"
    assert 'env_names: was [], is ["X"]' in str(caught.value)
    assert "trial a: command: was " in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.wire
def test_a_higher_budget_at_a_resume_continues_spent_trials(trials: Field) -> None:
    agents = {"a": SPEND_ALL.replace("count == 12 and", "count == 0 and"), "b": DONE}
    first = trials.run(agents, run_id="r", budget_usd="0.002")
    assert [result.preflight["status"] for result in first] == ["spent", "done"]
    results = trials.run(agents, run_id="r", budget_usd="0.003", resume=True)
    again = results[0].preflight
    assert (again["limit_usd"], again["spent_before_usd"]) == ("0.003", first[0].preflight["posted_usd"])
    assert Decimal("0.002") < Decimal(again["posted_usd"]) <= Decimal("0.003")
    assert (keys_of(trials, "a"), keys_of(trials, "b")) == (2, 1)
    plan = json.loads((trials.run_dirs[0] / "plan.json").read_text())
    assert {trial["alias"]: trial["budget_usd"] for trial in plan["trials"]} == {"a": "0.003", "b": "0.002"}
    limits = [key.limit for key in trials.simulator.account.keys.values() if ":a:" in key.name]
    assert limits[-1] == Decimal("0.003") - Decimal(again["spent_before_usd"]) + Decimal("0.01")
    assert billed(trials) == sum(Decimal(result.preflight["posted_usd"]) for result in results)


@pytest.mark.wire
def test_a_trial_whose_budget_covered_no_call_runs_with_a_higher_one(trials: Field) -> None:
    agents = {"a": f"status, _ = call('{DEAR_MODEL}', 'x' * 4000); say('agent_end', status=status)"}
    (first,) = trials.run(agents, run_id="r", budget_usd="0.001")
    assert first.preflight["status"] == "failed"
    command = trials.said[-1]
    assert command.startswith("  run_multi(..., run_id='r', resume=True, retry_failed=True, budget_usd=0.0")
    budget = command.rpartition("=")[2].rstrip(")")
    (again,) = trials.run(agents, run_id="r", budget_usd=budget, resume=True, retry_failed=True)
    assert (again.preflight["status"], again.preflight["served"]) == ("done", 1)


@pytest.mark.wire
def test_a_budget_may_not_be_lowered(trials: Field) -> None:
    trials.run({"a": "sys.exit(3)"}, run_id="r")
    with pytest.raises(ConfigError, match=r'trial a: budget_usd: was "0.05", is "0.04"\n.*only a budget may be higher'):
        trials.run({"a": "sys.exit(3)"}, run_id="r", resume=True, retry_failed=True, budget_usd="0.04")


@pytest.mark.wire
def test_a_resume_needs_the_id_of_an_existing_run(trials: Field) -> None:
    with pytest.raises(ConfigError, match=r'no run "x" in .* There are no runs there'):
        trials.run({"a": DONE}, run_id="x", resume=True)
    with pytest.raises(ConfigError, match="needs run_id"):
        trials.run({"a": DONE}, resume=True)
    with pytest.raises(ConfigError, match="needs resume=True"):
        trials.run({"a": DONE}, run_id="x", retry_failed=True)
