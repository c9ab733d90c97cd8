"""Adds what caching did to the facts of a posted call. The cost line shows it; no amount depends on it."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from msgspec.structs import replace

from preflight_proxy.base.clock import Clock
from preflight_proxy.core.caching.rules import saved_pusd
from preflight_proxy.core.caching.trace import CacheTrace
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.shapes.shape import Reading, Request

_log = structlog.get_logger("preflight_proxy.calls.cache_notes")


class CacheNotes:
    """Finds the conversation, the cache miss and the saving of posted calls.

    Args:
        clock: The clock that calls are measured with.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._trace = CacheTrace()

    def add(
        self,
        account: str,
        request: Request,
        endpoints: Mapping[str, Endpoint],
        facts: CallFacts,
        reading: Reading,
        started_s: float,
    ) -> CallFacts:
        """Return the facts with what caching did; unchanged if nothing is known. Never raises.

        Args:
            account: Whose call it was.
            request: What it asked for.
            endpoints: The quoted endpoints by their provider's display name.
            facts: What is known so far.
            reading: What upstream reported.
            started_s: When it was sent, in monotonic seconds.
        """
        if (usage := reading.usage) is None:
            return facts
        endpoint = endpoints.get(reading.provider or "")
        try:
            note = self._trace.note(
                account, request, usage, endpoint, started_s=started_s, ended_s=self._clock.monotonic_s()
            )
        except Exception as exc:  # a failure here must not prevent a settlement
            _log.warning("cache.not_noted", account=account, why=type(exc).__name__)
            return facts
        saved = saved_pusd(endpoint.prices, usage, hour=request.prompt.cache_1h) if endpoint is not None else None
        return replace(facts, conversation=note.conversation, cache_miss=note.miss, cache_saved_pusd=saved)
