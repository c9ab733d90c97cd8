"""An endpoint is read at the most that it can charge, or not used."""

from collections.abc import Mapping

import msgspec

from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices, endpoint_from_json
from tests.support.cases import each
from tests.support.quote_cases import SONNET, endpoint

PER_TOKEN = 10**18  # pico-USD per million tokens of one dollar a token


def test_prices_are_per_million_tokens_and_units_per_unit() -> None:
    found = endpoint(
        pricing={"request": "0.01", "image": "0.004", "internal_reasoning": "0.00002", "audio": "0.0000035"}
    )
    assert found.prices == EndpointPrices(
        prompt=3 * 10**12,
        completion=15 * 10**12,
        cache_read=3 * 10**11,
        cache_write=375 * 10**10,
        cache_write_1h=6 * 10**12,
        reasoning=20 * 10**12,
        audio=35 * 10**11,
        request=10**10,
        image=4 * 10**9,
    )


def test_the_largest_of_every_override_counts_and_each_set_is_kept() -> None:
    overrides = [
        {"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"},
        {"utc_start": "1630", "utc_end": "0030", "prompt": "0.0000015", "input_cache_write": "0.000009"},
    ]
    found = endpoint(pricing={"overrides": overrides})
    assert (found.prices.prompt, found.prices.completion) == (6 * 10**12, 225 * 10**11)
    assert found.prices.cache_write == 9 * 10**12
    assert [prices.prompt for prices in found.listed] == [3 * 10**12, 6 * 10**12, 15 * 10**11]


@each(
    "condition, tokens, applies",
    [
        ({"min_prompt_tokens": 1000}, 1000, False),
        ({"min_prompt_tokens": 1000}, 1001, True),
        ({"min_prompt_tokens": 1000, "utc_start": "1630", "utc_end": "0030"}, 1000, False),
        ({"utc_start": "1630", "utc_end": "0030"}, 1, True),
        ({"min_prompt_tokens": "1000"}, 1, True),
        ({"min_prompt_tokens": 0}, 1, True),
        ({}, 1, True),
    ],
)
def test_an_override_counts_unless_the_prompt_is_too_short_for_it(
    condition: dict[str, object], tokens: int, applies: bool
) -> None:
    found = endpoint(pricing={"overrides": [{**condition, "prompt": "0.000006"}]})
    assert found.prices_within(tokens).prompt == (6 if applies else 3) * 10**12


def prices_at(of: Endpoint, prompt_tokens: int) -> Mapping[str, str]:
    return msgspec.json.decode(of.price_text(prompt_tokens), type=dict[str, str])


def test_the_prices_of_a_token_are_written_exactly_and_only_those_that_are_listed() -> None:
    assert prices_at(endpoint(), 7) == {
        "prompt": "0.000003",
        "completion": "0.000015",
        "cache_read": "0.0000003",
        "cache_write": "0.00000375",
    }
    plain = {"input_cache_read": None, "input_cache_write": None, "input_cache_write_1h": None, "prompt": "0.00000005"}
    assert prices_at(endpoint(pricing=plain), 7) == {"prompt": "0.00000005", "completion": "0.000015"}


def test_the_prices_of_a_token_are_those_of_the_length_of_the_prompt() -> None:
    long = endpoint(pricing={"overrides": [{"min_prompt_tokens": 1000, "prompt": "0.000006"}]})
    assert [prices_at(long, tokens)["prompt"] for tokens in (1000, 1001)] == ["0.000003", "0.000006"]


def test_media_in_the_output_raise_the_output_price() -> None:
    assert endpoint(pricing={"image_output": "0.00003"}).prices.completion == 30 * 10**12
    assert endpoint(pricing={"audio_output": "0.000001"}).prices.completion == 15 * 10**12


def test_a_discount_is_ignored() -> None:
    assert endpoint(pricing={"discount": 0.5}).prices == endpoint().prices


@each(
    "pricing",
    [
        {"prompt": "-1"},
        {"completion": ""},
        {"completion": None},
        {"prompt": 0.000003},
        {"prompt": "NaN"},
        {"input_cache_write": "-1"},
        {"request": "many"},
        {"audio_output": "1e999"},
        {"overrides": 7},
        {"overrides": ["x"]},
        {"overrides": [{"prompt": "-1"}]},
    ],
)
def test_a_price_that_cannot_be_read_leaves_the_endpoint_unused(pricing: dict[str, object]) -> None:
    listed = SONNET["pricing"]
    assert isinstance(listed, dict)
    assert endpoint_from_json("a/b", "GPT", {**SONNET, "pricing": {**listed, **pricing}}) is None


@each(
    "changes",
    [
        {"tag": None},
        {"tag": ""},
        {"provider_name": 3},
        {"context_length": None},
        {"context_length": True},
        {"context_length": 0},
        {"context_length": 10**30},
        {"pricing": None},
    ],
)
def test_an_endpoint_without_name_or_ceiling_is_not_used(changes: dict[str, object]) -> None:
    assert endpoint_from_json("a/b", "GPT", {**SONNET, **changes}) is None


def test_a_free_endpoint_costs_nothing() -> None:
    free = endpoint(pricing={"prompt": "0", "completion": "0"})
    assert (free.prices.prompt, free.prices.completion) == (0, 0)


@each(
    "changes, honours",
    [
        ({}, True),
        ({"supported_parameters": ["max_completion_tokens"]}, True),
        ({"supported_parameters": ["tools", 3]}, False),
        ({"supported_parameters": None}, False),
        ({"tag": "siliconflow/fp8"}, False),
        ({"tag": "SiliconFlow"}, False),
    ],
)
def test_the_output_bound_is_kept_only_where_it_is_listed_and_known_to_be(
    changes: dict[str, object], honours: bool
) -> None:
    assert endpoint(**changes).honours_bound is honours


@each(
    "model",
    [
        "perplexity/sonar",
        "Perplexity/Sonar",
        "~perplexity/sonar",
        "openai/gpt-4o-search-preview",
        "openai/o3-deep-research",
    ],
)
def test_a_model_that_searches_unasked_is_not_used_where_searches_are_billed(model: str) -> None:
    assert endpoint_from_json(model, "Other", SONNET) is None
    assert endpoint(model, pricing={"web_search": "0"}).model == model
