"""The path of one inference request: read it, quote it, reserve its worst case, send it, answer (M10).

This is the one place that holds a request's control flow; what it decides with is pure and lies in `core`.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import partial

import structlog
from aiohttp import web

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.cache_notes import CacheNotes
from preflight_proxy.calls.call import Answer, Call
from preflight_proxy.calls.downstream import Downstream
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallQuote, Quoter
from preflight_proxy.calls.reserving import Admitted, reserve
from preflight_proxy.calls.sending import Outgoing, Sender
from preflight_proxy.calls.settlement import Settlement
from preflight_proxy.core.admission.admission import unread_refusal
from preflight_proxy.core.admission.queue import WAIT_S_MAX
from preflight_proxy.core.headers import upstream_headers
from preflight_proxy.core.ledger.transition import refusal as refusal_of
from preflight_proxy.core.refusals.outcomes import LEFT, not_open
from preflight_proxy.core.refusals.refusals import Code, Refusal, allowed_detail, answer, budget_headers
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.parsed_request import unread_digest
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.core.shapes.shape import Reading, Request, Shape, UnknownFields
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.server.intake import BodyMemory, Intake, IntakeError
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices

DROPPED_NAMED_MAX = 20
"""Dropped fields that the answer's header names."""
DROPPED_LOGGED_MAX = 1000
"""Dropped fields that the log names, once each; the names are the agents' choice."""

NOT_OPEN = "The budget proxy has started again, and this run's account is not open yet. Nothing was sent."

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_JSON = ("Content-Type", "application/json")
_log = structlog.get_logger("preflight_proxy.calls.paid_calls")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and by which API.

    Attributes:
        account_id: The account that pays.
        token_hash: SHA-256 of the token that proved it.
        shape: The API of the path.
        query: Query string that goes upstream, with its question mark, or empty.
    """

    account_id: str
    token_hash: str
    shape: Shape
    query: str


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
        self._upstream = upstream
        self._foreign_keys = foreign_keys or ForeignKeys(ledger, upstream)
        self._quoting = Quoter(ledger, prices)
        self._tasks = tasks
        self._parsing = RequestReader(unknown_fields)
        self._intake = intake
        self._backoff = Backoff(ledger.clock)
        self._cache_notes = CacheNotes(ledger.clock)
        self._dropped_logged: set[str] = set()

    async def serve(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Answer one inference request, whatever becomes of it."""
        until_s = self._ledger.clock.monotonic_s() + WAIT_S_MAX
        try:
            async with self._intake.body(request, caller.account_id) as body:
                if not await self._ledger.opened(caller.account_id, until_s):
                    self._ledger.note_unserved(caller.account_id, not_open(NOT_OPEN))
                    return _plain(caller.shape, 503, NOT_OPEN, "provider_overloaded")
                if (code := unread_refusal(self._ledger.account(caller.account_id))) is not None:
                    return self._refuse_unread(caller, body.data, code)
                asked = await self._parsing.read(caller.account_id, caller.shape, body.data, request.headers)
                return await self._serve(request, caller, asked, body.room, until_s)
        except IntakeError as exc:
            self._ledger.note_bad_request(caller.account_id, exc.message)
            return _plain(caller.shape, exc.status, exc.message, "invalid_request", close=True)
        except BadRequest as exc:
            self._ledger.note_bad_request(caller.account_id, exc.message)
            return _plain(caller.shape, exc.status, exc.message, exc.code)

    async def _serve(
        self, request: web.BaseRequest, caller: Caller, asked: Request, room: BodyMemory, until_s: float
    ) -> web.StreamResponse:
        """Quote, reserve, send; once more where the prices had moved."""
        self._log_dropped(asked)
        busy = self._ledger.note_request(caller.account_id, asked.digest)
        await self._foreign_keys.ready(caller.account_id)
        for may_requote in (True, False):
            reserved = await self._reserved(caller.account_id, asked, busy=busy, until_s=until_s)
            if isinstance(reserved, Refusal):
                return self._refuse(caller, asked, reserved)
            quoted, admitted = reserved
            self._ledger.escalation.clear(caller.token_hash)
            downstream = Downstream(request, extra=_dropped_header(asked))
            call = self._call(request, caller, asked, quoted, admitted, downstream, until_s)
            response = await self._run(call, downstream, room, may_requote=may_requote)
            if response is not None:
                return response
            self._quoting.expire(asked)
        raise AssertionError("a call that may not be quoted again was not answered")

    async def _reserved(
        self, account_id: str, asked: Request, *, busy: bool, until_s: float
    ) -> tuple[CallQuote, Admitted] | Refusal:
        """Quote the call and reserve its worst case, waiting as M18 has it."""
        try:
            quoted = await self._quoting.quote(account_id, asked)
            if isinstance(quoted, Refusal):
                return quoted
            again = partial(self._quoting.again, account_id, asked, quoted)
            admitted = await reserve(self._ledger, account_id, asked, quoted.quote, again, busy=busy, until_s=until_s)
            return admitted if isinstance(admitted, Refusal) else (quoted, admitted)
        except asyncio.CancelledError:
            self._ledger.note_unserved(account_id, LEFT)
            raise

    def _call(
        self,
        request: web.BaseRequest,
        caller: Caller,
        asked: Request,
        quoted: CallQuote,
        admitted: Admitted,
        downstream: Downstream,
        until_s: float,
    ) -> Call:
        key = self._ledger.account_state(caller.account_id).key
        shape, quote, reservation = caller.shape, quoted.quote, admitted.reservation
        secret = key.reveal() if key is not None else ""
        outgoing = Outgoing(
            path=shape.path + caller.query,
            headers=upstream_headers(request.headers.items(), secret, shape.name),
            body=lambda only, bound: write_request(
                asked, bound=quote.wire_bound(bound), only=only, max_price=quote.max_price
            ),
            key=secret,
            model=reservation.model,
            tags=reservation.tags,
            tags_of=quoted.tags_of,
            bound=admitted.bound,
            floor=quote.floor,
        )
        cached = partial(self._cache_notes.add, caller.account_id, asked, quoted.endpoints)
        settlement = Settlement(self._ledger, reservation, asked.digest, quoted.tags, cached)

        def on_cost(reading: Reading, _cost_pusd: int) -> Reading:
            return self._quoting.record(caller.account_id, asked, quoted, reading)

        return Call(
            ledger=self._ledger,
            sending=Sender(self._upstream, self._backoff, outgoing, self._ledger.clock, until_s),
            shape=shape,
            settlement=settlement,
            downstream=downstream,
            on_cost=on_cost,
            on_key_limit=partial(self._foreign_keys.limit_reached, caller.account_id),
            refuse=partial(self._call_refusal, caller, asked),
        )

    def _call_refusal(self, caller: Caller, asked: Request, code: Code) -> Answer:
        return self._refusal(
            caller, refusal_of(code, self._ledger.account(caller.account_id)), asked.digest, asked.model
        )

    async def _run(
        self, call: Call, downstream: Downstream, room: BodyMemory, *, may_requote: bool
    ) -> web.StreamResponse | None:
        """Run the call in a task that outlives its client; None if it is to be quoted once more."""
        running = self._tasks.spawn(call.run(may_requote=may_requote), "call")
        room.keep(running)
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

    def _refuse(self, caller: Caller, asked: Request, refusal: Refusal) -> web.Response:
        status, headers, body = self._refusal(caller, refusal, asked.digest, asked.model)
        return web.Response(status=status, headers=dict([*headers, *_dropped_header(asked)]), body=body)

    def _refuse_unread(self, caller: Caller, body: bytes, code: Code) -> web.Response:
        digest = unread_digest(body)
        self._ledger.note_request(caller.account_id, digest)
        refusal = refusal_of(code, self._ledger.account(caller.account_id))
        status, headers, text = self._refusal(caller, refusal, digest, "")
        return web.Response(status=status, headers=dict(headers), body=text)

    def _refusal(self, caller: Caller, refusal: Refusal, digest: str, model: str) -> Answer:
        """A refusal in the caller's words, noted, and said in the harder word where it is repeated (M19)."""
        account = self._ledger.account(caller.account_id)
        over = account.frozen is not None or self._ledger.spent(account.id)
        escalated = refusal.code.escalates and self._ledger.escalation.seen(
            caller.token_hash, digest, over, self._ledger.clock.monotonic_s()
        )
        self._ledger.note_refusal(account.id, refusal.code, model, refusal.limit_needed_pusd)
        allowed = allowed_detail(account.models or ()) if refusal.code is Code.MODEL_NOT_ALLOWED else ""
        status, body = answer(caller.shape, refusal, escalated, allowed)
        return status, [_JSON, *budget_headers(refusal)], body

    def _log_dropped(self, asked: Request) -> None:
        for name in _printable(asked.dropped):
            if name not in self._dropped_logged and len(self._dropped_logged) < DROPPED_LOGGED_MAX:
                self._dropped_logged.add(name)
                _log.info("request.field_dropped", api=asked.shape, field=name)


def _printable(names: tuple[str, ...]) -> list[str]:
    """Names that an agent chose, fit for a header and a log."""
    return [name for name in names if _HEADER_NAME.fullmatch(name)][:DROPPED_NAMED_MAX]


def _dropped_header(asked: Request) -> list[tuple[str, str]]:
    names = _printable(asked.dropped)
    return [("X-Preflight-Dropped", ", ".join(names))] if names else []


def _plain(shape: Shape, status: int, text: str, error_type: str, *, close: bool = False) -> web.Response:
    """An error of the request itself, in the caller's dialect; nothing was reserved."""
    response = web.Response(status=status, body=shape.refusal(status, text, error_type), headers=dict([_JSON]))
    if close:
        response.force_close()
    return response
