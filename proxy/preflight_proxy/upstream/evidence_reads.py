"""Reads OpenRouter's records: what a generation cost, what a key has used.

Source: openrouter.ai/docs/api_reference (`GET /generation`, `GET /key`), 2026-10.
"""

from __future__ import annotations

import msgspec

from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.money import cost_pusd
from preflight_proxy.core.secret import Secret
from preflight_proxy.upstream.client import Upstream

RESETS = ("daily", "weekly", "monthly")
"""When a key's limit can start again: at 00:00 UTC, weeks on Monday."""
_NULL = msgspec.Raw(b"null")


class _GenerationRecord(msgspec.Struct):
    id: str | None = None
    total_cost: msgspec.Raw = _NULL
    is_byok: bool | None = None
    upstream_inference_cost: msgspec.Raw = _NULL
    provider_name: str | None = None
    model: str | None = None
    native_tokens_prompt: int | None = None
    native_tokens_cached: int | None = None
    native_tokens_completion: int | None = None
    native_tokens_reasoning: int | None = None


class _GenerationDocument(msgspec.Struct):
    data: _GenerationRecord


class _KeyRecord(msgspec.Struct):
    usage: msgspec.Raw = _NULL
    byok_usage: msgspec.Raw = msgspec.Raw(b"0")
    limit_remaining: msgspec.Raw = _NULL
    limit_reset: object = None


class _KeyDocument(msgspec.Struct):
    data: _KeyRecord


class KeyRecord(msgspec.Struct, frozen=True):
    """OpenRouter's record of a key.

    Attributes:
        usage_pusd: Its settled usage of all time.
        byok_pusd: What provider keys of the user's own were billed for its calls; `usage_pusd` does not include it.
        left_pusd: What is left of its limit; 0 if it was exceeded; None if it has no limit, or OpenRouter states no amount.
        limit_reset: When its limit starts again: `daily`, `weekly` or `monthly`; None for never and for any other value.
    """

    usage_pusd: int
    byok_pusd: int
    left_pusd: int | None = None
    limit_reset: str | None = None


async def read_key_usage_pusd(upstream: Upstream, key: Secret) -> int:
    """Return a key's settled usage, in pico-USD, plus what provider keys of the caller's own were billed.

    Raises:
        UpstreamError: There is no answer, or it has no usage.
    """
    record = await read_key(upstream, key)
    return record.usage_pusd + record.byok_pusd


async def read_key(upstream: Upstream, key: Secret) -> KeyRecord:
    """Read OpenRouter's record of a key.

    Raises:
        UpstreamError: There is no answer, or it has no usage.
    """
    status, body = await upstream.get("/key", key.reveal())
    if status != 200:
        raise UpstreamError(f"OpenRouter answered {status} for the key's usage.")
    try:
        record = msgspec.json.decode(body, type=_KeyDocument).data
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise UpstreamError("OpenRouter's answer for the key's usage cannot be read.") from exc
    usage_pusd, byok_pusd = cost_pusd(bytes(record.usage)), cost_pusd(bytes(record.byok_usage))
    if usage_pusd is None or byok_pusd is None:
        raise UpstreamError("OpenRouter states no usage for the key.")
    left = bytes(record.limit_remaining)
    left_pusd = 0 if left.startswith(b"-") else cost_pusd(left)
    reset = record.limit_reset if isinstance(record.limit_reset, str) and record.limit_reset in RESETS else None
    return KeyRecord(usage_pusd, byok_pusd, left_pusd, reset)


async def read_generation(upstream: Upstream, key: Secret, generation_id: str) -> tuple[int, CallFacts] | None:
    """Read what a generation cost, in pico-USD, and its facts; None if there is no record. Never raises."""
    try:
        status, body = await upstream.get(f"/generation?id={generation_id}", key.reveal())
        if status != 200:
            return None
        record = msgspec.json.decode(body, type=_GenerationDocument).data
    except (UpstreamError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if record.id not in (None, generation_id):
        return None  # another generation's record says nothing of this one
    charged_pusd = cost_pusd(bytes(record.total_cost))
    # On a provider key of the caller's own that is OpenRouter's fee alone; the provider's bill is added (M16).
    provider_pusd = cost_pusd(bytes(record.upstream_inference_cost)) if record.is_byok else 0
    if charged_pusd is None or provider_pusd is None:
        return None
    charged_pusd += provider_pusd
    facts = CallFacts(
        model=record.model or "",
        provider=record.provider_name or "",
        generation_id=generation_id,
        prompt_tokens=record.native_tokens_prompt or 0,
        cached_tokens=record.native_tokens_cached or 0,
        completion_tokens=record.native_tokens_completion or 0,
        reasoning_tokens=record.native_tokens_reasoning or 0,
        is_byok=record.is_byok is True,
        status=status,
    )
    return charged_pusd, facts
