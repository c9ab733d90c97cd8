"""The entries of the ledger, each with its line of costs.jsonl: one JSON object, amounts as exact decimal text in dollars."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from preflight_proxy.core.ledger.rows import CallFacts, Entry, EntryKind, Reservation
from preflight_proxy.core.money import usd_text

LEDGER_TEXT_CHARS_MAX = 200
"""Names and ids come from upstream. A longer one is cut, so that no answer can fill the ledger."""


def entry_of(
    entry_id: int,
    at_s: float,
    account: str,
    kind: EntryKind,
    cost_pusd: int,
    reservation: Reservation | None,
    call: CallFacts,
    reason: str = "",
) -> Entry:
    """Return an entry.

    Args:
        entry_id: numbers the entries; the sum of ``cost_usd`` over all lines is the posted amount.
        at_s: seconds since the epoch; written as UTC to the millisecond.
        account: the account's id.
        kind: becomes ``outcome``.
        cost_pusd: signed, in pico-USD.
        reservation: the one that ended or was corrected, as it is afterwards; None for a recovered amount.
        call: what upstream reported.
        reason: why it was voided; empty otherwise.
    """
    fields = {
        "entry_id": entry_id,
        "time": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": account,
        "model": clean(call.model or (reservation.model if reservation else "")),
        "provider": clean(call.provider or ""),
        "generation_id": reservation.generation_id if reservation else clean(call.generation_id or "") or None,
        "tag": reservation.tag if reservation else clean(call.tag or "") or None,
        "prompt_tokens": call.prompt_tokens,
        "cached_tokens": call.cached_tokens,
        "cache_write_tokens": call.cache_write_tokens,
        "completion_tokens": call.completion_tokens,
        "reasoning_tokens": call.reasoning_tokens,
        "conversation": call.conversation or None,
        "cache_miss": clean(call.cache_miss) or None,
        "cache_saved_usd": None if call.cache_saved_pusd is None else usd_text(call.cache_saved_pusd),
        "cost_usd": usd_text(cost_pusd),
        "reserved_usd": usd_text(reservation.reserved_pusd if reservation else 0),
        "status": call.status,
        "ttft_ms": call.ttft_ms,
        "duration_ms": call.duration_ms,
        "api": reservation.api if reservation else "",
        "streamed": reservation.streamed if reservation else False,
        "outcome": kind.value,
        "reservation_id": reservation.id if reservation else None,
        "reason": clean(reason),
    }
    line = msgspec.json.encode(fields).decode()
    return Entry(entry_id, reservation.id if reservation else None, account, kind, cost_pusd, at_s, line)


def clean(text: str) -> str:
    """Return upstream's text cut to `LEDGER_TEXT_CHARS_MAX` and without lone surrogates, which no database stores."""
    return text[:LEDGER_TEXT_CHARS_MAX].encode("utf-8", "replace").decode()
