"""What an endpoint charges at most for a token of a kind of request (M6 (price))."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from preflight_proxy.core.pricing.endpoint import WRITES_ON_REQUEST, Endpoint, EndpointPrices
from preflight_proxy.core.shapes.shape import Prompt


class Rate(msgspec.Struct, frozen=True, gc=False):
    """What one endpoint charges at most for a kind of request, for prompts of more than so many tokens.

    Attributes:
        above_tokens: It holds for prompts longer than this.
        prompt_price: Pico-USD per million prompt tokens.
        output_price: Pico-USD per million output tokens.
        request_pusd: Pico-USD per request.
        image_pusd: Pico-USD per image.
        read_price: Pico-USD per million prompt tokens read from a cache; None if the endpoint does not list it.
    """

    above_tokens: int
    prompt_price: int
    output_price: int
    request_pusd: int
    image_pusd: int
    read_price: int | None = None


def rate_of(rates: Sequence[Rate], tokens: int) -> Rate:
    """The rate for a prompt of at most so many tokens.

    Args:
        rates: As `rates_of` returned them.
        tokens: The most prompt tokens.
    """
    return rates[0] if len(rates) == 1 else next(rate for rate in rates if tokens > rate.above_tokens)


def rates_of(endpoint: Endpoint, prompt: Prompt, has_output: bool) -> list[Rate]:
    """The rates of an endpoint for such prompts, those for the longest prompts first."""
    rates = []
    for above_tokens in sorted({-1, *endpoint.listed_above}, reverse=True):
        prices = endpoint.prices_within(above_tokens + 1)
        output_price = max(prices.completion, prices.reasoning or 0) if has_output else 0
        prompt_price = _prompt_price(prompt, endpoint, prices)
        read_price = None if None in [each.cache_read for each in endpoint.listed] else prices.cache_read
        rates.append(Rate(above_tokens, prompt_price, output_price, prices.request, prices.image, read_price))
    return rates


def _prompt_price(prompt: Prompt, endpoint: Endpoint, prices: EndpointPrices) -> int:
    """The highest price of a prompt token: plain, read, written for five minutes or an hour, of an image or of audio."""
    on_request = endpoint.model.startswith(WRITES_ON_REQUEST)
    possible = [prices.prompt, prices.cache_read]
    if prompt.cache_control or not on_request:
        possible.append(prices.cache_write)
    if prompt.cache_1h:
        possible.append(prices.cache_write_1h)
    if prompt.opaque_media:
        possible += [prices.image_token, prices.audio]
    return max(price for price in possible if price is not None)
