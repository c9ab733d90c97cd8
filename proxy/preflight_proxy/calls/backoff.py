"""Process-wide back-off: after OpenRouter asks to wait, no such call is sent before the deadline (M20, upstream's refusals).

A wait that a client can bear delays all calls to a model, of every account. A longer one is remembered for the key that was
refused, and its calls are refused at once; every few minutes one of them is sent, to see whether upstream still refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
import structlog
from msgspec.structs import replace

from preflight_proxy.base.clock import Clock
from preflight_proxy.calls.quoting import ReservedCall
from preflight_proxy.core.admission.queue import CALL_WAIT_S_MAX
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.refusals.upstream_refusal import Remedy, UpstreamRefusal
from preflight_proxy.core.shapes.request_writer import write_request

DELAYS_MAX = 1000
"""Delays remembered before those that are over are forgotten."""
LOOK_AGAIN_S = 300.0
"""A key that was refused for longer than a client waits is tried with one call after this time."""

_WHOLE = ""
"""Stands for all endpoints of a model, where no provider was named."""
_FREE = ":free"
"""Ends the names of models without a price, and stands for all of them."""


_log = structlog.get_logger("preflight_proxy.calls.backoff")


class _KeyRefusal(msgspec.Struct):
    code: Code
    until_s: float
    look_again_s: float


class Backoff:
    """Until when calls are delayed: all of them, those to one model, or those to one endpoint of it.

    Args:
        clock: The stopwatch of the delays.

    Attributes:
        has_delays: Upstream has asked to wait at least once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.has_delays = False
        self._process_until_s = 0.0
        self._until_s: dict[tuple[str, str], float] = {}
        self._key_refusals: dict[tuple[str, str], _KeyRefusal] = {}

    def delay(self, model: str, refusal: UpstreamRefusal, tags: Sequence[str] = (), *, key: str = "") -> None:
        """Delay calls for as long as a refusal asks: those to `tags` of the model, or to all of it if there are none.

        Args:
            model: The model.
            refusal: What upstream said.
            tags: The endpoints that it is about; empty for all of the model's.
            key: A name of the key that was refused.
        """
        self.has_delays = True
        now_s = self._clock.monotonic_s()
        until_s = now_s + refusal.retry_after_s
        if refusal.remedy is Remedy.WAIT_PROCESS:
            self._process_until_s = max(self._process_until_s, until_s)
        elif refusal.remedy is Remedy.WAIT_MODEL and not tags and _is_long(refusal):
            self._forget(now_s)
            ends_s = until_s if refusal.names_time else now_s + LOOK_AGAIN_S
            scope = _FREE if refusal.free_models and model.endswith(_FREE) else model
            self._key_refusals[key, scope] = _KeyRefusal(refusal.cause, ends_s, min(ends_s, now_s + LOOK_AGAIN_S))
        elif refusal.remedy is Remedy.WAIT_MODEL:
            self._forget(now_s)
            for tag in tags or (_WHOLE,):
                self._until_s[model, tag] = max(self._until_s.get((model, tag), 0.0), until_s)

    def _forget(self, now_s: float) -> None:
        if len(self._until_s) >= DELAYS_MAX:
            self._until_s = {scope: until_s for scope, until_s in self._until_s.items() if until_s > now_s}
        if len(self._key_refusals) >= DELAYS_MAX:
            self._key_refusals = {scope: row for scope, row in self._key_refusals.items() if row.until_s > now_s}

    def refusal(self, model: str, key: str) -> Code | None:
        """Why a call with this key is refused without being sent; None if it may leave, as one does each `LOOK_AGAIN_S`."""
        if not self._key_refusals:
            return None
        now_s = self._clock.monotonic_s()
        for scope in _scopes(model):
            row = self._key_refusals.get((key, scope))
            if row is None or now_s >= row.until_s:
                continue
            if now_s < row.look_again_s:
                return row.code
            row.look_again_s = now_s + LOOK_AGAIN_S
        return None

    def clear(self, model: str, key: str) -> None:
        """Forget the refusals of this key, because a call with it was served."""
        for scope in _scopes(model) if self._key_refusals else ():
            self._key_refusals.pop((key, scope), None)

    def ready_tags(self, model: str, tags: Sequence[str]) -> tuple[str, ...]:
        """Those endpoints of a model that are not delayed themselves; all of them if every one is."""
        if not self._until_s:
            return tuple(tags)
        now_s = self._clock.monotonic_s()
        return tuple(tag for tag in tags if self._until_s.get((model, tag), 0.0) <= now_s) or tuple(tags)

    def wait_s(self, model: str, tags: Sequence[str]) -> float:
        """Seconds from now until a call that one of `tags` may serve can be sent; 0 if it may be sent at once."""
        if not (self._until_s or self._process_until_s):
            return 0.0
        first_s = min((self._until_s.get((model, tag), 0.0) for tag in tags), default=0.0)
        until_s = max(self._process_until_s, self._until_s.get((model, _WHOLE), 0.0), first_s)
        return max(0.0, until_s - self._clock.monotonic_s())


class CallBackoff:
    """How one call answers upstream's requests to wait or to ask for less, before its answer (M11 once, M20).

    Args:
        backoff: The delays of all calls.
        clock: The stopwatch of waiting.
        call: The reserved call.
    """

    def __init__(self, backoff: Backoff, clock: Clock, call: ReservedCall) -> None:
        self._backoff = backoff
        self._clock = clock
        self._call = call
        self._model = call.reservation.model
        self._key_name = call.key.fingerprint
        self._client_left: asyncio.Event | None = None  # made by the first wait
        self._has_client_left = False
        self._untimed_count = 0
        self._bound = call.reservation.bound
        self._tags_sent: tuple[str, ...] = ()

    async def wait(self) -> Code | None:
        """Wait until upstream takes such calls again; return why the call is refused if its client cannot wait so long."""
        wait_s = self._backoff.wait_s(self._model, self._call.reservation.tags)
        if wait_s > 0:
            if wait_s > self._left_s():
                return Code.HELD
            self._client_left = asyncio.Event()
            if self._has_client_left:
                self._client_left.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._client_left.wait(), wait_s)
        return self._backoff.refusal(self._model, self._key_name)

    def body(self) -> bytes:
        """The body to send now: for the endpoints that take calls, with the bound that upstream takes."""
        quote = self._call.quote.quotes.first
        self._tags_sent = self._backoff.ready_tags(self._model, self._call.reservation.tags)
        return write_request(
            self._call.context.request,
            bound=quote.wire_bound(self._bound),
            only=self._tags_sent,
            max_price=quote.max_price,
        )

    def stop_waiting(self) -> None:
        """Wait no longer: the client has left."""
        self._has_client_left = True
        if self._client_left is not None:
            self._client_left.set()

    def served(self) -> None:
        """Forget the refusals of the key: a call with it was served."""
        self._backoff.clear(self._model, self._key_name)

    def lowers(self, refusal: UpstreamRefusal) -> bool:
        """Lower the output bound to what a refusal says is affordable; True, once, if that is not below the floor (M11)."""
        affords, bound = refusal.affords, self._call.reservation.bound
        if affords is None or self._bound != bound or not self._call.quote.quotes.first.floor <= affords < bound:
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
        return self._backoff.wait_s(self._model, self._call.reservation.tags) <= self._left_s()

    def _left_s(self) -> float:
        return self._call.context.until_s - self._clock.monotonic_s()


def _scopes(model: str) -> tuple[str, ...]:
    return (model, _FREE) if model.endswith(_FREE) else (model,)


def _is_long(refusal: UpstreamRefusal) -> bool:
    """True if no client waits for as long as a refusal asks."""
    return refusal.cause is Code.DAILY_LIMIT or refusal.retry_after_s > CALL_WAIT_S_MAX
