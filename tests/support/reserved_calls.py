"""Reserved calls for tests of what comes after the reservation."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from preflight_proxy.calls.quoting import CallContext, Caller, CallQuote, ReservedCall
from preflight_proxy.core.ledger.rows import Reservation
from preflight_proxy.core.pricing.endpoint import Endpoint, EndpointPrices
from preflight_proxy.core.pricing.quote import Offer, Quote, Quotes, WorstCase
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes import SHAPES

KEY = "sk-or-real"
CHAT = SHAPES["/chat/completions"]


def call_context(account_id: str, model: str, *, tokens: int = 4000, until_s: float = 45.0) -> CallContext:
    """Return a chat call of an account with an output bound of so many tokens, which may wait until a monotonic time."""
    body = {"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]}
    request = CHAT.read(msgspec.json.encode(body), "drop")
    return CallContext(Caller(account_id, "token hash", CHAT, ""), request, (), False, until_s)


def reserved_call(
    providers: Mapping[str, str], *, reservation: Reservation | None = None, until_s: float = 45.0
) -> ReservedCall:
    """Return a chat call with at most 4000 output tokens, and at least 1024 where upstream lowers them.

    Args:
        providers: The provider's display name of each endpoint, by the endpoint's tag.
        reservation: What was committed for it; a made one, of account `a` and model `m`, if not given.
        until_s: Monotonic time until which it may wait.
    """
    tags = tuple(providers)
    if reservation is None:
        reservation = Reservation("r1", "a", 10**9, "chat", "m", tags, 4000, False, 0.0)
    model = reservation.model
    prices = EndpointPrices(prompt=10**6, completion=10**6)
    endpoints = tuple(
        Endpoint(model, tag, provider, 128_000, None, 16_000, True, "Other", prices)
        for tag, provider in providers.items()
    )
    worst = (WorstCase(1000, 10**6, None, 0),) * len(tags)
    quote = Quote(model, tags, 4000, 4000, 1024, {}, 1000, worst)
    context = call_context(reservation.account, model, until_s=until_s)
    return ReservedCall(
        context, CallQuote(Quotes.of(quote), Offer(endpoints, None, (), True)), reservation, Secret(KEY)
    )
