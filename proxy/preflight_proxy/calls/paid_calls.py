"""Serves the paths that spend money: read a call, quote and reserve it, run it, answer it (M10, the order of a call).

This module holds a request's control flow; what it decides with is pure and lies in `core`.
"""

from __future__ import annotations

import asyncio
import re

import structlog
from aiohttp import web

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.cache_notes import CacheNotes
from preflight_proxy.calls.call import JSON_HEADER, Answer, Call, CallServices, refusal_answer
from preflight_proxy.calls.downstream import Downstream
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.reserving import CallContext, Caller, Quoter, reserve
from preflight_proxy.core.admission.admission import unread_refusal
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.ledger.transition import refusal as refusal_of
from preflight_proxy.core.refusals.outcomes import LEFT, not_open
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.shape import Request, Shape, UnknownFields
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.intake import Body, Intake, IntakeError
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
        tasks: Where calls run, so that they outlive their clients.
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
            cache_notes=CacheNotes(ledger.clock),
            foreign_keys=foreign_keys or ForeignKeys(ledger, upstream),
        )
        self._tasks = tasks
        self._reader = RequestReader(unknown_fields)
        self._intake = intake
        self._dropped_logged: set[str] = set()

    async def serve(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Answer one inference request, whatever becomes of it."""
        account_id = caller.account_id
        until_s = self._ledger.clock.monotonic_s() + CALL_WAIT_S_MAX
        try:
            async with self._intake.body(request, account_id) as body:
                if not await self._ledger.sessions.opened(account_id, until_s):
                    self._ledger.note_unserved(account_id, not_open(NOT_OPEN))
                    return _plain(caller.shape, 503, NOT_OPEN, "provider_overloaded")
                if (code := unread_refusal(self._ledger.account(account_id))) is not None:
                    return self._refuse_unread(caller, body.data, code)
                parsed = await self._reader.read(account_id, caller.shape, body.data, request.headers)
                self._log_dropped(parsed)
                is_busy = self._ledger.sessions.note_request(account_id, parsed.digest)
                context = CallContext(caller, parsed, tuple(request.headers.items()), is_busy, until_s)
                return await self._serve(request, context, body)
        except IntakeError as exc:
            self._ledger.note_bad_request(account_id, exc.message)
            return _plain(caller.shape, exc.status, exc.message, "invalid_request", close=True)
        except BadRequest as exc:
            self._ledger.note_bad_request(account_id, exc.message)
            return _plain(caller.shape, exc.status, exc.message, exc.code)

    async def _serve(self, request: web.BaseRequest, context: CallContext, body: Body) -> web.StreamResponse:
        """Quote, reserve, send; once more where the prices had moved."""
        caller, parsed = context.caller, context.request
        await self._services.foreign_keys.ready(caller.account_id)
        for may_requote in (True, False):
            try:
                reserved = await reserve(self._ledger, self._services.quoter, context)
            except asyncio.CancelledError:
                self._ledger.note_unserved(caller.account_id, LEFT)
                raise
            if isinstance(reserved, Refusal):
                refusal = refusal_answer(self._ledger, caller, reserved, parsed.digest, parsed.model)
                return _response(refusal, _dropped_header(parsed))
            self._ledger.escalation.clear(caller.token_hash)
            downstream = Downstream(request, extra=_dropped_header(parsed))
            call = Call(self._services, reserved, downstream)
            response = await self._run(call, downstream, body, may_requote=may_requote)
            if response is not None:
                return response
            self._services.quoter.expire(parsed)
        raise AssertionError("a call that may not be quoted again was not answered")

    async def _run(
        self, call: Call, downstream: Downstream, body: Body, *, may_requote: bool
    ) -> web.StreamResponse | None:
        """Run the call in a task that outlives its client; None if it is to be quoted once more."""
        running = self._tasks.spawn(call.run(may_requote=may_requote), "call")
        body.keep(running)
        answered = asyncio.ensure_future(downstream.response())
        try:
            await asyncio.wait({running, answered}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            call.client_left()
            raise
        finally:
            if not answered.done():
                answered.cancel()
        return None if call.requote else await downstream.response()

    def _refuse_unread(self, caller: Caller, body: bytes, code: Code) -> web.Response:
        digest = caller.shape.unread_digest(body)
        self._ledger.sessions.note_request(caller.account_id, digest)
        refusal = refusal_of(code, self._ledger.account(caller.account_id))
        return _response(refusal_answer(self._ledger, caller, refusal, digest, ""))

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


def _response(answer: Answer, extra: list[tuple[str, str]] | None = None) -> web.Response:
    status, headers, body = answer
    return web.Response(status=status, headers=dict([*headers, *(extra or [])]), body=body)


def _plain(shape: Shape, status: int, text: str, error_type: str, *, close: bool = False) -> web.Response:
    """An error of the request itself, in the caller's API shape; nothing was reserved."""
    response = _response((status, [JSON_HEADER], shape.refusal(status, text, error_type)))
    if close:
        response.force_close()
    return response
