"""The entries of the ledger, each with its line of costs.jsonl: one JSON object, amounts as exact decimal text in dollars."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

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
    tags: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET,
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
        tags: the run's, a JSON object; UNSET where it has none.
    """
    if reservation is None:
        model, generation_id, tag = "", clean(call.generation_id or "") or None, clean(call.tag or "") or None
    else:  # its texts are clean
        model, generation_id, tag = reservation.model, reservation.generation_id, reservation.tag
    at_ms = int(at_s * 1000)
    line = _ENCODER.encode(
        _CostLine(
            entry_id,
            f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z",
            account,
            clean(call.model) if call.model and call.model != model else model,
            clean(call.provider) if call.provider else "",
            generation_id,
            tag,
            call.prompt_tokens,
            call.cached_tokens,
            call.cache_write_tokens,
            call.completion_tokens,
            call.reasoning_tokens,
            call.conversation or None,
            clean(call.cache_miss) if call.cache_miss else None,
            None if call.cache_saved_pusd is None else usd_text(call.cache_saved_pusd),
            usd_text(cost_pusd),
            usd_text(reservation.reserved_pusd if reservation else 0),
            call.status,
            call.ttft_ms,
            call.duration_ms,
            reservation.api if reservation else "",
            reservation.streamed if reservation else False,
            kind,
            reservation.id if reservation else None,
            clean(reason) if reason else "",
            reservation.purpose if reservation else "",
            call.prices,
            call.waited_ms,
            tags,
        )
    ).decode()
    return Entry(entry_id, reservation.id if reservation else None, account, kind, cost_pusd, at_s, line)


@lru_cache(maxsize=4)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _CostLine(msgspec.Struct, gc=False):
    """The fields of a line, in their order."""

    entry_id: int
    time: str
    account: str
    model: str
    provider: str
    generation_id: str | None
    tag: str | None
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    conversation: str | None
    cache_miss: str | None
    cache_saved_usd: str | None
    cost_usd: str
    reserved_usd: str
    status: int | None
    ttft_ms: int | None
    duration_ms: int | None
    api: str
    streamed: bool
    outcome: EntryKind
    reservation_id: str | None
    reason: str
    purpose: str
    prices: msgspec.Raw | None
    waited_ms: int
    tags: msgspec.Raw | msgspec.UnsetType


_ENCODER = msgspec.json.Encoder()


class LineTokens(msgspec.Struct, frozen=True, gc=False):
    """The token counts in a line, and the endpoint that served."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    tag: str | None = None


def tokens_of(line: str) -> LineTokens:
    """Return the token counts of a line that an entry keeps; zeros if it cannot be read."""
    try:
        return msgspec.json.decode(line, type=LineTokens)
    except msgspec.DecodeError:
        return LineTokens()


def clean(text: str) -> str:
    """Return upstream's text cut to `LEDGER_TEXT_CHARS_MAX` and without lone surrogates, which no database stores."""
    if len(text) <= LEDGER_TEXT_CHARS_MAX and text.isascii():
        return text
    return text[:LEDGER_TEXT_CHARS_MAX].encode("utf-8", "replace").decode()
