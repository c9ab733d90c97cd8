"""What a run says to a person; the commands in it can be copied into a shell."""

import shlex
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.models import RunResult
from agent_preflight.options.settings import SandboxKind, read_settings
from agent_preflight.runner.messages import announce, farewell, how_to_stop, resume_command, stopping
from agent_preflight.runner.resume import result_of_summary
from agent_preflight.runs.plan import PriorAttempt, TrialPlan
from agent_preflight.runs.request import Finished, Origin, RunRequest

SETTINGS = read_settings(
    {"models": [("m/m", alias) for alias in ("a", "b", "c")], "admin_key": "x", "budget_usd": 1, "sandbox": "process"}
)
REQUEST = RunRequest(settings=SETTINGS, origin=Origin())
SCRIPT = replace(REQUEST, origin=None)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "r"
    path.mkdir()
    (path / "plan.json").write_text("{}")
    return path


def result(status: str, ended_by: str = "agent", **extra: Any) -> RunResult:
    return result_of_summary({"preflight": {"status": status, "ended_by": ended_by, **extra}})


def lines(run_dir: Path, *results: RunResult, request: RunRequest = REQUEST) -> list[str]:
    """Return what is said of results, which are those of a, b and c unless they have names."""
    own_results = [
        replace(each, alias=each.alias or alias)
        for each, (_, alias) in zip(results, request.settings.pairs, strict=False)
    ]
    return list(farewell(request, Finished(run_dir, own_results)))


DONE, FAILED, CUT = result("done"), result("failed"), result("interrupted", "interrupted")


def test_a_complete_run_has_no_farewell(run_dir: Path) -> None:
    assert lines(run_dir, DONE, result("done"), result("ejected", "ejected")) == []
    assert lines(run_dir, DONE, DONE, result("stopped", "stopped")) == []


def test_an_unverified_clean_up_of_a_complete_run_is_reported(run_dir: Path) -> None:
    left = result("done", cleanup={"sub_key": "unverified"})
    (line,) = lines(run_dir, DONE, left, DONE)
    assert line.startswith("The clean-up of 1 trial is not verified (1 key was not seen to be deleted;")


def test_interrupted_and_unstarted_trials_resume_with_one_command(run_dir: Path) -> None:
    assert lines(run_dir, DONE, CUT) == [
        "2 of 3 trials are not complete. To resume b (interrupted), c (not started) with what is left of the budget:",
        "  agent-preflight run --resume r",
    ]
    assert lines(run_dir, DONE, DONE, CUT)[0].startswith("1 of 3 trials is not complete.")


def test_failed_trials_run_again_only_with_an_option(run_dir: Path) -> None:
    assert lines(run_dir, DONE, FAILED, FAILED) == [
        "2 of 3 trials failed. To run b (failed), c (failed) again with what is left of the budget:",
        "  agent-preflight run --resume r --retry-failed",
    ]
    assert lines(run_dir, FAILED, CUT, DONE)[1:] == [
        "  agent-preflight run --resume r",
        "  (--retry-failed runs again a (failed) too)",
    ]


def short(needed: str | None, limit: str = "0.004", alias: str = "") -> RunResult:
    causes = [{"code": "does_not_fit", "limit_needed_usd": needed}]
    extra = result("failed", "agent", never_served="does_not_fit", not_served=causes, limit_usd=limit).preflight
    return result_of_summary({"alias": alias, "budget_usd": float(limit), "preflight": extra})


SMALL = replace(REQUEST, settings=replace(SETTINGS, budget_usd=Decimal("0.004")))


def test_a_budget_that_covers_no_call_is_reported_with_a_sufficient_one(run_dir: Path) -> None:
    assert lines(run_dir, DONE, DONE, short("0.0141"), request=SMALL) == [
        "1 of 3 trials failed, 1 because the budget covers no call. To run c (failed) again with a higher budget:",
        "  agent-preflight run --resume r --retry-failed --budget 0.02",
    ]
    assert lines(run_dir, CUT, DONE, short("0.0141"), request=SMALL)[1:] == [
        "  agent-preflight run --resume r",
        "  (--retry-failed --budget 0.02 runs again c (failed) too)",
    ]
    message = lines(run_dir, DONE, DONE, short("0.0141"), request=replace(SMALL, origin=None))
    assert message[1] == "  run_multi(..., run_id='r', resume=True, retry_failed=True, budget_usd=0.02)"


def test_an_unknown_sufficient_budget_is_not_named(run_dir: Path) -> None:
    assert lines(run_dir, DONE, DONE, short(None), request=SMALL)[1:] == [
        "  agent-preflight run --resume r --retry-failed",
        "  (with a higher --budget)",
    ]


def test_the_named_budget_is_not_below_that_of_a_trial_that_begins_again(run_dir: Path) -> None:
    budgets = {"a": Decimal("0.004"), "b": Decimal("0.505"), "c": Decimal(9)}
    request = replace(REQUEST, settings=replace(SETTINGS, budget_usd=budgets))
    done = result_of_summary({"alias": "c", "budget_usd": 9.0, "preflight": {"status": "done", "ended_by": "agent"}})
    message = lines(run_dir, done, short("0.0141", alias="a"), request=request)  # b never began
    assert message[2] == "  (--retry-failed --budget 0.51 runs again a (failed) too)"


def spent(limit: str, status: str = "spent") -> RunResult:
    error = "ejected: budget exhausted ($0.250 of $0.25, nothing more fits)" if status == "ejected" else None
    extra = {"status": status, "ended_by": status, "limit_usd": limit}
    return result_of_summary({"budget_usd": float(limit), "error": error, "preflight": extra})


def test_spent_trials_that_begin_again_with_the_named_budget_are_listed(run_dir: Path) -> None:
    message = lines(run_dir, short("0.0141"), spent("0.019"), spent("0.02"), request=SMALL)
    assert message == [
        "1 of 3 trials failed, 1 because the budget covers no call. To run a (failed), b (spent) again with a higher budget:",
        "  agent-preflight run --resume r --retry-failed --budget 0.02",
    ]
    message = lines(run_dir, short("0.0141"), spent("0.019", "ejected"), CUT, request=SMALL)
    assert message == [
        "1 of 3 trials is not complete. To resume c (interrupted) with what is left of the budget:",
        "  agent-preflight run --resume r",
        "  (--retry-failed --budget 0.02 runs again a (failed), b (ejected) too)",
    ]
    assert "b (spent)" not in "".join(lines(run_dir, FAILED, spent("0.003"), DONE))


def test_a_complete_run_with_spent_trials_says_how_to_give_more(run_dir: Path) -> None:
    results = (spent("0.019"), DONE, spent("0.02", "ejected"))
    assert lines(run_dir, *results) == ["More money for a, c: agent-preflight run --resume r --budget USD"]
    assert lines(run_dir, *results, request=SCRIPT) == [
        "More money for a, c: run_multi(..., run_id='r', resume=True, budget_usd=USD)"
    ]


def test_a_trial_without_credit_resumes_without_an_option(run_dir: Path) -> None:
    without = result("failed", "agent", never_served="account_credit")
    assert lines(run_dir, DONE, without, DONE)[1] == "  agent-preflight run --resume r"


def test_a_script_is_shown_a_python_call(run_dir: Path) -> None:
    assert lines(run_dir, FAILED, CUT, DONE, request=SCRIPT)[1:] == [
        "  run_multi(..., run_id='r', resume=True)",
        "  (retry_failed=True runs again a (failed) too)",
    ]
    assert (
        resume_command(SCRIPT, "r", retry_failed=True) == "run_multi(..., run_id='r', resume=True, retry_failed=True)"
    )


def test_variables_whose_values_are_not_kept_are_named(run_dir: Path) -> None:
    origin = Origin(env_from={"TASK": "option", "HF_TOKEN": "environment", "A": "option"})
    message = lines(run_dir, CUT, DONE, DONE, request=replace(REQUEST, origin=origin))
    assert message[1:] == [
        "  agent-preflight run --resume r -e A=VALUE -e TASK=VALUE",
        "  (values of variables that were given on the command line are not kept)",
    ]


def test_a_run_without_a_plan_starts_anew(run_dir: Path) -> None:
    (run_dir / "plan.json").unlink()
    assert lines(run_dir) == ["No trial was started. Start the run anew."]


def test_a_single_trial_has_no_farewell(run_dir: Path) -> None:
    assert lines(run_dir, FAILED, request=replace(SCRIPT, single=True)) == []


def test_commands_are_quoted_for_a_shell() -> None:
    request = replace(REQUEST, settings=replace(SETTINGS, runs_dir="/my runs/it's"))
    words = shlex.split(resume_command(request, "r"))
    assert words == ["agent-preflight", "run", "--resume", "r", "--runs-dir", "/my runs/it's"]
    assert "--runs-dir" not in resume_command(REQUEST, "r")
    stop = how_to_stop(request, "run-1").partition("terminal: ")[2]
    assert shlex.split(stop) == ["agent-preflight", "stop", "run-1", "--runs-dir", "/my runs/it's"]


def test_the_message_of_the_first_ctrl_c_says_what_a_second_one_does() -> None:
    assert stopping("press Ctrl-C again") == (
        "Stopping: no new trial starts, each trial is ended in order; press Ctrl-C again to not wait for the last costs."
    )


CENT = 10**10
TRIAL = TrialPlan("a", "m/m", CENT, "k", ())


def request(tmp_path: Path, **changes: Any) -> RunRequest:
    own = {name: changes.pop(name) for name in ("single",) if name in changes}
    settings = {"models": [("m/m", "a")], "admin_key": "x", "budget_usd": 1, "sandbox": "process", **changes}
    return RunRequest(settings=read_settings({"runs_dir": tmp_path / "runs", **settings}), **own)


def test_the_start_of_a_run_names_its_folder_and_commands(tmp_path: Path) -> None:
    output: list[str] = []
    services = {"los": "127.0.0.1:3000"}
    announce(request(tmp_path, log_fn=output.append, network="host", services=services), tmp_path, "r", [TRIAL])
    announce(replace(request(tmp_path, log_fn=output.append), single=True), tmp_path, "r", [TRIAL])
    assert output[0] == f"Starting 1 trial in {tmp_path}"
    assert any("services have no effect without containers" in line for line in output)
    assert output[-2].endswith(f"status --watch r --runs-dir {tmp_path / 'runs'}")
    assert output[-1].endswith(f"Ctrl-C, or agent-preflight stop r --runs-dir {tmp_path / 'runs'}")


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("network", "reached"), [("bridge", "the internet and your network"), ("mine", "what the network mine reaches")]
)
def test_an_open_network_is_one_line_that_says_how_to_seal_it(
    tmp_path: Path, network: str, reached: str, single: bool
) -> None:
    output: list[str] = []
    run_request = request(
        tmp_path, log_fn=output.append, sandbox="docker", image_name="i", network=network, single=single
    )
    announce(run_request, tmp_path, "r", [TRIAL])
    (message,) = [line for line in output if line.startswith("  network: ")]
    assert message.startswith(
        f"  network: {network}; agents reach {reached}. The budget holds, because no real key is in the"
    )
    assert message.endswith(': network="sealed"')
    assert single is (len(output) == 1)


@pytest.mark.parametrize(("sandbox", "network"), [("docker", "sealed"), ("process", "host")])
def test_a_sealed_trial_and_a_process_get_no_line_about_sealing(
    tmp_path: Path, sandbox: SandboxKind, network: str
) -> None:
    output: list[str] = []
    run_request = request(tmp_path, log_fn=output.append, sandbox=sandbox, image_name="i", network=network)
    announce(run_request, tmp_path, "r", [TRIAL])
    announce(replace(run_request, single=True), tmp_path, "r", [TRIAL])
    message = [line for line in output if line.startswith("  network: ")]
    assert message == [f"  network: {network}; budgets hold whatever the agents do"]


def test_a_resumed_run_names_the_trials_that_begin_with_their_budgets(tmp_path: Path) -> None:
    output: list[str] = []
    run_request = request(tmp_path, log_fn=output.append, run_id="r")
    due = [TRIAL, replace(TRIAL, alias="b", prior=PriorAttempt(CENT * 3 // 10, CENT))]
    announce(replace(run_request, settings=replace(run_request.settings, resume=True)), tmp_path, "r", due)
    assert output[1] == "  these begin: a (budget $0.01), b (budget $0.01, $0.003 of it spent)"
    announce(run_request, tmp_path, "r", due)
    assert sum("(budget" in line for line in output) == 1
