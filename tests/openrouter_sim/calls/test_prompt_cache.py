"""Prompt caches, by hand."""

from openrouter_sim.calls.prompt_cache import CacheUse, PromptCache, Segment
from openrouter_sim.catalog.models import load_catalog

CATALOG = load_catalog()
SONNET, NANO, QWEN = (
    CATALOG[name] for name in ("anthropic/claude-sonnet-4.5", "openai/gpt-4.1-nano", "qwen/qwen3-coder")
)


def test_an_explicit_cache_is_written_at_its_mark_and_then_read() -> None:
    cache, endpoint = PromptCache(), SONNET.endpoints[0]
    prompt = [Segment("system", 2000, "5m"), Segment("question", 100)]
    assert cache.use("k", SONNET, endpoint, prompt, 0.0) == CacheUse(write_5m=2000)
    longer = [*prompt, Segment("answer", 50), Segment("next", 60, "5m")]
    assert cache.use("k", SONNET, endpoint, longer, 10.0) == CacheUse(cached=2000, write_5m=210)
    assert cache.use("k", SONNET, endpoint, longer, 20.0) == CacheUse(cached=2210)


def test_it_is_forgotten_after_its_lifetime() -> None:
    cache, endpoint = PromptCache(), SONNET.endpoints[0]
    prompt = [Segment("a", 2000, "1h"), Segment("b", 100, "5m")]
    assert cache.use("k", SONNET, endpoint, prompt, 0.0) == CacheUse(write_5m=100, write_1h=2000)
    assert cache.use("k", SONNET, endpoint, prompt, 301.0) == CacheUse(cached=2000, write_5m=100)
    assert cache.use("k", SONNET, endpoint, prompt, 9000.0) == CacheUse(write_5m=100, write_1h=2000)


def test_short_prompts_other_keys_and_other_endpoints_share_nothing() -> None:
    cache, endpoint = PromptCache(), SONNET.endpoints[0]
    assert cache.use("k", SONNET, endpoint, [Segment("a", 1000, "5m")], 0.0) == CacheUse()
    cache.use("k", SONNET, endpoint, [Segment("a", 2000, "5m")], 0.0)
    assert cache.use("other", SONNET, endpoint, [Segment("a", 2000, "5m")], 1.0).cached == 0
    assert cache.use("k", SONNET, SONNET.endpoints[1], [Segment("a", 2000, "5m")], 1.0).cached == 0
    assert cache.use("k", SONNET, endpoint, [Segment("a", 2000), Segment("b", 9)], 2.0) == CacheUse()


def test_an_automatic_cache_reads_in_steps_and_writes_for_nothing() -> None:
    cache, endpoint = PromptCache(), NANO.endpoints[0]
    prompt = [Segment("system", 1100), Segment("question", 100)]
    assert cache.use("k", NANO, endpoint, prompt, 0.0) == CacheUse()
    assert cache.use("k", NANO, endpoint, [*prompt, Segment("more", 5)], 1.0) == CacheUse(cached=1152)
    assert cache.use("k", NANO, endpoint, [Segment("other", 2000)], 2.0) == CacheUse()


def test_a_model_without_cache_uses_none() -> None:
    assert PromptCache().use("k", QWEN, QWEN.endpoints[0], [Segment("a", 9000, "5m")], 0.0) == CacheUse()


def test_a_conversation_sticks_to_the_endpoint_that_has_its_cache() -> None:
    cache, prompt = PromptCache(), [Segment("a", 2000, "5m"), Segment("b", 1)]
    cache.use("k", SONNET, SONNET.endpoints[2], prompt, 0.0)
    assert cache.sticky_tag("k", SONNET, [*prompt, Segment("c", 1)], 500.0) == "amazon-bedrock"
    assert cache.sticky_tag("k", SONNET, prompt, 601.0) is None
    assert cache.sticky_tag("other", SONNET, prompt, 1.0) is None
