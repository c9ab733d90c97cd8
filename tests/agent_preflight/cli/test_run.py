"""`agent-preflight run` and `demo`: exit codes, what is started, and signals. Files and options are tested in `launch`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.cli.run import INTERRUPTED, interruptible
from openrouter_sim import FaultRule, Scenario, Simulator, make_fault
from tests.support.cases import each
from tests.support.cli_commands import CommandResult, invoke
from tests.support.scripted_engine import ScriptedEngine
from tests.support.trial_field import Field, agent

MODEL = "openai/gpt-4.1-nano"
BUDGETS = [("--budget", text) for text in ("1,50", "-1", "0", "nan", "1e400", "")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a configuration, and no key in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY", "OPENROUTER_API_KEY", "PREFLIGHT_MODELS"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, command: list[str] | None = None, **keys: str) -> CommandResult:
    options = ["--sandbox", "process", "--skip-preflight", *arguments, "--", *(command or [sys.executable, "-V"])]
    return invoke("run", *options, env=keys)


def summaries(runs_dir: Path = Path("runs")) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(runs_dir.glob("*/*/summary.json"))]


def test_without_a_management_key_nothing_begins() -> None:
    told = run("--model", MODEL)
    assert told.exit_code == 1
    assert "OR_ADMIN_KEY" in told.stderr
    assert told.stderr.endswith("No agent was started, so none has spent money.\n")
    assert not Path("runs").exists()


NOTHING = "No agent was started, so none has spent money.\n"


def test_what_is_missing_is_named_as_the_command_line_names_it_and_together() -> None:
    keys = {"OR_ADMIN_KEY": "a", "OPENROUTER_API_KEY": "k"}
    image = invoke("run", "--model", MODEL, env=keys)
    assert (image.exit_code, image.stdout) == (1, "")
    assert image.stderr.startswith("The agents' image is missing: give --image IMAGE, `image` in preflight.toml, or ")
    assert image.stderr.endswith(NOTHING)
    both = invoke("run", env=keys)
    assert both.stderr == (
        "Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml. "
        f"Name an image too, with --image or under `image` there.\n{NOTHING}"
    )
    for known in (("--image", "i"), ("--sandbox", "process")):
        assert "image" not in invoke("run", *known, env=keys).stderr
    program = invoke("run", "--sandbox", "process", "--model", MODEL, env=keys)
    assert program.stderr.startswith("The agents' program is missing: put it after `--`")
    assert program.stderr.endswith(NOTHING)


def test_a_variable_that_is_not_set_is_told_with_what_it_means_for_money() -> None:
    told = run("--model", MODEL, "-e", "NOT_SET_ANYWHERE")
    assert told.exit_code == 2
    assert "'NOT_SET_ANYWHERE', but it is not set here." in told.stderr
    assert told.stderr.endswith(f" {NOTHING}")


WRONG = [("--service", "los"), ("--run-id", "a", "--resume", "b"), ("--sandbox", "vm"), ("--retry-failed",)]


@each("wrong", [*WRONG, *BUDGETS])
def test_what_is_no_option_exits_with_2(wrong: tuple[str, ...]) -> None:
    told = run(*wrong)
    assert (told.exit_code, told.stdout) == (2, "")


@pytest.mark.wire
def test_each_model_has_its_trial_and_what_follows_the_dashes_is_the_agents(simulator: Simulator) -> None:
    models = ("--model", f"{MODEL}=a", "--model", f"{MODEL}=b")
    command = agent("assert sys.argv[1:] == ['--fast', '-h']; call(); say('agent_end')")
    told = run(*models, "--run-id", "r", command=[*command, "--fast", "-h"], OR_ADMIN_KEY=simulator.admin_key)
    assert told.exit_code == 0, told.output
    assert "TOTAL" in told.output
    assert [(each["alias"], each["preflight"]["calls"]) for each in summaries()] == [("a", 1), ("b", 1)]


@pytest.mark.wire
def test_an_agent_that_fails_exits_with_1_and_json_tells_of_it(simulator: Simulator) -> None:
    command = agent("sys.exit(3)")
    told = run("--model", f"{MODEL}=a", "--json", command=command, OR_ADMIN_KEY=simulator.admin_key)
    assert told.exit_code == 1
    (row,) = [json.loads(line) for line in told.stdout.splitlines()]
    assert (row["alias"], row["error"]) == ("a", "the agent ended with exit code 3")


@pytest.mark.wire
def test_where_a_failed_agent_said_why_is_told(simulator: Simulator) -> None:
    told = run("--model", f"{MODEL}=a", command=agent("sys.exit('no plan')"), OR_ADMIN_KEY=simulator.admin_key)
    path = told.stdout.partition("what a said of its failure: ")[2].split()[0]
    assert Path(path).read_text() == "no plan\n"


@pytest.mark.wire
def test_a_failed_check_starts_no_trial_and_exits_with_1(simulator: Simulator) -> None:
    keys = {"OR_ADMIN_KEY": simulator.admin_key, "OPENROUTER_API_KEY": simulator.inference_key}
    options = ["--sandbox", "process", "--model", "no/such", "--", sys.executable, "-V"]
    told = invoke("run", *options, env=keys)
    assert told.exit_code == 1
    assert (
        told.stderr
        == "Preflight failed: mend the problem above, then run this again.\nNo agent was started, so none has spent money.\n"
    )
    assert summaries() == []
    assert not Path("runs").exists()


@pytest.mark.wire
@pytest.mark.parametrize("skip", [(), ("--skip-preflight",)])
def test_a_run_that_this_machine_cannot_start_leaves_no_key_no_folder_and_no_container(
    simulator: Simulator, docker_host: ScriptedEngine, skip: tuple[str, ...]
) -> None:
    keys = {"OR_ADMIN_KEY": simulator.admin_key, "OPENROUTER_API_KEY": simulator.inference_key}
    base = {"PREFLIGHT_GATE_BASE": "me/agent"}
    mounts = ["--mount", "./no:/task:ro", "--mount", "./out:/out", "--network", "nonet"]
    told = invoke("run", *skip, "--image", "me/agent", "--model", MODEL, *mounts, "--", "x", env={**keys, **base})
    assert told.exit_code == 1
    for said in (f"{Path.cwd()}/no does not exist", f"{Path.cwd()}/out does not exist", "no network 'nonet'"):
        assert said in told.output
    assert told.stderr.endswith("No agent was started, so none has spent money.\n")
    assert not any(key.name.startswith("agent-preflight:") for key in simulator.bill().keys.values())
    assert not any(call.startswith("POST") for call in docker_host.calls)
    assert list(Path.cwd().iterdir()) == []


STOPPING = (
    "Stopping: no new trial starts, each trial is ended in order; press Ctrl-C again to not wait for the last costs.\n"
)


@pytest.mark.wire
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_trial_in_order_and_exits_with_130(simulator: Simulator, number: int) -> None:
    command = [sys.executable, "-m", "agent_preflight", "run", "--sandbox", "process", "--skip-preflight"]
    command += ["--run-id", "r", "--model", f"{MODEL}=a", "--", *agent("call(); say('ready'); time.sleep(600)")]
    environment = {**os.environ, "OR_ADMIN_KEY": simulator.admin_key}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            assert any("started" in line for line in process.stdout)
            process.send_signal(number)
            assert process.stdout.readline() == STOPPING
            told, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.wait() == 130
    assert "TOTAL" in told
    assert told.endswith(
        "To resume a (interrupted) with what is left of the budget:\n  agent-preflight run --resume r\n"
    )
    (summary,) = summaries()
    assert set(summary["preflight"]["cleanup"].values()) == {"ok"}
    assert all(key.deleted for key in simulator.bill().keys.values() if key.name.startswith("agent-preflight:"))


@pytest.mark.wire
def test_a_scripts_run_goes_on_from_the_command_line_where_it_had_plain_options(trials: Field) -> None:
    agents = {"a": "status, _ = call(); sys.exit(3 * (not os.path.exists('x'), open('x', 'w'))[0])"}
    options = ["--runs-dir", str(trials.runs_dir), "--retry-failed"]
    key = {"OR_ADMIN_KEY": trials.simulator.admin_key}
    trials.run(agents, run_id="r")
    again = invoke("run", "--resume", "r", *options, env=key)
    assert again.exit_code == 0, again.output
    trials.run(agents, run_id="s", on_event=print)
    told = invoke("run", "--resume", "s", *options, env=key)
    assert told.exit_code == 1
    assert "run_multi(..., run_id='s', resume=True)" in told.stderr


@pytest.mark.wire
@pytest.mark.usefixtures("usual_signals")
def test_a_run_that_is_interrupted_in_its_checks_says_that_nothing_was_started(simulator: Simulator) -> None:
    simulator.scenario = Scenario(faults=(FaultRule(make_fault("slow", {"first_s": 8.0})),))
    keys = {"OR_ADMIN_KEY": simulator.admin_key, "OPENROUTER_API_KEY": simulator.inference_key}
    command = [sys.executable, "-m", "agent_preflight", "run", "--sandbox", "process", "--model", f"{MODEL}=a"]
    command += ["--run-id", "r", "--", sys.executable, "-V"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **keys}) as process:
        assert process.stdout is not None
        try:
            assert any("Provisioning budget" in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130
    assert STOPPING in told
    assert told.endswith("No trial was started. Start the run anew.\n")
    assert ("files: " in told) == Path("runs/r").exists()


@pytest.mark.usefixtures("usual_signals")
def test_ctrl_c_before_the_run_begins_says_that_nothing_was_spent(tmp_path: Path) -> None:
    fifo = tmp_path / "preflight.toml"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "agent_preflight", "run", "--config", str(fifo)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            with fifo.open("wb"):  # waits until it is read
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130
    assert INTERRUPTED in told


@pytest.mark.wire
@pytest.mark.usefixtures("usual_signals")
def test_a_live_run_is_left_alone_by_a_resume(simulator: Simulator) -> None:
    command = [sys.executable, "-m", "agent_preflight", "run", "--sandbox", "process", "--skip-preflight"]
    command += ["--run-id", "r", "--model", f"{MODEL}=a", "--", *agent("call(); say('ready'); sys.stdin.read()")]
    command.insert(command.index("--"), "--stdin=open")
    keys = {"OR_ADMIN_KEY": simulator.admin_key}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **keys}) as process:
        assert process.stdout is not None
        try:
            assert any("started" in line for line in process.stdout)
            told = invoke("run", "--resume", "r", env=keys)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert told.exit_code == 1
    assert "is going on. Follow it with `agent-preflight status r`" in told.stderr
    assert "No agent was started, so none has spent money." in told.stderr
    assert summaries()[0]["preflight"]["ended_by"] == "interrupted"


def test_an_unknown_sandbox_is_a_bad_option() -> None:
    told = invoke("demo", "--sandbox", "vm")
    assert told.exit_code == 2


def test_containers_that_are_wished_for_and_cannot_be_had_are_an_error() -> None:
    told = invoke("demo", "--sandbox", "docker", env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    assert told.exit_code == 1
    assert "no Docker engine answers" in told.stderr


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_interrupts_while_the_context_lasts_and_not_after(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("usual_signals")
def test_it_interrupts_also_what_runs_in_the_background_of_a_script() -> None:
    """There a shell has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("usual_signals")
def test_what_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
