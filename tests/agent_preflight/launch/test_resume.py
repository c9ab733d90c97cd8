"""`run --resume ID` needs nothing else: what the plan holds, and what is read again from where it was given before."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.config import Environment
from agent_preflight.launch.resume import (
    earlier_version,
    find_plan,
    origin_in,
    origin_of,
    resumed_settings,
    runs_dir_of,
)
from agent_preflight.options.settings import OPTIONS, RunSettings
from agent_preflight.options.sources import read_variables
from agent_preflight.options.text_files import read_text
from agent_preflight.runner.api import request_of, run_container
from agent_preflight.runner.arguments import build_request
from agent_preflight.runs.folder import open_named
from agent_preflight.runs.plan import plan_trials
from agent_preflight.runs.plan_file import COMPARED, MAY_CHANGE, plan_differences, plan_document
from agent_preflight.runs.request import Origin
from openrouter_sim import Simulator
from preflight_proxy.core.errors import ConfigError
from tests.support.cli_commands import CommandResult, invoke
from tests.support.trial_field import MODEL

KEYS = {"OR_ADMIN_KEY": "adm", "OPENROUTER_API_KEY": "inf", "PREFLIGHT_MODELS": "o/other", "PREFLIGHT_BUDGET": "9"}
SCRIPT: dict[str, Any] = {
    "admin_key": "adm",
    "or_key": "inf",
    "models": [("a/a", "one"), ("b/b", "two")],
    "budget_usd": {"one": "0.1", "two": "0.25"},
    "image_name": "img",
    "network": "sealed",
    "mounts": ["/in:/in:ro", "cache:/c"],
    "initial_prompt": "do it",
    "container_args": {"one": ["--x", "a b"], "two": []},
    "memory": "2g",
    "cpus": "1.5",
    "timeout_s": 60.0,
    "idle_timeout_s": 7.0,
    "max_workers": 3,
    "services": {"los": "127.0.0.1:3000"},
    "egress": ["pypi.org:443"],
    "docker_args": ["--shm-size=1g"],
    "budget_mode": "detailed",
    "stdin": "open",
    "gate": "portable",
    "env": {"A": "1"},
    "byok": True,
    "bound": "proven",
    "cache_bound": "billed",
    "weigh": False,
    "share_preambles": False,
    "tags": {"task": "refactor"},
    "score": "echo 1",
    "score_image": "tests",
    "score_timeout_s": 7.0,
    "score_pass": 0.5,
}
PROCESS = {"sandbox": "process", "image_name": "", "command": ["prog"], "network": "bridge", "container_args": None}
WITHOUT_CONTAINERS: dict[str, Any] = {
    "services": None,
    "egress": [],
    "docker_args": [],
    "memory": None,
    "cpus": None,
    "mounts": None,
    "score_image": None,
}


def plan_of(origin: Origin | None, **changes: Any) -> dict[str, Any]:
    """Return the plan of a run with such options, as it is read from its file."""
    request = request_of({**SCRIPT, **changes})
    request = replace(request, origin=origin)
    trials = plan_trials(request.settings, "r", lambda: "k")
    document: dict[str, Any] = json.loads(json.dumps(plan_document("r", trials, request, "now")))
    return document


def resumed(
    plan: Mapping[str, Any], config: Path | None = None, variables: Mapping[str, str] | None = None, **given: Any
) -> RunSettings:
    wanted = {"run_id": "r", "resume": True, **given}
    found = {**KEYS, **(variables or {})}
    return resumed_settings(wanted, plan, config, Environment.read(found), found.get)[0]


def differences(plan: dict[str, Any], settings: RunSettings) -> list[str]:
    """Return what the comparison of a resume with these settings says."""
    request = build_request(settings, run_container)
    trials = plan_trials(request.settings, "r", lambda: "k2")
    return plan_differences(plan, json.loads(json.dumps(plan_document("r", trials, request, "later"))))


FROM_ENVIRONMENT = Origin(env_from={"A": "environment"})


@pytest.mark.parametrize(
    "changes", [{}, {**PROCESS, **WITHOUT_CONTAINERS}, {"initial_prompt": None, "stdin": "auto"}, {"repeats": 3}]
)
def test_a_plan_alone_makes_the_same_run_whatever_the_environment_says_of_models(changes: dict[str, Any]) -> None:
    plan = plan_of(FROM_ENVIRONMENT, **changes)
    settings = resumed(plan, variables={"A": "1"})
    assert differences(plan, settings) == []
    request = build_request(settings, run_container)
    assert (request.workers, settings.idle_timeout_s, settings.byok, settings.gate) == (3, 7.0, True, "portable")
    assert (settings.bound, settings.cache_bound) == ("proven", "billed")
    assert (settings.weigh, settings.share_preambles) == (False, False)
    assert (settings.score, settings.score_pass, settings.score_timeout_s) == ("echo 1", 0.5, 7.0)
    assert settings.repeats == changes.get("repeats", 1)
    assert (settings.resume, settings.run_id) == (True, "r")


def test_a_scripts_run_with_plain_options_goes_on_once_its_variables_are_given() -> None:
    plan = plan_of(None, admin_key="adm")
    with pytest.raises(ConfigError, match="A: give it again: -e A=VALUE"):
        resumed(plan)
    assert differences(plan, resumed(plan, env={"A": "x"})) == []


def test_a_scripts_run_with_code_of_its_own_goes_on_from_the_script() -> None:
    plan = plan_of(None, on_event=print, eject_policy=object)
    with pytest.raises(
        ConfigError, match=r"script with eject_policy, on_event, .* run_multi\(\.\.\., run_id='r', resume"
    ):
        resumed(plan, env={"A": "x"})


def test_options_beside_it_win_and_what_may_not_change_is_shown() -> None:
    plan = plan_of(FROM_ENVIRONMENT)
    options = resumed(
        plan,
        variables={"A": "1"},
        max_workers=9,
        idle_timeout_s=1.0,
        initial_prompt="do that",
        memory="3g",
        container_args=["--y"],
        budget_usd="1",
        models=["a/a=one"],
    )
    assert (options.max_workers, options.idle_timeout_s) == (9, 1.0)
    assert differences(plan, options) == [
        'memory: was "2g", is "3g"',
        'prompt: was "do it", is "do that"',
        'trial one: budget_usd: was "0.1", is "1"',
        'trial one: command: was ["--x", "a b"], is ["--y"]',
        "trial two: left out now",
    ]


def test_a_model_that_is_named_again_keeps_its_budget_and_arguments() -> None:
    plan = plan_of(FROM_ENVIRONMENT)
    options = resumed(plan, variables={"A": "1"}, models=["b/b=two", "a/a=one", "n/n=new"])
    assert differences(plan, options) == ["trial new: not in the run's plan"]


def test_values_of_variables_are_read_again_from_where_they_came(tmp_path: Path) -> None:
    config = tmp_path / "preflight.toml"
    config.write_text(
        'models = ["other/model"]\nimage = "other"\nmax_workers = 1\n[env]\nB = "of the file"\nNEW = "x"\n'
    )
    origin = Origin(config=config, env_from={"A": "environment", "B": "config", "C": "option"})
    plan = plan_of(origin, env={"A": "", "B": "", "C": ""})
    options = resumed(plan, variables={"A": "of the environment"}, env={"C": "of the option"})
    assert options.env == {"A": "of the environment", "B": "of the file", "C": "of the option"}
    assert differences(plan, options) == []
    assert options.max_workers == 3
    found = {**KEYS, "A": "1", "C": "handed on"}
    given = {"run_id": "r", "resume": True, "env": {"C": None}}
    again, origin = resumed_settings(given, plan, None, Environment.read(found), found.get)
    assert again.env == {"A": "1", "B": "of the file", "C": "handed on"}
    assert origin == Origin(config=config, env_from={"A": "environment", "B": "config", "C": "environment"})


def test_all_variables_that_are_missing_are_named_at_once_with_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "preflight.toml"
    config.write_text("")
    plan = plan_of(
        Origin(config=config, env_from={"A": "environment", "B": "config", "C": "option"}),
        env={"A": "", "B": "", "C": ""},
    )
    with pytest.raises(ConfigError) as caught:
        resumed(plan)
    assert str(caught.value).splitlines()[1:] == [
        "  A: set it in the environment",
        f"  B: its value stood in {config}",
        "  C: give it again: -e C=VALUE",
    ]


def test_policies_and_checks_are_those_of_the_file(tmp_path: Path) -> None:
    config = tmp_path / "preflight.toml"
    config.write_text('[preflight]\nchecks = ["math"]\n[[policies]]\npolicy = "stall"\n')
    plan = plan_of(Origin(config=config, env_from={"A": "environment"}))
    options = resumed(plan, variables={"A": "1"})
    assert options.preflight_kwargs == {"checks": ["math"]}
    assert callable(options.eject_policy)
    other = tmp_path / "other.toml"
    other.write_text("")
    assert resumed(plan, other, {"A": "1"}).eject_policy is None


def test_a_file_that_is_gone_is_an_error_that_says_what_it_was_for(tmp_path: Path) -> None:
    plan = plan_of(Origin(config=tmp_path / "gone.toml", env_from={"A": "environment"}))
    with pytest.raises(ConfigError, match=r"gone.toml cannot be read.* Put it back, or name another one with --config"):
        resumed(plan, variables={"A": "1"})


def test_arguments_of_a_process_follow_the_files_command_as_at_its_start(tmp_path: Path) -> None:
    config = tmp_path / "preflight.toml"
    config.write_text('command = ["prog", "-q"]\n')
    process = {**PROCESS, **WITHOUT_CONTAINERS, "command": ["prog", "-q"], "container_args": ["--own"]}
    plan = plan_of(Origin(config=config, env_from={"A": "environment"}), **process)
    assert differences(plan, resumed(plan, variables={"A": "1"}, container_args=["--own"])) == []
    assert differences(plan, resumed(plan, variables={"A": "1"}, container_args=["--other"])) != []


def test_env_files_are_read_again_and_one_that_is_given_takes_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("begun.env").write_text("A=1\nB=2\nHF\nD=4\n")
    given, file = {"env_file": ["begun.env"], "env": {"D": "5"}}, {"env": {"C": "3"}, "pass_env": ["B"]}
    origin = origin_of(read_variables(given, file, read_text), Path("preflight.toml"))
    sources = {"A": "env_file", "B": "environment", "C": "config", "D": "option", "HF": "environment"}
    assert origin == Origin(
        directory=tmp_path, config=tmp_path / "preflight.toml", env_files=(tmp_path / "begun.env",), env_from=sources
    )
    Path("preflight.toml").write_text('[env]\nC = "3"\n')
    plan = plan_of(origin, env=dict.fromkeys(sources, ""))
    assert origin_in(plan) == origin
    monkeypatch.chdir("/")
    variables = {"B": "b", "HF": "hf"}
    again = resumed(plan, variables=variables, env={"D": "6"})
    assert again.env == {"A": "1", "B": "b", "C": "3", "D": "6", "HF": "hf"}
    assert differences(plan, again) == []
    (tmp_path / "other.env").write_text("A=7\nD=8\nHF=9\n")
    other = resumed(plan, variables=variables, env_file=[str(tmp_path / "other.env")])
    assert other.env == {"A": "7", "B": "b", "C": "3", "D": "8", "HF": "9"}
    found = {**KEYS, **variables}
    (tmp_path / "begun.env").unlink()
    with_other = {"run_id": "r", "resume": True, "env_file": [str(tmp_path / "other.env")]}
    _, anew = resumed_settings(with_other, plan, None, Environment.read(found), found.get)
    assert anew.env_files == (tmp_path / "other.env",)
    with pytest.raises(ConfigError, match=r"begun\.env cannot be read"):
        resumed(plan, variables=variables, env={"D": "6"})


@pytest.mark.parametrize(
    "options",
    [["-v", "./in:/in:ro"], ["--volume=../in:/in"], ["--mount=type=bind,source=./in,target=/in"], ["-v", ".:/in"]],
)
def test_relative_paths_in_options_of_the_engine_are_those_of_where_the_run_was_begun(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_of(replace(FROM_ENVIRONMENT, directory=tmp_path), docker_args=options)
    assert differences(plan, resumed(plan, variables={"A": "1"})) == []
    monkeypatch.chdir("/")
    with pytest.raises(ConfigError, match=f"relative to {tmp_path}: go on with the run from there"):
        resumed(plan, variables={"A": "1"})
    resumed({**plan, "docker_args": ["-v", "/in.d/..x:/in", "--label=a.b"]}, variables={"A": "1"})


def test_a_variable_that_its_env_file_has_lost_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    path.write_text("A=1\n")
    plan = plan_of(origin_of(read_variables({"env_file": [str(path)]}, {}, read_text), None))
    path.write_text("")
    with pytest.raises(ConfigError, match=f"A: its value stood in {path}"):
        resumed(plan)


def test_every_option_of_a_run_has_its_place_on_a_resume() -> None:
    """A new one is compared, or may change; the others are what a resume is given, or what no file keeps."""
    of_trials = {"models", "budget_usd", "container_args", "command"}
    of_variables = {"env", "env_file", "pass_env"}
    given_anew = {"runs_dir", "run_id", "resume", "retry_failed", "admin_key", "or_key", "log_fn", "prompt_file"}
    code = {"eject_policy", "on_event", "on_complete", "preflight_kwargs", "notify"}
    of_scores = {"repeats", "tags", "score", "score_image", "score_pass", "score_timeout_s"}
    assert {
        *(*COMPARED.values(), *MAY_CHANGE, *of_trials, *of_variables, *given_anew, *code),
        *of_scores,
    } == OPTIONS.keys()


@pytest.mark.parametrize("plan", [{}, {"origin": 3, "may_change": [], "trials": 5, "env_names": None}])
def test_a_plan_of_another_shape_breaks_nothing(plan: dict[str, Any]) -> None:
    assert origin_in(plan) == Origin()


@pytest.mark.parametrize("origin", [{"directory": 5}, {"config": []}, {"env_files": "a"}, {"env_from": {"A": 5}}])
def test_a_damaged_origin_is_an_error_that_says_what_to_do(origin: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"plan\.json: origin: .* The file is damaged: start a new run\."):
        origin_in({"origin": origin})


def test_a_plan_of_an_earlier_version_needs_all_that_was_given() -> None:
    plan = plan_of(FROM_ENVIRONMENT)
    assert earlier_version("r", plan) is None
    told = earlier_version("r", {**plan, "trials": [{"alias": "one", "command": "0123456789abcdef"}]})
    assert told is not None
    assert "give everything that the run was given then" in told


def test_a_run_is_looked_for_where_an_option_or_the_file_of_this_folder_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs_dir_of({}, None) == Path("runs")
    (tmp_path / "preflight.toml").write_text('runs_dir = "out"\n')
    assert runs_dir_of({}, None) == Path("out")
    assert runs_dir_of({"runs_dir": "given"}, None) == Path("given")
    (tmp_path / "preflight.toml").write_text("a mistake")
    assert runs_dir_of({"runs_dir": "given"}, None) == Path("given")


def test_a_run_that_is_not_there_or_live_or_without_a_plan_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        find_plan("x", tmp_path)
    with pytest.raises(ConfigError, match="no run"):
        find_plan("../x", tmp_path)
    with open_named(tmp_path, "r", ["a"]), pytest.raises(ConfigError, match="is going on"):
        find_plan("r", tmp_path)
    with pytest.raises(ConfigError, match="has no plan"):
        find_plan("r", tmp_path)


# Whole runs

AGENT = """
import json, os, pathlib, sys, urllib.request
prompt = sys.stdin.readline()
body = {"model": os.environ["PREFLIGHT_MODEL"], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
headers = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
print(json.dumps({"type": "said", "prompt": prompt, "args": sys.argv[1:], "env": [os.environ.get(n) for n in "ABC"]}))
attempts = pathlib.Path("attempts")
attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
if len(attempts.read_text()) == 1 and sys.argv[1] != "fine": sys.exit(3)
"""
CONFIG = """
sandbox = "process"
command = ["{python}", "{agent}"]
models = ["openai/gpt-4.1-nano=nano", {{ id = "openai/gpt-4.1-nano", alias = "fine", arguments = ["fine"] }}]
budget = 0.02
arguments = ["--of file"]
prompt = "tell me"
skip_preflight = true
pass_env = ["A"]
[env]
B = "b"
"""


@pytest.fixture
def folder(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration, and keys in the environment."""
    path = tmp_path / "begun"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.setenv("OR_ADMIN_KEY", simulator.admin_key)
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    monkeypatch.setenv("A", "a")
    (path / "agent.py").write_text(AGENT)
    (path / "preflight.toml").write_text(CONFIG.format(python=sys.executable, agent=path / "agent.py"))
    return path


def run(*arguments: str) -> CommandResult:
    return invoke("run", *arguments)


def said(folder: Path, alias: str) -> list[dict[str, Any]]:
    lines = (folder / "runs" / "r" / alias / "events.jsonl").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line)).get("type") == "said"]


@pytest.mark.wire
def test_a_failed_run_goes_on_in_another_directory_with_nothing_but_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("--run-id", "r", "-e", "C=c", "--config", "preflight.toml")
    assert first.exit_code == 1, first.output
    assert first.output.splitlines()[-3:] == [
        "1 of 2 trials failed. To run nano (failed) again with what is left of the budget:",
        "  agent-preflight run --resume r --retry-failed -e C=VALUE",
        "  (values of variables that were given on the command line are not kept)",
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "preflight.toml").write_text('models = ["x/other"]\nnetwork = "none of this run"\n')
    monkeypatch.setenv("PREFLIGHT_MODELS", "x/other")
    monkeypatch.setenv("PREFLIGHT_BUDGET", "7")
    monkeypatch.delenv("A")
    runs_dir = os.path.relpath(folder / "runs", elsewhere)
    resume = ("--resume", "r", "--runs-dir", runs_dir, "--retry-failed")
    missing = run(*resume)
    assert missing.exit_code == 1
    assert missing.stderr.splitlines()[1:] == [
        "  A: set it in the environment",
        "  C: give it again: -e C=VALUE",
        "No agent was started, so none has spent money.",
    ]
    monkeypatch.setenv("A", "a")
    again = run(*resume, "-e", "C=c2")
    assert again.exit_code == 0, again.output
    before, after = said(folder, "nano")
    assert (before["env"], after["env"]) == (["a", "b", "c"], ["a", "b", "c2"])
    assert (before["prompt"], before["args"]) == (after["prompt"], after["args"])
    assert (json.loads(after["prompt"])["message"], after["args"]) == ("tell me", ["--of file"])
    assert len(said(folder, "fine")) == 1


@pytest.mark.wire
def test_a_complete_run_has_nothing_to_do_and_shows_what_came_of_it(folder: Path) -> None:
    config = folder / "preflight.toml"
    config.write_text(f'runs_dir = "out"\n{config.read_text()}')
    assert run("--run-id", "r", "--model", f"{MODEL}=a", "--", "fine").exit_code == 0
    again = run("--resume", "r")
    assert again.exit_code == 0, again.output
    assert "Nothing to do: every trial of r has ended." in again.output
    assert "TOTAL" in again.output
    assert f"files: {folder / 'out' / 'r'}" in again.output
    assert "--resume" not in again.output
    assert run("--run-id", "s", "--model", f"{MODEL}=a", "--", "bad").exit_code == 1
    failed = run("--resume", "s")
    assert failed.exit_code == 1
    assert failed.output.splitlines()[-1] == "  agent-preflight run --resume s --runs-dir out --retry-failed"


@pytest.mark.wire
def test_a_run_whose_trials_are_all_kept_needs_no_values_and_looks_at_nothing(folder: Path) -> None:
    line = ("--run-id", "r", "-e", "C=c", "--model", f"{MODEL}=a")
    assert run(*line, "--", "bad").exit_code == 1
    summary = folder / "runs" / "r" / "a" / "summary.json"
    stopped = json.loads(summary.read_text())
    stopped["error"], stopped["preflight"] = "stopped by a person", {**stopped["preflight"], "status": "stopped"}
    stopped["preflight"]["ended_by"] = "stopped"
    before = summary.read_text()
    summary.write_text(json.dumps(stopped))
    plan = folder / "runs" / "r" / "plan.json"
    plan.write_text(plan.read_text().replace(sys.executable, "/gone/python"))
    for more in ((), ("--retry-failed",)):
        again = run("--resume", "r", *more)
        assert again.exit_code == 0, again.output
        assert "Nothing to do: every trial of r has ended." in again.output
    summary.write_text(before.replace('"failed"', '"spent"'))
    assert "More money for a: agent-preflight run --resume r --budget USD -e C=VALUE" in run("--resume", "r").output
    assert "C: give it again" in run("--resume", "r", "--budget", "0.05").output
    summary.write_text(before)
    assert "C: give it again" in run("--resume", "r", "--retry-failed").output
    assert "-e C=VALUE" in run("--resume", "r").output


@pytest.mark.wire
def test_the_same_line_as_before_with_resume_added_is_no_difference(folder: Path) -> None:
    line = ("--model", f"{MODEL}=a", "--budget", "0.03", "-e", "C=c", "--prompt", "else")
    assert run("--run-id", "r", *line, "--", "bad").exit_code == 1
    again = run("--resume", "r", "--retry-failed", *line, "--", "bad")
    assert again.exit_code == 0, again.output
    changed = run("--resume", "r", "-e", "C=c", "--prompt", "other", "--memory", "3g")
    assert changed.exit_code == 1
    assert 'prompt: was "else", is "other"' in changed.stderr
    assert 'memory: was null, is "3g"' in changed.stderr


@pytest.mark.wire
def test_an_unknown_run_exits_with_1_and_names_the_newest(folder: Path) -> None:
    assert run("--run-id", "r", "--model", f"{MODEL}=a", "--", "fine").exit_code == 0
    told = run("--resume", "run-nope")
    assert told.exit_code == 1
    assert told.stderr.splitlines()[0] == 'There is no run "run-nope" in runs/. Latest: r.'
    assert not (folder / "runs" / "run-nope").exists()


@pytest.mark.wire
def test_a_plan_of_an_earlier_version_goes_on_with_all_that_was_given(folder: Path) -> None:
    line = ("--model", f"{MODEL}=a", "--budget", "0.03")
    assert run("--run-id", "r", *line, "--", "bad").exit_code == 1
    path = folder / "runs" / "r" / "plan.json"
    plan = json.loads(path.read_text())
    prompt, command = digests(plan)
    trials = [{**trial, "command": command} for trial in plan["trials"]]
    old = {**plan, "schema": 1, "prompt": prompt, "env": "0" * 16, "trials": trials}
    path.write_text(json.dumps({key: value for key, value in old.items() if key not in ("origin", "may_change")}))
    without = run("--resume", "r", "--retry-failed", "--model", f"{MODEL}=a")
    assert without.exit_code == 1
    assert "give everything that the run was given then" in without.output
    assert "command: changed (only a digest is kept)" in without.stderr
    again = run("--resume", "r", "--retry-failed", *line, "--", "bad")
    assert again.exit_code == 0, again.output


def digests(plan: Mapping[str, Any]) -> tuple[str, str]:
    values = (plan["prompt"], plan["trials"][0]["command"])
    one, other = (hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16] for value in values)
    return one, other


def test_a_run_with_a_scripts_own_score_goes_on_from_the_script() -> None:
    plan = plan_of(None, score=lambda result, folder: 1, score_image=None)
    with pytest.raises(ConfigError, match="script with score, which no file can keep"):
        resumed(plan, env={"A": "x"})
