"""The life of one reserved call: send, relay, settle, and answer its client (M10 steps 2 to 7, M20 upstream's refusals).

The task that runs a call outlives its client: upstream is drained, because OpenRouter bills a stream that is cut.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from enum import Enum, auto

import msgspec
import structlog
from msgspec.structs import replace

from preflight_proxy.base.control_messages import SUB_KEY_LIMIT
from preflight_proxy.calls.backoff import Backoff, CallBackoff
from preflight_proxy.calls.quoting import Caller, Quoter, ReservedCall
from preflight_proxy.calls.relay import CALL_DRAIN_S_MAX, Relay
from preflight_proxy.calls.settlement import Settlement
from preflight_proxy.core.caching.trace import CacheTrace
from preflight_proxy.core.errors import LedgerError
from preflight_proxy.core.headers import downstream_headers, upstream_headers
from preflight_proxy.core.ledger.commands import Freeze
from preflight_proxy.core.ledger.transition import may_send
from preflight_proxy.core.ledger.transition import refusal as refusal_of
from preflight_proxy.core.refusals.outcomes import (
    LEFT,
    Cause,
    answered_upstream,
    ended_in_error,
    failed_upstream,
    refused,
)
from preflight_proxy.core.refusals.refusals import OVERDUE, Code, Refusal, allowed_detail, answer, budget_headers
from preflight_proxy.core.refusals.upstream_refusal import (
    Remedy,
    UpstreamRefusal,
    never_served,
    read_refusal,
    told_generation,
)
from preflight_proxy.core.shapes.shape import Reading
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.ledger.service import KEY_LIMIT_FIRED, Ledger
from preflight_proxy.server.response import JSON_HEADER, Answer, ClientResponse
from preflight_proxy.upstream.client import (
    NotSentError,
    OverdueError,
    UncertainError,
    Upstream,
    WithdrawnError,
    error_body,
)
from preflight_proxy.upstream.connection import TimeLimit, UpstreamAnswer

UNREACHABLE = "OpenRouter cannot be reached. Nothing was sent, nothing is charged."
UNCERTAIN = "OpenRouter broke off before it answered. The worst case stays reserved until its cost is known."
UNSERVED = "OpenRouter did not take this call. Nothing is charged."
FAILED = "OpenRouter failed to serve this call. The worst case stays reserved until its cost is known."

_GENERATION_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_log = structlog.get_logger("preflight_proxy.calls.call")


class CallServices(msgspec.Struct, frozen=True):
    """What all calls of a proxy share."""

    ledger: Ledger
    upstream: Upstream
    quoter: Quoter
    backoff: Backoff
    cache_trace: CacheTrace
    foreign_keys: ForeignKeys


def refusal_answer(ledger: Ledger, caller: Caller, refusal: Refusal, digest: str, model: str) -> Answer:
    """Count a refusal of ours and put it into the caller's API shape; a repeated one gets the harder status (M19, escalation)."""
    account = ledger.account(caller.account_id)
    over = account.frozen is not None or ledger.spent(account.id)
    escalated = refusal.code.escalates and ledger.escalation.seen(
        caller.token_hash, digest, over, ledger.clock.monotonic_s()
    )
    ledger.note_refusal(account.id, refusal.code, model, refusal.limit_needed_pusd)
    allowed = allowed_detail(account.models or ()) if refusal.code is Code.MODEL_NOT_ALLOWED else ""
    status, body = answer(caller.shape, refusal, escalated, allowed)
    return status, [JSON_HEADER, *budget_headers(refusal)], body


class Step(Enum):
    """What follows an attempt to send a call."""

    DONE = auto()
    SEND_AGAIN = auto()
    """Upstream refused it without charge, and takes it with less or later."""
    QUOTE_AGAIN = auto()
    """It ended unanswered and unspent, because prices or its account changed."""


class Call:
    """One reserved call.

    Args:
        services: What all calls share.
        call: The reserved call.
        downstream: Who is answered.
    """

    def __init__(self, services: CallServices, call: ReservedCall, downstream: ClientResponse) -> None:
        self._services = services
        self._ledger = ledger = services.ledger
        self._context = call.context
        self._shape = shape = call.context.caller.shape
        self._downstream = downstream
        self._key = call.key
        self._account_id = account_id = call.reservation.account
        self._model = call.reservation.model
        self._live = live = ledger.account_state(account_id)
        self._reserved_under = ledger.account(account_id)
        self._budget_refusals = live.budget_refusals
        self._backoff = CallBackoff(services.backoff, ledger.clock, call)
        self._settlement = settlement = Settlement(ledger, services.quoter, services.cache_trace, call)
        self._limit = limit = TimeLimit()
        self._cache_read = call.cache_read
        self._relay = Relay(shape, downstream, settlement, ledger.clock, call.key, limit)
        self._may_have_left = False
        self._is_concluded = False
        self._is_of_agent = not call.context.purpose

    @property
    def reading(self) -> Reading:
        """All that the answer has said so far."""
        return self._relay.reading

    async def run(self, *, may_requote: bool) -> bool:
        """Run the call to its end: when this returns or raises, its reservation has ended or is marked unknown.

        Returns:
            True if it ended unanswered and unspent, and is to be quoted once more; only where `may_requote`.
        """
        self._live.running.add(self)
        step = Step.DONE
        try:
            while (step := await self._attempt(may_requote)) is Step.SEND_AGAIN:
                pass
        except LedgerError:
            _log.error("call.not_posted", account=self._account_id, reservation=self._settlement.reservation.id)
            self._refuse(Code.STORE)
        except Exception:
            self._relay.break_off()  # the client must hear of it; the task logs the exception
            self._conclude(failed_upstream(self._relay.failure, self._model))
            raise
        finally:
            self._live.running.discard(self)
            if not self._settlement.ended:
                self._settle_what_is_open()
            if step is not Step.QUOTE_AGAIN and not (self._is_concluded and self._downstream.closed):
                self._conclude(LEFT)
                self._downstream.leave()
        return step is Step.QUOTE_AGAIN

    def _settle_what_is_open(self) -> None:
        """End the reservation whatever broke the call off: void if nothing left, else unknown, for evidence to decide (M13)."""
        if self._may_have_left:
            self._settlement.unknown(self._relay.reading, "the call ended without an outcome", ended=False)
        else:
            with contextlib.suppress(LedgerError):  # it stays pending on disk, for the next start
                self._settlement.void("broken off before it was sent")

    def _may_leave(self) -> bool:
        """Check M10 step 2 just before the first byte.

        The account is not frozen and not changed, the client still there, the ledger writable, and the cache that is to be read
        surely has its part.
        """
        store, read = self._ledger.store, self._cache_read
        stands = may_send(store.state, self._settlement.reservation.id, self._reserved_under)
        stands &= read is None or self._ledger.clock.monotonic_s() <= read.until_s
        self._may_have_left = stands and not self._downstream.is_gone and not store.poisoned
        return self._may_have_left

    async def _attempt(self, may_requote: bool) -> Step:
        """Send once, and relay the answer."""
        self._may_have_left = False
        services, caller = self._services, self._context.caller
        if services.backoff.has_delays and (code := await self._backoff.wait()) is not None:
            self._settlement.void("upstream asks for a longer wait than the client can bear")
            self._refuse(code)
            return Step.DONE
        headers = upstream_headers(self._context.headers, self._key.reveal(), caller.shape.name)
        try:
            answer = await services.upstream.post(
                caller.shape.path + caller.query, self._backoff.body(), headers, self._may_leave, self._limit
            )
        except WithdrawnError:
            self._settlement.void("withdrawn")
            return self._withdrawn(may_requote)
        except NotSentError:
            self._settlement.void("not sent")
            self._fail(502, UNREACHABLE)
        except UncertainError as exc:
            self._settlement.unknown(Reading(), str(exc), ended=False)
            if isinstance(exc, OverdueError):
                self._conclude(failed_upstream(OVERDUE, self._model))
                self._relay.end(OVERDUE)
            else:
                self._fail(502, UNCERTAIN)
        else:
            try:
                return await self._answered(answer, may_requote)
            finally:
                answer.close()
        return Step.DONE

    def _withdrawn(self, may_requote: bool) -> Step:
        """Quote once more if the client is still there, so that it gets the reason that holds now."""
        if self._downstream.is_gone:
            self._downstream.leave()
        elif may_requote:
            return Step.QUOTE_AGAIN
        else:
            self._refuse(Code.FROZEN)
        return Step.DONE

    async def _answered(self, response: UpstreamAnswer, may_requote: bool) -> Step:
        headers = response.headers
        generation_id = response.header("x-generation-id")
        if generation_id is not None and not _GENERATION_ID.fullmatch(generation_id):
            generation_id = None
        if 200 <= response.status < 300:
            if self._services.backoff.has_delays:
                self._backoff.served()
            self._settlement.answered(response.status, generation_id)
            await self._relay.run(response, [*self._passed(headers), *self._budget_headers()])
            self._conclude(self._unserved())
            return Step.DONE
        body = await error_body(response)
        refusal = read_refusal(
            response.status,
            body or b"",
            response.header("retry-after"),
            resets_at=response.header("x-ratelimit-reset"),
            now_s=self._ledger.clock.epoch_s(),
        )
        if never_served(response.status, headers, body):
            refusal = replace(refusal, proves_free=True)
        generation_id = generation_id or told_generation(body or b"")
        proves_free = refusal.proves_free and not self._settlement.doubts(generation_id)
        if proves_free and self._sends_again(refusal):
            return Step.SEND_AGAIN  # its id is not stored: the record of a refused attempt says nothing of the next one
        self._settlement.answered(response.status, generation_id)
        if not proves_free:
            self._settlement.unknown(Reading(), f"status {response.status}", ended=True)
        else:
            self._settlement.void(f"refused upstream with {response.status}")
        if self._settlement.is_anothers:
            self._fail(502, FAILED)
            return Step.DONE
        if refusal.remedy is Remedy.REQUOTE and may_requote:
            return Step.QUOTE_AGAIN
        await self._not_served(refusal, headers, body or b"")
        return Step.DONE

    def _sends_again(self, refusal: UpstreamRefusal) -> bool:
        return self._backoff.waits_out(refusal) or (not self._is_drift(refusal) and self._backoff.lowers(refusal))

    def _is_drift(self, refusal: UpstreamRefusal) -> bool:
        """Whether a refusal shows that the ledger is too low: the sub-key's own limit fired before the account's (M20).

        A check before the call compares more than was reserved with what is left, if calls have exposure (M24). So it shows that
        only where they have none.
        """
        is_of_own = refusal.remedy is Remedy.FREEZE and self._reserved_under.key_is_own
        return is_of_own and (self._ledger.reserves_proven or not refusal.is_key_check)

    async def _not_served(self, refusal: UpstreamRefusal, headers: list[tuple[str, str]], body: bytes) -> None:
        key_is_own = self._reserved_under.key_is_own
        match refusal.remedy:
            case Remedy.FREEZE if not key_is_own:
                resets_at = await self._services.foreign_keys.limit_reached(self._account_id)
                self._refuse(Code.KEY_LIMIT, [] if resets_at is None else [("X-Budget-Resets-At", resets_at)])
            case Remedy.FREEZE if self._is_drift(refusal):
                _log.error("ledger.drift", account=self._account_id, why="the sub-key's own limit fired first")
                self._ledger.commit(Freeze(self._account_id, KEY_LIMIT_FIRED))
                self._ledger.publish("frozen", self._account_id, reason=SUB_KEY_LIMIT)
                self._refuse(Code.TRIAL_KEY_LIMIT)
                self._ledger.sessions.cut("the sub-key's limit fired", self._account_id)
            case Remedy.WAIT_PROCESS | Remedy.WAIT_MODEL:
                self._refuse(refusal.cause)
            case _ if refusal.is_key_check and key_is_own:
                _log.info("upstream.key_check", account=self._account_id, model=self._model)
                self._refuse(Code.DOES_NOT_FIT)
            case Remedy.REWRITE:
                _log.warning("upstream.refused_money", account=self._account_id, cause=refusal.cause.name.lower())
                self._refuse(refusal.cause)
            case _ if refusal.is_envelope and not self._key.is_in(body):
                sent = [*self._passed(headers), *self._budget_headers()]
                self._conclude(answered_upstream(refusal.status, body, self._key, self._model))
                self._downstream.answer(refusal.status, sent, body)
            case _:
                text = UNSERVED if refusal.proves_free else FAILED
                self._fail(refusal.status if refusal.status >= 400 else 502, text)

    def _unserved(self) -> Cause | None:
        """Why a 2xx did not serve the client; None if it did."""
        if self._relay.failure:
            return failed_upstream(self._relay.failure, self._model)
        return ended_in_error(self._model) if self._relay.reading.error else None

    def _conclude(self, cause: Cause | None) -> None:
        """Count the call as served, or why not. Only the first count of a call is taken."""
        if self._is_concluded:
            return
        self._is_concluded = True
        if not self._is_of_agent:
            return
        overtaken = self._live.budget_refusals > self._budget_refusals
        if cause is None:
            self._ledger.note_served(self._account_id, overtaken=overtaken)
        else:
            self._ledger.note_unserved(self._account_id, cause, overtaken=overtaken)

    def client_left(self) -> None:
        """The client hung up: send it nothing more, and drain upstream. A stream that had begun counts as served."""
        self._downstream.leave()
        self._drain()
        self._conclude(None if self._relay.events_count else LEFT)

    def cut(self, reason: str) -> None:
        """End the client's answer at once, in its API's error form; settling goes on."""
        if self._downstream.started or not self._is_concluded:
            self._refuse(Code.FROZEN)
        _log.info("stream.cut", account=self._account_id, reason=reason)
        self._drain()

    def _drain(self) -> None:
        """Shorten the time limits to those of M17 (drain)."""
        self._backoff.stop_waiting()
        self._limit.end_in(CALL_DRAIN_S_MAX)
        self._relay.tighten()

    def _refuse(self, code: Code, more: Sequence[tuple[str, str]] = ()) -> None:
        if not self._is_of_agent:
            self._downstream.leave()
        elif self._downstream.started:
            self._relay.end(code.sentence)
            self._conclude(refused(code, self._model))
        else:
            self._is_concluded = True  # counted with the refusal
            status, headers, body = self._refusal(code)
            self._downstream.answer(status, [*headers, *more], body)

    def _refusal(self, code: Code) -> Answer:
        request = self._context.request
        refusal = refusal_of(code, self._ledger.account(self._account_id))
        return refusal_answer(self._ledger, self._context.caller, refusal, request.digest, request.model)

    def _fail(self, status: int, text: str) -> None:
        self._conclude(failed_upstream(text, self._model))
        body = self._shape.refusal(status, text, "provider_unavailable")
        self._downstream.answer(status, [JSON_HEADER, *self._budget_headers()], body)

    def _passed(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The headers that go down, without one that repeats the real key."""
        passed = downstream_headers(headers)
        if not self._key.is_in("\0".join([value for _, value in passed]).encode(errors="replace")):
            return passed
        return [(name, value) for name, value in passed if not self._key.is_in(value.encode(errors="replace"))]

    def _budget_headers(self) -> list[tuple[str, str]]:
        return budget_headers(self._ledger.account(self._account_id))
