"""Serves the paths that spend money: read a call, quote and reserve it, run it, answer it (M10, the order of a call).

This module holds a request's control flow; what it decides with is pure and lies in `core`.
"""

from __future__ import annotations

import asyncio
import re

import structlog
from msgspec.structs import replace

from preflight_proxy.base.config import Bound, CacheBound
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.call import Call, CallServices, refusal_answer
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallContext, Caller, Quoter
from preflight_proxy.calls.reserving import Unweighed, reserve
from preflight_proxy.calls.weighing import Weigher
from preflight_proxy.core.admission.admission import unread_refusal
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.caching.trace import CacheTrace
from preflight_proxy.core.ledger.transition import refusal as refusal_of
from preflight_proxy.core.refusals.outcomes import LEFT, not_open
from preflight_proxy.core.refusals.refusals import Refusal
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.shape import Request, UnknownFields
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.shared_counts import SharedCounts
from preflight_proxy.server.intake import Intake, IntakeError
from preflight_proxy.server.request import ServerRequest
from preflight_proxy.server.response import JSON_HEADER, ClientResponse
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices

DROPPED_NAMED_MAX = 20
"""Dropped fields that the answer's header names."""
DROPPED_LOGGED_MAX = 1000
"""Dropped fields that the log names, once each; the names are the agents' choice."""

NOT_OPEN = "The budget proxy has started again, and this run's account is not open yet. Nothing was sent."

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_log = structlog.get_logger("preflight_proxy.calls.paid_calls")


class PaidCalls:
    """Serves the paths that spend money.

    Args:
        ledger: Accounts and entries.
        upstream: OpenRouter.
        prices: The price list.
        tasks: The tasks of the calls, which outlive their clients.
        intake: Reads the bodies.
        unknown_fields: What happens to top-level fields that are in no table (M8).
        bound: How many tokens a prompt counts as (M3).
        cache_bound: The price of a known prefix (M6).
        weigh: A prompt that does not fit by its estimate may be weighed.
        shared_counts: What other runs of the user know; None for nothing.
        foreign_keys: Reads a key that is not this ledger's alone, before the first call with it (M13).

    Attributes:
        reader: Parses the bodies of all accounts.
    """

    def __init__(
        self,
        ledger: Ledger,
        upstream: Upstream,
        prices: Prices,
        tasks: Tasks,
        intake: Intake,
        unknown_fields: UnknownFields = "drop",
        foreign_keys: ForeignKeys | None = None,
        *,
        bound: Bound = "measured",
        cache_bound: CacheBound = "write",
        weigh: bool = True,
        shared_counts: SharedCounts | None = None,
    ) -> None:
        self._ledger = ledger
        self.reader = RequestReader(unknown_fields)
        self._services = CallServices(
            ledger=ledger,
            upstream=upstream,
            quoter=Quoter(ledger, prices, self.reader, bound, shared_counts, cache_bound),
            backoff=Backoff(ledger.clock),
            cache_trace=CacheTrace(),
            foreign_keys=foreign_keys or ForeignKeys(ledger, upstream),
        )
        self._tasks = tasks
        self._weigher = Weigher(self._services, self.reader, tasks) if weigh and bound == "measured" else None
        self._intake = intake
        self._dropped_logged: set[str] = set()

    async def serve(self, request: ServerRequest, caller: Caller) -> None:
        """Answer one inference request, whatever becomes of it."""
        ledger, account_id, response = self._ledger, caller.account_id, request.response
        began_s = ledger.clock.monotonic_s()
        until_s = began_s + CALL_WAIT_S_MAX
        try:
            body = await self._intake.read(request, account_id)
        except IntakeError as exc:
            ledger.note_bad_request(account_id, exc.message)
            _refuse(response, caller.shape, exc.status, exc.message, "invalid_request", close=True)
            return
        state = ledger.account_state(account_id)
        try:
            if state.key is None and not await ledger.sessions.opened(account_id, until_s):
                ledger.note_unserved(account_id, not_open(NOT_OPEN))
                _refuse(response, caller.shape, 503, NOT_OPEN, "provider_overloaded")
            elif (code := unread_refusal(ledger.account(account_id))) is not None:
                digest = caller.shape.unread_digest(body)
                state.requested(digest, began_s)
                refusal = refusal_of(code, ledger.account(account_id))
                response.answer(*refusal_answer(ledger, caller, refusal, digest, ""))
            else:
                parsed = await self.reader.read(account_id, caller.shape, body)
                if parsed.dropped:
                    response.extra = self._dropped_header(parsed)
                is_busy = state.requested(parsed.digest, began_s)
                await self._serve(request, CallContext(caller, parsed, request.headers.pairs, is_busy, until_s))
        except BadRequest as exc:
            ledger.note_bad_request(account_id, exc.message)
            _refuse(response, caller.shape, exc.status, exc.message, exc.code)
        finally:
            self._intake.leave(len(body), account_id)

    async def _serve(self, request: ServerRequest, context: CallContext) -> None:
        """Quote, reserve, run; once more where the prices had moved, or the cache that was to be read grew old meanwhile.

        A call that runs outlives its client, and a drain waits for it.
        """
        ledger, services = self._ledger, self._services
        caller, parsed, response = context.caller, context.request, request.response
        await services.foreign_keys.ready(caller.account_id)
        for may_requote in (True, False):
            try:
                reserved = await reserve(ledger, services.quoter, context, may_weigh=self._weigher is not None)
                if self._weigher is not None and isinstance(reserved, Unweighed):
                    await self._weigher.weigh(context, reserved)
                    reserved = await reserve(ledger, services.quoter, context, waited_ms=reserved.waited_ms)
            except asyncio.CancelledError:
                ledger.note_unserved(caller.account_id, LEFT)
                raise
            assert not isinstance(reserved, Unweighed), "it was weighed, or may not be"
            if isinstance(reserved, Refusal):
                response.answer(*refusal_answer(ledger, caller, reserved, parsed.digest, parsed.model))
                return
            ledger.escalation.clear(caller.token_hash)
            assert request.task is not None
            self._tasks.keep(request.task)
            call = Call(services, reserved, response)
            request.on_client_left = call.client_left
            requotes = await call.run(may_requote=may_requote)
            request.on_client_left = request.cancel
            if not requotes or response.is_gone:
                return
            services.quoter.expire(parsed)
            context = replace(context, may_read_cache=False)
        raise AssertionError("a call that may not be quoted again was not answered")

    def _dropped_header(self, parsed: Request) -> list[tuple[str, str]]:
        """The header that names the fields which were left out. A name that an agent chose is printed only if it is plain."""
        names = [name for name in parsed.dropped if _HEADER_NAME.fullmatch(name)][:DROPPED_NAMED_MAX]
        for name in names:
            if name not in self._dropped_logged and len(self._dropped_logged) < DROPPED_LOGGED_MAX:
                self._dropped_logged.add(name)
                _log.info("request.field_dropped", api=parsed.shape, field=name)
        return [("X-Preflight-Dropped", ", ".join(names))] if names else []


def _refuse(
    response: ClientResponse, shape: Shape, status: int, text: str, error_type: str, *, close: bool = False
) -> None:
    """Answer an error of the request itself, in the caller's API shape; nothing was reserved."""
    response.answer(status, [JSON_HEADER], shape.refusal(status, text, error_type), close=close)
