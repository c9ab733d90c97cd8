"""One endpoint of a model as the price list shows it, at the most that it can charge (M5, M6).

Source: openrouter.ai/docs/guides/overview/models and `GET /models/{author}/{slug}/endpoints`, 2026-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from preflight_proxy.core.money import TOKENS_PER_MTOK, price_pusd_per_mtok, token_price_text

BOUND_PARAMETERS = frozenset({"max_tokens", "max_completion_tokens"})
UNBOUNDED_ENDPOINTS: Mapping[str, str] = {
    "siliconflow": "reported to list max_tokens and ignore it; OpenRouter provider reports, 2026-08",
}
"""Endpoints, by tag or by the provider part of it, that list the output bound and do not keep it, with source and date."""
SEARCHES_UNASKED = ("perplexity/", "-search-preview", "deep-research")
"""Marks of models that search the web for every call, at a price per search that no request bounds."""
WRITES_ON_REQUEST = ("anthropic/", "google/", "qwen/", "alibaba/")
"""Families that write to a cache only where `cache_control` asks for it; elsewhere a write may happen without it.

Source: openrouter.ai/docs/guides/best-practices/prompt-caching, 2026-10.
"""
CONTEXT_TOKENS_MAX = 10**9
PRICE_TEXTS_MAX = 4096
"""Sets of prices whose texts are kept: those of the endpoints that runs use, many times over."""


class EndpointPrices(msgspec.Struct, frozen=True):
    """Prices of one endpoint; None: none of its own.

    Attributes:
        prompt: Pico-USD per million prompt tokens.
        completion: Per million output tokens, media in the output included.
        cache_read: Per million prompt tokens read from a cache.
        cache_write: Per million written to one.
        cache_write_1h: Per million written to one for an hour.
        reasoning: Per million reasoning tokens.
        audio: Per million audio tokens of the prompt.
        image_token: Per million image tokens of the prompt.
        request: Pico-USD per request.
        image: Pico-USD per image of the prompt.
    """

    prompt: int
    completion: int
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio: int | None = None
    image_token: int | None = None
    request: int = 0
    image: int = 0


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint of a model.

    Attributes:
        model: The model's id, without a routing suffix.
        tag: The endpoint's tag, which `provider.only` takes.
        provider: The provider's display name.
        context_length: Tokens of prompt and answer together.
        max_prompt_tokens: Most prompt tokens; None if it says none.
        max_completion_tokens: Most output tokens; None if it says none.
        honours_bound: True if it lists the output bound, and is not known to ignore it.
        tokenizer: The model's tokenizer family.
        prices: The most it charges, over all its overrides.
        supported_parameters: The parameters it lists.
        listed: Each set of prices that it may bill by: its plain one, then one for each override.
        listed_above: For each of these, the prompt tokens above which it applies; -1 for any number.
    """

    model: str
    tag: str
    provider: str
    context_length: int
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    honours_bound: bool
    tokenizer: str
    prices: EndpointPrices
    supported_parameters: frozenset[str] = frozenset()
    listed: tuple[EndpointPrices, ...] = ()
    listed_above: tuple[int, ...] = ()

    def prices_within(self, prompt_tokens: int) -> EndpointPrices:
        """The most it charges where the prompt has at most so many tokens: prices for longer prompts alone are left out.

        Source: openrouter.ai/docs/guides/overview/models, `min_prompt_tokens` (strictly greater), 2026-10.
        """
        sets = zip(self.listed, self.listed_above, strict=True)
        possible = [prices for prices, above in sets if prompt_tokens > above]
        return self.prices if len(possible) == len(self.listed) else _most(possible)

    def prices_for(self, prompt_tokens: int) -> EndpointPrices:
        """The most it charges for a prompt of so many tokens."""
        return self.prices if len(self.listed) < 2 else self.prices_within(prompt_tokens)

    def price_text(self, prompt_tokens: int) -> msgspec.Raw:
        """The prices of a token as a JSON object, with which the endpoint is quoted for a prompt of so many tokens."""
        return _price_text(self.prices_for(prompt_tokens))


@lru_cache(PRICE_TEXTS_MAX)
def _price_text(prices: EndpointPrices) -> msgspec.Raw:
    """Dollars per token, as exact decimal text. What has no price of its own is left out."""
    amounts = {name: getattr(prices, name) for name in ("prompt", "completion", "cache_read", "cache_write")}
    texts = {name: token_price_text(price) for name, price in amounts.items() if price is not None}
    return msgspec.Raw(msgspec.json.encode(texts))


def endpoint_from_json(model: str, tokenizer: str, obj: Mapping[str, object]) -> Endpoint | None:
    """Read one endpoint of the list.

    Args:
        model: The model's id.
        tokenizer: `architecture.tokenizer` of the model.
        obj: The endpoint, decoded.

    Returns:
        The endpoint; None if no price or no context length can be read, in which case it is not used.
    """
    tag, provider = obj.get("tag"), obj.get("provider_name")
    listed = _listed(obj.get("pricing"))
    context_length = _tokens(obj.get("context_length"))
    if not (isinstance(tag, str) and tag and isinstance(provider, str) and listed and context_length):
        return None
    prices = _most(listed)
    if _searches(model, obj.get("pricing")):
        return None
    parameters = obj.get("supported_parameters")
    supported = (
        frozenset(name for name in parameters if isinstance(name, str)) if isinstance(parameters, list) else frozenset()
    )
    return Endpoint(
        model=model,
        tag=tag,
        provider=provider,
        context_length=context_length,
        max_prompt_tokens=_tokens(obj.get("max_prompt_tokens")),
        max_completion_tokens=_tokens(obj.get("max_completion_tokens")),
        honours_bound=bool(supported & BOUND_PARAMETERS) and not _unbounded(tag),
        tokenizer=tokenizer,
        prices=prices,
        supported_parameters=supported,
        listed=listed,
        listed_above=_above(obj.get("pricing")),
    )


_REQUIRED = {"prompt": "prompt", "completion": "completion"}
_OPTIONAL = {
    "cache_read": "input_cache_read",
    "cache_write": "input_cache_write",
    "cache_write_1h": "input_cache_write_1h",
    "reasoning": "internal_reasoning",
    "audio": "audio",
    "image_token": "image_token",
}
_OUTPUT_MEDIA = ("image_output", "audio_output")
_PER_UNIT = {"request": "request", "image": "image"}


def _listed(pricing: object) -> tuple[EndpointPrices, ...]:
    """The plain prices and those of each override; empty if one of them cannot be read."""
    if not isinstance(pricing, Mapping):
        return ()
    overrides = pricing.get("overrides") or []
    if not isinstance(overrides, Sequence) or not all(isinstance(override, Mapping) for override in overrides):
        return ()
    sets = [_prices(pricing), *(_prices({**pricing, **override}) for override in overrides)]
    return tuple(prices for prices in sets if prices is not None) if None not in sets else ()


def _above(pricing: object) -> tuple[int, ...]:
    """For each of `_listed`: what it says of the prompt's length; nothing that can be read counts as any length."""
    overrides = pricing.get("overrides") or [] if isinstance(pricing, Mapping) else []
    return (-1, *(_tokens(override.get("min_prompt_tokens")) or -1 for override in overrides))


def _prices(pricing: Mapping[str, object]) -> EndpointPrices | None:
    needed = {name: _price(pricing.get(wire)) for name, wire in _REQUIRED.items()}
    optional = {name: _price(pricing[wire]) for name, wire in _OPTIONAL.items() if pricing.get(wire) is not None}
    media = [_price(pricing[wire]) for wire in _OUTPUT_MEDIA if pricing.get(wire) is not None]
    per_unit = {name: _price(pricing[wire]) for name, wire in _PER_UNIT.items() if pricing.get(wire) is not None}
    if None in [*needed.values(), *optional.values(), *media, *per_unit.values()]:
        return None
    units = {name: -(-(price or 0) // TOKENS_PER_MTOK) for name, price in per_unit.items()}
    completion = max(price for price in [needed["completion"], *media] if price is not None)
    return EndpointPrices(prompt=needed["prompt"] or 0, completion=completion, **{**optional, **units})  # type: ignore[arg-type]


def _price(text: object) -> int | None:
    return price_pusd_per_mtok(text) if isinstance(text, str) else None


def _most(listed: Sequence[EndpointPrices]) -> EndpointPrices:
    """The largest of each price over all sets (M6)."""
    largest: dict[str, int | None] = {}
    for name in EndpointPrices.__struct_fields__:
        amounts: list[int] = [price for prices in listed if (price := getattr(prices, name)) is not None]
        largest[name] = max(amounts, default=None)
    return EndpointPrices(**largest)  # type: ignore[arg-type]


def _tokens(count: object) -> int | None:
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= CONTEXT_TOKENS_MAX else None


def _searches(model: str, pricing: object) -> bool:
    per_search = pricing.get("web_search") if isinstance(pricing, Mapping) else None
    return any(mark in model.lower() for mark in SEARCHES_UNASKED) and per_search not in (None, "", "0")


def _unbounded(tag: str) -> bool:
    return tag.lower() in UNBOUNDED_ENDPOINTS or tag.lower().partition("/")[0] in UNBOUNDED_ENDPOINTS
