"""A call that read less from the cache than it could have is told why, and calls are told apart by conversation."""

import json
from typing import Any

import pytest

from preflight_proxy.core.caching import trace
from preflight_proxy.core.caching.trace import CacheNote, CacheTrace
from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices
from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.shape import CallUsage, Request

NANO, SONNET = "openai/gpt-4.1-nano", "anthropic/claude-sonnet-4.5"
SYSTEM = {"role": "system", "content": "You are a clerk."}
TASK = {"role": "user", "content": "Read the file."}
TALK = [SYSTEM, TASK, {"role": "assistant", "content": "I read."}, {"role": "tool", "content": "It says 7."}]


def endpoint(tag: str = "openai", cache_read: int | None = 1) -> Endpoint:
    return Endpoint(NANO, tag, tag, 10**6, None, None, True, "GPT", EndpointPrices(10, 40, cache_read=cache_read))


def chat(messages: list[dict[str, Any]], model: str = NANO, **more: Any) -> Request:
    body = {"model": model, "messages": messages, **more}
    return SHAPES["/chat/completions"].read(json.dumps(body).encode(), "drop")


class Story:
    """Calls of one account, each a minute after the other and five seconds long."""

    def __init__(self) -> None:
        self.trace = CacheTrace()
        self.now_s = 0.0

    def call(
        self,
        request: Request,
        cached: int = 0,
        *,
        prompt: int = 4000,
        written: int = 0,
        served: Endpoint | None = None,
        after_s: float = 60.0,
        account: str = "a",
    ) -> CacheNote:
        self.now_s += after_s
        usage = CallUsage(prompt_tokens=prompt, cached_tokens=cached, cache_write_tokens=written)
        started_s, self.now_s = self.now_s, self.now_s + 5
        served = endpoint() if served is None else served
        return self.trace.note(account, request, usage, served, started_s=started_s, ended_s=self.now_s)


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_growing_conversation_keeps_its_name_and_hits(story: Story) -> None:
    first = story.call(chat(TALK[:2]))
    second = story.call(chat(TALK), cached=3968)
    assert (first.miss, second.miss) == ("first_call", "")
    assert first.conversation == second.conversation
    assert len(first.conversation) == 12


def test_another_task_another_model_and_another_account_are_other_conversations(story: Story) -> None:
    here = story.call(chat(TALK))
    other_task = story.call(chat([SYSTEM, {"role": "user", "content": "Count."}]))
    other_model = story.call(chat(TALK, model="openai/gpt-4.1-mini"))
    assert len({here.conversation, other_task.conversation, other_model.conversation}) == 3
    assert (other_task.miss, other_model.miss) == ("first_call", "first_call")
    assert story.call(chat(TALK), account="b").miss == "first_call"


def test_a_conversation_has_the_same_name_after_a_restart() -> None:
    assert Story().call(chat(TALK)).conversation == Story().call(chat(TALK[:2])).conversation


@pytest.mark.parametrize(
    ("messages", "more", "why"),
    [
        (TALK, {"tools": [{"type": "function", "function": {"name": "g"}}]}, "tools"),
        ([{"role": "system", "content": "It is 12:01."}, *TALK[1:]], {}, "system"),
        (TALK, {"reasoning": {"effort": "high"}}, "field reasoning"),
        ([*TALK[:2], {"role": "assistant", "content": "I saw."}, TALK[3]], {}, "message 3 (assistant)"),
        ([*TALK[:3], {"role": "tool", "content": "It says 8."}], {}, "message 4 (tool)"),
        (TALK[:3], {}, "message 4 (removed)"),
        ([SYSTEM, {"role": "user", "content": "Read it."}, *TALK[2:]], {}, "message 2 (user)"),
        (TALK, {}, "unexplained"),
        (TALK, {"max_tokens": 17, "temperature": 1}, "unexplained"),
    ],
)
@pytest.mark.parametrize("cached", [0, 1024])
def test_the_first_change_in_reading_order_broke_the_prefix(
    story: Story, messages: list[dict[str, Any]], more: dict[str, Any], why: str, cached: int
) -> None:
    first = story.call(chat(TALK, tools=[{"type": "function", "function": {"name": "f"}}]))
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    second = story.call(chat(messages, **{**tools, **more}), cached=cached)
    assert (second.conversation, second.miss) == (first.conversation, why)


def test_the_system_text_of_the_other_shapes_is_known_too(story: Story) -> None:
    user = {"role": "user", "content": "x"}
    for path, talk, name in (("/messages", "messages", "system"), ("/responses", "input", "instructions")):
        for text, why in (("You are a clerk.", "first_call"), ("It is 12:01.", "system")):
            body = {"model": NANO, talk: [user], name: text, "max_tokens": 5, "max_output_tokens": 50}
            request = SHAPES[path].read(json.dumps(body).encode(), "drop")
            assert story.call(request, account=path).miss == why


def test_a_prompt_below_the_minimum_cannot_hit(story: Story) -> None:
    assert story.call(chat(TALK[:2]), prompt=1000).miss == "below_minimum"
    assert story.call(chat(TALK), prompt=1100).miss == "below_minimum", "what was there to be read was shorter"


def test_what_is_older_than_its_lifetime_has_expired(story: Story) -> None:
    story.call(chat(TALK[:2]))
    assert story.call(chat(TALK), after_s=301).miss == "expired"
    assert story.call(chat(TALK, prompt_cache_retention="24h"), cached=3968).miss == ""
    assert story.call(chat(TALK, prompt_cache_retention="24h"), after_s=4000).miss == "unexplained"


def test_a_cache_lives_from_the_start_of_the_call_that_wrote_it(story: Story) -> None:
    """Each call takes five seconds; the rule says 300."""
    story.call(chat(TALK[:2]))
    assert story.call(chat(TALK[:3]), after_s=295).miss == "unexplained"
    assert story.call(chat(TALK), after_s=296).miss == "expired"


def test_a_call_that_starts_when_the_one_before_ends_can_read_its_cache(story: Story) -> None:
    story.call(chat(TALK[:2]))
    assert story.call(chat(TALK), after_s=0).miss == "unexplained"


def test_of_calls_with_the_same_messages_the_one_with_the_same_fields_counts(story: Story) -> None:
    """A conversation may alternate between two settings; each has its own cache."""
    low, high = {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "high"}}
    story.call(chat(TALK, NANO, **low))
    assert story.call(chat(TALK, NANO, **high)).miss == "field reasoning"
    assert story.call(chat(TALK, NANO, **low)).miss == "unexplained"


def test_an_endpoint_that_is_not_known_explains_nothing(story: Story) -> None:
    story.call(chat(TALK[:2]))
    usage = CallUsage(prompt_tokens=4000)
    note = story.trace.note("a", chat(TALK), usage, None, started_s=70.0, ended_s=75.0)
    assert (note.miss, note.saved_pusd) == ("unexplained", None)


def test_a_prompt_of_exactly_the_minimum_is_cached(story: Story) -> None:
    assert story.call(chat(TALK[:2]), prompt=1024).miss == "first_call"
    assert story.call(chat(TALK), prompt=1100).miss == "unexplained"


def test_what_a_marked_call_wrote_must_be_read_by_the_next(story: Story) -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    story.call(chat(TALK[:2], SONNET, **marked), written=3000)
    assert story.call(chat(TALK, SONNET, **marked), cached=1000).miss == "unexplained"


def test_a_cache_is_where_it_was_written(story: Story) -> None:
    story.call(chat(TALK[:2]))
    assert story.call(chat(TALK), served=endpoint("azure")).miss == "endpoint"


def test_an_endpoint_without_a_price_for_reads_has_no_cache(story: Story) -> None:
    assert story.call(chat(TALK), served=endpoint(cache_read=None)).miss == "no_cache"


def test_calls_that_were_on_their_way_together_cannot_read_from_each_other(story: Story) -> None:
    assert story.call(chat(TALK)).miss == "first_call"
    assert story.call(chat(TALK), after_s=-4).miss == "beside"
    assert story.call(chat(TALK), cached=3968).miss == ""


def test_a_marked_family_caches_what_is_marked(story: Story) -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    assert story.call(chat(TALK[:2], SONNET)).miss == "no_marks"
    assert story.call(chat(TALK[:3], SONNET, **marked), written=0).miss == "no_marks"
    assert story.call(chat(TALK[:3], SONNET, **marked), written=0).miss == "below_minimum", "too little was marked"
    assert story.call(chat(TALK[:3], SONNET, **marked), written=3000).miss == "below_minimum"
    assert story.call(chat(TALK, SONNET, **marked), cached=3000, written=900).miss == ""
    assert story.call(chat([SYSTEM, TASK], SONNET, **marked), cached=500).miss == "message 3 (removed)"


def test_a_little_less_is_no_miss(story: Story) -> None:
    story.call(chat(TALK[:2]), prompt=4000)
    assert story.call(chat(TALK), prompt=5000, cached=3600).miss == ""
    assert story.call(chat(TALK), prompt=5000, cached=3000).miss == "unexplained"
    story.call(chat(TALK[:2]), prompt=1500, account="b")
    assert story.call(chat(TALK), prompt=1600, cached=1250, account="b").miss == ""


def test_a_call_without_messages_or_without_counted_tokens_is_not_noted(story: Story) -> None:
    embeddings = SHAPES["/embeddings"].read(b'{"model": "m/x", "input": "a"}', "drop")
    for note in (story.call(embeddings), story.call(chat(TALK), prompt=0)):
        assert note == CacheNote(saved_pusd=0)


def test_a_prompt_of_system_text_alone_is_a_conversation(story: Story) -> None:
    assert story.call(chat([SYSTEM])).miss == "first_call"
    other = story.call(chat([{"role": "system", "content": "Other."}])).conversation
    assert other != story.call(chat([{"role": "system", "content": "Third."}]), account="b").conversation


def other_task(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_rewritten_prompt_has_half_of_the_shorter_ones_messages(story: Story) -> None:
    story.call(chat(TALK))
    less = story.call(chat([SYSTEM, other_task("x"), TALK[2], other_task("y")]))
    half = story.call(chat([SYSTEM, other_task("z"), TALK[3]]))
    assert (less.miss, half.miss) == ("first_call", "message 2 (user)")


def test_only_the_newest_calls_can_be_the_one_that_was_rewritten(story: Story) -> None:
    rewritten = chat([SYSTEM, other_task("rewritten"), *TALK[2:]])
    for account, others, miss in (
        ("a", trace.OVERLAPS_MAX - 1, "message 2 (user)"),
        ("b", trace.OVERLAPS_MAX, "first_call"),
    ):
        story.call(chat(TALK), account=account)
        for number in range(others):
            story.call(chat([SYSTEM, other_task(f"{number}")]), account=account)
        assert story.call(rewritten, account=account).miss == miss


def test_a_call_that_continues_another_is_kept_in_its_place(story: Story) -> None:
    for count in range(2, 5):
        story.call(chat(TALK[:count]))
    assert len(story.trace._accounts.get("a") or ()) == 1


def test_what_is_kept_is_bounded(story: Story) -> None:
    for number in range(trace.CALLS_MAX + 1):
        story.call(chat([{"role": "user", "content": f"task {number}"}]))
    assert story.call(chat([{"role": "user", "content": "task 0"}]), cached=4000).miss == ""
    long = [{"role": "user", "content": str(number)} for number in range(trace.MESSAGES_MAX + 1)]
    story.call(chat(long))
    calls = story.trace._accounts.get("a")
    assert calls is not None
    assert len(calls) == trace.CALLS_MAX
    assert len(calls[-1].messages) == 16 * trace.MESSAGES_MAX
    first = story.call(chat(TALK), account="x").miss
    for number in range(trace.ACCOUNTS_MAX):
        story.call(chat(TALK), account=str(number))
    assert (first, story.call(chat(TALK), account="x").miss) == ("first_call", "first_call")
    kept = story.trace._accounts
    assert trace.ACCOUNTS_MAX // 2 <= len(kept) <= trace.ACCOUNTS_MAX


def test_calls_with_the_same_fields_share_their_digests_and_one_with_another_field_has_its_own(story: Story) -> None:
    story.call(chat(TALK, stop="a", response_format={"type": "text"}))
    story.call(chat([TASK], temperature=1, response_format={"type": "text"}))
    story.call(chat(TALK, response_format={"type": "json_object"}))
    first, other, changed = (call.parts for call in story.trace._accounts.get("a") or [])
    assert first == other == trace._parts(chat([TASK], response_format={"type": "text"}))
    assert changed == trace._parts(chat(TALK, response_format={"type": "json_object"})) != first


def test_what_a_cache_saved_is_counted_at_the_prices_of_a_prompt_so_long(story: Story) -> None:
    short, long = EndpointPrices(3, 15, cache_read=1), EndpointPrices(6, 30, cache_read=2)
    most = Endpoint(
        SONNET,
        "anthropic",
        "Anthropic",
        10**6,
        None,
        None,
        True,
        "Claude",
        long,
        frozenset(),
        (short, long),
        (-1, 5000),
    )
    million = 10**6
    assert story.call(chat(TALK[:2]), million, prompt=4000, served=most).saved_pusd == 2
    assert story.call(chat(TALK[:2]), million, prompt=6000, served=most).saved_pusd == 4
