"""Sends one call: waits where upstream asks for it, asks only who takes calls, and gives up in time (M11, M17, M20)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

import aiohttp
import structlog

from preflight_proxy.base.clock import Clock
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.relay import CALL_DRAIN_S_MAX
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import Remedy, UpstreamRefusal
from preflight_proxy.core.secret import Secret
from preflight_proxy.upstream.client import Upstream

_log = structlog.get_logger("preflight_proxy.calls.sending")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What leaves for upstream.

    Attributes:
        path: Path below the API base, query included.
        headers: All headers, authorisation included.
        body: The exact bytes for a call that these endpoints alone may serve, with this output bound.
        key: The real key, so that an answer that repeats it can be kept back.
        model: The model as quoted.
        tags: The endpoints that the reservation is enough for.
        tags_of: CallQuote endpoints by their provider's display name.
        bound: The output bound that the reservation is for.
        floor: The least to which it may be lowered (M9).
    """

    path: str
    headers: list[tuple[str, str]]
    body: Callable[[Sequence[str], int], bytes]
    key: str
    model: str
    tags: tuple[str, ...]
    tags_of: Mapping[str, Sequence[str]]
    bound: int
    floor: int

    def __repr__(self) -> str:
        """Says where it goes, and nothing that is in it."""
        return f"<outgoing {self.path.partition('?')[0]}>"


class Sender:
    """One call before its answer.

    Args:
        upstream: Where it is sent.
        holds: What upstream asked to wait for.
        outgoing: What is sent.
        clock: The stopwatch of waiting.
        waits_until_s: Monotonic time up to which upstream's requests for patience are waited out.
    """

    def __init__(
        self, upstream: Upstream, holds: Backoff, outgoing: Outgoing, clock: Clock, waits_until_s: float
    ) -> None:
        self._upstream = upstream
        self._backoff = holds
        self._clock = clock
        self._waits_until_s = waits_until_s
        self._asked: tuple[str, ...] = ()
        self._detached = asyncio.Event()
        self._limit: asyncio.Timeout | None = None
        self._bound = outgoing.bound
        self._key = Secret(outgoing.key).fingerprint
        self._untimed_count = 0
        self.outgoing = outgoing

    async def patience(self) -> Code | None:
        """Wait while upstream wants no call of this kind; why the call is refused if that is longer than the client waits."""
        wait_s = self._backoff.wait_s(self.outgoing.model, self.outgoing.tags)
        left_s = self._left_s()
        if 0 < wait_s <= left_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._detached.wait(), wait_s)
        if wait_s > max(left_s, 0.0):
            return Code.HELD
        return self._backoff.closed(self.outgoing.model, self._key)

    async def post(self, may_leave: Callable[[], bool]) -> aiohttp.ClientResponse:
        """Send once, to the endpoints that take calls now; see `Upstream.post` for what else is raised.

        Raises:
            TimeoutError: No answer began while it was drained.
        """
        outgoing = self.outgoing
        self._asked = self._backoff.free(outgoing.model, outgoing.tags)
        async with asyncio.timeout(None) as self._limit:
            body = outgoing.body(self._asked, self._bound)
            response = await self._upstream.post(outgoing.path, body, outgoing.headers, may_leave)
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            self._backoff.served(outgoing.model, self._key)
        return response

    def lowers(self, refusal: UpstreamRefusal) -> bool:
        """Lower the output bound to what a refusal says is affordable; True, once, if there is room for that (M11)."""
        affords, outgoing = refusal.affords, self.outgoing
        if affords is None or self._bound != outgoing.bound:
            return False
        if not outgoing.floor <= affords < outgoing.bound:
            return False
        self._bound = affords
        _log.info("upstream.lowered", model=outgoing.model, bound=affords)
        return True

    def waits_out(self, refusal: UpstreamRefusal) -> bool:
        """Hold calls back as a refusal asks; True if this one can wait for that, or for another provider."""
        if refusal.remedy not in (Remedy.WAIT_MODEL, Remedy.WAIT_PROCESS):
            return False
        model, tags = self.outgoing.model, self.outgoing.tags
        if not refusal.names_time:
            refusal = replace(refusal, retry_after_s=refusal.retry_after_s * 2**self._untimed_count)
            self._untimed_count += 1
        named = [tag for tag in self.outgoing.tags_of.get(refusal.provider or "", ()) if tag in self._asked]
        self._backoff.hold(model, refusal, named, key=self._key)
        _log.info("upstream.held", model=model, tags=named, remedy=refusal.remedy.value, seconds=refusal.retry_after_s)
        return self._backoff.wait_s(model, tags) <= self._left_s()

    def _left_s(self) -> float:
        return self._waits_until_s - self._clock.monotonic_s()

    def drain(self) -> None:
        """Nobody listens any more: what is awaited gets the shorter limits of M17."""
        self._detached.set()
        if self._limit is not None and self._limit.when() is None and not self._limit.expired():
            with contextlib.suppress(RuntimeError):  # it has just been left: the relay's limits hold
                self._limit.reschedule(asyncio.get_running_loop().time() + CALL_DRAIN_S_MAX)
