"""Whole trials that are scored: when, with what, and what is in the summary."""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.events import EventLogger
from agent_preflight.models import RunResult
from agent_preflight.runner import run_multi
from agent_preflight.runner.api import request_of, run_single
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runner.trial_score import LATER, NEVER_RAN, NOT_YET
from agent_preflight.sandboxes.process import orphan_processes
from agent_preflight.scoring.command import CUT
from preflight_proxy.core.errors import ConfigError
from tests.support.crashed_run import RUNNER
from tests.support.trial_field import MODEL, Field

pytestmark = pytest.mark.wire

WRITES = "call(); open('answer.txt', 'w').write('42')"
SUBJECT = 'test "$(cat "$PREFLIGHT_OUTPUT/answer.txt")" = 42 && echo true || echo false'


def of(result: RunResult) -> dict[str, Any]:
    """Return what the summary says of a trial's score."""
    score: dict[str, Any] = result.preflight["score"]
    return score


def test_a_command_scores_what_the_agent_wrote(trials: Field) -> None:
    good, bad = trials.run({"good": WRITES, "bad": "call(); open('answer.txt', 'w').write('41')"}, score=SUBJECT)
    assert [(each.score, each.success) for each in (good, bad)] == [(1.0, True), (0.0, False)]
    told = trials.summary("good")["preflight"]["score"]
    assert told == of(good)
    assert (told["kind"], told["reason"], told["details"]) == ("bool", None, None)
    assert told["duration_s"] > 0
    assert stat.S_IMODE((trials.run_dirs[0] / "good" / "score.log").stat().st_mode) == 0o600


def test_a_run_without_a_score_has_none_and_says_so(trials: Field) -> None:
    (result,) = trials.run({"a": WRITES})
    assert (result.preflight["score"], result.score, result.success) == (None, None, None)
    assert trials.summary("a")["preflight"]["score"] is None


def test_the_command_knows_the_trial(trials: Field) -> None:
    names = '{"score": 1, "who": "%s %s %s"}'
    shown = '"$PREFLIGHT_ALIAS" "$PREFLIGHT_MODEL" "$PREFLIGHT_RUN_ID"'
    (result,) = trials.run({"a": WRITES}, score=f"printf '{names}' {shown}", run_id="run-1")
    assert of(result)["details"] == {"who": f"a {MODEL} run-1"}


def test_the_account_is_frozen_and_the_key_deleted_before_a_score_runs(trials: Field) -> None:
    deleted: list[list[bool]] = []

    def score(result: RunResult, folder: Path | None) -> int:
        keys = [key for key in trials.simulator.bill().keys.values() if key.name.startswith("agent-preflight:")]
        deleted.append([key.deleted for key in keys])
        return 1

    (result,) = trials.run({"a": WRITES}, score=score)
    assert (result.score, deleted) == (1.0, [[True]])
    events = EventLogger.read(trials.run_dirs[0] / "a" / "events.jsonl")
    kinds = [event["type"] for event in events if event["source"] == "preflight"]
    assert kinds.index("preflight_score") > max(at for at, kind in enumerate(kinds) if kind == "preflight_cleanup")
    assert [event["score"] for event in events if event["type"] == "preflight_score"] == [1.0]


def test_a_function_gets_the_result_and_the_folder_and_cannot_change_the_result(trials: Field) -> None:
    seen: list[tuple[Any, ...]] = []

    def score(result: RunResult, folder: Path | None) -> dict[str, Any]:
        assert folder is not None
        seen.append((result.cost_usd, threading.current_thread().name, (folder / "answer.txt").read_text()))
        result.cost_usd = 0.0
        result.preflight["posted_usd"] = "0"
        return {"score": 3, "success": False, "why": "short"}

    (result,) = trials.run({"a": WRITES}, score=score)
    assert seen == [(result.cost_usd, "score a", "42")]
    assert result.preflight["posted_usd"] != "0"
    assert (result.score, result.success, of(result)["details"]) == (3.0, False, {"why": "short"})


def test_a_function_that_fails_hangs_or_returns_nonsense_is_no_score(trials: Field) -> None:
    def raises(result: RunResult, folder: Path | None) -> float:
        raise ValueError("no such file")

    def exits(result: RunResult, folder: Path | None) -> float:
        raise SystemExit(3)

    def hangs(result: RunResult, folder: Path | None) -> float:
        threading.Event().wait(60)
        return 1.0

    functions: list[Any] = [raises, exits, hangs, lambda result, folder: "1", lambda result, folder: math.nan]
    by_alias = {f"a{number}": function for number, function in enumerate(functions)}
    results = trials.run(
        dict.fromkeys(by_alias, WRITES),
        score=lambda result, folder: by_alias[result.alias](result, folder),
        score_timeout_s=2.0,
    )
    assert {(each.score, each.success, each.error) for each in results} == {(None, None, None)}
    reasons = [of(each)["reason"] for each in results]
    assert reasons[:2] == ["ValueError: no such file", "RuntimeError: SystemExit: 3"]
    assert reasons[2] == "it took longer than 2 s (score_timeout_s)"
    assert reasons[3:] == ["the score is '1', not a number, true or false", "the score is not finite"]
    assert [line for line in trials.said if "no score: ValueError: no such file" in line]


def test_failed_and_ejected_and_spent_trials_are_scored_and_one_that_never_ran_is_not(trials: Field) -> None:
    agents = {"failed": WRITES + "; sys.exit(3)", "late": WRITES + "; time.sleep(60)"}
    failed, late = trials.run(agents, score=SUBJECT, timeout_s=2.0)
    assert [(each.preflight["status"], each.score) for each in (failed, late)] == [("failed", 1.0), ("ejected", 1.0)]
    trials.may_differ = True
    (never,) = trials.run({"never": WRITES}, score=SUBJECT, admin_key="sk-or-wrong")
    assert (never.score, of(never)["reason"]) == (None, NEVER_RAN)


def test_the_least_score_that_is_a_success_is_an_option(trials: Field) -> None:
    (result,) = trials.run({"a": WRITES}, score="echo 0.5", score_pass=0.5)
    assert (result.score, result.success) == (0.5, True)


def test_an_agent_that_puts_a_link_in_the_place_of_its_folder_is_not_scored(trials: Field, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "answer.txt").write_text("42")
    source = f"""
        call()
        here = os.getcwd()
        os.rename(here, here + "-x")
        os.symlink({str(tmp_path / "mine")!r}, here)
    """
    (result,) = trials.run({"a": source}, score=SUBJECT)
    assert (result.score, of(result)["reason"]) == (None, "the agent put a link in the place of its output folder")


def stopped(trials: Field, score: Any, presses: int, **options: Any) -> list[RunResult]:
    """Run an agent whose score asks the run to end, and return the results."""
    stop = StopSignal()

    def scored(result: RunResult, folder: Path | None) -> Any:
        for _ in range(presses):
            stop.press()
        return score()

    options = trials.options({"a": WRITES}, score=scored, **options)
    request = request_of({"models": [(MODEL, "a")], **options})
    return run_blocking(lambda stop: run_field(request, stop), stop).results


def test_the_first_interrupt_awaits_a_score_and_the_second_cuts_it(trials: Field) -> None:
    (result,) = stopped(trials, lambda: 0.5, 1)
    assert result.score == 0.5
    (result,) = stopped(trials, lambda: threading.Event().wait(60), 2)
    assert (result.score, of(result)["reason"]) == (None, CUT)


def test_an_interrupted_trial_is_scored_after_its_resume_and_a_kept_one_keeps_its_score(trials: Field) -> None:
    stop = StopSignal()
    agents = {"a": WRITES, "b": "call(); say('ready'); time.sleep(60)"}
    options = trials.options(
        agents, score=SUBJECT, run_id="run-1", on_event=lambda event: stop.press() if event["type"] == "ready" else None
    )
    request = request_of({"models": [(MODEL, "a"), (MODEL, "b")], **options, "max_workers": 1})
    first = run_blocking(lambda stop: run_field(request, stop), stop).results
    assert [(each.score, of(each)["reason"]) for each in first] == [(1.0, None), (None, LATER)]
    again = trials.options({"a": "sys.exit(1)", "b": "sys.exit(1)"}, score=SUBJECT, run_id="run-1", resume=True)
    again["command"] = options["command"]
    stop = StopSignal()
    request = request_of({"models": [(MODEL, "a"), (MODEL, "b")], **again, "timeout_s": None, "idle_timeout_s": 1.0})
    second = run_blocking(lambda stop: run_field(request, stop), stop).results
    assert of(second[0]) == of(first[0])
    assert (second[1].preflight["status"], second[1].score) == ("ejected", 0.0)


def test_the_summary_is_there_before_the_trial_is_scored(trials: Field) -> None:
    found: list[Any] = []

    def score(result: RunResult, folder: Path | None) -> int:
        found.append(json.loads((next(trials.runs_dir.iterdir()) / "a" / "summary.json").read_text()))
        return 1

    (result,) = trials.run({"a": WRITES}, score=score)
    assert found[0]["preflight"]["score"]["reason"] == NOT_YET
    assert found[0]["preflight"]["posted_usd"] == result.preflight["posted_usd"]


def test_repeats_are_trials_of_their_own_with_their_own_budgets_and_scores(trials: Field) -> None:
    options = trials.options({"nano": WRITES}, repeats=2, budget_usd={"nano": 0.05, "nano-2": 0.06}, score=SUBJECT)
    results = run_multi([(MODEL, "nano")], tags={"task": "sum"}, **options)
    assert [(each.alias, each.budget_usd, each.score) for each in results] == [
        *[("nano-1", 0.05, 1.0), ("nano-2", 0.06, 1.0)]
    ]
    plan = json.loads((trials.run_dirs[0] / "plan.json").read_text())
    assert [(each["base"], each["repeat"]) for each in plan["trials"]] == [("nano", 1), ("nano", 2)]
    assert (plan["repeats"], plan["tags"]) == (2, {"task": "sum"})
    assert trials.summary("nano-2")["preflight"]["tags"] == {"task": "sum"}
    with pytest.raises(ConfigError, match="run_single runs one trial"):
        run_single(MODEL, image_name="", repeats=2)


def test_a_score_runs_while_its_trial_holds_a_slot(trials: Field) -> None:
    running: list[int] = []
    lock = threading.Lock()

    def score(result: RunResult, folder: Path | None) -> int:
        with lock:
            running.append(len([run for run in trials.run_dirs[0].iterdir() if run.is_dir()]))
        return 1

    trials.run({"a": WRITES, "b": WRITES, "c": WRITES}, score=score, max_workers=1)
    assert running == [1, 2, 3]  # the next trial has no folder before the slot is free


def test_it_begins_in_a_fresh_empty_folder_that_is_removed(trials: Field) -> None:
    command = 'ls -A | wc -l; pwd; mkdir -p a/b; ln -s / a/root; test -d "$PREFLIGHT_OUTPUT" && echo 1'
    (result,) = trials.run({"a": WRITES}, score=command)
    count, folder, one = (trials.run_dirs[0] / "a" / "score.log").read_text().split()
    assert (count, one, result.score) == ("0", "1", 1.0)
    assert not Path(folder).parent.exists()
    assert Path("/bin").exists()


def test_processes_of_a_score_have_no_key_and_no_token(trials: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENROUTER_API_KEY", "OR_ADMIN_KEY", "SOME_TOKEN", "SOME_API_KEY", "AWS_SECRET"):
        monkeypatch.setenv(name, "sk-or-hidden")
    (result,) = trials.run({"a": WRITES}, score="env >&2; echo 1")
    log = (trials.run_dirs[0] / "a" / "score.log").read_text()
    assert result.score == 1.0
    assert [line for line in log.splitlines() if "sk-or" in line or "pf-" in line or "API_KEY" in line] == []
    assert os.environ["OPENROUTER_API_KEY"] == "sk-or-hidden"


def test_a_runner_that_is_killed_while_it_scores_loses_no_trial_and_leaves_no_process_and_folder(
    trials: Field, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    options = trials.options({"a": WRITES}, score=f"pwd > {begun}; sleep 3600", run_id="killed")
    given = {**options, "models": [(MODEL, "a")], "runs_dir": str(trials.runs_dir)}
    del given["log_fn"]
    with subprocess.Popen([sys.executable, "-c", RUNNER], stdin=subprocess.PIPE, text=True) as runner:
        assert runner.stdin is not None
        runner.stdin.write(json.dumps(given) + "\n")
        runner.stdin.flush()
        while not begun.exists():
            assert runner.poll() is None
        runner.kill()
    budget_file = trials.runs_dir / "killed" / "a" / "budget" / "budget.txt"
    assert trials.summary("a")["preflight"]["score"]["reason"] == NOT_YET
    assert trials.summary("a")["preflight"]["status"] == "done"
    assert orphan_processes(budget_file)
    (again,) = run_multi([(MODEL, "a")], **options, resume=True)
    assert (again.error, again.score, of(again)["reason"]) == (None, None, NOT_YET)
    assert orphan_processes(budget_file) == set()
    assert not Path(begun.read_text().strip()).exists(), "the folder that it worked in"
