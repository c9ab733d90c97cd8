"""The configuration of a run, written from its plan.json and read again."""

import json
from typing import Any

import pytest

from agent_preflight.base.config import Environment
from agent_preflight.figures.rerun import rerun_of
from agent_preflight.options.config_file import parse_config
from agent_preflight.options.settings import RunSettings, read_settings
from agent_preflight.options.sources import for_command, read_variables, settings_of
from agent_preflight.runs.plan import plan_trials
from agent_preflight.runs.plan_file import plan_document
from agent_preflight.runs.request import Origin, RunRequest

KEYS = {"OR_ADMIN_KEY": "adm", "OPENROUTER_API_KEY": "inf"}
SEALED: dict[str, Any] = {
    "models": [("a/a", "one"), ("b/b", "two")],
    "image_name": "img",
    "network": "sealed",
    "budget_usd": "0.25",
    "container_args": ["--x", "{alias}"],
}
EVERYTHING: dict[str, Any] = {
    "budget_usd": {"one": "0.1", "two": "0.25"},
    "mounts": ["/in:/in:ro", "cache:/c"],
    "initial_prompt": 'say "hi"\n\tin two\\lines \x7f é 😀',
    "container_args": {"one": ["--x", "a b"], "two": []},
    "memory": "2g",
    "cpus": "1.5",
    "timeout_s": 60.0,
    "idle_timeout_s": 7.0,
    "max_workers": 3,
    "services": {"los:81": "127.0.0.1:3000"},
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
    "tags": {"task": "refactor", "a.b": "c"},
    "score": "echo 1",
    "score_image": "tests",
    "score_timeout_s": 7.0,
    "score_pass": 0.5,
}
PROCESS: dict[str, Any] = {
    "sandbox": "process",
    "image_name": "",
    "network": "host",
    "container_args": None,
    "command": {"one": ["prog", "--for", "a b"], "two": ["prog"]},
}


def plan_of(settings: RunSettings, origin: Origin | None = None) -> dict[str, Any]:
    """Return the plan of a run, as it is read from its file."""
    trials = plan_trials(settings, "r", lambda: "k")
    document: dict[str, Any] = json.loads(
        json.dumps(plan_document("r", trials, RunRequest(settings=settings, origin=origin), "now"))
    )
    return document


def again(toml: str) -> RunSettings:
    """Return the settings that the command `run` makes of a file."""

    def read_file(path: str) -> str:
        raise AssertionError(path)

    file = parse_config(toml)
    options = for_command({}, Environment.read(KEYS), file)
    return settings_of(options, read_variables({}, file, read_file).values, {"A": "1"}.get, read_file)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EVERYTHING,
        {"repeats": 3},
        {
            "repeats": 2,
            "container_args": {"one": ["--x", "{alias}"], "two": []},
            "budget_usd": {"one": "1", "two": "2"},
        },
        {"container_args": None, "network": "bridge"},
        PROCESS,
        {**PROCESS, "command": ["prog", "{model}", "{alias}"], "repeats": 2},
    ],
)
def test_the_file_makes_the_same_plan(changes: dict[str, Any]) -> None:
    before = plan_of(read_settings({**SEALED, **changes}))
    rerun = rerun_of(before)
    assert rerun.command == "agent-preflight run --config preflight.toml"
    assert {**plan_of(again(rerun.toml)), "origin": None} == {**before, "origin": None}


def test_what_a_file_cannot_keep_is_said() -> None:
    settings = read_settings({**SEALED, "env": {"A": "1"}, "score": lambda result, output: 1, "on_event": print})
    notes = " ".join(rerun_of(plan_of(settings)).notes)
    assert "A script gave on_event, score, which no file can keep" in notes
    assert "set A in the environment" in notes


def test_policies_of_the_file_of_a_run_are_not_in_its_plan() -> None:
    plan = {**plan_of(read_settings(SEALED)), "origin": {"by": "command line", "config": "/p/preflight.toml"}}
    assert rerun_of(plan).notes == (
        "Policies and checks are not in the plan: copy them from /p/preflight.toml, if it has some.",
    )


def test_a_plan_with_digests_says_so() -> None:
    plan = plan_of(read_settings({**SEALED, "initial_prompt": "x" * 5 * 2**20}))
    rerun = rerun_of(plan)
    assert plan["prompt"] in rerun.notes[0]
    assert "too long for the plan" in rerun.notes[0]
    assert again(rerun.toml).initial_prompt is None


@pytest.mark.parametrize("plan", [{}, {"trials": 5}, {"trials": [{"alias": "a"}]}])
def test_a_plan_that_cannot_be_read_is_a_sentence(plan: dict[str, Any]) -> None:
    rerun = rerun_of(plan)
    assert (rerun.command, rerun.toml) == ("", "")
    assert rerun.notes[0].endswith(".") or "plan.json" in rerun.notes[0]
