"""The worst case of a request: what it can cost at most on the endpoints that may serve it (M3-M7 (worst case), M9 (clamp)).

A call is sent only if worst_pusd(bound) fits beside all that is posted and pending, and `provider.only` restricts it to the quoted
endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal

import msgspec

from preflight_proxy.core.money import TOKENS_PER_MTOK
from preflight_proxy.core.pricing.cached_prefixes import CachedPrefix
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.fits import PriceTier, PromptRate
from preflight_proxy.core.pricing.prompt_bound import prompt_bound, prompt_tokens_max, token_percent
from preflight_proxy.core.pricing.rates import Rate, rate_of, rates_of
from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes.provider import serves
from preflight_proxy.core.shapes.shape import Prompt, Request

FLOOR_TOKENS = 1024
"""A clamp goes no lower: a shorter answer is useless to an agent (M9)."""
RATES_MAX = 64
"""Rates of new prompts that an offer keeps: for a few kinds of request, and for accounts with evidence of their own."""
OFFERS_MAX = 256
"""Offers that are kept: models times different wishes about providers."""
WISHES_CHARS_MAX = 1000
"""Characters of the providers that a request names; an offer for longer wishes is not kept."""
NEAR_PERCENT = 5
"""Where money is short, endpoints serve whose worst case is at most so much above the least. Providers often differ by 10 %."""
BYOK_FEE_PERCENT = 5
"""What OpenRouter takes of the list price for a call on a provider key of the caller's own, above a monthly allowance.

Source: openrouter.ai/docs/guides/overview/auth/byok, 2026-10.
"""
_EXACT = Context(prec=60)


class UnquotableError(ValueError):
    """No endpoint can serve the request at a known price."""


class WorstCase(msgspec.Struct, frozen=True, gc=False):
    """One endpoint's worst case, as a line in the output tokens.

    Attributes:
        fixed_pusd: Everything but the output.
        output_price: Pico-USD per million output tokens.
        tokens_max: Output tokens that it makes at most whatever the bound; None if the bound decides.
        tokens_min: Output tokens to count whatever the bound, because the endpoint ignores bounds.
    """

    fixed_pusd: int
    output_price: int
    tokens_max: int | None
    tokens_min: int

    def pusd(self, bound: int) -> int:
        """The worst case at an output bound."""
        tokens = bound if self.tokens_max is None or bound < self.tokens_max else self.tokens_max
        if tokens < self.tokens_min:
            tokens = self.tokens_min
        return self.fixed_pusd - (-tokens * self.output_price // TOKENS_PER_MTOK)

    def bound_within(self, amount_pusd: int, bound: int) -> int:
        """The greatest bound up to `bound` that costs at most `amount_pusd`; -1 if there is none."""
        if self.pusd(bound) <= amount_pusd:
            return bound
        output_pusd = amount_pusd - self.fixed_pusd  # if it is negative, so are the tokens
        tokens = output_pusd * TOKENS_PER_MTOK // self.output_price if self.output_price else -1
        return tokens if tokens >= self.tokens_min else -1


class CacheRead(msgspec.Struct, frozen=True, gc=False):
    """What a quote expects of a cache, because it has the known prefix at the price of a read (M6).

    Attributes:
        until_s: The call must be sent by then, monotonic.
        prompt_tokens: The most prompt tokens, those read included. If no more were billed, any excess is the cache's.
    """

    until_s: float
    prompt_tokens: int


class Quote(msgspec.Struct, frozen=True):
    """What a request can cost.

    Attributes:
        model: The model's id, without its routing suffix.
        tags: The endpoints that may serve it, in the order of `worst`.
        bound: The output bound: as asked, or the largest default of the endpoints.
        asked: The bound that the caller asked for; None if none.
        floor: The least bound that a clamp may set (M9).
        max_price: The highest listed prices, USD per million tokens.
        prompt_tokens: The most prompt tokens.
        worst: Each endpoint's worst case.
        cache_read: What it expects of the cache of its only endpoint; None: nothing.
    """

    model: str
    tags: tuple[str, ...]
    bound: int
    asked: int | None
    floor: int
    max_price: Mapping[str, Decimal]
    prompt_tokens: int
    worst: tuple[WorstCase, ...]
    cache_read: CacheRead | None = None

    def worst_pusd(self, bound: int) -> int:
        """The most that the call can cost at an output bound."""
        return max([line.pusd(bound) for line in self.worst])

    def line(self, tag: str) -> WorstCase:
        """The worst case of the endpoint with this tag."""
        return self.worst[self.tags.index(tag)]

    def bound_within(self, amount_pusd: int) -> int | None:
        """The greatest bound from `floor` to `bound` with which one endpoint at least costs at most `amount_pusd`.

        None if there is none.
        """
        bound = max(line.bound_within(amount_pusd, self.bound) for line in self.worst)
        return bound if bound >= self.floor else None

    def wire_bound(self, bound: int) -> int | None:
        """The bound to write into the call: none where the caller asked for none and nothing was clamped.

        The largest default may be more than another endpoint takes, or than fits beside the prompt.
        """
        return None if self.asked is None and bound >= self.bound else bound

    def with_byok_fee(self) -> Quote:
        """The quote where the provider may bill the list price, and OpenRouter its fee besides (M16)."""
        worst = tuple(
            WorstCase(_with_fee(line.fixed_pusd), _with_fee(line.output_price), line.tokens_max, line.tokens_min)
            for line in self.worst
        )
        return msgspec.structs.replace(self, worst=worst)

    @property
    def least_pusd(self) -> int:
        """The least amount with which the call can be admitted as asked."""
        return min([line.pusd(self.bound) for line in self.worst])

    def near_least(self) -> Quote:
        """The quote for those endpoints alone whose worst case is near the least one."""
        most_pusd = self.cheapest_pusd * (100 + NEAR_PERCENT) // 100
        near = [place for place, line in enumerate(self.worst) if line.pusd(self.floor) <= most_pusd]
        tags, worst = tuple(self.tags[place] for place in near), tuple(self.worst[place] for place in near)
        return msgspec.structs.replace(self, tags=tags, worst=worst)

    @property
    def cheapest_tag(self) -> str:
        """The endpoint where it can be admitted with the least amount."""
        costs = [line.pusd(self.floor) for line in self.worst] if len(self.worst) > 1 else [0]
        return self.tags[costs.index(min(costs))]

    @property
    def cheapest_pusd(self) -> int:
        """The least amount with which the call can be admitted at all."""
        return min([line.pusd(self.floor) for line in self.worst])


class Quotes(msgspec.Struct, frozen=True):
    """The ways to admit one call. All have the same model, bounds and price caps.

    Attributes:
        ways: What to reserve; the first that fits is taken.
        proven: What the call can cost by what is proven of its prompt. What it is above the reservation is the exposure (M24).
    """

    ways: tuple[Quote, ...]
    proven: Quote

    @classmethod
    def of(cls, quote: Quote) -> Quotes:
        """Return the only way: as it is proven."""
        return cls((quote,), quote)

    @property
    def first(self) -> Quote:
        """The way that is tried first."""
        return self.ways[0]

    @property
    def least_pusd(self) -> int:
        """The least amount with which the call can be admitted as asked."""
        return min([way.least_pusd for way in self.ways])

    @property
    def cheapest_pusd(self) -> int:
        """The least amount with which the call can be admitted at all."""
        return min([way.cheapest_pusd for way in self.ways])


class Offer:
    """The endpoints that may serve requests of one model, with the same wishes, and what they charge.

    Args:
        endpoints: Those of the model that are in use: priced, not quarantined.
        only: Providers that the caller allows; None for all.
        ignore: Providers that it excludes.
        has_output: True if the API has an output to bound.

    Attributes:
        listed: The argument `endpoints`.
        endpoints: Those of them that have the tag of a quoted one: upstream may choose any of these.
        quoted: Those that are quoted.
        tags: Their tags.
        by_provider: The endpoints by their provider's display name, which is all that an answer tells of who served it. A provider
            with two of them is left out, because an answer does not say which of the two served it.
        max_price: The caps to send besides `provider.only`: no quoted endpoint's listed price is above them (M7).

    Raises:
        UnquotableError: No endpoint is left.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], only: Sequence[str] | None, ignore: Sequence[str], has_output: bool
    ) -> None:
        self.listed = tuple(endpoints)
        self._has_output = has_output
        self.quoted = _eligible(endpoints, only, ignore, has_output)
        if not self.quoted:
            raise UnquotableError("No endpoint of this model has a known price and is allowed by the request.")
        self.tags = tuple(endpoint.tag for endpoint in self.quoted)
        self.endpoints = tuple(endpoint for endpoint in endpoints if endpoint.tag in self.tags)
        counts = Counter(endpoint.provider for endpoint in self.endpoints)
        self.by_provider = {each.provider: each for each in self.endpoints if counts[each.provider] == 1}
        self.max_price = {name: _max_price(self.quoted, name) for name in ("prompt", "completion")}
        self._default_bounds = [
            endpoint.context_length if endpoint.max_completion_tokens is None else endpoint.max_completion_tokens
            for endpoint in self.quoted
        ]
        self._rates: dict[tuple[bool, bool, bool], list[list[Rate]]] = {}
        self._prompt_rates: Recent[tuple[object, ...], PromptRate] = Recent(RATES_MAX)

    def quote(self, request: Request, prompt_tokens: Sequence[int]) -> Quote:
        """Quote a request that has the same wishes as this offer.

        Args:
            request: As read.
            prompt_tokens: The most prompt tokens on each of the quoted endpoints.
        """
        prompt, asked = request.prompt, request.bound
        worst = []
        for place, (tokens, rates) in enumerate(zip(prompt_tokens, self._rates_of(prompt), strict=True)):
            rate = rate_of(rates, tokens)
            fixed_pusd = rate.request_pusd - (-tokens * rate.prompt_price // TOKENS_PER_MTOK)  # rounded up
            worst.append(self._line(place, fixed_pusd + prompt.image_count * rate.image_pusd, rate, asked))
        bound = 0 if not self._has_output else max(self._default_bounds) if asked is None else asked
        return Quote(
            model=self.quoted[0].model,
            tags=self.tags,
            bound=bound,
            asked=asked,
            floor=bound if bound < FLOOR_TOKENS else FLOOR_TOKENS,
            max_price=self.max_price,
            prompt_tokens=max(prompt_tokens),
            worst=tuple(worst),
        )

    def cache_quote(
        self, prompt: Prompt, quote: Quote, prompt_tokens: Sequence[int], cached: Sequence[CachedPrefix | None]
    ) -> Quote | None:
        """Quote the known prefix at the price of a cache read, for the one endpoint where that is cheapest; None if it is nowhere.

        Args:
            prompt: Of the request.
            quote: At the price of a write, as `quote` returned it.
            prompt_tokens: From which it was made.
            cached: What the cache of each of the quoted endpoints has.
        """
        ways = []
        for place, (prefix, rates) in enumerate(zip(cached, self._rates_of(prompt), strict=True)):
            tokens, line = prompt_tokens[place], quote.worst[place]
            rate = rate_of(rates, tokens)
            if prefix is None or rate.read_price is None:
                continue
            saved_pusd = min(prefix.tokens, tokens) * (rate.prompt_price - rate.read_price) // TOKENS_PER_MTOK
            line = msgspec.structs.replace(line, fixed_pusd=line.fixed_pusd - saved_pusd)
            ways.append((line.pusd(quote.floor), place, line, CacheRead(prefix.until_s, tokens)))
        if not ways:
            return None
        _least_pusd, place, line, read = min(ways, key=lambda way: way[0])
        return msgspec.structs.replace(
            quote, tags=(self.tags[place],), prompt_tokens=read.prompt_tokens, worst=(line,), cache_read=read
        )

    def prompt_rate(self, request: Request, quote: Quote, tag: str, factor: int | None, *, has_fee: bool) -> PromptRate:
        """Return what a new prompt of such a request is reserved at on one endpoint.

        Args:
            request: As read.
            quote: Of it.
            tag: The endpoint.
            factor: See `token_percent`.
            has_fee: OpenRouter's fee for a provider key of the caller's own is added (M16).
        """
        prompt = request.prompt
        kind = (prompt.cache_control, prompt.cache_1h, prompt.opaque_media)
        key = (tag, *kind, quote.asked is None, quote.floor, factor, has_fee)
        if (rate := self._prompt_rates.get(key)) is None:
            place, tiers = self.tags.index(tag), []
            for each in self._rates_of(prompt)[place]:
                floor_pusd = self._line(place, each.request_pusd, each, quote.asked).pusd(quote.floor)
                amounts = (floor_pusd, each.prompt_price)
                tiers.append(PriceTier(each.above_tokens, *(map(_with_fee, amounts) if has_fee else amounts)))
            endpoint = self.quoted[place]
            percent = token_percent(endpoint, factor)
            rate = PromptRate(quote.model, prompt_tokens_max(endpoint), percent, tuple(tiers))
            self._prompt_rates.put(key, rate)
        return rate

    def _rates_of(self, prompt: Prompt) -> list[list[Rate]]:
        """The rates of each quoted endpoint for such prompts."""
        kind = (prompt.cache_control, prompt.cache_1h, prompt.opaque_media)
        if (rates := self._rates.get(kind)) is None:
            rates = self._rates[kind] = [rates_of(each, prompt, self._has_output) for each in self.quoted]
        return rates

    def _line(self, place: int, fixed_pusd: int, rate: Rate, asked: int | None) -> WorstCase:
        endpoint, default = self.quoted[place], self._default_bounds[place]
        tokens_max = None if endpoint.honours_bound and asked is not None else default
        return WorstCase(fixed_pusd, rate.output_price, tokens_max, 0 if endpoint.honours_bound else default)


class Offers:
    """The offers of all models, each made once for the same wishes."""

    def __init__(self) -> None:
        self._offers: Recent[tuple[str, tuple[str, ...] | None, tuple[str, ...], bool], Offer] = Recent(OFFERS_MAX)

    def of(self, request: Request, endpoints: Sequence[Endpoint]) -> Offer:
        """Return what these endpoints offer to such a request. It is made anew where the endpoints or their prices have changed.

        Raises:
            UnquotableError: No endpoint is left.
        """
        only, ignore, has_output = request.only, request.ignore, bool(request.bound_fields)
        key = (request.model, only, ignore, has_output)
        offer = self._offers.get(key)
        if offer is None or (offer.listed is not endpoints and offer.listed != tuple(endpoints)):
            offer = Offer(endpoints, only, ignore, has_output)
            if sum(map(len, (*(only or ()), *ignore))) <= WISHES_CHARS_MAX:
                self._offers.put(key, offer)
        return offer


def quote(
    request: Request, endpoints: Sequence[Endpoint], *, prompt_tokens: Callable[[Endpoint], int] | None = None
) -> Quote:
    """Quote a request.

    Args:
        request: As read.
        endpoints: Those of its model that are in use: priced, not quarantined.
        prompt_tokens: The most prompt tokens on an endpoint; by the bytes of the prompt (M3) if None.

    Raises:
        UnquotableError: No endpoint is left.
    """
    offer = Offer(endpoints, request.only, request.ignore, bool(request.bound_fields))
    count = prompt_tokens or (lambda endpoint: prompt_bound(request.prompt, endpoint))
    return offer.quote(request, [count(endpoint) for endpoint in offer.quoted])


def _with_fee(amount: int) -> int:
    """Rounded up."""
    return amount + -(-amount * BYOK_FEE_PERCENT // 100)


def _eligible(
    endpoints: Sequence[Endpoint], only: Sequence[str] | None, ignore: Sequence[str], has_output: bool
) -> list[Endpoint]:
    """The endpoints that the caller allows; where some keep the output bound, only those."""
    allowed = [
        endpoint
        for endpoint in endpoints
        if (only is None or serves(only, endpoint.tag, endpoint.provider))
        and not serves(ignore, endpoint.tag, endpoint.provider)
    ]
    bounded = [endpoint for endpoint in allowed if endpoint.honours_bound]
    return bounded if bounded and has_output else allowed


def _max_price(endpoints: Sequence[Endpoint], name: str) -> Decimal:
    highest: int = max(getattr(endpoint.prices, name) for endpoint in endpoints)
    return _EXACT.scaleb(Decimal(highest), -12).normalize(_EXACT)
