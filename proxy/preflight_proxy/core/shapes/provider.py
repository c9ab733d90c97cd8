"""The `provider` object: reads it, and writes it again with the quoted endpoints and price caps (M7 (pinning)).

Source: openrouter.ai/docs/guides/routing/provider-selection, 2026-10; `max_price` is in USD per million tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from preflight_proxy.core.money import number
from preflight_proxy.core.shapes import body
from preflight_proxy.core.shapes.body import BadRequest, Json, Number
from preflight_proxy.core.shapes.shape import Request

_FREE = frozenset(
    {"order", "allow_fallbacks", "data_collection", "zdr", "enforce_distillable_text", "quantizations", "sort"}
    | {"preferred_min_throughput", "preferred_max_latency", "require_parameters", "ignore"}
)
_MAX_PRICE_KEYS = ("prompt", "completion", "request", "image", "audio")
_NAMES_MAX = 1000


class ProviderPreferences(msgspec.Struct, frozen=True):
    """The caller's routing preferences.

    Attributes:
        only: Providers allowed; None for all.
        ignore: Providers excluded.
        max_price: Price caps, USD per million tokens.
        require_parameters: True if endpoints must know every parameter.
        rest: The keys that are sent unchanged, without `only` and `max_price`.
        dropped: Keys that are not sent.
    """

    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    max_price: Mapping[str, Decimal] = {}
    require_parameters: bool = False
    rest: Mapping[str, bytes] = {}
    dropped: tuple[str, ...] = ()


def read_provider(raw: bytes | None) -> ProviderPreferences:
    """Read the caller's provider object.

    Raises:
        BadRequest: It is no object, has a key twice, or asks for what may cost more than the list says.
    """
    decoded = body.value(raw) if raw is not None else None
    if decoded is None:
        return ProviderPreferences()
    if not isinstance(decoded, dict):
        raise BadRequest("The field 'provider' must be an object.")
    _check_sort(decoded.get("sort"))
    known = _FREE | {"only", "max_price"}
    only = _names(decoded, "only")
    return ProviderPreferences(
        only=only or None,
        ignore=_names(decoded, "ignore"),
        max_price=_max_price(decoded.get("max_price")),
        require_parameters=decoded.get("require_parameters") is True,
        rest={key: body.encode(item) for key, item in decoded.items() if key in _FREE},
        dropped=tuple(f"provider.{key}" for key in decoded if key not in known),
    )


def provider_bytes(request: Request, only: Sequence[str], max_price: Mapping[str, Decimal]) -> bytes:
    """Return the provider object to send: the caller's, pinned to the quoted tags, capped at the smaller of both prices."""
    caps = {**request.max_price, **max_price}
    caps = {key: min(caps[key], request.max_price.get(key, caps[key])) for key in caps}
    written: dict[str, Json] = {"only": list(only)} if only else {}
    if caps:
        written["max_price"] = {key: Number(f"{cap:f}") for key, cap in caps.items()}
    slices = [*request.provider.items(), *((key, body.encode(item)) for key, item in written.items())]
    return b"{" + b",".join(body.encode(key) + b":" + raw for key, raw in slices) + b"}"


def serves(names: Sequence[str], tag: str, provider: str) -> bool:
    """Return True if one of `names` means this endpoint: its tag, the tag's provider part, or the provider's name."""
    wanted = {name.lower() for name in names}
    return bool(wanted & {tag.lower(), tag.lower().partition("/")[0], provider.lower()})


def _names(decoded: Mapping[str, Json], key: str) -> tuple[str, ...]:
    names = decoded.get(key)
    if names is None:
        return ()
    if not isinstance(names, list) or len(names) > _NAMES_MAX:
        raise BadRequest(f"The field 'provider.{key}' must be a list of names.")
    texts = tuple(name for name in names if isinstance(name, str) and not isinstance(name, Number))
    if len(texts) != len(names):
        raise BadRequest(f"The field 'provider.{key}' must be a list of names.")
    return texts


def _max_price(decoded: Json) -> dict[str, Decimal]:
    if decoded is None:
        return {}
    if not isinstance(decoded, dict):
        raise BadRequest("The field 'provider.max_price' must be an object.")
    caps = {key: decoded[key] for key in _MAX_PRICE_KEYS if decoded.get(key) is not None}
    return {key: _cap(key, item) for key, item in caps.items()}


def _cap(key: str, item: Json) -> Decimal:
    cap = number(item.encode("utf-8", "replace")) if isinstance(item, str) else None
    if cap is None or cap < 0:
        raise BadRequest(f"The field 'provider.max_price.{key}' must be a price in dollars per million tokens.")
    return cap


def _check_sort(sort: Json) -> None:
    by = sort.get("by") if isinstance(sort, dict) else sort
    if by not in (None, "price", "latency", "exacto"):
        raise BadRequest("The field 'provider.sort' may be price, latency or exacto: throughput admits dearer tiers.")
