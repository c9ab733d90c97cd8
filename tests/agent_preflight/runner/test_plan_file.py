"""What stands in plan.json, and how a plan that has changed is told from one that has not."""

from dataclasses import replace
from typing import Any

from agent_preflight.runner.plan import Surroundings, plan_trials
from agent_preflight.runner.plan_file import plan_differences, plan_document
from agent_preflight.runner.reach import read_reach
from tests.cases import each

MODELS = [("openai/gpt-4.1-nano", "nano"), ("anthropic/claude-haiku-4.5", "haiku")]
AROUND = Surroundings(
    "docker", "img", env={"SECRET": "s3cret"}, initial_prompt="tell nobody", mounts=("/a:/b",), timeout_s=60.0
)


def document(around: Surroundings = AROUND, models: Any = MODELS, budget: Any = 0.25, arguments: Any = ("--x",)) -> Any:
    numbers = iter(range(100))
    trials = plan_trials(models, "run-1", budget, arguments, lambda: str(next(numbers)))
    return plan_document("run-1", trials, around, "now")


def test_the_plan_on_disk_names_every_key_and_holds_no_secret() -> None:
    found = document()
    assert [trial["key_name"] for trial in found["trials"]] == [
        "agent-preflight:run-1:nano:0",
        "agent-preflight:run-1:haiku:1",
    ]
    assert not [text for text in ("s3cret", "tell nobody", "--x") if text in str(found)]
    assert found["env_names"] == ["SECRET"]


def test_the_same_plan_has_no_difference_whatever_its_keys_are_called() -> None:
    again = {**document(), "run_id": "x", "created_at": "later"}
    again["trials"] = [{**trial, "key_name": "another"} for trial in again["trials"]]
    assert plan_differences(document(), again) == []


@each(
    "changes, told",
    [
        ({"image": "other"}, ['image: was "img", is "other"']),
        ({"network": "sealed"}, ['network: was "bridge", is "sealed"']),
        ({"mounts": ("/a:/c",)}, ['mounts: was ["/a:/b"], is ["/a:/c"]']),
        ({"timeout_s": None}, ["timeout_s: was 60.0, is null"]),
        ({"memory": "2g"}, ['memory: was null, is "2g"']),
        ({"stdin": "open"}, ['stdin: was null, is "open"']),
        ({"initial_prompt": "another"}, ["prompt: changed (only digests are kept)"]),
        ({"env": {"SECRET": "other"}}, ["env: changed (only digests are kept)"]),
        (
            {"env": {"NEW": "x"}},
            ['env_names: was ["SECRET"], is ["NEW"]', "env: changed (only digests are kept)"],
        ),
        (
            {"reach": read_reach({"los": "127.0.0.1:3000"}, None, "bridge")},
            ['services: was {}, is {"los": "127.0.0.1:3000"}'],
        ),
    ],
)
def test_a_change_of_the_surroundings_is_shown(changes: dict[str, Any], told: list[str]) -> None:
    assert plan_differences(document(), document(replace(AROUND, **changes))) == told


@each(
    "changed, told",
    [
        ({"budget": {"nano": 0.25, "haiku": 1}}, ['trial haiku: budget_usd: was "0.25", is "1"']),
        ({"arguments": ["--y"]}, [f"trial {a}: command: changed (only digests are kept)" for a in ("nano", "haiku")]),
        ({"models": MODELS[:1]}, ["trial haiku: left out now"]),
        ({"models": [*MODELS, ("m/m", "new")]}, ["trial new: not in the run's plan"]),
        ({"models": [("m/m", "nano"), MODELS[1]]}, ['trial nano: model_id: was "openai/gpt-4.1-nano", is "m/m"']),
    ],
)
def test_a_change_of_a_trial_is_shown(changed: dict[str, Any], told: list[str]) -> None:
    assert plan_differences(document(), document(**changed)) == told


def test_of_several_attempts_the_last_counts() -> None:
    twice = document(budget=9)
    twice["trials"] += document()["trials"]
    assert plan_differences(twice, document()) == []


def test_a_plan_of_another_shape_differs_in_everything_and_breaks_nothing() -> None:
    assert "trial nano: not in the run's plan" in plan_differences({"trials": [3, {}]}, document())
