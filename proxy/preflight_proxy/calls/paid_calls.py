"""Serves the paths that spend money: read a call, quote and reserve it, run it, answer it (M10, the order of a call).

This module holds a request's control flow; what it decides with is pure and lies in `core`.
"""

from __future__ import annotations

import asyncio
import re

import structlog

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.call import Call, CallServices, refusal_answer
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.reserving import CallContext, Caller, Quoter, reserve
from preflight_proxy.core.admission.admission import unread_refusal
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.caching.trace import CacheTrace
from preflight_proxy.core.ledger.transition import refusal as refusal_of
from preflight_proxy.core.refusals.outcomes import LEFT, not_open
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.shape import Request, Shape, UnknownFields
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.ledger.service import Ledger
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
        foreign_keys: Reads a key that is not this ledger's alone, before the first call with it (M13).
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
    ) -> None:
        self._ledger = ledger
        self._services = CallServices(
            ledger=ledger,
            upstream=upstream,
            quoter=Quoter(ledger, prices),
            backoff=Backoff(ledger.clock),
            cache_trace=CacheTrace(),
            foreign_keys=foreign_keys or ForeignKeys(ledger, upstream),
        )
        self._tasks = tasks
        self._reader = RequestReader(unknown_fields)
        self._intake = intake
        self._dropped_logged: set[str] = set()

    async def serve(self, request: ServerRequest, caller: Caller) -> None:
        """Answer one inference request, whatever becomes of it."""
        account_id, response = caller.account_id, request.response
        until_s = self._ledger.clock.monotonic_s() + CALL_WAIT_S_MAX
        try:
            body = await self._intake.read(request, account_id)
        except IntakeError as exc:
            self._ledger.note_bad_request(account_id, exc.message)
            _refuse(response, caller.shape, exc.status, exc.message, "invalid_request", close=True)
            return
        try:
            if not await self._ledger.sessions.opened(account_id, until_s):
                self._ledger.note_unserved(account_id, not_open(NOT_OPEN))
                _refuse(response, caller.shape, 503, NOT_OPEN, "provider_overloaded")
            elif (code := unread_refusal(self._ledger.account(account_id))) is not None:
                self._refuse_unread(response, caller, body, code)
            else:  # what a body is encoded by is known here: Intake refuses the rest
                parsed = await self._reader.read(account_id, caller.shape, body, {})
                self._log_dropped(parsed)
                is_busy = self._ledger.sessions.note_request(account_id, parsed.digest)
                response.extra = _dropped_header(parsed)
                await self._serve(request, CallContext(caller, parsed, request.headers.pairs, is_busy, until_s))
        except BadRequest as exc:
            self._ledger.note_bad_request(account_id, exc.message)
            _refuse(response, caller.shape, exc.status, exc.message, exc.code)
        finally:
            self._intake.leave(body, account_id)

    async def _serve(self, request: ServerRequest, context: CallContext) -> None:
        """Quote, reserve, send; once more where the prices had moved."""
        caller, parsed, response = context.caller, context.request, request.response
        await self._services.foreign_keys.ready(caller.account_id)
        for may_requote in (True, False):
            try:
                reserved = await reserve(self._ledger, self._services.quoter, context)
            except asyncio.CancelledError:
                self._ledger.note_unserved(caller.account_id, LEFT)
                raise
            if isinstance(reserved, Refusal):
                response.answer(*refusal_answer(self._ledger, caller, reserved, parsed.digest, parsed.model))
                return
            self._ledger.escalation.clear(caller.token_hash)
            call = Call(self._services, reserved, response)
            if not await self._run(call, request, may_requote=may_requote) or response.is_gone:
                return
            self._services.quoter.expire(parsed)
        raise AssertionError("a call that may not be quoted again was not answered")

    async def _run(self, call: Call, request: ServerRequest, *, may_requote: bool) -> bool:
        """Run the call; from here on it outlives its client, and a drain waits for it."""
        assert request.task is not None
        self._tasks.keep(request.task)
        request.on_client_left = call.client_left
        requotes = await call.run(may_requote=may_requote)
        request.on_client_left = request.cancel
        return requotes

    def _refuse_unread(self, response: ClientResponse, caller: Caller, body: bytes, code: Code) -> None:
        digest = caller.shape.unread_digest(body)
        self._ledger.sessions.note_request(caller.account_id, digest)
        refusal = refusal_of(code, self._ledger.account(caller.account_id))
        response.answer(*refusal_answer(self._ledger, caller, refusal, digest, ""))

    def _log_dropped(self, parsed: Request) -> None:
        for name in _printable(parsed.dropped):
            if name not in self._dropped_logged and len(self._dropped_logged) < DROPPED_LOGGED_MAX:
                self._dropped_logged.add(name)
                _log.info("request.field_dropped", api=parsed.shape, field=name)


def _printable(names: tuple[str, ...]) -> list[str]:
    """Names that an agent chose, fit for a header and a log."""
    return [name for name in names if _HEADER_NAME.fullmatch(name)][:DROPPED_NAMED_MAX]


def _dropped_header(parsed: Request) -> list[tuple[str, str]]:
    names = _printable(parsed.dropped)
    return [("X-Preflight-Dropped", ", ".join(names))] if names else []


def _refuse(
    response: ClientResponse, shape: Shape, status: int, text: str, error_type: str, *, close: bool = False
) -> None:
    """Answer an error of the request itself, in the caller's API shape; nothing was reserved."""
    response.answer(status, [JSON_HEADER], shape.refusal(status, text, error_type), close=close)
