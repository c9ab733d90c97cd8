"""Ends a call's reservation once: posts it, voids it, or marks it unknown (M13 void needs proof, M15 ends once).

reserved --usage with a cost, in a 2xx---------------> posted
         --proof that nothing was charged------------> voided
         --anything else-----------------------------> unknown    (stays pending; evidence decides)
"""

from __future__ import annotations

import structlog

from preflight_proxy.calls.quoting import Quoter, ReservedCall
from preflight_proxy.core.budget_text import UNLABELLED
from preflight_proxy.core.caching.trace import CacheNote, CacheTrace
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Post, SetGeneration, Void
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.store import GenerationTakenError

_NO_USAGE = CallUsage()
_NO_NOTE = CacheNote()
_log = structlog.get_logger("preflight_proxy.calls.settlement")


class Settlement:
    """One reservation on its way to its end.

    Args:
        ledger: Where it ends.
        quoter: Learns from what was billed (M4, calibration).
        cache_trace: Finds the conversation of a posted call, and what caching did.
        call: The reserved call.

    Attributes:
        ended: True once it is posted, voided or marked unknown.
        is_anothers: Upstream named the answer by an id that another call of this ledger has. So it is that call's answer: it proves
            nothing of this one, which is decided as one without an id (M16).
    """

    def __init__(self, ledger: Ledger, quoter: Quoter, cache_trace: CacheTrace, call: ReservedCall) -> None:
        self._ledger = ledger
        self._quoter = quoter
        self._cache_trace = cache_trace
        self._call = call
        self._started_s = ledger.clock.monotonic_s()
        self._status: int | None = None
        self._ttft_ms: int | None = None
        self.reservation = call.reservation
        self.generation_id: str | None = None
        self.ended = False
        self.is_anothers = False

    def answered(self, status: int, generation_id: str | None) -> None:
        """Note that upstream's response head came. Its generation id is durable when this returns (M10 step 4, id first).

        Raises:
            LedgerError: The store cannot be written.
        """
        self._status = status
        self._ttft_ms = round((self._ledger.clock.monotonic_s() - self._started_s) * 1000)
        self.named(generation_id)

    def named(self, generation_id: str | None) -> None:
        """Store the generation id that upstream named: the first one, unless it is another call's.

        Raises:
            LedgerError: The store cannot be read or written.
        """
        if generation_id is None or generation_id == self.generation_id or self.ended or self.is_anothers:
            return
        if self.generation_id is not None:
            self.doubts(generation_id)
            return
        try:
            # Straight to the store: no call waits for an id, and no file shows one.
            self._ledger.store.commit(SetGeneration(self.reservation.id, generation_id))
        except GenerationTakenError:
            self._doubt()
        else:
            self.generation_id = generation_id

    def doubts(self, generation_id: str | None) -> bool:
        """True if the answer is another call's, by this id or by one that it named before. Stores nothing.

        Raises:
            LedgerError: The store cannot be read.
        """
        is_new = generation_id not in (None, self.generation_id) and not self.is_anothers
        if is_new and self._ledger.store.is_anothers(str(generation_id), self.reservation.id):
            self._doubt()
        return self.is_anothers

    def _doubt(self) -> None:
        self.is_anothers = True
        _log.error("answer.of_another_call", account=self.reservation.account, reservation=self.reservation.id)

    def post(self, reading: Reading, cost_pusd: int, *, cache_hit: bool = False) -> None:
        """Post the cost. If the answer is another call's, nothing is posted and this call becomes unknown.

        Args:
            reading: All that the answer said.
            cost_pusd: What it cost.
            cache_hit: OpenRouter answered from its own cache, so the cost says nothing about prices.

        Raises:
            LedgerError: The store cannot be written; the reservation stays pending on disk.
        """
        if self.is_anothers:
            self.unknown(reading, "the answer is another call's", ended=False)
            return
        if not cache_hit:  # before the commit: it may admit a call that waits for what is learnt here
            reading = self._quoter.record(self._call, reading, self._started_s)
        self.ended = True
        facts = self._call_facts(reading, self._cache_note(reading))
        self._ledger.note_byok(self.reservation, facts)
        label = ", ".join(reading.tool_names) or UNLABELLED
        is_overrun = cost_pusd > self.reservation.reserved_pusd
        is_miscount = is_overrun and self._quoter.is_miscount(self._call, reading)
        if is_overrun:
            self._quoter.overran(self._call)
        self._ledger.commit(Post(self.reservation.id, cost_pusd, facts, label, is_miscount))
        if self._ledger.events.wanted:
            self._publish("posted", cost_pusd, reading)

    def void(self, reason: str) -> None:
        """Void the reservation: it is proven that nothing was charged.

        Raises:
            LedgerError: The store cannot be written.
        """
        self.ended = True
        self._ledger.commit(Void(self.reservation.id, reason, self._call_facts(Reading())))
        self._publish("voided", 0, Reading())

    def unknown(self, reading: Reading, why: str, *, ended: bool) -> None:
        """Mark the call unknown: evidence decides later. Does nothing once the reservation has ended; never raises.

        Args:
            reading: All that the answer said.
            why: For the log.
            ended: Upstream's answer came to its end, so nothing more is generated. Another call's answer does not show that.
        """
        if self.ended:
            return
        self.ended = True
        _log.warning("call.unknown", account=self.reservation.account, reservation=self.reservation.id, why=why)
        try:
            self._ledger.mark_unknown(self.reservation, self._call_facts(reading), ended=ended and not self.is_anothers)
        except LedgerError:
            return  # pending on disk: the next start marks it
        self._publish("unknown", 0, reading)

    def _cache_note(self, reading: Reading) -> CacheNote:
        """What caching did. The cost line shows it; no amount depends on it, so no failure to find it out prevents a settlement."""
        if reading.usage is None or self.reservation.purpose:
            return _NO_NOTE
        try:
            return self._cache_trace.note(
                self.reservation.account,
                self._call.context.request,
                reading.usage,
                self._call.quote.offer.by_provider.get(reading.provider or ""),
                started_s=self._started_s,
                ended_s=self._ledger.clock.monotonic_s(),
            )
        except Exception as exc:
            _log.warning("cache.not_noted", account=self.reservation.account, why=type(exc).__name__)
            return _NO_NOTE

    def _call_facts(self, reading: Reading, note: CacheNote = _NO_NOTE) -> CallFacts:
        provider, usage = reading.provider or "", reading.usage or _NO_USAGE
        endpoint = self._call.quote.offer.by_provider.get(provider)
        return CallFacts(
            model=reading.model or self.reservation.model,
            provider=provider,
            generation_id=self.generation_id,
            tag=None if endpoint is None else endpoint.tag,
            prices=None if endpoint is None else endpoint.price_text(usage.prompt_tokens),
            waited_ms=self._call.waited_ms,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            status=self._status,
            ttft_ms=self._ttft_ms,
            duration_ms=round((self._ledger.clock.monotonic_s() - self._started_s) * 1000),
            conversation=note.conversation,
            cache_miss=note.miss,
            cache_saved_pusd=note.saved_pusd,
            is_byok=usage.is_byok,
        )

    def _publish(self, outcome: str, cost_pusd: int, reading: Reading) -> None:
        if self.reservation.purpose:
            return  # events show what the agent does
        self._ledger.publish(
            "settled",
            self.reservation.account,
            outcome=outcome,
            model=self.reservation.model,
            cost_pusd=cost_pusd,
            tool_names=tuple(reading.tool_names),
            digest=self._call.context.request.digest,
            repeats=self._ledger.account_state(self.reservation.account).repeats,
        )
