"""What plan.json holds, and which differences are reported."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from agent_preflight.artifacts import SUMMARY_BYTES_MAX
from agent_preflight.options.settings import RunSettings, read_option, read_settings
from agent_preflight.runs.plan import plan_trials
from agent_preflight.runs.plan_file import (
    PLAN_BYTES_MAX,
    PlannedTrial,
    by_alias,
    is_in_clear,
    plan_differences,
    plan_document,
    planned_trials,
    score_options,
    trial_folder,
)
from agent_preflight.runs.request import Origin, RunRequest
from tests.support.cases import each

MODELS = [("openai/gpt-4.1-nano", "nano"), ("anthropic/claude-haiku-4.5", "haiku")]
SETTINGS = read_settings(
    {
        "models": MODELS,
        "admin_key": "adm1n",
        "budget_usd": 0.25,
        "container_args": ["--x"],
        "image_name": "img",
        "env": {"SECRET": "s3cret"},
        "initial_prompt": "tell nobody",
        "mounts": ["/a:/b"],
        "timeout_s": 60.0,
    }
)


def document(settings: RunSettings = SETTINGS, origin: Origin | None = None, **changes: Any) -> Any:
    numbers = iter(range(100))
    changed = replace(settings, **{name: read_option(name, value) for name, value in changes.items()})
    trials = plan_trials(changed, "run-1", lambda: str(next(numbers)))
    return plan_document("run-1", trials, RunRequest(settings=changed, origin=origin), "now")


def old(plan: Any) -> Any:
    """Return a plan as version 1 had it."""
    trials = [{**trial, "command": DIGEST_OF_X} for trial in plan["trials"]]
    return {**plan, "schema": 1, "prompt": DIGEST_OF_PROMPT, "env": "0123456789abcdef", "trials": trials}


DIGEST_OF_X = "6f6d36fc7969fae6"
DIGEST_OF_PROMPT = "4228acf759f2d876"


def test_the_plan_on_disk_names_every_key_and_holds_no_secret() -> None:
    found = document(origin=Origin(config=Path("/p/preflight.toml"), env_from={"SECRET": "option"}))
    assert [trial["key_name"] for trial in found["trials"]] == [
        "agent-preflight:run-1:nano:0",
        "agent-preflight:run-1:haiku:1",
    ]
    assert not [text for text in ("s3cret", "adm1n") if text in str(found)]
    assert found["env_names"] == ["SECRET"]


def test_the_plan_on_disk_is_enough_to_go_on_by() -> None:
    settings = replace(SETTINGS, max_workers=3)
    found = document(settings, origin=Origin(config=Path("/p/preflight.toml"), env_from={"SECRET": "option"}))
    assert is_in_clear(found)
    assert (found["schema"], found["prompt"], found["trials"][0]["command"]) == (2, "tell nobody", ["--x"])
    assert found["origin"] == {
        "by": "command line",
        "directory": None,
        "config": "/p/preflight.toml",
        "env_files": [],
        "env_from": {"SECRET": "option"},
    }
    assert found["may_change"]["max_workers"] == 3


def test_a_trial_has_the_room_of_its_key_which_is_not_compared() -> None:
    trials = [replace(trial, key_room_pusd=61 * 10**10) for trial in plan_trials(SETTINGS, "run-1", lambda: "0")]
    found = plan_document("run-1", trials, RunRequest(settings=SETTINGS), "now")
    assert [trial["key_room_usd"] for trial in found["trials"]] == ["0.61", "0.61"]
    assert [trial["key_room_usd"] for trial in document()["trials"]] == ["0.01", "0.01"]
    assert plan_differences(found, document()) == []


def test_of_a_scripts_own_code_there_is_the_name() -> None:
    found = document(on_event=print, eject_policy=object)
    assert found["origin"] == {"by": "script", "functions": ["eject_policy", "on_event"]}


def test_what_is_too_long_to_be_read_again_is_a_digest_and_the_rest_stands_there() -> None:
    settings = replace(SETTINGS, initial_prompt="x" * PLAN_BYTES_MAX)
    found = document(settings)
    assert len(str(found)) < 4000
    assert PLAN_BYTES_MAX * 2 <= SUMMARY_BYTES_MAX
    assert (is_in_clear(found), is_in_clear(document())) == (False, True)
    assert plan_differences(found, document(settings)) == []
    assert plan_differences(found, document()) == ["prompt: changed (only a digest is kept)"]
    assert plan_differences(document(), found) == ["prompt: changed (only a digest is kept)"]
    assert plan_differences(found, document(settings, container_args=["--y"]))[0].startswith(
        "trial nano: command: changed"
    )


def test_a_plan_of_the_first_version_is_compared_by_its_digests() -> None:
    before = old(document())
    assert not is_in_clear(before)
    assert plan_differences(before, document()) == []
    changed = document(replace(SETTINGS, initial_prompt="another"), container_args=["--y"])
    assert plan_differences(before, changed) == [
        "prompt: changed (only a digest is kept)",
        *(f"trial {alias}: command: changed (only a digest is kept)" for alias in ("nano", "haiku")),
    ]


def test_a_plan_whose_ended_trials_are_of_the_first_version_is_not_enough_to_go_on_by() -> None:
    mixed = document()
    mixed["trials"][0]["command"] = DIGEST_OF_X
    assert not is_in_clear(mixed)
    assert plan_differences(mixed, document()) == []


def test_of_long_texts_the_part_that_differs_is_shown() -> None:
    before, now = (document(replace(SETTINGS, initial_prompt="same " * 1000 + end + " x" * 1000)) for end in ("A", "B"))
    (line,) = plan_differences(before, now)
    assert line.startswith("prompt: was ...")
    assert "same A x" in line
    assert "same B x" in line
    assert len(line) < 400


def test_values_of_variables_may_change() -> None:
    assert plan_differences(document(), document(replace(SETTINGS, env={"SECRET": "rotated"}))) == []


def test_the_same_plan_has_no_difference_whatever_its_keys_are_called() -> None:
    again = {**document(), "run_id": "x", "created_at": "later"}
    again["trials"] = [{**trial, "key_name": "another"} for trial in again["trials"]]
    assert plan_differences(document(), again) == []


@each(
    "changes, told",
    [
        ({"image_name": "other"}, ['image: was "img", is "other"']),
        ({"network": "sealed"}, ['network: was "bridge", is "sealed"']),
        ({"mounts": ("/a:/c",)}, ['mounts: was ["/a:/b"], is ["/a:/c"]']),
        ({"timeout_s": None}, ["timeout_s: was 60.0, is null"]),
        ({"memory": "2g"}, ['memory: was null, is "2g"']),
        ({"stdin": "open"}, ['stdin: was null, is "open"']),
        ({"initial_prompt": "another"}, ['prompt: was "tell nobody", is "another"']),
        ({"initial_prompt": None}, ['prompt: was "tell nobody", is null']),
        ({"env": {"NEW": "x"}}, ['env_names: was ["SECRET"], is ["NEW"]']),
        (
            {"services": {"los": "127.0.0.1:3000"}},
            ['services: was {}, is {"los": "127.0.0.1:3000"}'],
        ),
    ],
)
def test_a_change_of_the_surroundings_is_shown(changes: dict[str, Any], told: list[str]) -> None:
    assert plan_differences(document(), document(replace(SETTINGS, **changes))) == told


@each(
    "changed, told",
    [
        ({"budget_usd": {"nano": 0.25, "haiku": 1}}, ['trial haiku: budget_usd: was "0.25", is "1"']),
        ({"container_args": ["--y"]}, [f'trial {a}: command: was ["--x"], is ["--y"]' for a in ("nano", "haiku")]),
        ({"models": MODELS[:1]}, ["trial haiku: left out now"]),
        ({"models": [*MODELS, ("m/m", "new")]}, ["trial new: not in the run's plan"]),
        ({"models": [("m/m", "nano"), MODELS[1]]}, ['trial nano: model_id: was "openai/gpt-4.1-nano", is "m/m"']),
    ],
)
def test_a_change_of_a_trial_is_shown(changed: dict[str, Any], told: list[str]) -> None:
    assert plan_differences(document(), document(**changed)) == told


def test_of_several_attempts_the_last_counts() -> None:
    twice = document(budget_usd=9)
    twice["trials"] += document()["trials"]
    assert plan_differences(twice, document()) == []
    assert by_alias(twice)["nano"]["budget_usd"] == "0.25"


def test_a_plan_of_another_shape_differs_in_everything_and_breaks_nothing() -> None:
    assert "trial nano: not in the run's plan" in plan_differences({"trials": [3, {}]}, document())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"trials": 5}', '{"trials": [5, null]}'])
def test_a_plan_that_cannot_be_read_names_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    assert planned_trials(tmp_path) == []


def test_an_alias_that_leads_away_is_passed_over(tmp_path: Path) -> None:
    good = {"alias": "a", "model_id": "m/m", "budget_usd": "0.25", "key_name": "k"}
    away = ("../x", "..", ".", "", "a\0", "\ud800", "x" * 256)
    trials = [good, *({**good, "alias": alias} for alias in away), {"alias": 1}, {"x": 2}]
    (tmp_path / "plan.json").write_text(json.dumps({"trials": trials}))
    assert planned_trials(tmp_path) == [PlannedTrial("a", "m/m", "0.25", "k", base="a")]


@each(
    "written, room_pusd",
    [
        ("0.61", 61 * 10**10),
        (None, 10**10),
        ("", 10**10),
        ("much", 10**10),
        ("-1", 10**10),
        (["1"], 10**10),
        ("nan", 10**10),
    ],
)
def test_the_room_of_a_key_is_at_least_a_cent_whatever_a_plan_says(written: object, room_pusd: int) -> None:
    trial = {"alias": "a", "key_name": "k", "key_room_usd": written}
    with TemporaryDirectory() as folder:
        (Path(folder) / "plan.json").write_text(json.dumps({"trials": [trial]}))
        assert [each.key_room_pusd for each in planned_trials(Path(folder))] == [room_pusd]


def test_a_trial_that_is_a_run_by_itself_has_no_folder_but_the_runs(tmp_path: Path) -> None:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    assert trial_folder(tmp_path / "shared" / "a", "a") == tmp_path / "shared" / "a"
    assert trial_folder(tmp_path / "run", "inner") == tmp_path / "run" / "inner"


def test_repeats_tags_and_the_score_stand_in_the_plan() -> None:
    given = {"repeats": 2, "tags": {"task": "refactor"}, "score": "echo 1", "score_pass": 0.5}
    settings = read_settings({"models": MODELS, "admin_key": "adm1n", "image_name": "img", **given})
    plan = document(settings)
    assert (plan["repeats"], plan["tags"]) == (2, {"task": "refactor"})
    assert plan["score"] == {"command": "echo 1", "function": False, "image": None, "pass": 0.5, "timeout_s": 600.0}
    assert [(each["alias"], each["base"], each["repeat"]) for each in plan["trials"]][::3] == [
        *[("nano-1", "nano", 1), ("haiku-2", "haiku", 2)]
    ]
    assert score_options(plan)["score"] == "echo 1"
    plain = document()
    assert (plain["repeats"], plain["tags"], plain["score"], score_options(plain)) == (1, {}, None, {})


def test_a_resume_compares_tags_and_scores_but_not_how_long_a_score_may_take() -> None:
    begun = document(score="echo 1", tags={"task": "a"})
    assert plan_differences(begun, document(score="echo 1", tags={"task": "a"}, score_timeout_s=9.0)) == []
    other = plan_differences(begun, document(score="echo 2", tags={"task": "b"}))
    assert [line.split(":")[0] for line in other] == ["tags", "score"]
    older = {key: value for key, value in document().items() if key not in ("repeats", "tags", "score")}
    assert plan_differences(older, document()) == []
    assert plan_differences(older, document(score="echo 1")) != []
