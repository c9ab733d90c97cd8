"""OpenRouter's checks of key, credit and limit before a call, against settled spend only.

Parallel calls can each pass, so spend can exceed a limit. A call in flight is never ended.

Source: openrouter.ai/docs/api_reference/{limits,errors-and-debugging}, 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import plain
from openrouter_sim.billing.account import SimAccount, SimKey
from openrouter_sim.billing.prices import ZERO, price_of
from openrouter_sim.catalog.models import SimEndpoint

_WINDOWS = {None: "total", "daily": "daily", "weekly": "weekly", "monthly": "monthly"}


def authenticate(account: SimAccount, header: str | None) -> SimKey:
    """Return the key of an `Authorization` header.

    Raises:
        ApiError: 401 if there is none, or it is unknown, deleted, disabled or expired.
    """
    scheme, _, secret = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise ApiError(401, "Missing Authentication header")
    key = account.find(secret.strip())
    if key is None or key.deleted:
        raise ApiError(401, "User not found.")
    if key.disabled:
        raise ApiError(401, "This API key is disabled")
    if key.expires_s is not None and account.now() >= key.expires_s:
        raise ApiError(401, "This API key has expired")
    return key


def require_inference(key: SimKey) -> None:
    """Raise 403 for a management key, which cannot call inference."""
    if key.management:
        raise ApiError(403, "Management keys cannot be used for inference")


def require_management(key: SimKey) -> None:
    """Raise 403 for a key that is not a management key."""
    if not key.management:
        raise ApiError(403, "Only management keys can perform this operation")


def admit(
    account: SimAccount, key: SimKey, endpoints: Sequence[SimEndpoint], prompt_tokens: int, bound: int | None
) -> None:
    """Return if the call may start.

    Raises:
        ApiError: 402 without credit; 403 if the key's limit is spent; 402 if the rest does not cover the prompt and the
            bound (or the endpoint's longest completion, if the call sets no bound).
    """
    now = account.now()
    first = endpoints[0]
    price = price_of(first.pricing, prompt_tokens, now)
    if account.credit_left < 0 or (account.credit_left == 0 and not price.is_free):
        message = "Insufficient credits. Add more using https://openrouter.ai/credits"
        raise ApiError(402, message, metadata={"limit_source": "openrouter_credits"})
    if price.is_free:
        return
    remaining = key.remaining(account.today())
    if remaining is not None and remaining <= 0:
        raise _limit_spent(key, account)
    left = account.credit_left if remaining is None else min(remaining, account.credit_left)
    tighter = key if left < account.credit_left else None
    output_tokens = first.output_tokens_max if bound is None else bound
    if prompt_tokens * price.prompt > left:
        message = f"Prompt tokens limit exceeded: {prompt_tokens} > {int(left / price.prompt)}."
        raise _too_expensive(message, tighter)
    if output_tokens * price.completion > left:
        message = "This request requires more credits, or fewer max_tokens. You requested up to "
        raise _too_expensive(
            f"{message}{output_tokens} tokens, but can only afford {int(left / price.completion)}.", tighter
        )


def _limit_spent(key: SimKey, account: SimAccount) -> ApiError:
    spent, limit = key.spent(account.today()), key.limit or ZERO
    message = (
        f"Key limit exceeded ({_WINDOWS[key.limit_reset]} limit): ${_cents(spent)} of ${_cents(limit)} used. "
        f"Manage it using https://openrouter.ai/workspaces/default/keys/{key.hash}"
    )
    metadata = {"limit_source": "openrouter_key_limit", "scope": "key_limit", "limit_usd": limit, "spend_usd": spent}
    return ApiError(403, message, metadata={**metadata, "resets_at": None})


def _too_expensive(message: str, key: SimKey | None) -> ApiError:
    source = "openrouter_credits" if key is None else "openrouter_key_limit"
    remedy = "To increase, visit https://openrouter.ai/settings/credits and add more credits"
    if key is not None:
        window = _WINDOWS[key.limit_reset]
        remedy = f"To increase, visit https://openrouter.ai/settings/keys and create a key with a higher {window} limit"
    metadata = {"provider_name": None, "limit_source": source, "remedy_hint": "Lower max_tokens."}
    return ApiError(402, f"{message} {remedy}", metadata=metadata)


def _cents(amount: Decimal) -> str:
    return plain(amount.quantize(Decimal("0.01")))
