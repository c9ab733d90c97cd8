"""The worst case of a request: what it can cost at most on the endpoints that may serve it (M3-M7, M9).

The rule of a call that leaves: worst_pusd(bound) fits beside all that is posted and pending, and `provider.only` holds it to
the endpoints that were quoted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal

from preflight_proxy.core.money import TOKENS_PER_MTOK, charge_pusd
from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices
from preflight_proxy.core.pricing.prompt_bound import prompt_bound
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.shapes.model_name import split_model
from preflight_proxy.core.shapes.provider import serves
from preflight_proxy.core.shapes.shape import Request

FLOOR_TOKENS = 1024
"""A clamp goes no lower: a shorter answer is of no use to an agent (M9)."""
BOUND_MIN = 16
"""Some providers take no smaller output bound."""
WRITES_ON_REQUEST = ("anthropic/", "google/", "qwen/", "alibaba/")
"""Families that write to a cache only where `cache_control` asks for it; elsewhere a write may come unasked.

Source: openrouter.ai/docs/guides/best-practices/prompt-caching, 2026-10.
"""
BYOK_FEE_PERCENT = 5
"""What OpenRouter takes of the list price for a call on a provider key of the caller's own, above a monthly allowance.

Source: openrouter.ai/docs/guides/overview/auth/byok, 2026-10.
"""
_EXACT = Context(prec=60)


class UnquotableError(ValueError):
    """No endpoint can serve the request at a known price.

    Attributes:
        code: Why, as a refusal.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class WorstCase:
    """One endpoint's worst case, as a line in the output tokens.

    Attributes:
        fixed_pusd: Everything but the output.
        output_price: Pico-USD per million output tokens.
        tokens_max: Output tokens that it makes at most whatever the bound; None if the bound decides.
        tokens_min: Output tokens to reckon with whatever the bound: it does not keep one.
    """

    fixed_pusd: int
    output_price: int
    tokens_max: int | None
    tokens_min: int

    def pusd(self, bound: int) -> int:
        """The worst case at an output bound."""
        tokens = bound if self.tokens_max is None else min(bound, self.tokens_max)
        return self.fixed_pusd + charge_pusd(max(tokens, self.tokens_min), self.output_price)

    def bound_within(self, amount_pusd: int, bound: int) -> int:
        """The greatest bound up to `bound` that costs at most `amount_pusd`; -1 if there is none."""
        if self.pusd(bound) <= amount_pusd:
            return bound
        left_pusd = amount_pusd - self.fixed_pusd
        tokens = left_pusd * TOKENS_PER_MTOK // self.output_price if self.output_price else -1
        return tokens if tokens >= self.tokens_min and left_pusd >= 0 else -1


@dataclass(frozen=True, slots=True)
class Quote:
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
    """

    model: str
    tags: tuple[str, ...]
    bound: int
    asked: int | None
    floor: int
    max_price: Mapping[str, Decimal]
    prompt_tokens: int
    worst: tuple[WorstCase, ...]

    def worst_pusd(self, bound: int) -> int:
        """The most that the call can cost at an output bound."""
        return max(line.pusd(bound) for line in self.worst)

    def within(self, amount_pusd: int, bound: int) -> Quote | None:
        """The quote of those endpoints alone that cost at most `amount_pusd` at an output bound; None if there is none.

        What is calibrated on one endpoint costs more on the others, so the last dollars serve there alone (M7).
        """
        fitting = [index for index, line in enumerate(self.worst) if line.pusd(bound) <= amount_pusd]
        if not fitting:
            return None
        tags, worst = tuple(self.tags[index] for index in fitting), tuple(self.worst[index] for index in fitting)
        return replace(self, tags=tags, worst=worst)

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
            replace(line, fixed_pusd=_with_fee(line.fixed_pusd), output_price=_with_fee(line.output_price))
            for line in self.worst
        )
        return replace(self, worst=worst)

    @property
    def least_pusd(self) -> int:
        """The least with which the call can be admitted as it was asked."""
        return min(line.pusd(self.bound) for line in self.worst)

    @property
    def cheapest_pusd(self) -> int:
        """The least with which the call can be admitted at all."""
        return min(line.pusd(self.floor) for line in self.worst)


def quote(
    request: Request, endpoints: Sequence[Endpoint], *, prompt_tokens: Callable[[Endpoint], int] | None = None
) -> Quote:
    """Quote a request.

    Args:
        request: As read.
        endpoints: Those of its model that are in use: priced, not quarantined.
        prompt_tokens: The most prompt tokens on an endpoint; M3 if None.

    Raises:
        UnquotableError: No endpoint is left.
    """
    used = _eligible(request, endpoints)
    if not used:
        raise UnquotableError(
            Code.UNPRICED, "No endpoint of this model has a known price and is allowed by the request."
        )
    tokens = {endpoint.tag: (prompt_tokens or _m3(request))(endpoint) for endpoint in used}
    default = max(endpoint.default_bound for endpoint in used)
    bound = 0 if not request.bound_fields else default if request.bound is None else request.bound
    asked = request.bound if request.bound is not None else FLOOR_TOKENS
    return Quote(
        model=split_model(request.model)[0],
        tags=tuple(endpoint.tag for endpoint in used),
        bound=bound,
        asked=request.bound,
        floor=min(bound, max(BOUND_MIN, min(asked, FLOOR_TOKENS))),
        max_price=_max_price(used),
        prompt_tokens=max(tokens.values()),
        worst=tuple(_worst(request, endpoint, tokens[endpoint.tag]) for endpoint in used),
    )


def _with_fee(amount: int) -> int:
    """Rounded up."""
    return amount + -(-amount * BYOK_FEE_PERCENT // 100)


def _m3(request: Request) -> Callable[[Endpoint], int]:
    return lambda endpoint: prompt_bound(request.prompt, endpoint)


def _eligible(request: Request, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints that the caller allows; where some keep the output bound, only those."""
    allowed = [
        endpoint
        for endpoint in endpoints
        if (request.only is None or serves(request.only, endpoint.tag, endpoint.provider))
        and not serves(request.ignore, endpoint.tag, endpoint.provider)
    ]
    bounded = [endpoint for endpoint in allowed if endpoint.honours_bound]
    return bounded if bounded and request.bound_fields else allowed


def _worst(request: Request, endpoint: Endpoint, prompt_tokens: int) -> WorstCase:
    prices, prompt = endpoint.prices_within(prompt_tokens), request.prompt
    fixed_pusd = charge_pusd(prompt_tokens, _prompt_price(request, endpoint, prices)) + prices.request
    has_output = bool(request.bound_fields)
    bounded = endpoint.honours_bound
    return WorstCase(
        fixed_pusd=fixed_pusd + prompt.image_count * prices.image,
        output_price=max(prices.completion, prices.reasoning or 0) if has_output else 0,
        tokens_max=None if bounded and request.bound is not None else endpoint.default_bound,
        tokens_min=0 if bounded else endpoint.default_bound,
    )


def _prompt_price(request: Request, endpoint: Endpoint, prices: EndpointPrices) -> int:
    """The dearest thing that a prompt token can be: plain, read, written for five minutes or an hour, an image, a sound."""
    prompt = request.prompt
    on_request = endpoint.model.startswith(WRITES_ON_REQUEST)
    possible = [prices.prompt, prices.cache_read]
    if prompt.cache_control or not on_request:
        possible.append(prices.cache_write)
    if prompt.cache_1h:
        possible.append(prices.cache_write_1h)
    if prompt.opaque_media:
        possible += [prices.image_token, prices.audio]
    return max(price for price in possible if price is not None)


def _max_price(endpoints: Sequence[Endpoint]) -> dict[str, Decimal]:
    """The second guard beside `provider.only`: no endpoint's listed price is above these (M7)."""
    return {
        "prompt": _usd(max(endpoint.prices.prompt for endpoint in endpoints)),
        "completion": _usd(max(endpoint.prices.completion for endpoint in endpoints)),
    }


def _usd(price: int) -> Decimal:
    return _EXACT.scaleb(Decimal(price), -12).normalize(_EXACT)
