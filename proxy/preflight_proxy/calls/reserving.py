"""Reserves a call's worst case: M9 (clamp), M10 step 1 (reserve first), M18 (waiting), M24 (exposure)."""

from __future__ import annotations

import asyncio
import os

import msgspec
from msgspec.structs import replace

from preflight_proxy.calls.quoting import CallContext, CallQuote, Quoter, ReservedCall
from preflight_proxy.core.admission.admission import Admission, Wait, Weigh, admit
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Reserve, Void
from preflight_proxy.core.ledger.rows import Reservation
from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.pricing.fits import PromptRate
from preflight_proxy.core.pricing.quote import CacheRead
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.core.secret import Secret
from preflight_proxy.ledger.service import Ledger


class Unweighed(msgspec.Struct, frozen=True):
    """A call that can be decided once its prompt is weighed.

    Attributes:
        quote: What it can cost by what is known now.
        tag: The endpoint to weigh it on: the cheapest.
        waited_ms: How long it has waited for others to settle.
    """

    quote: CallQuote
    tag: str
    waited_ms: int


class _Attempt:
    """Tries to reserve one call, as often as others settle, until it is reserved or refused."""

    def __init__(
        self, ledger: Ledger, quoter: Quoter, context: CallContext, first: CallQuote, *, may_weigh: bool
    ) -> None:
        self._ledger = ledger
        self.state = ledger.account_state(context.caller.account_id)
        self._quoter = quoter
        self._context = context
        self.first = first
        self.quotes = first.quotes
        self.is_stale = False
        self._may_weigh = may_weigh
        self.id = os.urandom(16).hex()
        self.outcome: Reservation | Refusal | Weigh | None = None
        self.cache_read: CacheRead | None = None

    def __call__(self, waited_s: float | None = None) -> bool:
        """Try once; True if that decided, as it does after `CALL_WAIT_S_MAX`.

        It quotes anew if it is not tried at once, because others may have been billed meanwhile.

        Args:
            waited_s: How long the call has waited; by its clock, if not given.
        """
        context, ledger = self._context, self._ledger
        account_id = context.caller.account_id
        if waited_s is None:
            left_s = context.until_s - ledger.clock.monotonic_s()
            waited_s = CALL_WAIT_S_MAX - left_s if left_s > 0 else CALL_WAIT_S_MAX
        if self.is_stale:
            worst_case = self._quoter.again(context, self.first)
            if isinstance(worst_case, Refusal):
                self.outcome = worst_case
                return True
            self.quotes = worst_case
        self.is_stale = True
        verdict = admit(
            ledger.account(account_id),
            self.quotes,
            pending=ledger.store.state.pending_exposure(account_id),
            busy=context.is_busy,
            has_unknown=ledger.store.state.unknown_count(account_id) > 0,
            waited_s=waited_s,
            cheapest_pusd=self.state.cheapest_pusd or 1,
            may_weigh=self._may_weigh,
        )
        if isinstance(verdict, Wait):
            return False
        if isinstance(verdict, Refusal):
            verdict = replace(verdict, rate=self._rate())
        self.outcome = self._reserve(verdict) if isinstance(verdict, Admission) else verdict
        return True

    def _rate(self) -> PromptRate | None:
        """What a new prompt is reserved at where this call is cheapest."""
        account_id, request = self._context.caller.account_id, self._context.request
        return self._quoter.prompt_rate(account_id, request, self.first.offer, self.quotes)

    def _reserve(self, admission: Admission) -> Reservation | Refusal:
        account_id, request = self._context.caller.account_id, self._context.request
        self.cache_read = admission.cache_read
        committed = self._ledger.commit(
            Reserve(
                reservation_id=self.id,
                account=account_id,
                reserved_pusd=admission.reserve_pusd,
                api=request.shape,
                model=self.quotes.first.model,
                tags=admission.tags,
                bound=admission.bound,
                streamed=request.stream,
                digest=request.digest,
                key_base=self._ledger.key_base(account_id),
                exposure_pusd=admission.exposure_pusd,
                rate=None if self._context.purpose else self._rate(),
                purpose=self._context.purpose,
                cache_read_tokens=admission.cache_read.prompt_tokens if admission.cache_read is not None else 0,
            )
        )
        if isinstance(committed, Refusal):
            return committed
        assert committed.reservation is not None, "a committed Reserve has its reservation"
        if not self._context.purpose:  # a weighing costs less than any call of the agent (M19)
            self.state.admitted(self.quotes.cheapest_pusd)
        return committed.reservation


async def reserve(
    ledger: Ledger, quoter: Quoter, context: CallContext, *, may_weigh: bool = False, waited_ms: int = 0
) -> ReservedCall | Refusal | Unweighed:
    """Quote a call and reserve its worst case, waiting until `context.until_s` for others to settle.

    A caller that is cancelled leaves nothing pending.

    Args:
        ledger: Where it is reserved.
        quoter: Quotes it.
        context: The call.
        may_weigh: Its prompt can be weighed: it is `Unweighed` where that may decide it.
        waited_ms: How long it waited for others to settle before it was weighed.

    Raises:
        BadRequest: A text of it cannot be read.
    """
    account_id = context.caller.account_id
    first = await quoter.quote(context)
    if isinstance(first, Refusal):
        return first
    attempt = _Attempt(ledger, quoter, context, first, may_weigh=may_weigh)
    try:
        waiting = ledger.waiting_calls
        attempt.is_stale = waiting.attempts != {} and waiting.has(account_id)
        waits = attempt.is_stale or not attempt()
        if waits and (estimated := await quoter.estimated(context, first)) is not first:  # by these it may fit
            first = attempt.first = estimated
            attempt.quotes = estimated.quotes
            waits = waiting.has(account_id) or not attempt()
        if waits:
            needed_pusd, since_s = first.quotes.least_pusd, ledger.clock.monotonic_s()
            if not await waiting.wait(account_id, attempt.id, needed_pusd, attempt, context.until_s):
                attempt(CALL_WAIT_S_MAX)
            waited_ms += round((ledger.clock.monotonic_s() - since_s) * 1000)
    except asyncio.CancelledError:
        if isinstance(attempt.outcome, Reservation):
            ledger.commit(Void(attempt.id, "the client left before it was sent"))
        raise
    except LedgerError:
        return refusal(Code.STORE, ledger.account(account_id))
    assert attempt.outcome is not None, "a try after the longest wait decides"
    if isinstance(attempt.outcome, Weigh):
        return Unweighed(first, first.quotes.first.cheapest_tag, waited_ms)
    if isinstance(attempt.outcome, Refusal):
        if may_weigh and attempt.outcome.code in (Code.SPENT, Code.DOES_NOT_FIT):
            hopeful = quoter.hopeful(account_id, context.request, first)
            if hopeful is not None and hopeful.cheapest_pusd <= ledger.account(account_id).available_pusd:
                return Unweighed(first, hopeful.cheapest_tag, waited_ms)
        return attempt.outcome
    key = attempt.state.key or Secret("")
    return ReservedCall(context, first, attempt.outcome, key, attempt.cache_read, waited_ms)
