"""Sends one call: waits where upstream asks for it, picks the endpoints to ask, and gives up in time (M11 once, M17 drain, M20)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.relay import CALL_DRAIN_S_MAX
from preflight_proxy.calls.reserving import ReservedCall
from preflight_proxy.core.headers import upstream_headers
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import Remedy, UpstreamRefusal
from preflight_proxy.core.shapes.request_writer import write_request
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.connection import UpstreamAnswer

_log = structlog.get_logger("preflight_proxy.calls.sending")


class Sender:
    """One call before its answer.

    Args:
        upstream: Where it is sent.
        backoff: The delays that upstream asked for.
        clock: The stopwatch of waiting.
        call: The reserved call.
    """

    def __init__(self, upstream: Upstream, backoff: Backoff, clock: Clock, call: ReservedCall) -> None:
        self._upstream = upstream
        self._backoff = backoff
        self._clock = clock
        self._call = call
        self._model = call.reservation.model
        self._tags = call.reservation.tags
        self._bound = call.reservation.bound
        self._key_name = call.key.fingerprint
        self._tags_sent: tuple[str, ...] = ()
        self._detached = asyncio.Event()
        self._limit: asyncio.Timeout | None = None
        self._untimed_count = 0

    async def wait(self) -> Code | None:
        """Wait until upstream takes such calls again; return why the call is refused if its client cannot wait so long."""
        wait_s = self._backoff.wait_s(self._model, self._tags)
        left_s = self._left_s()
        if 0 < wait_s <= left_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._detached.wait(), wait_s)
        if wait_s > max(left_s, 0.0):
            return Code.HELD
        return self._backoff.refusal(self._model, self._key_name)

    async def post(self, may_leave: Callable[[], bool]) -> UpstreamAnswer:
        """Send once, to the endpoints that take calls now; see `Upstream.post` for what else is raised.

        Raises:
            TimeoutError: No answer began while it was drained.
        """
        call, caller = self._call, self._call.context.caller
        self._tags_sent = self._backoff.ready_tags(self._model, self._tags)
        body = write_request(
            call.context.request,
            bound=call.quote.quote.wire_bound(self._bound),
            only=self._tags_sent,
            max_price=call.quote.quote.max_price,
        )
        headers = upstream_headers(call.context.headers, call.key.reveal(), caller.shape.name)
        async with asyncio.timeout(None) as self._limit:
            response = await self._upstream.post(caller.shape.path + caller.query, body, headers, may_leave)
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            self._backoff.clear(self._model, self._key_name)
        return response

    def lowers(self, refusal: UpstreamRefusal) -> bool:
        """Lower the output bound to what a refusal says is affordable; True, once, if that is not below the floor (M11)."""
        affords, bound = refusal.affords, self._call.reservation.bound
        if affords is None or self._bound != bound or not self._call.quote.quote.floor <= affords < bound:
            return False
        self._bound = affords
        _log.info("upstream.lowered", model=self._model, bound=affords)
        return True

    def waits_out(self, refusal: UpstreamRefusal) -> bool:
        """Delay calls as a refusal asks; True if this one can wait for that, or for another provider."""
        if refusal.remedy not in (Remedy.WAIT_MODEL, Remedy.WAIT_PROCESS):
            return False
        if not refusal.names_time:
            refusal = replace(refusal, retry_after_s=refusal.retry_after_s * 2**self._untimed_count)
            self._untimed_count += 1
        tags = [tag for tag in self._call.quote.tags_of(refusal.provider) if tag in self._tags_sent]
        self._backoff.delay(self._model, refusal, tags, key=self._key_name)
        _log.info(
            "upstream.held", model=self._model, tags=tags, remedy=refusal.remedy.value, seconds=refusal.retry_after_s
        )
        return self._backoff.wait_s(self._model, self._tags) <= self._left_s()

    def _left_s(self) -> float:
        return self._call.context.until_s - self._clock.monotonic_s()

    def drain(self) -> None:
        """Shorten the time limits to those of M17: the client has left."""
        self._detached.set()
        if self._limit is not None and self._limit.when() is None and not self._limit.expired():
            with contextlib.suppress(RuntimeError):  # it has just been left: the relay's limits hold
                self._limit.reschedule(asyncio.get_running_loop().time() + CALL_DRAIN_S_MAX)
