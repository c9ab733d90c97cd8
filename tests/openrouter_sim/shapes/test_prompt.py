"""From request parts to segments."""

import json

import pytest

from openrouter_sim import Scenario, Tokenizer
from openrouter_sim.base.errors import ApiError
from openrouter_sim.calls.scenario import BoundChoice
from openrouter_sim.shapes.prompt import SimPrompt, bound_of, mark_of, positive
from tests.support.cases import each


def test_a_message_of_parts_keeps_its_marks() -> None:
    prompt = SimPrompt(Scenario())
    parts = [{"type": "text", "text": "abcd", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, "efgh"]
    assert prompt.add_message("user", parts) == "abcd\nefgh"
    assert [(s.tokens, s.mark) for s in prompt.segments] == [(5, None), (1, "1h"), (1, None)]


def test_the_tool_prompt_depends_on_the_model() -> None:
    claude, other = SimPrompt(Scenario(), "Claude"), SimPrompt(Scenario(), "GPT")
    claude.add_tools([{"name": "x"}])
    other.add_tools([{"name": "x"}])
    assert sum(s.tokens for s in claude.segments) - sum(s.tokens for s in other.segments) == 306


def test_a_mark_of_the_whole_request_is_set_at_its_end() -> None:
    prompt = SimPrompt(Scenario())
    prompt.mark_last("5m")
    prompt.add("a")
    prompt.mark_last(None)
    prompt.mark_last(mark_of({"cache_control": {"type": "ephemeral"}}))
    assert prompt.segments[-1].mark == "5m"


def test_the_lower_of_two_bounds_holds() -> None:
    assert bound_of({"a": 5, "b": 3}, Scenario(), "a", "b") == 3
    assert bound_of({}, Scenario(), "a") is None
    with pytest.raises(ApiError):
        bound_of({"a": True}, Scenario(), "a")


@each(
    "choice, bound, with_null",
    [("smallest", 5, 5), ("largest", 9, None), ("first", 9, 9), ("last", 7, None)],
)
def test_a_scenario_says_which_of_several_bounds_counts_whatever_the_api(
    choice: BoundChoice, bound: int, with_null: int | None
) -> None:
    body: dict[str, object] = {"max_output_tokens": 9, "max_tokens": 5, "max_completion_tokens": 7}
    scenario = Scenario(bound_choice=choice)
    assert bound_of(body, scenario, "max_tokens") == bound
    assert bound_of({**body, "max_new_tokens": None}, scenario, "max_tokens") == with_null
    assert bound_of({}, scenario, "max_tokens") is None


def test_the_largest_bound_may_be_the_budget_of_reasoning() -> None:
    body: dict[str, object] = {"max_tokens": 5, "thinking": {"budget_tokens": 8}, "reasoning": {"max_tokens": True}}
    assert bound_of(body, Scenario(bound_choice="largest"), "max_tokens") == 8
    assert bound_of({**body, "thinking": 8}, Scenario(bound_choice="largest"), "max_tokens") == 5
    assert bound_of(body, Scenario(bound_choice="first"), "max_tokens") == 5


@each("value", [0, -1, True, "5", [5]])
def test_a_bound_is_a_positive_integer(value: object) -> None:
    with pytest.raises(ApiError):
        positive({"a": value}, "a")


@each("role", ["user", "assistant", "developer"])
def test_the_densest_honest_count_stays_within_bytes_and_small_constants(role: str) -> None:
    prompt = SimPrompt(Scenario(tokenizer=Tokenizer.BYTES, tools_indent=True), "Claude")
    tool = {"type": "function", "function": {"name": "run", "parameters": {"type": "object", "title": "Größe"}}}
    prompt.add_tools([tool])
    prompt.add_message(role, "Grüße 🎉")
    prompt.add_message(role, [{"type": "text", "text": "Grüße 🎉"}])
    text_bytes = 2 * len("Grüße 🎉".encode())
    tool_bytes = len(json.dumps(tool, indent=4))
    assert sum(s.tokens for s in prompt.segments) <= text_bytes + tool_bytes + 2 * 16 + 30 + 530
