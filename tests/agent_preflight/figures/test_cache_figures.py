"""Caching by model and by conversation, out of the calls of a run."""

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from agent_preflight.figures.cache_figures import WHY, CacheView, cache_view
from agent_preflight.runs.call import Call
from preflight_proxy.core.caching.trace import Miss
from tests.support.records import a_call


def call(conversation: str | None = "c1", *, miss: str | None = None, cached: int = 0, **more: Any) -> Call:
    fields = {"cache_saved_usd": Decimal(0), "conversation": conversation, "cache_miss": miss, "cached_tokens": cached}
    return a_call("a", 1, **{**fields, **more})


def view(*calls: Call) -> CacheView:
    found = cache_view(calls)
    assert found is not None
    return found


def test_sums_are_exact_and_by_model() -> None:
    found = view(
        call(cached=600, cache_saved_usd=Decimal("0.000000000001")),
        call(model="m/y", cache_saved_usd=Decimal("-0.5"), cache_write_tokens=7),
        call(cached=1000, cache_saved_usd=Decimal(1)),
    )
    assert found.total.saved_pusd == 500_000_000_001
    assert (found.total.calls, found.total.hits, found.total.hit_rate) == (3, 2, 1600 / 3000)
    assert [(key, sums.calls) for key, sums in found.models.items()] == [(("m/x",), 2), (("m/y",), 1)]
    assert found.models["m/y",].cache_write_tokens == 7


def test_conversations_of_different_trials_stay_apart_and_the_longest_comes_first() -> None:
    found = view(call("c1"), replace(call("c1", prompt_tokens=9000), trial="b"), call("c2", cached=10))
    assert list(found.conversations) == [("b", "c1", "m/x"), ("a", "c1", "m/x"), ("a", "c2", "m/x")]


def test_misses_are_counted_by_their_first_word_and_in_full_for_their_conversation() -> None:
    found = view(
        call(miss="first_call"), call(miss="message 2 (user)"), call(miss="message 3 (tool)"), call("c2", miss="tools")
    )
    assert found.misses_by_reason() == {"message": (2, 2000), "first_call": (1, 1000), "tools": (1, 1000)}
    assert set(found.misses_of("a", "c1")) == {"first_call", "message 2 (user)", "message 3 (tool)"}


def test_calls_of_old_versions_count_without_conversation_and_saving() -> None:
    found = view(call(None, cached=5, cache_saved_usd=None), call(cache_saved_usd=None))
    assert found.conversations["a", "", "m/x"].hits == 1
    assert (found.total.unpriced, found.total.saved_pusd) == (2, 0)


def test_calls_without_a_counted_prompt_tell_nothing() -> None:
    assert cache_view([call(prompt_tokens=0), Call()]) is None


def test_the_json_has_exact_amounts_and_meanings() -> None:
    told = view(call(miss="tools"), call(None, cache_saved_usd=Decimal("0.000000000001"))).to_json()
    assert told["total"]["saved_usd"] == "0.000000000001"
    assert told["models"][0]["hit_rate"] == 0.0
    assert [each["conversation"] for each in told["conversations"]] == ["c1", None]
    assert told["conversations"][0]["misses"] == {"tools": 1}
    assert told["misses"] == [{"reason": "tools", "calls": 1, "prompt_tokens": 1000, "meaning": WHY["tools"]}]


def test_every_reason_that_the_proxy_gives_has_its_meaning() -> None:
    assert set(WHY) == {miss.value for miss in Miss}
