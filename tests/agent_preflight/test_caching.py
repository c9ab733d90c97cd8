"""Prompts that cache, and figures that tell whether they did."""

import copy
import logging
from typing import Any

import pytest

from agent_preflight.caching import (
    ANTHROPIC_MIN_CACHE_TOKENS,
    GOOGLE_MIN_CACHE_TOKENS,
    OPENAI_MIN_CACHE_TOKENS,
    CacheMetrics,
    PromptBuilder,
    detect_provider,
    format_cache_report,
    min_cache_tokens,
    stable_system_prompt,
)
from tests.support.cases import each

CLAUDE = "anthropic/claude-sonnet-4.5"
MARK = {"type": "ephemeral"}
USAGE = {
    "prompt_tokens": 2000,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1700, "cache_write_tokens": 100},
}


def test_the_table_has_both_spellings() -> None:
    assert len(ANTHROPIC_MIN_CACHE_TOKENS) == 18
    assert ANTHROPIC_MIN_CACHE_TOKENS["anthropic/claude-opus-4.6"] == 4096
    assert ANTHROPIC_MIN_CACHE_TOKENS["anthropic/claude-opus-4-6"] == 4096
    assert ANTHROPIC_MIN_CACHE_TOKENS["anthropic/claude-sonnet-4"] == 1024


@each(
    "model, provider",
    [
        ("anthropic/claude-opus-4.6", "anthropic"),
        ("claude-x", "anthropic"),
        ("OpenAI/x", "openai"),
        ("x/gpt-4", "openai"),
        ("gemini-1", "google"),
        ("google/x", "google"),
        ("meta/llama", "other"),
        ("", "other"),
    ],
)
def test_a_model_id_names_the_provider(model: str, provider: str) -> None:
    assert detect_provider(model) == provider


@each(
    "model, tokens",
    [
        ("anthropic/claude-opus-4.6", 4096),
        ("anthropic/claude-sonnet-4-6", 2048),
        ("openai/gpt-4.1", 1024),
        ("google/gemini-2.5-pro", 4096),
        ("meta/llama", 1024),
        ("anthropic/claude-unheard-of", 1024),
    ],
)
def test_the_smallest_prefix_that_is_cached(model: str, tokens: int) -> None:
    assert min_cache_tokens(model) == tokens


@each(
    "model",
    [
        "anthropic/claude-opus-4.6:beta",
        "anthropic/claude-opus-4-6-20260101",
        "anthropic/claude-opus-4.6-2026-01-01",
        "claude-opus-4-6",
        "Anthropic/Claude-Opus-4.6",
        "anthropic/claude-opus-4.6-20260101:thinking",
    ],
)
def test_a_suffix_or_a_date_does_not_change_the_minimum(model: str) -> None:
    assert min_cache_tokens(model) == 4096


def test_the_constants_have_their_known_values() -> None:
    assert (OPENAI_MIN_CACHE_TOKENS, GOOGLE_MIN_CACHE_TOKENS) == (1024, 4096)


def test_sections_are_joined_by_one_blank_line() -> None:
    assert stable_system_prompt(" a ", "", None, "b\n", "  ") == "a\n\nb"
    assert stable_system_prompt() == ""


def test_usage_adds_up() -> None:
    metrics = CacheMetrics()
    metrics.record(USAGE)
    assert metrics.to_dict() == {
        "total_prompt_tokens": 2000, "cached_tokens": 1700, "cache_creation_tokens": 100,
        "total_completion_tokens": 5, "request_count": 1, "cache_hit_requests": 1,
        "hit_rate": 0.85, "request_hit_rate": 1.0,
    }  # fmt: skip
    assert metrics.summary() == "Cache: 85.0% hit rate | 1,700 cached / 2,000 total prompt tokens | 1/1 requests hit"


def test_a_token_reported_under_two_names_counts_once() -> None:
    metrics = CacheMetrics()
    metrics.record({**USAGE, "cache_read_input_tokens": 1700, "cache_creation_input_tokens": 100})
    assert metrics.hit_rate == 0.85
    assert metrics.cache_creation_tokens == 100


def test_the_summary_says_that_nothing_was_recorded() -> None:
    assert CacheMetrics().summary() == "Cache: no requests recorded"
    assert CacheMetrics().hit_rate == 0.0
    assert CacheMetrics().request_hit_rate == 0.0
    assert format_cache_report(CacheMetrics()) == "Prompt Cache Performance:\n  (no requests recorded)"


@each("usage", [{}, None, {"prompt_tokens": "many"}, {"prompt_tokens_details": None}])
def test_a_usage_object_without_figures_counts_as_a_request(usage: Any) -> None:
    metrics = CacheMetrics()
    metrics.record(usage)
    assert metrics.request_count == 1
    assert metrics.total_prompt_tokens == 0


def test_missing_cache_fields_are_logged_for_the_first_three_requests(caplog: pytest.LogCaptureFixture) -> None:
    metrics = CacheMetrics()
    with caplog.at_level(logging.WARNING, logger="agent_preflight.caching"):
        for _ in range(5):
            metrics.record({"prompt_tokens": 10, "prompt_tokens_details": None})
    assert [r.name for r in caplog.records] == ["agent_preflight.caching"] * 3
    assert "no cache data" in caplog.text


def test_a_cache_field_of_zero_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    CacheMetrics().record({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 0}})
    assert caplog.records == []


def test_savings_are_the_figures_that_scripts_print() -> None:
    metrics = CacheMetrics()
    metrics.record({"prompt_tokens": 2000, "cache_read_input_tokens": 1700})
    assert (metrics.estimated_savings_usd(3.0), metrics.estimated_savings_usd(3.0, 0.1)) == (0.00255, 0.00459)


def test_savings_take_the_fraction_still_paid() -> None:
    metrics = CacheMetrics()
    metrics.record({"prompt_tokens": 2_000_000, "prompt_tokens_details": {"cached_tokens": 1_000_000}})
    assert metrics.estimated_savings_usd(3.0) == pytest.approx(1.5)
    assert metrics.estimated_savings_usd(3.0, cache_discount=0.1) == pytest.approx(2.7)


def test_the_report_names_writes_only_if_there_were_any() -> None:
    metrics = CacheMetrics()
    metrics.record(USAGE)
    assert format_cache_report(metrics, "x/y") == (
        "Prompt Cache Performance (x/y):\n"
        "  Hit rate:     85.0% (1,700 / 2,000 prompt tokens cached)\n"
        "  Requests:     1 total, 1 with cache hits\n"
        "  Cache writes: 100 tokens (creation cost)"
    )
    other = CacheMetrics()
    other.record({"prompt_tokens": 10, "cache_read_input_tokens": 0})
    assert "Cache writes" not in format_cache_report(other)


def builder(**options: Any) -> PromptBuilder:
    made = PromptBuilder("SYS", **options)
    made.add_user("hi")
    made.add_assistant("yo")
    made.add_tool_result("id1", "res")
    return made


def test_adding_returns_all_messages() -> None:
    made = PromptBuilder("SYS")
    assert made.add_user("a") == [{"role": "user", "content": "a"}]
    assert len(made.add_message({"role": "user", "content": []})) == 2
    assert made.turn_count == 2
    assert made.metrics.request_count == 0


def test_a_request_for_another_provider_is_plain() -> None:
    body = builder(tools=[{"type": "function"}], environment="ENV").build("openai/gpt-4.1", max_tokens=5, temperature=0)
    assert body == {
        "model": "openai/gpt-4.1",
        "messages": [
            {"role": "system", "content": "SYS\n\nENV"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yo"},
            {"role": "tool", "tool_call_id": "id1", "content": "res"},
        ],
        "tools": [{"type": "function"}],
        "max_tokens": 5,
        "temperature": 0,
    }
    assert list(body) == ["model", "messages", "tools", "max_tokens", "temperature"]


def test_anthropic_gets_marks_on_the_system_text_and_the_user_message_before_the_last() -> None:
    made = builder()
    made.add_user("second")
    messages = made.build(CLAUDE)["messages"]
    assert messages[0]["content"] == [{"type": "text", "text": "SYS", "cache_control": MARK}]
    assert messages[1]["content"] == [{"type": "text", "text": "hi", "cache_control": MARK}]
    assert messages[-1] == {"role": "user", "content": "second"}


def test_a_first_message_alone_is_not_marked() -> None:
    made = PromptBuilder("SYS")
    made.add_user("q")
    assert made.build(CLAUDE)["messages"][1] == {"role": "user", "content": "q"}


def test_the_last_block_of_a_message_of_blocks_is_marked_with_the_ttl() -> None:
    made = PromptBuilder("SYS", provider="anthropic", cache_ttl="1h")
    made.add_message({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    made.add_assistant("x")
    blocks = made.build("foo/bar")["messages"][1]["content"]
    assert "cache_control" not in blocks[0]
    assert blocks[1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_the_automatic_mode_sets_one_mark_for_the_request() -> None:
    made = builder(anthropic_mode="auto", cache_ttl="1h")
    body = made.build(CLAUDE)
    assert body["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["messages"][0] == {"role": "system", "content": "SYS"}


def test_a_named_provider_wins_over_the_model_id() -> None:
    body = builder(provider="openai").build(CLAUDE)
    assert body["messages"][0] == {"role": "system", "content": "SYS"}
    assert "cache_control" not in body


def test_extra_fields_win() -> None:
    assert builder().build(CLAUDE, messages=[1])["messages"] == [1]


def test_building_changes_nothing_that_was_added() -> None:
    tools = [{"type": "function"}]
    made = builder(tools=tools)
    made.add_message({"role": "user", "content": [{"type": "text", "text": "x"}]})
    made.add_assistant("end")
    before = copy.deepcopy(made._messages)
    body = made.build(CLAUDE)
    body["messages"][1]["content"] = "changed"
    body["tools"][0]["type"] = "changed"
    assert made._messages == before
    assert tools == [{"type": "function"}]


def test_a_request_without_an_earlier_user_message_is_built() -> None:
    made = PromptBuilder("SYS")
    assert made.build(CLAUDE)["messages"][0]["role"] == "system"
    made.add_message({"role": "user", "content": None})
    made.add_assistant("x")
    assert made.build(CLAUDE)["messages"][1] == {"role": "user", "content": None}


def test_openai_cache_params_ask_for_a_longer_retention() -> None:
    assert PromptBuilder.openai_cache_params() == {}
    assert PromptBuilder.openai_cache_params("24h") == {"prompt_cache_retention": "24h"}
