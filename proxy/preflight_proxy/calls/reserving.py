"""From a worst case to a durable reservation, waiting its turn where others hold what it needs (M9, M10 step 1, M18)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from preflight_proxy.core.admission.admission import Admission, Wait, admit
from preflight_proxy.core.admission.queue import WAIT_S_MAX
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.ledger.commands import Reserve, Void
from preflight_proxy.core.ledger.rows import Reservation
from preflight_proxy.core.ledger.transition import refusal
from preflight_proxy.core.pricing.quote import Quote
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.ledger.service import Ledger


@dataclass(frozen=True, slots=True)
class Admitted:
    """A committed reservation and the output bound it is for."""

    reservation: Reservation
    bound: int


class _Attempt:
    """One call's looks at its account: admitted and committed, refused, or still waiting."""

    def __init__(
        self,
        ledger: Ledger,
        account_id: str,
        asked: Request,
        quote: Quote,
        again: Callable[[], Quote | Refusal],
        busy: bool,
        until_s: float,
    ) -> None:
        self._ledger = ledger
        self._account_id = account_id
        self._asked = asked
        self._again = again
        self._quote = quote
        self._looked = False
        self._busy = busy
        self._until_s = until_s
        self.id = uuid.uuid4().hex
        self.outcome: Admitted | Refusal | None = None

    def __call__(self) -> bool:
        """Look once; True if that decided."""
        left_s = max(0.0, self._until_s - self._ledger.clock.monotonic_s())
        return self.decide(waited_s=WAIT_S_MAX - left_s)

    def decide(self, waited_s: float) -> bool:
        """Look as a call that has waited for so long; after `WAIT_S_MAX` that decides."""
        if self._looked:
            quoted = self._again()
            if isinstance(quoted, Refusal):
                self.outcome = quoted
                return True
            self._quote = quoted
        self._looked = True
        account = self._ledger.account(self._account_id)
        verdict = admit(
            account,
            self._quote,
            busy=self._busy,
            has_unknown=self._ledger.has_unknown(account.id),
            waited_s=waited_s,
            cheapest_pusd=self._ledger.account_state(account.id).cheapest_pusd or 1,
        )
        match verdict:
            case Wait():
                return False
            case Refusal():
                self.outcome = verdict
            case Admission():
                self.outcome = self._reserve(verdict)
        return True

    def _reserve(self, admitted: Admission) -> Admitted | Refusal:
        committed = self._ledger.commit(
            Reserve(
                reservation_id=self.id,
                account=self._account_id,
                reserved_pusd=admitted.reserve_pusd,
                api=self._asked.shape,
                model=self._quote.model,
                tags=admitted.tags,
                bound=admitted.bound,
                streamed=self._asked.stream,
                digest=self._asked.digest,
                key_base=self._ledger.key_base(self._account_id),
            )
        )
        if isinstance(committed, Refusal):
            return committed
        assert committed.reservation is not None, "a committed Reserve has its reservation"
        self._ledger.note_admitted(self._account_id, self._quote.cheapest_pusd)
        return Admitted(committed.reservation, admitted.bound)


async def reserve(
    ledger: Ledger,
    account_id: str,
    asked: Request,
    quote: Quote,
    again: Callable[[], Quote | Refusal],
    *,
    busy: bool,
    until_s: float,
) -> Admitted | Refusal:
    """Reserve the worst case of a call, waiting up to `until_s` (monotonic) for others to settle.

    For each look after the first it is quoted `again`: what others were billed at meanwhile may have tightened it (M4).
    A caller that is cancelled leaves nothing pending.
    """
    attempt = _Attempt(ledger, account_id, asked, quote, again, busy, until_s)
    try:
        if ledger.waiting_calls.has(account_id) or not attempt():
            needed_pusd = quote.least_pusd
            if not await ledger.waiting_calls.wait(account_id, attempt.id, needed_pusd, attempt, until_s):
                attempt.decide(waited_s=WAIT_S_MAX)
    except asyncio.CancelledError:
        if isinstance(attempt.outcome, Admitted):
            ledger.commit(Void(attempt.id, "the client left before it was sent"))
        raise
    except LedgerError:
        return refusal(Code.STORE, ledger.account(account_id))
    assert attempt.outcome is not None, "a look after the last moment to wait decides"
    return attempt.outcome
