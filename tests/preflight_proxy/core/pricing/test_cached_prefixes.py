"""What a cache surely has of a prompt, and when a request reads it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from preflight_proxy.core.pricing.cached_prefixes import CACHED_S, LOOK_BACK_BLOCKS, CachedPrefixes
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.shapes.shape import CallUsage, Request
from tests.support.cases import each
from tests.support.quote_cases import CHAT, endpoint, read

CLAUDE = endpoint()
GPT = endpoint("openai/x", "GPT")
MARK = {"cache_control": {"type": "ephemeral"}}
WRITTEN = CallUsage(prompt_tokens=1000, cached_tokens=600, cache_write_tokens=300)


def asked(*texts: str, marked: tuple[int, ...] = (), **fields: Any) -> Request:
    """Return a request of these messages, with a cache mark on those of these places."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": text, **(MARK if place in marked else {})}]}
        for place, text in enumerate(texts)
    ]
    return read(CHAT, {"model": CLAUDE.model, "messages": messages, **fields})


def known(request: Request, usage: CallUsage = WRITTEN, served: Endpoint = CLAUDE) -> CachedPrefixes:
    """What is known after a call of account `a` that began at 100 s."""
    cached = CachedPrefixes()
    cached.note("a", request, served, usage, 100.0)
    return cached


def tokens(cached: CachedPrefixes, request: Request, served: Endpoint = CLAUDE, now_s: float = 101.0) -> int:
    prefix = cached.of("a", request, served, now_s)
    return 0 if prefix is None else prefix.tokens


def test_what_a_call_read_and_wrote_is_read_by_the_next_one() -> None:
    cached = known(asked("one", marked=(0,)))
    assert tokens(cached, asked("one", "two", marked=(1,))) == 900
    assert tokens(cached, asked("one", marked=(0,))) == 900


def test_it_is_in_the_cache_for_four_minutes_after_the_call_began() -> None:
    cached = known(asked("one", marked=(0,)))
    longer = asked("one", "two", marked=(1,))
    assert [tokens(cached, longer, now_s=100.0 + CACHED_S + late_s) for late_s in (-1.0, 0.0, 0.1)] == [900, 900, 0]
    cached.note("a", longer, CLAUDE, WRITTEN, 300.0)
    assert tokens(cached, asked("one", "two", "three", marked=(2,)), now_s=300.0 + CACHED_S) == 900


@each("what", ["account", "tag", "fields", "message"])
def test_another_account_endpoint_field_or_message_reads_nothing(what: str) -> None:
    cached = known(asked("one", marked=(0,)))
    account = "b" if what == "account" else "a"
    served = replace(CLAUDE, tag="other") if what == "tag" else CLAUDE
    fields = {"reasoning": {"effort": "low"}} if what == "fields" else {}
    longer = asked("one!" if what == "message" else "one", "two", marked=(1,), **fields)
    assert cached.of(account, longer, served, 101.0) is None
    cached.note(account, longer, served, WRITTEN, 100.0)
    assert cached.of(account, longer, served, 101.0) is not None
    assert tokens(cached, asked("one", "two", marked=(1,))) == 900


def test_what_another_account_left_is_not_read() -> None:
    cached = CachedPrefixes()
    cached.note("b", asked("one", marked=(0,)), CLAUDE, WRITTEN, 100.0)
    assert tokens(cached, asked("one", "two", marked=(1,))) == 0


def test_a_call_that_neither_read_nor_wrote_left_nothing() -> None:
    cached = known(asked("one", marked=(0,)), CallUsage(prompt_tokens=1000))
    assert cached.of("a", asked("one", "two", marked=(1,)), CLAUDE, 101.0) is None


def test_no_more_is_read_than_the_prompt_had() -> None:
    usage = replace(WRITTEN, cached_tokens=5000)
    assert tokens(known(asked("one", marked=(0,)), usage), asked("one", "two", marked=(1,))) == 1000


def test_where_only_marked_prompts_are_cached_a_request_without_a_mark_reads_nothing() -> None:
    cached = known(asked("one", marked=(0,)))
    assert tokens(cached, asked("one", "two")) == 0
    assert tokens(cached, asked("one", "two", cache_control={"type": "ephemeral"})) == 900


def test_what_such_a_model_read_without_being_asked_is_not_counted_on() -> None:
    """Some of these families also read by themselves, when they can."""
    gemini = endpoint("google/x", "Gemini")
    cached = known(asked("one"), WRITTEN, gemini)
    assert tokens(cached, asked("one", "two"), gemini) == 0


def test_a_mark_before_that_of_the_earlier_call_looks_for_less() -> None:
    cached = known(asked("one", "two", marked=(0, 1)))
    assert tokens(cached, asked("one", "two", "three", marked=(0,))) == 0
    assert tokens(cached, asked("one", "two", "three", marked=(0, 1))) == 900
    assert tokens(cached, asked("one", "two", "three", marked=(0, 2))) == 900


def test_a_mark_of_the_whole_request_is_behind_its_last_message() -> None:
    cached = known(asked("one", "two", cache_control={"type": "ephemeral"}))
    assert tokens(cached, asked("one", "two", "three", marked=(0,))) == 0
    assert tokens(cached, asked("one", "two", "three", marked=(1,))) == 900


@pytest.mark.parametrize("added", [LOOK_BACK_BLOCKS // 2, LOOK_BACK_BLOCKS // 2 + 1])
def test_a_provider_looks_back_from_a_mark_over_twenty_blocks_at_most(added: int) -> None:
    """A message and its text count as two, which is more than a provider counts."""
    cached = known(asked("one", marked=(0,)))
    later = asked("one", *["more"] * added, marked=(added,))
    assert later.prompt.messages[-1].wrap_count == 2
    assert tokens(cached, later) == (900 if 2 * added <= LOOK_BACK_BLOCKS else 0)
    nearer = asked("one", *["more"] * added, marked=(1, added))
    assert tokens(cached, nearer) == 900


def test_marks_of_the_tools_alone_stay_where_they_are() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}, **MARK}]
    cached = known(asked("one", tools=tools))
    assert tokens(cached, asked("one", *["more"] * 50, tools=tools)) == 900


def test_a_model_that_caches_by_itself_reads_without_marks() -> None:
    request = asked("one")
    cached = known(request, CallUsage(prompt_tokens=1000, cached_tokens=640), GPT)
    assert tokens(cached, asked("one", "two"), GPT) == 640
