"""From request parts to segments."""

import json

import pytest

from openrouter_sim import Scenario, Tokenizer
from openrouter_sim.errors import ApiError
from openrouter_sim.shapes.prompt import Prompt, bound_of, mark_of
from tests.cases import each


def test_a_message_of_parts_keeps_its_marks() -> None:
    prompt = Prompt(Scenario())
    parts = [{"type": "text", "text": "abcd", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, "efgh"]
    assert prompt.add_message("user", parts) == "abcd\nefgh"
    assert [(s.tokens, s.mark) for s in prompt.segments] == [(5, None), (1, "1h"), (1, None)]


def test_the_tool_prompt_depends_on_the_model() -> None:
    claude, other = Prompt(Scenario()), Prompt(Scenario())
    claude.add_tools([{"name": "x"}], "Claude")
    other.add_tools([{"name": "x"}], "GPT")
    assert sum(s.tokens for s in claude.segments) - sum(s.tokens for s in other.segments) == 306


def test_a_mark_of_the_whole_request_is_set_at_its_end() -> None:
    prompt = Prompt(Scenario())
    prompt.mark_last("5m")
    prompt.add("a")
    prompt.mark_last(None)
    prompt.mark_last(mark_of({"cache_control": {"type": "ephemeral"}}))
    assert prompt.segments[-1].mark == "5m"


def test_the_lower_of_two_bounds_holds() -> None:
    assert bound_of({"a": 5, "b": 3}, "a", "b") == 3
    assert bound_of({}, "a") is None
    with pytest.raises(ApiError):
        bound_of({"a": True}, "a")


@each("role", ["user", "assistant", "developer"])
def test_the_densest_honest_count_stays_within_bytes_and_small_constants(role: str) -> None:
    prompt = Prompt(Scenario(tokenizer=Tokenizer.BYTES, tools_indent=True))
    tool = {"type": "function", "function": {"name": "run", "parameters": {"type": "object", "title": "Größe"}}}
    prompt.add_tools([tool], "Claude")
    prompt.add_message(role, "Grüße 🎉")
    prompt.add_message(role, [{"type": "text", "text": "Grüße 🎉"}])
    text_bytes = 2 * len("Grüße 🎉".encode())
    tool_bytes = len(json.dumps(tool, indent=4))
    assert sum(s.tokens for s in prompt.segments) <= text_bytes + tool_bytes + 2 * 16 + 30 + 530
