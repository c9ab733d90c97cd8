"""Finds the endpoints that a request allows, and chooses the one that serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from random import Random
from typing import Any

from openrouter_sim.base.errors import ApiError, bad_request
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.catalog.models import Catalog, SimEndpoint, SimModel

VARIANTS = frozenset({"nitro", "floor", "exacto", "online", "thinking", "extended"})
"""Suffixes of a model id that change the routing.

Source: openrouter.ai/docs/guides/routing/model-variants, 2026.
"""

_MILLION = Decimal(1_000_000)
_PARAMETERS = frozenset(
    (
        "tools",
        "tool_choice",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "response_format",
        "reasoning",
    )
)


def find_model(catalog: Catalog, name: object) -> tuple[SimModel, str]:
    """Return the model and the routing suffix (empty for none).

    Raises:
        ApiError: 400 without a model, 404 for an unknown one.
    """
    if not isinstance(name, str) or not name:
        raise bad_request("No models provided")
    if name in catalog:
        return catalog[name], ""
    base, _, variant = name.partition(":")
    if variant in VARIANTS and base in catalog:
        return catalog[base], variant
    raise ApiError(404, f"No endpoints found for {name}.")


def eligible(
    model: SimModel, endpoints: Iterable[SimEndpoint], body: JsonObject, bound: int | None
) -> list[SimEndpoint]:
    """Return the endpoints that the request allows, in its order of preference.

    Raises:
        ApiError: 404 with `availability` when none is left.
    """
    preferences = body.get("provider") or {}
    if not isinstance(preferences, dict):
        raise bad_request("provider: expected an object")
    left = list(endpoints)
    for constraint, keep in _filters(preferences, body, bound):
        left = [endpoint for endpoint in left if keep(endpoint)]
        if not left:
            raise _none_left(model, constraint)
    return _ordered(left, preferences)


def choose(endpoints: Sequence[SimEndpoint], body: JsonObject, variant: str, random: Random) -> SimEndpoint:
    """Return the endpoint that serves: the first of the order, the cheapest, or one drawn with the weight 1 / price².

    Source: openrouter.ai/docs/guides/routing/provider-selection, 2026.
    """
    preferences = body.get("provider") or {}
    if len(endpoints) == 1 or preferences.get("order"):
        return endpoints[0]
    if variant == "floor" or preferences.get("sort") == "price":
        return min(endpoints, key=_level)
    if body.get("tools") or variant in {"nitro", "exacto"}:
        return random.choice(endpoints)
    return random.choices(endpoints, weights=[1 / max(_level(endpoint), 1e-12) ** 2 for endpoint in endpoints])[0]


def _filters(
    preferences: JsonObject, body: JsonObject, bound: int | None
) -> list[tuple[str, Callable[[SimEndpoint], bool]]]:
    filters: list[tuple[str, Callable[[SimEndpoint], bool]]] = []
    if only := _names(preferences, "only"):
        filters.append(("only", lambda e: _is_named(e, only)))
    if ignore := _names(preferences, "ignore"):
        filters.append(("ignore", lambda e: not _is_named(e, ignore)))
    if (order := _names(preferences, "order")) and preferences.get("allow_fallbacks") is False:
        filters.append(("order", lambda e: _is_named(e, order)))
    if quantizations := _names(preferences, "quantizations"):
        filters.append(("quantizations", lambda e: e.quantization in quantizations))
    if preferences.get("require_parameters") is True:
        needed = _PARAMETERS & body.keys()
        filters.append(("require_parameters", lambda e: needed <= set(e.supported_parameters)))
    if isinstance(ceiling := preferences.get("max_price"), dict):
        filters.append(("max_price", lambda e: _affordable(e, ceiling)))
    if bound is not None:
        filters.append(("max_tokens", lambda e: bound <= e.output_tokens_max))
    return filters


def _names(preferences: JsonObject, name: str) -> list[str]:
    value = preferences.get(name)
    return [str(item).lower() for item in value] if isinstance(value, list) else []


def _is_named(endpoint: SimEndpoint, names: list[str]) -> bool:
    return bool({endpoint.tag, endpoint.tag.partition("/")[0], endpoint.provider.lower()} & set(names))


def _affordable(endpoint: SimEndpoint, ceiling: dict[str, Any]) -> bool:
    for name, rate in ceiling.items():
        try:
            limit = Decimal(str(rate))
        except InvalidOperation:
            raise bad_request(f"provider.max_price.{name}: expected a number") from None
        if Decimal(endpoint.pricing.get(name, "0")) * _MILLION > limit:
            return False
    return True


def _ordered(endpoints: list[SimEndpoint], preferences: JsonObject) -> list[SimEndpoint]:
    order = _names(preferences, "order")

    def rank(endpoint: SimEndpoint) -> int:
        return next((i for i, name in enumerate(order) if _is_named(endpoint, [name])), len(order))

    return sorted(endpoints, key=rank) if order else endpoints


def _level(endpoint: SimEndpoint) -> float:
    return float(Decimal(endpoint.pricing["prompt"]) * 3 + Decimal(endpoint.pricing["completion"]))


def _none_left(model: SimModel, constraint: str) -> ApiError:
    availability = {
        "code": "constraint_filtered",
        "retryable": False,
        "retry_after": None,
        "requested_models": [model.id],
        "affected_providers": [endpoint.provider for endpoint in model.endpoints],
        "excluded_by": [constraint],
        "fallback_models": [],
        "constraint": constraint,
    }
    message = f"No endpoints found that match your routing constraints for {model.id}."
    return ApiError(404, message, extra={"availability": availability})
