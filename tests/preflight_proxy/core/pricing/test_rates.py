"""What a token costs at most, by the kind of the request and the length of its prompt."""

from preflight_proxy.core.pricing.rates import rate_of, rates_of
from tests.support.quote_cases import chat, endpoint

LONG = {"min_prompt_tokens": 200_000, "prompt": "0.000006", "input_cache_read": "0.0000006"}


def test_the_rate_is_that_of_the_longest_prompt_that_it_can_be() -> None:
    rates = rates_of(endpoint(pricing={"overrides": [LONG]}), chat().prompt, True)
    short, long = rate_of(rates, 200_000), rate_of(rates, 200_001)
    assert (short.prompt_price, short.read_price) == (3 * 10**12, 3 * 10**11)
    assert (long.prompt_price, long.read_price) == (6 * 10**12, 6 * 10**11)


def test_the_price_of_a_read_is_known_only_if_every_set_of_prices_has_one() -> None:
    """A set without one may bill the read at the price of the prompt."""
    without = {"input_cache_read": None}
    assert [rate.read_price for rate in rates_of(endpoint(pricing=without), chat().prompt, True)] == [None]
    mixed = endpoint(pricing={**without, "overrides": [LONG]})
    assert [rate.read_price for rate in rates_of(mixed, chat().prompt, True)] == [None, None]


def test_without_an_output_none_is_priced() -> None:
    assert [rate.output_price for rate in rates_of(endpoint(), chat().prompt, False)] == [0]
