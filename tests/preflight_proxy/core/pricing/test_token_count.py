"""The count of a request's tokens that is answered to clients: near the real tokenizer, and no bound."""

import json
from pathlib import Path
from typing import Any

import pytest

from openrouter_sim.base.tokens import Tokenizer
from openrouter_sim.base.tokens import count as real_count
from preflight_proxy.core.pricing.token_count import CLAUDE_TOOL_USE_TOKENS, IMAGE_TOKENS, token_count
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.steps import run_steps

ROOT = Path(__file__).parents[4]
MESSAGES = SHAPES["/messages"]
SONNET = "anthropic/claude-sonnet-4.5"
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}


def count(content: Any = "Hello, Claude", model: str = SONNET, **fields: Any) -> int:
    """The count of a request with one message."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
    request = MESSAGES.read(json.dumps(body).encode(), "drop")
    return run_steps(token_count(MESSAGES, request))


def test_a_short_request_is_near_the_count_that_anthropic_documents() -> None:
    """14 tokens. Source: docs.anthropic.com/en/docs/build-with-claude/token-counting, 2026-10."""
    assert 14 <= count(system="You are a scientist") <= 20


def test_a_request_with_a_tool_is_counted_above_what_anthropic_documents() -> None:
    """403 tokens, by the same page."""
    schema = {"location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}}
    tool = {**WEATHER, "input_schema": {**WEATHER["input_schema"], "properties": schema}}  # type: ignore[dict-item]
    assert 403 <= count("What's the weather like in San Francisco?", tools=[tool]) <= 560


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("proxy/preflight_proxy/c*/*.py")]), ids=str
)
def test_a_text_is_counted_by_a_fifth_too_low_to_a_half_too_high(file: Path) -> None:
    """As docs/clients.md says of models whose real tokenizer is at hand."""
    text = file.read_text("utf-8")
    real = real_count(text, Tokenizer.O200K)
    assert 0.8 * real <= count(text, "openai/gpt-4.1") <= 1.5 * real + 32


def test_tools_add_anthropics_tool_prompt_once_and_on_its_own_models_alone() -> None:
    with_none, with_one, with_two = (count(tools=[WEATHER] * n) for n in range(3))
    assert with_one - with_none > CLAUDE_TOOL_USE_TOKENS > with_two - with_one > 0
    assert count(tools=[WEATHER], model="x/y") - count(model="x/y") < CLAUDE_TOOL_USE_TOKENS


def test_an_image_is_counted_at_its_usual_size_and_not_by_its_bytes() -> None:
    words = {"type": "text", "text": "What is this?"}
    big = {**IMAGE, "source": {**IMAGE["source"], "data": "iVBORw0KGgo=" * 9999}}  # type: ignore[dict-item]
    assert count([words, big]) == count([words, IMAGE])
    assert IMAGE_TOKENS <= count([words, IMAGE]) <= IMAGE_TOKENS + 60


def test_a_model_that_nobody_knows_is_counted_too() -> None:
    assert 250 <= count("Say OK " * 100, "nobody/nothing-1") <= 500


def test_what_a_call_may_not_ask_for_is_not_counted() -> None:
    with pytest.raises(BadRequest):
        count([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}])
