"""How many calls a budget affords, by the proxy's own quote and its own rule of admission. Pure.

The calls are equal, come one after another, and each costs its worst case. Real calls cost less, so a run gets at least as many.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
from msgspec import structs
from msgspec.structs import asdict

from agent_preflight.base.usd import usd
from preflight_proxy.base.config import Bound
from preflight_proxy.core.admission.admission import Admission, admit
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.money import usd_text
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.fits import counted_tokens, fits_tokens
from preflight_proxy.core.pricing.prompt_bound import prompt_tokens_max, token_percent
from preflight_proxy.core.pricing.quote import Offer, Quote, Quotes, UnquotableError
from preflight_proxy.core.pricing.token_factors import AS_ESTIMATED
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.chat import Chat
from preflight_proxy.core.shapes.shape import Request

EXPECT_TOKENS = 20_000
"""The assumed size of a prompt, unless the user states one: tools and system text of a large agent."""
CALLS_WANTED = 5
"""Fewer affordable calls than this are worth a warning."""
CALLS_COUNTED_MAX = 1000
"""Counting ends here."""
FIGURES = 3
"""Significant figures of a rounded amount, if that is finer than a cent."""


class Estimate(msgspec.Struct, frozen=True):
    """What a budget affords of one model.

    Attributes:
        model: Its id, as the user wrote it.
        budget_pusd: The budget.
        expect_tokens: Tokens of the stated prompt.
        why_none: Why the proxy refuses the model whatever the budget; empty if it does not.
        why_unread: Why the prices could not be read; empty if they were. Then nothing below is known.
        prompt_tokens: The most prompt tokens that the quote counts for it.
        bound: Output tokens that a call asks for: as stated, else the most that an endpoint makes by itself.
        floor: Output tokens below which a call is refused, not clamped (M9).
        worst_pusd: The most that a call can cost.
        least_pusd: The least with which a call is admitted, clamped to `floor` (the least output bound).
        first_bound: Output tokens with which the first call leaves; None if it is refused.
        calls: Calls that are admitted, at most `CALLS_COUNTED_MAX`.
        fits_tokens: Tokens of the largest new prompt that the budget affords, with the shortest answer.
    """

    model: str
    budget_pusd: int
    expect_tokens: int
    why_none: str = ""
    why_unread: str = ""
    prompt_tokens: int = 0
    bound: int = 0
    floor: int = 0
    worst_pusd: int = 0
    least_pusd: int = 0
    first_bound: int | None = None
    calls: int = 0
    fits_tokens: int = 0

    @property
    def is_low(self) -> bool:
        """Whether a person should be warned."""
        return self.calls < CALLS_WANTED

    @property
    def enough_pusd(self) -> int:
        """A budget that affords `CALLS_WANTED` calls, none of them clamped."""
        return CALLS_WANTED * self.worst_pusd

    @property
    def why_unknown(self) -> str:
        """Why there is no worst case: the prices could not be read, or the proxy refuses the model. Else empty."""
        if self.why_unread:
            return f"not estimated: {self.why_unread}"
        return f"every call is refused: {self.why_none}" if self.why_none else ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for machines: dollars as exact decimal texts, in fields whose names end in `_usd`."""
        fields = {
            name.replace("_pusd", "_usd"): usd_text(value) if name.endswith("_pusd") else value
            for name, value in asdict(self).items()
        }
        why_unread = fields.pop("why_unread")
        if not why_unread:
            return fields
        return {"model": self.model, "budget_usd": fields["budget_usd"], "not_estimated": why_unread}


def estimate(
    model: str,
    budget_pusd: int,
    endpoints: Sequence[Endpoint],
    *,
    expect_tokens: int = EXPECT_TOKENS,
    max_tokens: int | None = None,
    byok: bool = False,
    bound: Bound = "measured",
) -> Estimate:
    """Return what a budget affords of a model.

    Args:
        model: Its id.
        budget_pusd: The budget.
        endpoints: Those that are priced and not quarantined.
        expect_tokens: Tokens of each call's prompt.
        max_tokens: The output bound that each call asks for; None if it asks for none.
        byok: Quotes hold the fee for a provider key of the user's own (M16).
        bound: How many tokens the proxy counts a prompt as (M3).
    """
    try:
        request = _call(model, max_tokens)
        offer = Offer(endpoints, request.only, request.ignore, has_output=True)
    except (BadRequest, UnquotableError) as exc:
        return Estimate(model, budget_pusd, expect_tokens, why_none=str(exc))
    proven = _priced(offer, request, expect_tokens, None, byok=byok)
    price = proven if bound == "proven" else _priced(offer, request, expect_tokens, AS_ESTIMATED, byok=byok)
    first, calls = _admitted(Quotes((price, proven), proven), budget_pusd)
    factor = None if bound == "proven" else AS_ESTIMATED
    rate = offer.prompt_rate(request, price, price.cheapest_tag, factor, has_fee=byok)
    return Estimate(
        model=model,
        budget_pusd=budget_pusd,
        expect_tokens=expect_tokens,
        prompt_tokens=price.prompt_tokens,
        bound=price.bound,
        floor=price.floor,
        worst_pusd=price.worst_pusd(price.bound),
        least_pusd=price.cheapest_pusd,
        first_bound=None if first is None else first.bound,
        calls=calls,
        fits_tokens=fits_tokens(rate, budget_pusd),
    )


def _priced(offer: Offer, request: Request, tokens: int, factor: int | None, *, byok: bool) -> Quote:
    """Quote a new prompt of so many tokens; see `token_percent` for the factor."""
    counted = [(each, counted_tokens(tokens, token_percent(each, factor))) for each in offer.quoted]
    plain = offer.quote(request, [min(prompt_tokens_max(each), count) for each, count in counted])
    return plain.with_byok_fee() if byok else plain


def _call(model: str, max_tokens: int | None) -> Request:
    """Return a first call as the proxy reads one, but for its text: a system message and a user message."""
    messages = [{"role": role, "content": ""} for role in ("system", "user")]
    bound = {} if max_tokens is None else {"max_tokens": max_tokens}
    body = json.dumps({"model": model, "messages": messages, **bound})
    return Chat().read(body.encode(), "drop")


def _admitted(quotes: Quotes, budget_pusd: int) -> tuple[Admission | None, int]:
    """Return the first admission and how many there are. Calls after the first follow within a minute: M9 (lower output bound)."""
    account, first = Account("estimate", "estimate", budget_pusd), None
    for calls in range(CALLS_COUNTED_MAX):
        decision = admit(account, quotes, busy=calls > 0, has_unknown=False, waited_s=0)
        if not isinstance(decision, Admission):
            return first, calls
        first = first or decision
        account = structs.replace(account, posted_pusd=account.posted_pusd + decision.reserve_pusd)
    return first, CALLS_COUNTED_MAX


def rounded_up(amount_pusd: int) -> str:
    """Return dollars for a person, never less than they are: `$1.39`, `$0.0211`."""
    amount = usd(amount_pusd)
    step = Decimal(1).scaleb(min(-2, amount.adjusted() - FIGURES + 1 if amount else 0))
    return f"${amount.quantize(step, ROUND_CEILING):f}"


def calls_text(estimate: Estimate) -> str:
    """Return the count for a person: `no call`, `1 call`, `12 calls`, `1,000 calls or more`."""
    if estimate.calls >= CALLS_COUNTED_MAX:
        return f"{CALLS_COUNTED_MAX:,} calls or more"
    return {0: "no call", 1: "1 call"}.get(estimate.calls, f"{estimate.calls} calls")


def advice(estimate: Estimate) -> str:
    """Return what to do about a low count; empty if there is nothing to do."""
    if estimate.why_none:
        return "take another model"
    if not estimate.is_low:
        return ""
    smaller = "" if estimate.bound <= estimate.floor else ", or have the agent ask for a smaller max_tokens"
    return f"raise the budget to {rounded_up(estimate.enough_pusd)} for {CALLS_WANTED} calls, take a cheaper model{smaller}"
