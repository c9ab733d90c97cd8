"""Weighs prompts that cannot be admitted by their estimates: a small paid call, reserved like any other.

What it says is in `core.pricing.weighing`. A weighing outlives the client that waits for it, and calls with the same beginning wait
for the one that is under way. Whatever becomes of it, the calls that wait go on, weighed or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import SystemRandom

import structlog

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.call import Call, CallServices
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallContext, ReservedCall
from preflight_proxy.calls.reserving import Unweighed, reserve
from preflight_proxy.core.pricing.calibration import system_count
from preflight_proxy.core.pricing.endpoint import Endpoint
from preflight_proxy.core.pricing.quote import Offer
from preflight_proxy.core.pricing.text_sizes import TextSizes
from preflight_proxy.core.pricing.weighing import (
    PURPOSE,
    SHARE_PERCENT_MAX,
    WEIGHINGS_MAX,
    WEIGHINGS_S,
    Weighing,
    expected_pusd,
    is_weighable,
    slices,
    weighing_body,
)
from preflight_proxy.core.recent import Recent
from preflight_proxy.core.shapes.counted_text import text_after
from preflight_proxy.server.response import AnswerHeaders, ClientResponse

ACCOUNTS_MAX = 4096
"""Accounts whose last weighings are remembered."""

_log = structlog.get_logger("preflight_proxy.calls.weighing")


class Unheard(ClientResponse):
    """The response to a call of the proxy's own: nothing is sent to anyone.

    Args:
        on_left: Called when its answer is no longer wanted: the account was frozen, or no answer will come.
    """

    __slots__ = ("_on_left",)

    def __init__(self, on_left: Callable[[], None]) -> None:
        self._on_left = on_left
        self.extra: AnswerHeaders = ()
        self.started = self.closed = False

    @property
    def is_gone(self) -> bool:
        """True once it has ended."""
        return self.closed

    def leave(self) -> None:
        """End it."""
        self.closed = True
        self._on_left()

    def start(self, status: int, headers: AnswerHeaders) -> None:
        """Note that there is an answer."""
        self.started = True

    def write(self, data: bytes) -> None:
        """Send nothing."""

    def finish(self, data: bytes = b"") -> None:
        """End it."""
        self.closed = True

    def answer(self, status: int, headers: AnswerHeaders, body: bytes, *, close: bool = False) -> None:
        """End it."""
        self.started = self.closed = True

    def break_off(self) -> None:
        """End it."""
        self.closed = True


class Weigher:
    """Weighs prompts.

    Args:
        services: What all calls share.
        reader: Reads texts in its turns.
        tasks: The calls' tasks, which a drain waits for.
    """

    def __init__(self, services: CallServices, reader: RequestReader, tasks: Tasks) -> None:
        self._services = services
        self._ledger = services.ledger
        self._reader = reader
        self._tasks = tasks
        self._below = SystemRandom().randrange  # an agent cannot foresee it
        self._running: dict[tuple[str, str, str, bytes], asyncio.Future[None]] = {}
        self._begun_s: Recent[str, list[float]] = Recent(ACCOUNTS_MAX)

    async def weigh(self, context: CallContext, unweighed: Unweighed) -> None:
        """Weigh a call's prompt, or wait for the weighing of one with the same beginning.

        Nothing is weighed that cannot be, or that was. The wait ends with the weighing, with a freeze, or at `context.until_s`.
        No failure of a weighing is raised: the call goes on without it.
        """
        quoter, request, account_id = self._services.quoter, context.request, context.caller.account_id
        endpoint = next(each for each in unweighed.quote.offer.quoted if each.tag == unweighed.tag)
        left_s = context.until_s - self._ledger.clock.monotonic_s()
        sizes = unweighed.quote.sizes
        if left_s <= 0 or sizes is None or not is_weighable(endpoint, request.shape):
            return
        if quoter.is_estimated(context, endpoint, sizes):
            return  # and a weighing would say the same again
        prompt = request.prompt
        beginning = prompt.fields_digest + prompt.prefix_digest(system_count(prompt))
        key = (account_id, endpoint.model, endpoint.tag, beginning)
        over = self._running.get(key)
        if over is None:
            begun_s = self._ledger.clock.monotonic_s()
            if not self._may_begin(account_id, begun_s):
                return
            over = self._running[key] = asyncio.get_running_loop().create_future()
            weighing = self._weigh(context, unweighed.quote.offer, sizes, endpoint, begun_s, over)
            task = self._tasks.spawn(weighing, PURPOSE)
            task.add_done_callback(lambda _task: self._end(key))
        await asyncio.wait([over], timeout=left_s)

    def _end(self, key: tuple[str, str, str, bytes]) -> None:
        _let_go(self._running.pop(key))

    def _may_begin(self, account_id: str, now_s: float) -> bool:
        """Count a weighing of an account; False if it has had too many of late."""
        begun_s = [at_s for at_s in self._begun_s.get(account_id) or () if now_s - at_s < WEIGHINGS_S]
        if len(begun_s) >= WEIGHINGS_MAX:
            return False
        self._begun_s.put(account_id, [*begun_s, now_s])
        return True

    async def _weigh(
        self,
        context: CallContext,
        offer: Offer,
        sizes: TextSizes,
        endpoint: Endpoint,
        begun_s: float,
        over: asyncio.Future[None],
    ) -> None:
        caller, request = context.caller, context.request
        shape, account_id, quoter = caller.shape, caller.account_id, self._services.quoter
        known, known_tokens = quoter.known(account_id, request, endpoint)
        text = await self._reader.run(account_id, text_after(shape, request, known), request.prompt.ascii_bytes)
        body = weighing_body(request, endpoint.tag, slices(text, self._below))
        small = await self._reader.read(account_id, shape, body)
        small_sizes = await quoter.sizes(caller, small, offer)
        call = None
        if self._is_worth_it(account_id, expected_pusd(endpoint, small_sizes, shape.name)):
            now_s = self._ledger.clock.monotonic_s()  # it waits neither for room nor for upstream
            small_context = CallContext(caller, small, context.headers, is_busy=False, until_s=now_s, purpose=PURPOSE)
            reserved = await reserve(self._ledger, quoter, small_context)
            if isinstance(reserved, ReservedCall):
                call = Call(self._services, reserved, Unheard(lambda: _let_go(over)))
                await call.run(may_requote=False)
                billed = quoter.billed_tokens(reserved, call.reading)
                if billed is not None:
                    weighing = Weighing(small_sizes, billed, known, known_tokens)
                    quoter.note_weighed(account_id, request, endpoint, sizes, weighing)
                    return
        if call is None:  # nothing was sent; else an agent whose calls upstream refuses could send more and more
            self._begun_s.put(account_id, [at_s for at_s in self._begun_s.get(account_id) or () if at_s != begun_s])
        _log.info("call.not_weighed", account=account_id, model=endpoint.model, tag=endpoint.tag)

    def _is_worth_it(self, account_id: str, cost_pusd: int) -> bool:
        return cost_pusd * 100 <= SHARE_PERCENT_MAX * self._ledger.account(account_id).available_pusd


def _let_go(over: asyncio.Future[None]) -> None:
    """End the wait of the calls that wait for a weighing."""
    if not over.done():
        over.set_result(None)
