"""Weighs prompts that cannot be admitted by their estimates: a small paid call, reserved like any other.

What it says is in `core.pricing.weighing`.
A weighing outlives the client that waits for it, and calls with the same beginning wait for the one that is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from random import SystemRandom

import structlog
from msgspec.structs import replace

from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.call import Call, CallServices
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallContext, ReservedCall
from preflight_proxy.calls.reserving import Unweighed, reserve
from preflight_proxy.core.pricing.calibration import system_count
from preflight_proxy.core.pricing.endpoint import Endpoint
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
    """The response to a call of the proxy's own: nothing is sent to anyone."""

    __slots__ = ()

    def __init__(self) -> None:
        self.extra: AnswerHeaders = ()
        self.started = self.closed = False

    @property
    def is_gone(self) -> bool:
        """True once it has ended."""
        return self.closed

    def leave(self) -> None:
        """End it."""
        self.closed = True

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
        self._running: dict[tuple[str, str, str, bytes], asyncio.Task[bool]] = {}
        self._begun_s: Recent[str, deque[float]] = Recent(ACCOUNTS_MAX)

    async def weigh(self, context: CallContext, unweighed: Unweighed) -> bool:
        """Weigh a call's prompt, or wait for the weighing of one with the same beginning; True if more is known now.

        Raises:
            BadRequest: A text of it cannot be read.
        """
        offer, prompt = unweighed.quote.offer, context.request.prompt
        endpoint = next(each for each in offer.quoted if each.tag == unweighed.tag)
        account_id = context.caller.account_id
        if not is_weighable(endpoint, context.caller.shape.name):
            return False
        beginning = prompt.fields_digest + prompt.prefix_digest(system_count(prompt))
        key = (account_id, endpoint.model, endpoint.tag, beginning)
        running = self._running.get(key)
        if running is None:
            if not self._may_begin(account_id):
                return False
            running = self._running[key] = self._tasks.spawn(
                self._weigh(context, unweighed, endpoint), PURPOSE, awaited=True
            )
            running.add_done_callback(lambda _task: self._running.pop(key))
        return await asyncio.shield(running)

    def _may_begin(self, account_id: str) -> bool:
        """False if the account has had too many of late."""
        begun_s = self._begun_s.get(account_id)
        return (
            begun_s is None
            or len(begun_s) < WEIGHINGS_MAX
            or self._ledger.clock.monotonic_s() - begun_s[0] >= WEIGHINGS_S
        )

    def _count(self, account_id: str) -> None:
        begun_s = self._begun_s.get(account_id) or deque(maxlen=WEIGHINGS_MAX)
        begun_s.append(self._ledger.clock.monotonic_s())
        self._begun_s.put(account_id, begun_s)

    async def _weigh(self, context: CallContext, unweighed: Unweighed, endpoint: Endpoint) -> bool:
        caller, request, sizes = context.caller, context.request, unweighed.quote.sizes
        shape, account_id, quoter = caller.shape, caller.account_id, self._services.quoter
        if sizes is None:
            return False
        known, known_tokens = quoter.known(account_id, request, endpoint)
        text = await self._reader.run(account_id, text_after(shape, request, known), request.prompt.ascii_bytes)
        body = weighing_body(shape.name, request.model, slices(text, self._below))
        small = replace(
            await self._reader.read(account_id, shape, body),
            only=(endpoint.tag,),
            ignore=request.ignore,
            max_price=request.max_price,
            provider=request.provider,
        )
        small_sizes = await quoter.sizes(caller, small, unweighed.quote.offer)
        cost_pusd = expected_pusd(endpoint, small_sizes, shape.name)
        if cost_pusd * 100 > SHARE_PERCENT_MAX * self._ledger.account(account_id).available_pusd:
            return False
        now_s = self._ledger.clock.monotonic_s()
        small_context = CallContext(caller, small, context.headers, is_busy=False, until_s=now_s, purpose=PURPOSE)
        reserved = await reserve(self._ledger, quoter, small_context)
        if not isinstance(reserved, ReservedCall):
            return False
        self._count(account_id)
        call = Call(self._services, reserved, Unheard())
        await call.run(may_requote=False)
        billed = quoter.billed_tokens(reserved, call.reading)
        if billed is None:
            _log.info("call.not_weighed", account=account_id, model=endpoint.model)
            return False
        weighing = Weighing(small_sizes, billed, known, known_tokens)
        quoter.note_weighed(account_id, request, endpoint, sizes, weighing)
        return True
