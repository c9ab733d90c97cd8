"""The path of one inference request: read it, quote it, reserve its worst case, send it, answer (M10).

This is the one place that holds a request's control flow; what it decides with is pure and lies in `core`.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import dataclass

import structlog
from aiohttp import web

from preflight_proxy.books import Books
from preflight_proxy.call import Call, Outgoing
from preflight_proxy.core.accounts import Account, Reservation
from preflight_proxy.core.admission import Admit, Wait, admit
from preflight_proxy.core.calibration import Calibration
from preflight_proxy.core.commands import Refuse, Reserve
from preflight_proxy.core.headers import upstream_headers
from preflight_proxy.core.queue import WAIT_S_MAX
from preflight_proxy.core.quote import Quote, Unquotable, quote, split_model
from preflight_proxy.core.refusals import Code, Refusal, answer, budget_headers
from preflight_proxy.core.shapes.shape import BadRequest, Reading, Request, Shape
from preflight_proxy.downstream import Downstream
from preflight_proxy.errors import LedgerError
from preflight_proxy.holds import Holds
from preflight_proxy.intake import Intake, IntakeError
from preflight_proxy.prices import Prices, StalePricesError
from preflight_proxy.settlement import Settlement
from preflight_proxy.tasks import Tasks
from preflight_proxy.upstream import Upstream

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NAMED_MAX = 20
_JSON = ("Content-Type", "application/json")
_log = structlog.get_logger("preflight_proxy.forward")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an account, and the hash of the token that proved it."""

    account_id: str
    token_hash: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A committed reservation and the output bound it is for."""

    reservation: Reservation
    bound: int


class Forward:
    """Serves the paths that spend money.

    Args:
        books: Accounts and entries.
        upstream: OpenRouter.
        prices: The price list.
        tasks: Where calls run, so that they outlive their clients.
        unknown_fields: What happens to top-level fields that are in no table: `drop`, `refuse` or `pass` (M8).
    """

    def __init__(
        self, books: Books, upstream: Upstream, prices: Prices, tasks: Tasks, unknown_fields: str = "drop"
    ) -> None:
        self._books = books
        self._upstream = upstream
        self._prices = prices
        self._tasks = tasks
        self._unknown_fields = unknown_fields
        self._intake = Intake()
        self._holds = Holds(books.clock)
        self._calibration = Calibration()
        self._dropped_logged: set[str] = set()

    async def serve(self, request: web.BaseRequest, caller: Caller, shape: Shape, query: str) -> web.StreamResponse:
        """Answer one inference request, whatever becomes of it."""
        try:
            async with self._intake.body(request) as body:
                asked = shape.read(body, request.headers, self._unknown_fields)
        except IntakeError as exc:
            return _plain(shape, exc.status, exc.message, "invalid_request", close=True)
        except BadRequest as exc:
            return _plain(shape, exc.status, exc.message, exc.code)
        self._log_dropped(asked)
        busy = self._books.note_request(caller.account_id, asked.digest)
        waits_until_s = self._books.clock.monotonic_s() + WAIT_S_MAX
        for may_requote in (True, False):
            quoted = await self._quote(caller, asked)
            if isinstance(quoted, Refusal):
                return self._refuse(caller, shape, asked, quoted)
            admitted = await self._reserve(caller, asked, quoted, shape, busy=busy, until_s=waits_until_s)
            if isinstance(admitted, Refusal):
                return self._refuse(caller, shape, asked, admitted)
            self._books.escalation.clear(caller.token_hash)
            call, downstream = self._call(request, caller, shape, query, asked, quoted, admitted, waits_until_s)
            response = await self._run(call, downstream, may_requote=may_requote)
            if response is not None:
                return response
            self._prices.expire(split_model(asked.model)[0])
        raise AssertionError("a call that may not be quoted again was not answered")

    # Quoting

    async def _quote(self, caller: Caller, asked: Request) -> Quote | Refusal:
        account = self._books.account(caller.account_id)
        model, _suffix = split_model(asked.model)
        if account.models is not None and model not in account.models and asked.model not in account.models:
            return _refusal(Code.MODEL_NOT_ALLOWED, account)
        try:
            listed = (await self._prices.of(model)).endpoints
        except StalePricesError:
            return _refusal(Code.PRICE_STALE, account)
        quarantined = self._books.store.book.quarantined
        usable = [endpoint for endpoint in listed if (endpoint.model, endpoint.tag) not in quarantined]
        if listed and not usable:
            return _refusal(Code.QUARANTINED, account)
        try:
            quoted = quote(
                asked,
                usable,
                prompt_tokens=lambda endpoint: self._calibration.prompt_tokens(caller.account_id, asked, endpoint),
            )
        except Unquotable as exc:
            return _refusal(exc.code, account)
        live = self._books.live(caller.account_id)
        if live.cheapest_pusd is None or quoted.cheapest_pusd < live.cheapest_pusd:
            live.cheapest_pusd = quoted.cheapest_pusd
        return quoted

    # Reserving

    async def _reserve(
        self, caller: Caller, asked: Request, quoted: Quote, shape: Shape, *, busy: bool, until_s: float
    ) -> Admitted | Refusal:
        """Reserve the worst case, waiting its turn where others hold what it needs (M18)."""
        outcome: Admitted | Refusal | None = None
        reservation_id = uuid.uuid4().hex

        def attempt() -> bool:
            nonlocal outcome
            outcome = self._try_reserve(caller, asked, quoted, shape, reservation_id, busy=busy, until_s=until_s)
            return outcome is not None

        account_id = caller.account_id
        try:
            if self._books.queue.waiting(account_id) or not attempt():
                needed_pusd = quoted.worst_pusd(quoted.bound)
                if not await self._books.wait_turn(account_id, reservation_id, needed_pusd, attempt, until_s):
                    attempt()
        except asyncio.CancelledError:
            if isinstance(outcome, Admitted):
                self._settlement(outcome, asked).void("the client left before it was sent")
            raise
        except LedgerError:
            return _refusal(Code.STORE, self._books.account(account_id))
        assert outcome is not None, "an attempt after the last moment to wait decides"
        return outcome

    def _try_reserve(
        self,
        caller: Caller,
        asked: Request,
        quoted: Quote,
        shape: Shape,
        reservation_id: str,
        *,
        busy: bool,
        until_s: float,
    ) -> Admitted | Refusal | None:
        """One look at the account: admitted and committed, refused, or None to wait."""
        account = self._books.account(caller.account_id)
        waited_s = WAIT_S_MAX - (until_s - self._books.clock.monotonic_s())
        has_unknown = any(r.unknown_since_s is not None for r in self._books.store.pending(account.id))
        verdict = admit(account, quoted, busy=busy, has_unknown=has_unknown, waited_s=waited_s)
        match verdict:
            case Wait():
                return None
            case Refusal():
                return verdict
            case Admit():
                committed = self._books.commit(
                    Reserve(
                        reservation_id=reservation_id,
                        account=account.id,
                        reserved_pusd=verdict.reserve_pusd,
                        api=shape.name,
                        model=quoted.model,
                        tags=quoted.tags,
                        bound=verdict.bound,
                        streamed=asked.stream,
                        digest=asked.digest,
                    )
                )
                if isinstance(committed, Refusal):
                    return committed
                assert committed.reservation is not None, "a committed Reserve has its reservation"
                return Admitted(committed.reservation, verdict.bound)

    # Sending

    def _settlement(self, admitted: Admitted, asked: Request) -> Settlement:
        return Settlement(self._books, admitted.reservation, asked.digest)

    def _call(
        self,
        request: web.BaseRequest,
        caller: Caller,
        shape: Shape,
        query: str,
        asked: Request,
        quoted: Quote,
        admitted: Admitted,
        waits_until_s: float,
    ) -> tuple[Call, Downstream]:
        key = self._books.live(caller.account_id).key
        assert key is not None, "an account without its key is frozen"
        body = shape.emit(asked, bound=admitted.bound, only=quoted.tags, max_price=quoted.max_price)
        headers = upstream_headers(request.headers.items(), key.reveal(), shape.name)
        outgoing = Outgoing(shape.path + query, headers, body, key.reveal())
        downstream = Downstream(request, extra=_dropped_header(asked))

        def on_posted(reading: Reading, cost_pusd: int) -> None:
            self._calibration.record(caller.account_id, asked, quoted, reading, cost_pusd)
            self._check_endpoint(admitted.reservation, cost_pusd)

        call = Call(
            self._books,
            self._upstream,
            self._holds,
            shape,
            self._settlement(admitted, asked),
            outgoing,
            downstream,
            waits_until_s,
            on_posted,
        )
        return call, downstream

    def _check_endpoint(self, reservation: Reservation, cost_pusd: int) -> None:
        if cost_pusd > reservation.reserved_pusd:
            _log.error(
                "ledger.overrun", account=reservation.account, model=reservation.model, reservation=reservation.id
            )
            self._prices.expire(reservation.model)

    async def _run(self, call: Call, downstream: Downstream, *, may_requote: bool) -> web.StreamResponse | None:
        """Run the call in a task that outlives its client; None if it is to be quoted once more."""
        running = self._tasks.spawn(call.run(may_requote=may_requote), "call")
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

    # Refusing

    def _refuse(self, caller: Caller, shape: Shape, asked: Request, refusal: Refusal) -> web.Response:
        account = self._books.account(caller.account_id)
        over = account.frozen is not None or self._books.spent(account.id)
        escalated = refusal.code.is_budget and self._books.escalation.seen(
            caller.token_hash, asked.digest, over, self._books.clock.monotonic_s()
        )
        if refusal.code is not Code.STORE:
            self._books.commit(Refuse(account.id))
        self._books.publish("refused", account.id, code=refusal.code.name.lower(), model=asked.model)
        allowed = ", ".join(account.models or ()) if refusal.code is Code.MODEL_NOT_ALLOWED else ""
        status, body = answer(shape, refusal, escalated, allowed)
        headers = [_JSON, *budget_headers(refusal), *_dropped_header(asked)]
        return web.Response(status=status, headers=dict(headers), body=body)

    def _log_dropped(self, asked: Request) -> None:
        for name in _printable(asked.dropped):
            if name not in self._dropped_logged and len(self._dropped_logged) < 1000:
                self._dropped_logged.add(name)
                _log.info("request.field_dropped", api=asked.shape, field=name)


def _refusal(code: Code, account: Account, needed_pusd: int = 0) -> Refusal:
    return Refusal(
        code, account.limit_pusd, account.posted_pusd, account.pending_pusd, account.available_pusd, needed_pusd
    )


def _printable(names: tuple[str, ...]) -> list[str]:
    """Names that an agent chose, fit for a header and a log."""
    return [name for name in names if _HEADER_NAME.fullmatch(name)][:_NAMED_MAX]


def _dropped_header(asked: Request) -> list[tuple[str, str]]:
    names = _printable(asked.dropped)
    return [("X-Preflight-Dropped", ", ".join(names))] if names else []


def _plain(shape: Shape, status: int, text: str, error_type: str, *, close: bool = False) -> web.Response:
    """An error of the request itself, in the caller's dialect; nothing was reserved."""
    response = web.Response(status=status, body=shape.refusal(status, text, error_type), headers=dict([_JSON]))
    if close:
        response.force_close()
    return response
