"""The line of costs.jsonl that an entry carries: one JSON object, amounts as exact decimal text in dollars."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from preflight_proxy.core.ledger.rows import CallFacts, EntryKind, Reservation
from preflight_proxy.core.money import usd_text

TEXT_CHARS_MAX = 200
"""Names and ids come from upstream; a longer one is cut, so that no answer can swell the books."""


def cost_line(
    entry_id: int,
    at_s: float,
    account: str,
    kind: EntryKind,
    cost_pusd: int,
    reservation: Reservation | None,
    call: CallFacts,
    reason: str = "",
) -> str:
    """Return the line of one entry, without newline.

    Args:
        entry_id: numbers the lines; the sum of ``cost_usd`` over all lines is what is posted.
        at_s: seconds since the epoch; written as UTC to the millisecond.
        account: the account's id.
        kind: becomes ``outcome``.
        cost_pusd: signed, in pico-USD.
        reservation: what ended or was corrected; None for a recovered amount.
        call: what upstream told.
        reason: why it was voided; empty otherwise.
    """
    held = reservation
    fields = {
        "entry_id": entry_id,
        "time": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": account,
        "model": clean(call.model or (held.model if held else "")),
        "provider": clean(call.provider or ""),
        "generation_id": held.generation_id if held else clean(call.generation_id or "") or None,
        "tag": held.tag if held else clean(call.tag or "") or None,
        "prompt_tokens": call.prompt_tokens,
        "cached_tokens": call.cached_tokens,
        "cache_write_tokens": call.cache_write_tokens,
        "completion_tokens": call.completion_tokens,
        "reasoning_tokens": call.reasoning_tokens,
        "conversation": call.conversation or None,
        "cache_miss": clean(call.cache_miss) or None,
        "cache_saved_usd": None if call.cache_saved_pusd is None else usd_text(call.cache_saved_pusd),
        "cost_usd": usd_text(cost_pusd),
        "reserved_usd": usd_text(held.reserved_pusd if held else 0),
        "status": call.status,
        "ttft_ms": call.ttft_ms,
        "duration_ms": call.duration_ms,
        "api": held.api if held else "",
        "streamed": held.streamed if held else False,
        "outcome": kind.value,
        "reservation_id": held.id if held else None,
        "reason": clean(reason),
    }
    return msgspec.json.encode(fields).decode()


def clean(text: str) -> str:
    """Return upstream's text cut to `TEXT_CHARS_MAX` and free of lone surrogates, which no database takes."""
    return text[:TEXT_CHARS_MAX].encode("utf-8", "replace").decode()
