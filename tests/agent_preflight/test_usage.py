"""Token figures, whoever printed them."""

from typing import Any

from agent_preflight.models import CacheStats
from agent_preflight.usage import TokenUsage, add_usage, read_usage
from tests.support.cases import each


def test_the_fields_of_openrouter() -> None:
    usage = {
        "prompt_tokens": 2000,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 1700, "cache_write_tokens": 100},
    }
    assert read_usage(usage) == TokenUsage(2000, 7, 1700, 100, tells_cache=True)


def test_the_fields_of_anthropic() -> None:
    usage = {"prompt_tokens": 2000, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 6}
    assert read_usage(usage) == TokenUsage(2000, 0, 5, 6, tells_cache=True)


def test_both_spellings_say_the_same_thing_once() -> None:
    usage = {
        "prompt_tokens": 1000,
        "prompt_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 50},
        "cache_read_input_tokens": 800,
        "cache_creation_input_tokens": 50,
    }
    read = read_usage(usage)
    assert read is not None
    assert (read.cached_tokens, read.cache_write_tokens) == (800, 50)


def test_a_zero_in_one_spelling_yields_to_the_other() -> None:
    usage = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 0}, "cache_read_input_tokens": 4}
    read = read_usage(usage)
    assert read is not None
    assert read.cached_tokens == 4


@each("usage", [None, 3, "x", [], {}, {"prompt_tokens": 0}, {"prompt_tokens": None}])
def test_no_prompt_tokens_is_no_usage(usage: Any) -> None:
    assert read_usage(usage) is None


@each("count", ["12", True, -3, 1e300, float("nan"), [], {}, None])
def test_a_count_that_is_no_count_is_nothing(count: Any) -> None:
    assert read_usage({"prompt_tokens": count}) is None
    read = read_usage({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": count}})
    assert read is not None
    assert read.cached_tokens == 0


@each("details", [None, 3, "x", []])
def test_details_that_are_no_object_are_nothing(details: Any) -> None:
    assert read_usage({"prompt_tokens": 5, "prompt_tokens_details": details}) == TokenUsage(
        5, 0, 0, 0, tells_cache=False
    )


def test_requests_add_up() -> None:
    stats = CacheStats()
    add_usage(stats, TokenUsage(100, 1, 0, 40, tells_cache=True))
    add_usage(stats, TokenUsage(100, 1, 60, 0, tells_cache=True))
    assert stats == CacheStats(200, 60, 40, 2, 1)
