"""No call on a quoted endpoint costs more than its quote, and a clamp finds the greatest bound that fits."""

from decimal import Decimal
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from preflight_proxy.core.admission.admission import Admission, within
from preflight_proxy.core.pricing.cached_prefixes import CachedPrefix
from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices
from preflight_proxy.core.pricing.prompt_bound import prompt_bound
from preflight_proxy.core.pricing.quote import (
    OFFERS_MAX,
    WISHES_CHARS_MAX,
    CacheRead,
    Offer,
    Offers,
    Quote,
    Quotes,
    UnquotableError,
    WorstCase,
    quote,
)
from preflight_proxy.core.shapes.model_name import split_model
from preflight_proxy.core.shapes.shape import Prompt
from tests.support.cases import each
from tests.support.quote_cases import CHAT, EMBEDDINGS, MESSAGES, USD, chat, endpoint, read

MTOK = 10**6


def one_thousand(_: object) -> int:
    return 1000


def test_the_worst_case_is_the_dearest_endpoints() -> None:
    cheap = endpoint("x/y", tag="cheap", pricing={"prompt": "0.000001", "completion": "0.000002"})
    dear = endpoint("x/y", tag="dear", pricing={"prompt": "0.000004", "completion": "0.00002"})
    made = quote(chat(max_tokens=500), [cheap, dear], prompt_tokens=one_thousand)
    assert made.tags == ("cheap", "dear")
    assert made.worst_pusd(500) == 1000 * 4 * USD // MTOK + 500 * 20 * USD // MTOK
    assert made.max_price == {"prompt": Decimal(4), "completion": Decimal(20)}
    assert made.prompt_tokens == 1000


def test_without_a_count_of_its_own_the_prompt_is_bounded_by_its_bytes() -> None:
    asked = chat("x" * 999, max_tokens=5)
    assert quote(asked, [endpoint()]).prompt_tokens == prompt_bound(asked.prompt, endpoint())


def test_ceilings_fall_back_to_the_context_length() -> None:
    assert quote(chat(), [endpoint(max_completion_tokens=None)]).bound == 1_000_000
    assert quote(chat(), [endpoint()]).bound == 64_000
    long = Prompt(ascii_bytes=10**7)
    assert prompt_bound(long, endpoint()) == 1_000_000
    assert prompt_bound(long, endpoint(max_prompt_tokens=900_000)) == 900_000


def test_a_write_is_priced_only_where_it_can_happen() -> None:
    on_request, unasked = endpoint("anthropic/x", "Claude"), endpoint("openai/x", "GPT")
    plain, marked = chat(max_tokens=16), chat(max_tokens=16, cache_control={"type": "ephemeral"})
    hour = chat(max_tokens=16, cache_control={"type": "ephemeral", "ttl": "1h"})
    prompts = [
        quote(asked, [each], prompt_tokens=lambda _: MTOK).worst_pusd(0)
        for asked, each in [(plain, on_request), (plain, unasked), (marked, on_request), (hour, on_request)]
    ]
    assert prompts == [3 * USD, 375 * USD // 100, 375 * USD // 100, 6 * USD]


def test_a_read_from_a_cache_that_costs_more_than_a_plain_token_is_the_price() -> None:
    dear = endpoint("openai/x", "GPT", pricing={"input_cache_read": "0.000007"})
    assert quote(chat(max_tokens=16), [dear], prompt_tokens=lambda _: MTOK).worst_pusd(0) == 7 * USD


def test_embeddings_are_quoted_on_endpoints_without_an_output_bound_too() -> None:
    """There is no output to bound."""
    request = read(EMBEDDINGS, {"model": "a/b", "input": "x"})
    both = [endpoint("a/b", tag="keeps"), endpoint("a/b", tag="ignores", supported_parameters=[])]
    assert quote(request, both).tags == ("keeps", "ignores")
    assert quote(chat(max_tokens=16), both).tags == ("keeps",)


def test_the_prompt_counts_as_on_the_endpoint_that_makes_most_tokens_of_it() -> None:
    few, many = endpoint(tag="few"), endpoint(tag="many")
    made = quote(chat(max_tokens=16), [few, many], prompt_tokens=lambda each: 10 if each is few else 30)
    assert made.prompt_tokens == 30


def test_a_bound_below_sixteen_is_not_raised() -> None:
    made = quote(chat(max_tokens=5), [endpoint()])
    assert (made.bound, made.floor) == (5, 5)


def test_media_are_priced_as_the_dearest_that_they_can_be() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    dear = endpoint(pricing={"image": "0.01", "audio": "0.00004", "request": "0.5"})
    made = quote(chat([part, part], max_tokens=16), [dear])
    assert made.worst_pusd(0) == 40 * USD + 2 * USD // 100 + USD // 2


def test_reasoning_with_a_price_of_its_own_counts_where_it_is_dearer() -> None:
    made = quote(
        chat(max_tokens=MTOK), [endpoint(pricing={"internal_reasoning": "0.00006"})], prompt_tokens=lambda _: 0
    )
    assert made.worst_pusd(MTOK) == 60 * USD


def test_without_a_bound_each_endpoint_counts_at_its_own_default() -> None:
    small = endpoint(tag="small", max_completion_tokens=8_000, pricing={"completion": "0.00006"})
    large = endpoint(tag="large", max_completion_tokens=None, context_length=100_000)
    made = quote(chat(), [small, large], prompt_tokens=lambda _: 0)
    assert made.bound == 100_000
    assert made.worst_pusd(made.bound) == 100_000 * 15 * USD // MTOK
    assert made.worst_pusd(10_000) == 8_000 * 60 * USD // MTOK
    assert made.floor == 1024
    assert made.wire_bound(made.bound) is None
    assert made.wire_bound(5000) == 5000


def test_a_bound_that_was_asked_for_is_always_written() -> None:
    made = quote(chat(max_tokens=700), [endpoint()])
    assert made.wire_bound(700) == 700


@each("asked, floor", [(32_000, 1024), (700, 700), (16, 16), (4, 4), (1, 1), (None, 1024)])
def test_the_floor_is_1024_or_what_was_asked(asked: int | None, floor: int) -> None:
    fields = {} if asked is None else {"max_tokens": asked}
    assert quote(chat(**fields), [endpoint()]).floor == floor


def test_endpoints_that_do_not_keep_the_bound_are_left_out_where_others_do() -> None:
    loose = endpoint(tag="loose", supported_parameters=[])
    assert quote(chat(max_tokens=100), [loose, endpoint()]).tags == ("anthropic",)


def test_where_no_endpoint_keeps_the_bound_the_most_that_it_can_make_counts() -> None:
    loose = endpoint(tag="loose", supported_parameters=[])
    made = quote(chat(max_tokens=100), [loose], prompt_tokens=lambda _: 0)
    assert made.worst_pusd(100) == made.worst_pusd(16) == 64_000 * 15 * USD // MTOK
    assert made.bound_within(made.worst_pusd(100)) == 100
    assert made.bound_within(made.worst_pusd(100) - 1) is None


def test_only_and_ignore_choose_the_endpoints() -> None:
    first, second = endpoint(tag="deepinfra/fp8", provider_name="DeepInfra"), endpoint(tag="groq", provider_name="Groq")
    for wish, tags in [
        ({"only": ["deepinfra"]}, ("deepinfra/fp8",)),
        ({"only": ["DeepInfra/FP8"]}, ("deepinfra/fp8",)),
        ({"ignore": ["groq"]}, ("deepinfra/fp8",)),
        ({"only": ["groq", "other"]}, ("groq",)),
        ({"only": []}, ("deepinfra/fp8", "groq")),
    ]:
        assert quote(chat(max_tokens=16, provider=wish), [first, second]).tags == tags


@pytest.mark.parametrize("wish", [{"only": ["nobody"]}, {"ignore": ["anthropic"]}])
def test_no_endpoint_left_is_no_quote(wish: dict[str, object]) -> None:
    with pytest.raises(UnquotableError):
        quote(chat(provider=wish), [endpoint()])


def test_embeddings_have_no_output_to_price() -> None:
    made = quote(read(EMBEDDINGS, {"model": "x/y", "input": "hi"}), [endpoint("x/y")], prompt_tokens=lambda _: MTOK)
    assert made.bound == made.floor == 0
    assert made.worst_pusd(0) == made.cheapest_pusd == 375 * USD // 100
    assert made.bound_within(made.cheapest_pusd) == 0


def test_a_routing_suffix_is_no_part_of_the_quoted_model() -> None:
    asked = read(MESSAGES, {"model": "anthropic/claude-sonnet-4.5:floor", "messages": [], "max_tokens": 16})
    assert quote(asked, [endpoint()]).model == split_model(asked.model)[0] == "anthropic/claude-sonnet-4.5"


LINES = st.builds(
    WorstCase,
    fixed_pusd=st.integers(0, 10**6),
    output_price=st.integers(0, 10**7),
    tokens_max=st.none() | st.integers(0, 5000),
    tokens_min=st.just(0),
) | st.builds(
    lambda fixed, price, most: WorstCase(fixed, price, most, most),
    st.integers(0, 10**6),
    st.integers(0, 10**7),
    st.integers(0, 5000),
)


@given(st.lists(LINES, min_size=1, max_size=4), st.integers(0, 3000), st.integers(0, 3000), st.integers(-10, 2 * 10**6))
def test_the_clamp_is_the_greatest_bound_that_fits(
    lines: list[WorstCase], first: int, second: int, amount: int
) -> None:
    floor, bound = sorted((first, second))
    made = Quote("m", tuple(str(place) for place in range(len(lines))), bound, bound, floor, {}, 0, tuple(lines))
    found = made.bound_within(amount)
    if found is None:
        assert made.cheapest_pusd > amount
        assert within(amount, made, floor, made, None) is None
    else:
        assert floor <= found <= bound
        serving = within(amount, made, found, made, None)
        assert serving is not None
        tags, most_pusd = serving.tags, serving.reserve_pusd
        assert most_pusd == max(lines[int(tag)].pusd(found) for tag in tags) <= amount
        assert tags == tuple(str(place) for place, line in enumerate(lines) if line.pusd(found) <= amount)
        assert found == bound or within(amount, made, found + 1, made, None) is None
    assert made.worst_pusd(floor) <= made.worst_pusd(bound)


def test_what_is_known_of_one_endpoint_leaves_it_alone_where_the_others_do_not_fit() -> None:
    known, unknown = endpoint(tag="known"), endpoint(tag="unknown")
    made = quote(
        chat(max_tokens=100),
        [unknown, known],
        prompt_tokens=lambda each: 1000 if each is known else 9000,
    )
    assert within(made.least_pusd, made, 100, made, None) == Admission(100, made.least_pusd, False, ("known",))
    assert made.least_pusd < made.worst_pusd(100)
    worst_pusd = made.worst_pusd(100)
    assert within(worst_pusd, made, 100, made, None) == Admission(100, worst_pusd, False, made.tags)
    assert within(made.least_pusd - 1, made, 100, made, None) is None


def test_prices_for_prompts_longer_than_this_one_can_be_do_not_count() -> None:
    long = {"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.00003"}
    tiered = endpoint(pricing={"overrides": [long]})
    short, longer = (
        quote(chat(max_tokens=MTOK), [replace(tiered, context_length=most)], prompt_tokens=lambda e: e.context_length)
        for most in (200_000, 200_001)
    )
    costs = [short.worst_pusd(MTOK), longer.worst_pusd(MTOK)]
    assert costs == [200_000 * 3 * USD // MTOK + 15 * USD, 200_001 * 6 * USD // MTOK + 30 * USD]


@given(st.integers(1, 10**12), st.integers(0, 10**9), st.integers(0, 10**6))
def test_on_a_provider_key_of_the_users_own_the_fee_comes_on_top(fixed_pusd: int, price: int, bound: int) -> None:
    made = quote(chat(max_tokens=bound or 1), [endpoint()])
    plain = msgspec.structs.replace(made, worst=(WorstCase(fixed_pusd, price, None, 0),))
    assert plain.with_byok_fee().worst_pusd(bound) >= plain.worst_pusd(bound) * 21 // 20
    # Three roundings, and that of the price in each token.
    assert plain.with_byok_fee().worst_pusd(bound) <= plain.worst_pusd(bound) * 21 // 20 + 3 + bound // 10**6


WISHES: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "only": st.sampled_from([["a"], ["b"], ["a", "b"], ["none"], ["x" * (WISHES_CHARS_MAX + 1), "a"]]),
        "ignore": st.sampled_from([["a"], ["c"]]),
    },
)
KINDS: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {"model": st.sampled_from(["m/x", "m/y"])},
    optional={
        "max_tokens": st.sampled_from([16, 5000]),
        "cache_control": st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]),
        "provider": WISHES,
    },
)
CONTENTS = st.sampled_from(["x", "x" * 3000, [{"type": "image_url", "image_url": {"url": "data:,"}}]])
LISTS = st.lists(
    st.builds(
        lambda tag, prompt, bounded, above: endpoint(
            "m/x",
            tag=tag,
            provider_name=tag,
            supported_parameters=["max_tokens"] if bounded else [],
            pricing={
                "prompt": prompt,
                "image": "0.01",
                "overrides": [{"min_prompt_tokens": above, "prompt": "0.00001"}],
            },
        ),
        st.sampled_from("abc"),
        st.sampled_from(["0.000001", "0.000002"]),
        st.booleans(),
        st.sampled_from([1000, 10**6]),
    ),
    max_size=3,
    unique_by=lambda each: each.tag,
)


@given(st.lists(st.tuples(KINDS, CONTENTS, LISTS, st.booleans()), min_size=2, max_size=5))
def test_a_quote_from_kept_offers_is_that_of_a_first_call(
    calls: list[tuple[dict[str, object], object, list[Endpoint], bool]],
) -> None:
    """Whatever prices, wishes and kinds of requests came before."""
    offers = Offers()
    for fields, content, endpoints, is_embedding in calls * 2:
        if is_embedding:
            request = read(EMBEDDINGS, {"model": "m/x", "input": "x", "provider": fields.get("provider", {})})
        else:
            request = read(CHAT, {"messages": [{"role": "user", "content": content}], **fields})
        tokens_max = partial(prompt_bound, request.prompt)
        try:
            first = quote(request, endpoints)
        except UnquotableError:
            with pytest.raises(UnquotableError):
                offers.of(request, endpoints)
            continue
        offer = offers.of(request, endpoints)
        assert offer.quote(request, [tokens_max(each) for each in offer.quoted]) == first


def test_each_wish_each_api_and_each_price_list_has_an_offer_of_its_own() -> None:
    offers = Offers()
    tags = ("a", "b", "c")
    cheap, dear = (
        [endpoint("m/x", tag=tag, provider_name=tag, pricing={"prompt": prompt}) for tag in tags]
        for prompt in ("0.000001", "0.000002")
    )
    unbounded = [*cheap, endpoint("m/x", tag="d", provider_name="d", supported_parameters=[])]
    wishes: list[dict[str, object]] = [{}, {"only": ["a"]}, {"only": ["b", "c"]}, {"ignore": ["a"]}, {"ignore": ["b"]}]
    for endpoints in (cheap, dear, cheap[:2], unbounded) * 2:
        for wish in wishes:
            for request in (
                chat(model="m/x", max_tokens=9, provider=wish),
                read(EMBEDDINGS, {"model": "m/x", "input": "x", "provider": wish}),
            ):
                offer = offers.of(request, endpoints)
                made = offer.quote(request, [prompt_bound(request.prompt, each) for each in offer.quoted])
                assert made == quote(request, endpoints)


def test_kept_offers_are_few_and_none_is_for_long_wishes() -> None:
    offers, endpoints = Offers(), [endpoint()]
    for number in range(2 * OFFERS_MAX):
        offers.of(chat(provider={"ignore": [f"x{number}"]}), endpoints)
    assert len(offers._offers) <= OFFERS_MAX
    count = len(offers._offers)
    offers.of(chat(provider={"ignore": ["x" * (WISHES_CHARS_MAX + 1)]}), endpoints)
    assert len(offers._offers) == count


def test_a_kept_offer_prices_each_kind_of_request_by_what_it_can_cause() -> None:
    offers, endpoints = Offers(), [endpoint("anthropic/x", pricing={"audio": "0.0001"})]
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    kinds: list[tuple[object, dict[str, object]]] = [
        ("x", {}),
        ("x", {"cache_control": {"type": "ephemeral"}}),
        ("x", {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        (image, {}),
    ]
    for content, fields in kinds * 2:
        request = chat(content, max_tokens=16, **fields)
        made = offers.of(request, endpoints).quote(request, [1000])
        assert made == quote(request, endpoints, prompt_tokens=one_thousand)


def test_every_charge_is_rounded_up() -> None:
    """One token at less than a pico-dollar costs one: of the output, and of the prompt."""
    line = WorstCase(fixed_pusd=0, output_price=1, tokens_max=None, tokens_min=0)
    assert (line.pusd(0), line.pusd(1), line.pusd(10**6), line.pusd(10**6 + 1)) == (0, 1, 1, 2)
    cheap = replace(endpoint(), listed=(EndpointPrices(1, 0),), listed_above=(-1,), prices=EndpointPrices(1, 0))
    quoted = quote(chat(max_tokens=1), [cheap], prompt_tokens=lambda _endpoint: 10**6 + 1)
    assert quoted.worst_pusd(1) == 2


def line(fixed_pusd: int, price: int = MTOK) -> WorstCase:
    return WorstCase(fixed_pusd, price, None, 0)


MEASURED = Quote("m/x", ("a", "b"), 4000, 4000, 1024, {}, 1, (line(100), line(90)))
PROVEN = replace(MEASURED, worst=(line(300), line(80)))


def test_the_least_amount_for_a_call_is_that_of_its_cheapest_way() -> None:
    """A known prefix may be proven at less than is measured elsewhere."""
    quotes = Quotes((MEASURED, PROVEN), PROVEN)
    assert (quotes.first, quotes.least_pusd, quotes.cheapest_pusd) == (MEASURED, 4080, 1104)
    dear = replace(PROVEN, worst=(line(300), line(300)))
    assert Quotes((MEASURED, dear), dear).least_pusd == 4090


def test_a_call_that_is_not_estimated_has_one_way() -> None:
    quotes = Quotes.of(PROVEN)
    assert (quotes.ways, quotes.first, quotes.proven) == ((PROVEN,), PROVEN, PROVEN)
    assert quotes.cheapest_pusd == PROVEN.cheapest_pusd


def test_a_quote_has_a_line_for_each_tag() -> None:
    assert (PROVEN.line("a"), PROVEN.line("b")) == (line(300), line(80))
    with pytest.raises(ValueError, match="not in tuple"):
        PROVEN.line("c")


CACHED = CachedPrefix(900, 340.0, 1)
MARKED = {"cache_control": {"type": "ephemeral"}}


def read_quote(
    *endpoints: Endpoint, tokens: tuple[int, ...], cached: tuple[CachedPrefix | None, ...], **fields: object
) -> tuple[Quote, Quote | None]:
    """Return the quote at the price of a write, and the one at that of a read, for so many tokens on each endpoint."""
    offer = Offer(endpoints, None, (), True)
    asked = chat(max_tokens=2000, **MARKED, **fields)
    listed = offer.quote(asked, tokens)
    return listed, offer.cache_quote(asked.prompt, listed, tokens, cached)


def test_a_prefix_that_the_cache_has_is_quoted_at_the_price_of_a_read() -> None:
    """900 of 1000 tokens at 0.3 dollars a million, the others at that of a write, 3.75."""
    listed, reading = read_quote(endpoint(), tokens=(1000,), cached=(CACHED,))
    assert reading is not None
    assert listed.worst_pusd(0) == 1000 * 375 * USD // 100 // MTOK
    assert reading.worst_pusd(0) == (900 * 30 + 100 * 375) * USD // 100 // MTOK
    assert (reading.tags, reading.prompt_tokens, reading.cache_read) == (("anthropic",), 1000, CacheRead(340.0, 1000))
    assert (reading.bound, reading.floor, reading.max_price) == (listed.bound, listed.floor, listed.max_price)
    assert reading.worst_pusd(2000) - reading.worst_pusd(0) == 2000 * 15 * USD // MTOK


def test_no_more_is_read_than_the_prompt_can_have() -> None:
    _listed, reading = read_quote(endpoint(), tokens=(500,), cached=(CACHED,))
    assert reading is not None
    assert reading.worst_pusd(0) == 500 * 30 * USD // 100 // MTOK


def test_a_call_reads_the_cache_of_the_endpoint_where_that_is_cheapest() -> None:
    """It is pinned to that one, with what is known of it."""
    other = endpoint(tag="other")
    much, little = CACHED, CachedPrefix(500, 350.0, 1)
    for cached, tag in (((little, much), "other"), ((much, little), "anthropic"), ((None, little), "other")):
        _listed, reading = read_quote(endpoint(), other, tokens=(1000, 1000), cached=cached)
        assert reading is not None
        assert reading.tags == (tag,)
    _listed, reading = read_quote(endpoint(), other, tokens=(1000, 90_000), cached=(little, much))
    assert reading is not None
    assert reading.cache_read == CacheRead(350.0, 1000)


def test_without_a_cache_or_a_price_for_its_reads_there_is_no_such_quote() -> None:
    assert read_quote(endpoint(), tokens=(1000,), cached=(None,))[1] is None
    unlisted = endpoint(pricing={"input_cache_read": None})
    assert read_quote(unlisted, tokens=(1000,), cached=(CACHED,))[1] is None


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**9), st.integers(0, 10**9))
def test_what_is_read_and_written_at_list_price_costs_its_quote(
    tokens: int, cached: int, write: int, read: int
) -> None:
    prices = {"input_cache_write": f"{write}e-12", "input_cache_read": f"{read}e-12"}
    _listed, reading = read_quote(endpoint(pricing=prices), tokens=(tokens,), cached=(CachedPrefix(cached, 340.0, 1),))
    assert reading is not None
    read_tokens = min(cached, tokens)
    billed_pusd = read_tokens * read + (tokens - read_tokens) * max(write, read, 3_000_000)
    assert reading.worst_pusd(0) == billed_pusd
