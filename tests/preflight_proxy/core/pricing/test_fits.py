"""The largest new prompt that an amount affords: what it counts as, at most, is reserved within that amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight_proxy.core.money import TOKENS_PER_MTOK
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.fits import PriceTier, PromptRate, counted_tokens, fits_text, fits_tokens
from preflight_proxy.core.pricing.prompt_bound import token_percent
from preflight_proxy.core.pricing.quote import Offer
from tests.support.cases import each
from tests.support.quote_cases import chat, endpoint

CHEAP, DEAR = 3 * 10**12, 6 * 10**12
TIERS = (PriceTier(200_000, 3 * 10**10, DEAR), PriceTier(-1, 15 * 10**9, CHEAP))
RATE = PromptRate("a/b", 1_000_000, 115, TIERS)


def reserved_pusd(rate: PromptRate, tokens: int) -> int:
    """What a new prompt of so many tokens is reserved at."""
    counted = min(rate.tokens_max, counted_tokens(tokens, rate.percent))
    tier = next(tier for tier in rate.tiers if counted > tier.above_tokens)
    return tier.floor_pusd - (-counted * tier.prompt_price // TOKENS_PER_MTOK)


@given(st.integers(0, 10 * 10**12), st.sampled_from([100, 115, 140, 400, 800]))
def test_it_fits_and_a_few_tokens_more_do_not(available_pusd: int, percent: int) -> None:
    rate = PromptRate("a/b", 1_000_000, percent, TIERS)
    tokens = fits_tokens(rate, available_pusd)
    if tokens:
        assert reserved_pusd(rate, tokens) <= available_pusd
    if tokens < rate.tokens_max:
        assert reserved_pusd(rate, tokens + 2) > available_pusd


def test_a_dearer_price_for_longer_prompts_holds_them_below_its_beginning() -> None:
    """Until the amount pays for the dearer price, the longest prompt is the last of the cheaper one."""
    at_most_cheap = fits_tokens(RATE, 15 * 10**9 + 200_000 * CHEAP // TOKENS_PER_MTOK)
    assert counted_tokens(at_most_cheap, 115) <= 200_000 < counted_tokens(at_most_cheap + 2, 115)
    assert fits_tokens(RATE, 3 * 10**10 + 200_000 * DEAR // TOKENS_PER_MTOK) == at_most_cheap
    assert fits_tokens(RATE, 3 * 10**10 + 300_000 * DEAR // TOKENS_PER_MTOK) > at_most_cheap


@each("available_pusd, tokens", [(-1, 0), (0, 0), (15 * 10**9 - 1, 0), (15 * 10**9, 0), (10**15, 1_000_000)])
def test_nothing_fits_below_the_floor_and_no_more_than_the_endpoint_takes(available_pusd: int, tokens: int) -> None:
    assert fits_tokens(RATE, available_pusd) == tokens


def test_where_prompts_are_free_all_fit() -> None:
    free = PromptRate("a/b:free", 5000, 115, (PriceTier(-1, 0, 0),))
    assert (fits_tokens(free, 0), fits_tokens(free, -1)) == (5000, 0)


@pytest.mark.parametrize(("tokens", "shown"), [(0, "~0"), (999, "~999"), (12_345, "~12,300"), (999_999, "~999,000")])
def test_a_person_reads_three_figures_rounded_down(tokens: int, shown: str) -> None:
    assert fits_text("a/b", tokens) == f"Largest new prompt: {shown} tokens (a/b)"
    assert fits_text(None, None) == ""


# Rates of an offer


def rate(at: Endpoint, fields: dict[str, object], *, has_fee: bool = False) -> PromptRate:
    request, offer = chat(**fields), Offer([at], None, (), has_output=True)
    return offer.prompt_rate(request, offer.quote(request, [0]), at.tag, 1000, has_fee=has_fee)


@each(
    "fields",
    [{}, {"max_tokens": 100}, {"max_tokens": 9999}, {"max_tokens": 50, "cache_control": {"type": "ephemeral"}}],
)
def test_a_rate_is_what_the_quote_reserves_at_its_floor(fields: dict[str, object]) -> None:
    request, offer = chat(**fields), Offer([endpoint()], None, (), has_output=True)
    of_kind = rate(endpoint(), fields)
    for tokens in (0, 1000, 100_000):
        quote = offer.quote(request, [counted_tokens(tokens, 115)])
        assert reserved_pusd(of_kind, tokens) == quote.cheapest_pusd


def test_a_rate_holds_the_fee_for_provider_keys() -> None:
    plain, with_fee = rate(endpoint(), {}).tiers[0], rate(endpoint(), {}, has_fee=True).tiers[0]
    assert with_fee.prompt_price * 100 == plain.prompt_price * 105
    assert with_fee.floor_pusd * 100 == plain.floor_pusd * 105


def test_a_token_counts_with_its_margin_or_by_its_bytes() -> None:
    sonnet = endpoint()
    assert (token_percent(sonnet), token_percent(sonnet, None)) == (115, 800)
    assert token_percent(sonnet, 2000) == 230
    assert token_percent(sonnet, 10**9) == 800
