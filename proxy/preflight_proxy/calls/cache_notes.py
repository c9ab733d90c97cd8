"""Adds to a posted call's facts what caching did: for the cost line, never for the money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.core.caching.rules import saved_pusd
from preflight_proxy.core.caching.trace import CacheTrace
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.shapes.shape import Reading, Request

_log = structlog.get_logger("preflight_proxy.calls.cache_notes")


class CacheNotes:
    """Notes conversations, misses and savings of posted calls.

    Args:
        clock: The stopwatch that calls are measured on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._trace = CacheTrace()

    def add(
        self,
        account: str,
        asked: Request,
        endpoints: Mapping[str, Endpoint],
        facts: CallFacts,
        reading: Reading,
        started_s: float,
    ) -> CallFacts:
        """Return the facts with what caching did; as they are where nothing can be said. Never raises.

        Args:
            account: Whose call it was.
            asked: What it asked.
            endpoints: The quoted endpoints by their provider's display name.
            facts: What is known so far.
            reading: What upstream told.
            started_s: When it left, in monotonic seconds.
        """
        if (usage := reading.usage) is None:
            return facts
        endpoint = endpoints.get(reading.provider or "")
        try:
            note = self._trace.note(
                account, asked, usage, endpoint, started_s=started_s, ended_s=self._clock.monotonic_s()
            )
        except Exception as exc:  # a remark must not cost a settlement
            _log.warning("cache.not_noted", account=account, why=type(exc).__name__)
            return facts
        saved = saved_pusd(endpoint.prices, usage, hour=asked.prompt.cache_1h) if endpoint is not None else None
        return replace(facts, conversation=note.conversation, cache_miss=note.miss, cache_saved_pusd=saved)
