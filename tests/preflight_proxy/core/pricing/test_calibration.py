"""A billed prefix tightens the bound, and a bill that could be bent does not count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from openrouter_sim import Scenario
from openrouter_sim.base.tokens import Tokenizer
from openrouter_sim.shapes.completions import SimChat
from preflight_proxy.core.pricing.calibration import (
    PREFIXES_MAX,
    Calibration,
    billed_reading,
    off_pusd,
)
from preflight_proxy.core.pricing.endpoint import EndpointPrices
from preflight_proxy.core.pricing.known_prefixes import KnownPrefixes
from preflight_proxy.core.pricing.prompt_bound import (
    CLAUDE_ASCII_FACTOR,
    TEMPLATE_TOKENS,
    TOOL_TOKENS,
    TOOL_USE_TOKENS,
    WRAP_TOKENS,
    prompt_bound,
)
from preflight_proxy.core.pricing.text_sizes import TextSizes, text_sizes
from preflight_proxy.core.pricing.token_estimate import family_of
from preflight_proxy.core.shapes.shape import CallUsage, Reading, Request
from preflight_proxy.core.shapes.steps import run_steps
from tests.support.cases import each
from tests.support.quote_cases import (
    ASSISTANT_BYTES,
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    USER_BYTES,
    endpoint,
    read,
)

ENDPOINT = endpoint()
LONG = "word " * 2000


def ascii_tokens(*texts: str, role: str = "user") -> int:
    """Return the most tokens of messages of one role at `ENDPOINT`, by their bytes."""
    names = USER_BYTES if role == "user" else ASSISTANT_BYTES
    return sum(CLAUDE_ASCII_FACTOR * (len(text) + names) + WRAP_TOKENS for text in texts)


def conversation(*contents: object, **fields: object) -> Request:
    messages = [
        {"role": "user" if index % 2 == 0 else "assistant", "content": content}
        for index, content in enumerate(contents)
    ]
    return read(CHAT, {"model": ENDPOINT.model, "messages": messages, **fields})


def bill(prompt_tokens: int, completion_tokens: int = 10, **changes: object) -> Reading:
    usage = CallUsage(
        cost_pusd=3 * 10**6 * prompt_tokens + 15 * 10**6 * completion_tokens,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )
    return structs.replace(Reading(usage=usage, finish="stop"), **changes)


def test_a_billed_prefix_and_what_was_added_bound_the_next_call() -> None:
    known = Calibration()
    known.record("a", conversation(LONG), ENDPOINT, bill(2010))
    longer = conversation(LONG, "yes", "go on")
    added = ascii_tokens("yes", role="assistant") + ascii_tokens("go on")
    assert known.prompt_tokens("a", longer, ENDPOINT) == 2010 + added + TEMPLATE_TOKENS
    assert known.prompt_tokens("a", longer, ENDPOINT) < prompt_bound(longer.prompt, ENDPOINT)


def test_the_longest_known_prefix_counts() -> None:
    known = Calibration()
    known.record("a", conversation(LONG), ENDPOINT, bill(2010))
    known.record("a", conversation(LONG, LONG), ENDPOINT, bill(4020))
    bound = known.prompt_tokens("a", conversation(LONG, LONG, ""), ENDPOINT)
    assert bound == 4020 + ascii_tokens("") + TEMPLATE_TOKENS


def test_never_more_than_the_bytes_allow() -> None:
    known = Calibration()
    known.record("a", conversation("hi"), ENDPOINT, bill(100_000))
    asked = conversation("hi", "ho")
    assert known.prompt_tokens("a", asked, ENDPOINT) == prompt_bound(asked.prompt, ENDPOINT)


@each("what", ["account", "endpoint", "model", "fields", "message"])
def test_another_account_endpoint_model_field_or_message_is_another_prefix(what: str) -> None:
    known = Calibration()
    known.record("a", conversation(LONG), ENDPOINT, bill(2010))
    account = "b" if what == "account" else "a"
    served = {
        "endpoint": replace(ENDPOINT, tag="other"),
        "model": replace(ENDPOINT, model="anthropic/other"),
    }.get(what, ENDPOINT)
    fields = {"reasoning": {"effort": "low"}} if what == "fields" else {}
    first = LONG + "!" if what == "message" else LONG
    asked = conversation(first, "more", **fields)
    assert known.prompt_tokens(account, asked, served) == prompt_bound(asked.prompt, served)


def test_moving_cache_marks_keep_the_prefix() -> None:
    known = Calibration()
    marked = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    known.record("a", conversation(marked), ENDPOINT, bill(2010))
    for first in (LONG, [{"type": "text", "text": LONG}], marked):
        assert known.prompt_tokens("a", conversation(first, "more"), ENDPOINT) < 2400


def test_fields_that_cannot_change_the_prompt_keep_the_prefix() -> None:
    known = Calibration()
    known.record("a", conversation(LONG, max_tokens=100, stream=True, user="u"), ENDPOINT, bill(2010))
    assert known.prompt_tokens("a", conversation(LONG, "more", max_tokens=50, temperature=1), ENDPOINT) < 2400


@each(
    "reading",
    [
        Reading(finish="stop"),
        bill(0),
        bill(2010, error=True),
        bill(2010, finish="error"),
        bill(2010, finish=None),
        bill(2010, finish="content_filter"),
        bill(2010, usage=CallUsage(cost_pusd=3 * 10**6 * 2010 * 102 // 100, prompt_tokens=2010)),
        bill(2010, usage=CallUsage(cost_pusd=None, prompt_tokens=2010)),
        bill(2010, usage=CallUsage(cost_pusd=3 * 10**6 * 2010, prompt_tokens=2010, is_byok=True)),
    ],
)
def test_a_bill_that_could_be_bent_is_not_learnt_from(reading: Reading) -> None:
    known = Calibration()
    known.record("a", conversation(LONG), ENDPOINT, reading)
    asked = conversation(LONG, "more")
    assert known.prompt_tokens("a", asked, ENDPOINT) == prompt_bound(asked.prompt, ENDPOINT)


@pytest.mark.parametrize("fields", [{"transforms": ["middle-out"]}])
def test_a_prompt_that_may_be_shortened_is_not_learnt_from(fields: dict[str, object]) -> None:
    known = Calibration()
    known.record("a", conversation(LONG, **fields), ENDPOINT, bill(2010))
    asked = conversation(LONG, "more", **fields)
    assert known.prompt_tokens("a", asked, ENDPOINT) == prompt_bound(asked.prompt, ENDPOINT)


def test_clearing_is_not_learnt_from_but_keeping_all_thinking_is_no_clearing() -> None:
    def asked(edit: dict[str, object]) -> Request:
        body = {"model": "a/b", "max_tokens": 9, "messages": [], "context_management": {"edits": [edit]}}
        return read(MESSAGES, body)

    assert asked({"type": "clear_tool_uses_20250919"}).prompt.shrinks
    assert not asked({"type": "clear_thinking_20251015", "keep": "all"}).prompt.shrinks


def test_truncation_may_shorten_a_prompt() -> None:
    body = {"model": "a/b", "input": "x", "truncation": "auto"}
    assert read(RESPONSES, body).prompt.shrinks
    assert not read(RESPONSES, {**body, "truncation": "disabled"}).prompt.shrinks


def image(url: str) -> list[object]:
    return [{"type": "image_url", "image_url": {"url": url}}]


def test_an_image_in_the_prefix_is_known_by_its_bill_and_a_new_one_is_not() -> None:
    known, data = Calibration(), image("data:image/png;base64,AAAA")
    known.record("a", conversation(data), ENDPOINT, bill(1600))
    assert known.prompt_tokens("a", conversation(data, "more"), ENDPOINT) < 2400
    assert known.prompt_tokens("a", conversation(data, data), ENDPOINT) == ENDPOINT.context_length


def test_a_part_that_is_fetched_is_not_learnt_from() -> None:
    known, remote = Calibration(), image("https://example.org/a.png")
    known.record("a", conversation(remote), ENDPOINT, bill(1600))
    assert known.prompt_tokens("a", conversation(remote, "more"), ENDPOINT) == ENDPOINT.context_length


def test_opaque_parts_of_the_prefix_count_as_bytes_again() -> None:
    known = Calibration()
    items: list[object] = [{"type": "reasoning", "summary": [], "encrypted_content": "A" * 5000}]
    body = {"model": ENDPOINT.model, "input": items}
    known.record("a", read(RESPONSES, body), ENDPOINT, bill(50))
    items.append({"role": "user", "content": LONG})
    asked = read(RESPONSES, body)
    bound = prompt_bound(asked.prompt, ENDPOINT)
    opaque_tokens = CLAUDE_ASCII_FACTOR * 5000
    assert (
        known.prompt_tokens("a", asked, ENDPOINT) == 50 + opaque_tokens + ascii_tokens(LONG) + TEMPLATE_TOKENS < bound
    )


def test_a_request_without_messages_is_not_learnt_from() -> None:
    known = Calibration()
    known.record("a", conversation(), ENDPOINT, bill(20))
    assert known.prompt_tokens("a", conversation(), ENDPOINT) == TEMPLATE_TOKENS


def test_a_text_that_is_no_message_is_bounded_by_its_bytes_whatever_was_learnt() -> None:
    """The bills of others with the same fields open nothing of it."""
    known = Calibration()
    known.record("a", conversation("hi"), ENDPOINT, bill(20))
    asked = read(COMPLETIONS, {"model": ENDPOINT.model, "prompt": LONG})
    assert known.prompt_tokens("a", asked, ENDPOINT) == prompt_bound(asked.prompt, ENDPOINT) > len(LONG)


def test_of_many_messages_the_longest_known_prefix_is_found_below_the_same_fields_alone() -> None:
    known, texts = Calibration(), [str(number) for number in range(300)]
    for count in (1, 100, 200):
        known.record("a", conversation(*texts[:count]), ENDPOINT, bill(10 * count))
    known.record("a", conversation(*texts[:250], temperature=1, reasoning={"effort": "low"}), ENDPOINT, bill(2500))
    asked = conversation(*texts)
    added = ascii_tokens(*texts[200::2]) + ascii_tokens(*texts[201::2], role="assistant")
    assert known.prompt_tokens("a", asked, ENDPOINT) == 2000 + added + TEMPLATE_TOKENS


def kept(bills: KnownPrefixes[int]) -> list[bytes]:
    return [digest for same in (*bills._young.values(), *bills._old.values()) for digest in same.values]


def test_a_prefix_that_was_forgotten_leaves_nothing_behind() -> None:
    known = Calibration(prefixes_max=2)
    for number in range(5):
        known.record(
            "a", conversation(f"{number} {LONG}", reasoning={"max_tokens": 2000 + number}), ENDPOINT, bill(2010)
        )
    for number, is_known in enumerate((False, False, False, True, True)):
        asked = conversation(f"{number} {LONG}", "more", reasoning={"max_tokens": 2000 + number})
        assert (known.prompt_tokens("a", asked, ENDPOINT) < prompt_bound(asked.prompt, ENDPOINT)) is is_known
    bills = known._prefixes
    assert len(kept(bills)) == len(bills._young) + len(bills._old) == 2


def test_after_thousands_of_bills_no_more_are_kept() -> None:
    known = Calibration()
    for number in range(PREFIXES_MAX + 2000):
        known.record(f"a{number % 5}", conversation(f"{number}"), ENDPOINT, bill(20))
        if number % 500 == 0:
            for bills in (known._prefixes, known._preambles):
                assert len(kept(bills)) <= PREFIXES_MAX
                counts = sum(len(same.counts) for same in (*bills._young.values(), *bills._old.values()))
                assert counts <= 2 * len(kept(bills))
    assert len(kept(known._prefixes)) >= PREFIXES_MAX // 2


def test_the_least_recently_used_prefix_is_forgotten() -> None:
    known = Calibration(prefixes_max=2)
    for text in ("a", "b", "c"):
        known.record("x", conversation(text + LONG), ENDPOINT, bill(2010))
    bounds = [known.prompt_tokens("x", conversation(text + LONG, ""), ENDPOINT) for text in ("a", "b", "c")]
    assert [bound < 3000 for bound in bounds] == [False, True, True]


@each(
    "usage, listed",
    [
        (CallUsage(1000 * 3 * 10**6, 1000), True),
        (CallUsage(1000 * 3 * 10**6 * 101 // 100, 1000), True),
        (CallUsage(1000 * 3 * 10**6 * 1011 // 1000, 1000), False),
        (CallUsage(1000 * 3 * 10**5, 1000, cached_tokens=1000), True),
        (CallUsage(1000 * 375 * 10**4, 1000, cache_write_tokens=1000), True),
        (CallUsage(1000 * 6 * 10**6, 1000, cache_write_tokens=1000), True),
        (CallUsage(1000 * 6 * 10**6, 1000), False),
        (CallUsage(0, 1000), False),
    ],
)
def test_a_bill_confirms_its_tokens_within_one_percent(usage: CallUsage, listed: bool) -> None:
    assert (off_pusd(ENDPOINT, usage) is not None) is listed


def test_a_bill_may_go_by_an_override_and_by_images_and_reasoning() -> None:
    dear = endpoint(pricing={"overrides": [{"min_prompt_tokens": 10, "prompt": "0.00001"}]})
    assert off_pusd(dear, CallUsage(1000 * 10**7, 1000)) is not None
    assert off_pusd(endpoint(pricing={"image": "0.01"}), CallUsage(1000 * 3 * 10**6 + 2 * 10**10, 1000), 2) is not None
    reasoning = CallUsage(10**7 * 6 * 100, 0, completion_tokens=100, reasoning_tokens=100)
    assert off_pusd(endpoint(pricing={"internal_reasoning": "0.00006"}), reasoning) is not None


def test_free_endpoints_bill_nothing_and_are_believed() -> None:
    free = endpoint(pricing={"prompt": "0", "completion": "0"})
    assert off_pusd(free, CallUsage(0, 1000)) is not None


def opened(system: str, *tasks: object, **fields: object) -> Request:
    messages = [{"role": "system", "content": system}, *tasks]
    return read(CHAT, {"model": ENDPOINT.model, "messages": messages, **fields})


def user(content: str) -> dict[str, object]:
    return {"role": "user", "content": content}


def answer(**fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": "yes", **fields}


def test_a_new_conversation_with_the_same_opening_is_bounded_by_the_bill_of_another() -> None:
    """Tools and system text stand in both; the first has no more of them than all that it was billed at."""
    known = Calibration()
    known.record("a", opened(LONG, user("one task")), ENDPOINT, bill(2050))
    asked = opened(LONG, user("other"))
    assert known.prompt_tokens("a", asked, ENDPOINT) == 2050 + ascii_tokens("other") + TEMPLATE_TOKENS


def test_the_least_bill_of_an_opening_counts_whatever_came_after_it() -> None:
    known = Calibration()
    later = ([user("z"), answer(), user(LONG)], 4200)
    for tasks, tokens in [([user("x")], 2050), ([user("x"), answer(), user(LONG)], 4100), ([user("y")], 2040), later]:
        known.record("a", opened(LONG, *tasks), ENDPOINT, bill(tokens))
    assert known.prompt_tokens("a", opened(LONG, user("")), ENDPOINT) == 2040 + ascii_tokens("") + TEMPLATE_TOKENS


def test_fields_alone_are_an_opening() -> None:
    """Where the system text is a field, as in the messages API, nothing else may be the same."""
    known, body = Calibration(), {"model": ENDPOINT.model, "max_tokens": 9, "system": LONG}
    known.record("a", read(MESSAGES, {**body, "messages": [user("one")]}), ENDPOINT, bill(2050))
    asked = read(MESSAGES, {**body, "messages": [user("other")]})
    assert known.prompt_tokens("a", asked, ENDPOINT) == 2050 + ascii_tokens("other") + TEMPLATE_TOKENS


@each(
    "first",
    [
        answer(reasoning=LONG),
        {"role": "user", "content": "x", "reasoning": LONG},
        {"role": "tool", "content": LONG, "tool_call_id": "1"},
        {"content": LONG},
    ],
)
def test_an_answer_is_no_opening(first: dict[str, object]) -> None:
    """A template may leave its reasoning out of a longer prompt, so that the bill of that says nothing of it."""
    known = Calibration()

    def asked(*more: dict[str, object]) -> Request:
        return read(CHAT, {"model": ENDPOINT.model, "messages": [first, *more]})

    known.record("a", asked(user("one")), ENDPOINT, bill(60))
    other = asked(user("other"))
    assert known.prompt_tokens("a", other, ENDPOINT) >= len(LONG)


@each("what", ["account", "endpoint", "fields", "message"])
def test_another_account_endpoint_field_or_message_is_another_opening(what: str) -> None:
    known = Calibration()
    known.record("a", opened(LONG, user("x")), ENDPOINT, bill(2050))
    served = replace(ENDPOINT, tag="other") if what == "endpoint" else ENDPOINT
    fields = {"reasoning": {"effort": "low"}} if what == "fields" else {}
    asked = opened(LONG + "!" if what == "message" else LONG, user("y"), **fields)
    assert known.prompt_tokens("b" if what == "account" else "a", asked, served) == prompt_bound(asked.prompt, served)


TEXTS = st.sampled_from(["", "yes", "read the plan " * 40, "größer, ähnlich, 日本語 " * 20, "\U0001d160" * 9])
CALL: dict[str, object] = {
    "id": "1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"where": ["here", 1.5]}'},
}
ANSWERS = st.builds(
    lambda text, called: {"role": "assistant", "content": text, **({"tool_calls": [CALL]} if called else {})},
    TEXTS,
    st.booleans(),
)
ASKED = st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "system"]), TEXTS)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "enum": ["ä"]}}}
CONVERSATIONS = st.lists(st.lists(ASKED | ANSWERS, min_size=1, max_size=5), min_size=2, max_size=4)
"""They all begin with `RULES`."""
RULES = {"role": "system", "content": "read each line " * 100}


@given(CONVERSATIONS, st.sampled_from(Tokenizer), st.booleans())
def test_whatever_was_billed_before_no_bound_is_below_what_a_provider_counts(
    conversations: list[list[dict[str, object]]], tokenizer: Tokenizer, has_tools: bool
) -> None:
    """The simulator counts its own way: densely or by the byte, normalised, tools indented."""
    known = Calibration()
    scenario = Scenario(tokenizer=tokenizer, tools_indent=True)
    for messages in conversations:
        body = {"model": ENDPOINT.model, "messages": [RULES, *messages], **({"tools": [TOOL]} if has_tools else {})}
        asked = read(CHAT, body)
        counted = sum(segment.tokens for segment in SimChat().read(body, scenario, "Claude").segments)
        assert known.prompt_tokens("a", asked, ENDPOINT) >= counted
        known.record("a", asked, ENDPOINT, bill(counted))


P, READ, WRITE, OUT = 3 * 10**6, 3 * 10**5, 375 * 10**4, 15 * 10**6
"""Pico-USD a token at the endpoint of these tests."""


@each(
    "cost_pusd, prompt_tokens",
    [
        (200 * P + 800 * READ + 50 * OUT, 1000),
        (200 * P + 800 * READ + 50 * OUT + 1, 1000),
        (1000 * P + 800 * READ + 50 * OUT, 1800),
        ((200 * P + 800 * READ + 50 * OUT) * 101 // 100, 1000),
        ((200 * P + 800 * READ + 50 * OUT) * 102 // 100, 1800),
        (0, 1800),
        (None, 1800),
    ],
)
def test_of_two_readings_of_a_usage_the_one_that_agrees_with_its_cost_counts(
    cost_pusd: int | None, prompt_tokens: int
) -> None:
    """1000 input tokens and 800 cached ones: 1000 in all, or 1800; the larger where the cost does not tell."""
    usage = CallUsage(cost_pusd, 1800, cached_tokens=800, completion_tokens=50, prompt_tokens_less=1000)
    assert billed_reading(ENDPOINT, usage) == structs.replace(
        usage, prompt_tokens=prompt_tokens, prompt_tokens_less=None
    )


def test_written_tokens_are_read_in_both_ways_too() -> None:
    usage = CallUsage(200 * P + 800 * WRITE, 1800, cache_write_tokens=800, prompt_tokens_less=1000)
    assert billed_reading(ENDPOINT, usage).prompt_tokens == 1000
    assert billed_reading(ENDPOINT, structs.replace(usage, cost_pusd=1000 * P + 800 * WRITE)).prompt_tokens == 1800


def test_where_both_readings_agree_the_closer_counts_and_of_two_as_close_the_larger() -> None:
    usage = CallUsage(10 * P + 10**6 * OUT, 30, cached_tokens=10, completion_tokens=10**6, prompt_tokens_less=20)
    exact = structs.replace(usage, cost_pusd=10 * P + 10 * READ + 10**6 * OUT)
    assert billed_reading(ENDPOINT, exact).prompt_tokens == 20
    assert (
        billed_reading(ENDPOINT, structs.replace(exact, cost_pusd=20 * P + 10 * READ + 10**6 * OUT)).prompt_tokens == 30
    )
    prices = ("prompt", "completion", "input_cache_read", "input_cache_write", "input_cache_write_1h")
    free = endpoint(pricing=dict.fromkeys(prices, "0"))
    assert billed_reading(free, structs.replace(usage, cost_pusd=0)).prompt_tokens == 30


def test_a_usage_of_one_reading_stays_as_it_is() -> None:
    usage = CallUsage(1000 * P, 1800, cached_tokens=800)
    assert billed_reading(ENDPOINT, usage) is usage


@each("count, changed", [(count, changed) for count in range(1, 8) for changed in range(count)])
def test_a_bill_is_known_only_for_the_same_messages_in_the_same_order(count: int, changed: int) -> None:
    """Of few messages as of many; of the part before the change only what was billed itself is known."""
    known = Calibration()
    texts = [f"{number} {LONG}" for number in range(count)]
    billed = CLAUDE_ASCII_FACTOR * len(LONG) * count
    known.record("a", conversation(*texts), ENDPOINT, bill(billed))
    same, other = conversation(*texts, "more"), [*texts, "more"]
    other[changed] += "!"
    assert known.prompt_tokens("a", same, ENDPOINT) == min(
        prompt_bound(same.prompt, ENDPOINT),
        billed + ascii_tokens("more", role=("user", "assistant")[count % 2]) + TEMPLATE_TOKENS,
    )
    asked = conversation(*other)
    assert known.prompt_tokens("a", asked, ENDPOINT) == prompt_bound(asked.prompt, ENDPOINT)
    turned = conversation(*texts[::-1], "more")
    if count > 1:
        assert known.prompt_tokens("a", turned, ENDPOINT) == prompt_bound(turned.prompt, ENDPOINT)


def test_a_bill_of_each_kind_of_token_is_compared_with_a_charge_that_is_rounded_up() -> None:
    prices = EndpointPrices(1, 1, cache_read=1, cache_write=1, reasoning=1)
    cheap = replace(ENDPOINT, prices=prices, listed=(prices,), listed_above=(-1,))
    usage = CallUsage(5, 3, cached_tokens=1, cache_write_tokens=1, completion_tokens=2, reasoning_tokens=1)
    assert off_pusd(cheap, usage) == 0


def test_a_bill_that_is_used_stays_while_others_are_forgotten() -> None:
    known = Calibration(4)
    known.record("a", conversation(LONG, LONG), ENDPOINT, bill(4020))
    asked = conversation(LONG, LONG, "more")
    for number in range(9):
        assert known.prompt_tokens("a", asked, ENDPOINT) < 5000
        known.record("a", conversation(f"{number} {LONG}"), ENDPOINT, bill(2010))
    assert known.prompt_tokens("a", asked, ENDPOINT) < 5000


def sizes_of(request: Request) -> TextSizes:
    return run_steps(text_sizes(CHAT, request, family_of(ENDPOINT.model, ENDPOINT.tokenizer)))


SIZED = TextSizes("claude3", 50_000, (400_000, 10_000, 100_000))
"""Estimates of 50 tokens for the other fields, 400, 10 and 100 for three messages; with its margin: 58, 460, 12 and 115."""
THREE = conversation(LONG, "yes", LONG)


def test_new_text_counts_by_its_estimate_and_constants() -> None:
    expected = 644 + 3 * WRAP_TOKENS + TEMPLATE_TOKENS  # 560 x 1.15
    assert Calibration().bounds("a", THREE, ENDPOINT, SIZED) == (prompt_bound(THREE.prompt, ENDPOINT), expected)


def test_without_estimates_both_bounds_are_the_proven_one() -> None:
    bound = prompt_bound(THREE.prompt, ENDPOINT)
    assert Calibration().bounds("a", THREE, ENDPOINT) == (bound, bound)


def test_an_unknown_tokenizer_has_a_wider_margin() -> None:
    _proven, measured = Calibration().bounds("a", THREE, ENDPOINT, replace(SIZED, family="U"))
    assert measured == 560 * 140 // 100 + 3 * WRAP_TOKENS + TEMPLATE_TOKENS


def test_tools_add_their_constants() -> None:
    asked = conversation(LONG, "yes", LONG, tools=[TOOL])
    _proven, measured = Calibration().bounds("a", asked, ENDPOINT, SIZED)
    assert measured == 644 + 3 * WRAP_TOKENS + TEMPLATE_TOKENS + TOOL_USE_TOKENS + TOOL_TOKENS


@each("factor, tokens", [(1000, 644), (1500, 966), (3000, 1932)])
def test_what_an_endpoint_counted_more_raises_the_estimate(factor: int, tokens: int) -> None:
    _proven, measured = Calibration().bounds("a", THREE, ENDPOINT, SIZED, factor)
    assert measured == tokens + 3 * WRAP_TOKENS + TEMPLATE_TOKENS


@each("factor, tokens", [(1000, 127), (2000, 253)])
def test_a_known_prefix_and_the_estimate_of_what_is_new(factor: int, tokens: int) -> None:
    """110 tokens are estimated for what comes after the first message. The bill itself is not multiplied."""
    known = Calibration()
    known.record("a", conversation(LONG), ENDPOINT, bill(300))
    proven, measured = known.bounds("a", THREE, ENDPOINT, SIZED, factor)
    assert measured == 300 + tokens + 2 * WRAP_TOKENS + TEMPLATE_TOKENS
    assert proven == 300 + ascii_tokens("yes", role="assistant") + ascii_tokens(LONG) + TEMPLATE_TOKENS


def test_estimates_of_weighings_and_other_runs_lower_only_the_measured_bound() -> None:
    known = Calibration()
    known.note_estimate("a", THREE, ENDPOINT, 1, 200)
    proven, measured = known.bounds("a", THREE, ENDPOINT, SIZED)
    assert (proven, measured) == (prompt_bound(THREE.prompt, ENDPOINT), 200 + 127 + 2 * WRAP_TOKENS + TEMPLATE_TOKENS)
    assert known.bounds("a", THREE, ENDPOINT) == (proven, proven)
    assert known.prompt_tokens("a", THREE, ENDPOINT) == proven
    assert known.bounds("b", THREE, ENDPOINT, SIZED)[1] > measured
    assert known.bounds("a", THREE, replace(ENDPOINT, tag="other"), SIZED)[1] > measured


def test_opaque_parts_count_by_their_bytes_beside_their_estimate() -> None:
    signed = [{"type": "thinking", "thinking": "hm", "signature": "A" * 3000}]
    asked, known = conversation("hi", signed, LONG), Calibration()
    opaque_tokens = CLAUDE_ASCII_FACTOR * 3000
    _proven, measured = known.bounds("a", asked, ENDPOINT, SIZED)
    wraps = WRAP_TOKENS * asked.prompt.message_count
    assert measured == 644 + wraps + opaque_tokens + TEMPLATE_TOKENS
    known.record("a", conversation("hi", signed), ENDPOINT, bill(300))
    _proven, measured = known.bounds("a", asked, ENDPOINT, SIZED)
    assert measured == 300 + 115 + WRAP_TOKENS + opaque_tokens + TEMPLATE_TOKENS


def test_media_that_is_new_is_not_estimated() -> None:
    data, known = image("data:image/png;base64,AAAA"), Calibration()
    ceiling = ENDPOINT.context_length
    assert known.bounds("a", conversation(LONG, "yes", data), ENDPOINT, SIZED) == (ceiling, ceiling)
    known.record("a", conversation(data), ENDPOINT, bill(1600))
    assert known.bounds("a", conversation(data, data, LONG), ENDPOINT, SIZED) == (ceiling, ceiling)
    _proven, measured = known.bounds("a", conversation(data, "yes", LONG), ENDPOINT, SIZED)
    assert measured == 1600 + 127 + 2 * WRAP_TOKENS + TEMPLATE_TOKENS


@given(CONVERSATIONS, st.booleans(), st.integers(1000, 10_000), st.integers(0, 3000))
def test_no_measured_bound_is_above_the_proven_one(
    conversations: list[list[dict[str, object]]], has_tools: bool, factor: int, billed: int
) -> None:
    """Whatever was billed, weighed or raised before."""
    known = Calibration()
    for messages in conversations:
        body = {"model": ENDPOINT.model, "messages": [RULES, *messages], **({"tools": [TOOL]} if has_tools else {})}
        asked = read(CHAT, body)
        sizes = sizes_of(asked)
        proven, measured = known.bounds("a", asked, ENDPOINT, sizes, factor)
        assert measured <= proven == known.prompt_tokens("a", asked, ENDPOINT) <= prompt_bound(asked.prompt, ENDPOINT)
        known.note_estimate("a", asked, ENDPOINT, 1, billed)
        known.record("a", asked, ENDPOINT, bill(billed))


@given(CONVERSATIONS, st.booleans())
def test_natural_text_is_within_its_measured_bound(
    conversations: list[list[dict[str, object]]], has_tools: bool
) -> None:
    """As the simulator counts it for a model of the GPT family, by the real tokenizer."""
    known, scenario = Calibration(), Scenario(tokenizer=Tokenizer.REALISTIC)
    gpt = endpoint("openai/gpt-4.1", "GPT")
    for messages in conversations:
        body = {"model": gpt.model, "messages": [RULES, *messages], **({"tools": [TOOL]} if has_tools else {})}
        asked = read(CHAT, body)
        counted = sum(segment.tokens for segment in SimChat().read(body, scenario, "GPT").segments)
        sizes = run_steps(text_sizes(CHAT, asked, family_of(gpt.model, gpt.tokenizer)))
        assert known.bounds("a", asked, gpt, sizes)[1] >= counted
        known.record("a", asked, gpt, bill(counted))
