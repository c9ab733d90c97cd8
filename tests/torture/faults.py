"""The faults of torture runs and soaks: lawful ones, lawless ones, and those with and without a generation id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from decimal import Decimal
from itertools import count
from typing import Any, ClassVar

import msgspec
from aiohttp import web

from openrouter_sim import Fault, FaultRule, Scenario, make_fault
from openrouter_sim.base.errors import ApiError
from openrouter_sim.base.jsonio import JsonObject
from openrouter_sim.calls.call import Frame, SimCall

KEY_READS_PER_FAILURE = 7
"""One read of a key's usage in this many fails, where ids are hidden."""

_request: ContextVar[web.Request] = ContextVar("request")


class Nameless(Fault, frozen=True):
    """Another fault, on an answer without its generation id."""

    inner: Fault = msgspec.field(default_factory=Fault)

    def arrange(self, call: SimCall) -> None:
        """Hide the id and apply the other fault."""
        call.shows_id = False
        self.inner.arrange(call)

    def change_usage(self, call: SimCall, usage: JsonObject) -> JsonObject | None:
        """As the other fault does."""
        return self.inner.change_usage(call, usage)

    def set_headers(self, call: SimCall, headers: dict[str, str]) -> None:
        """As the other fault does."""
        self.inner.set_headers(call, headers)

    def whole(self, call: SimCall, body: JsonObject) -> JsonObject:
        """As the other fault does."""
        return self.inner.whole(call, body)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """As the other fault does."""
        return self.inner.frames(call, frames)


class KeepRequest(Fault, frozen=True):
    """Keeps the request for faults that end its connection. Changes nothing else."""

    is_early: ClassVar[bool] = True

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Keep the request."""
        _request.set(request)
        return None


class LostAnswer(Fault, frozen=True):
    """Generate and charge everything, and break the connection before the answer's head."""

    def refuse(self, call: SimCall) -> ApiError | None:
        """Break the connection. The client never gets the error."""
        transport = _request.get().transport
        if transport is not None:
            transport.abort()
        call.charges_errors = True
        return ApiError(500, "Never received")


class FailingKeyReads(Fault, frozen=True):
    """Fail one read of a key's usage in `KEY_READS_PER_FAILURE`, while `strikes()` is true."""

    is_early: ClassVar[bool] = True
    strikes: Callable[[], bool] = lambda: True
    reads: count[int] = msgspec.field(default_factory=lambda: count(1))

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Fail if it is this read's turn."""
        return web.Response(status=502) if next(self.reads) % KEY_READS_PER_FAILURE == 0 and self.strikes() else None


def _http(status: int, **parameters: Any) -> Fault:
    return make_fault("http_error", {"status": status, **parameters})


def _nameless(name: str, **parameters: Any) -> Fault:
    return Nameless(make_fault(name, parameters))


BILLED_OR_NOT = (False, True)

WITH_ID: tuple[Fault, ...] = (
    *(
        make_fault("error_first", {"done": done, "charge": charge})
        for done in (False, True)
        for charge in BILLED_OR_NOT
    ),
    *(make_fault("error_mid", {"charge": charge}) for charge in BILLED_OR_NOT),
    *(make_fault("error_mid", {"bare": True, "charge": charge}) for charge in BILLED_OR_NOT),
    make_fault("error_mid", {"choice_only": True, "done": True}),
    make_fault("silent_close"),
    make_fault("silent_close", {"clean": True}),
    make_fault("reset"),
    *(make_fault(name) for name in ("missing_usage", "null_cost", "zero_cost_with_tokens", "repr_float", "cache_hit")),
    *(make_fault(name) for name in ("chop", "whitespace", "gzip")),
    make_fault("slow", {"first_s": 0.2}),
    make_fault("huge_event", {"size_bytes": 1 << 20}),
    *(_http(status, charge=charge) for status in (500, 502, 504) for charge in BILLED_OR_NOT),
    *(_http(status, envelope=False, edge=True, charge=charge) for status in (520, 524) for charge in BILLED_OR_NOT),
    _http(503, envelope=False, charge=True),
)
"""Faults of answers that have their generation id in the head, so the record has the cost."""

WITHOUT_ID: tuple[Fault, ...] = (
    # What proves that nothing was charged
    *(_http(status, envelope=False, edge=True, shows_id=False) for status in (403, 413, 429, 521, 523)),
    _http(503, availability="no_capacity", shows_id=False),
    _http(503, message="No instances available", shows_id=False),
    # What proves nothing
    *(
        _http(status, envelope=False, edge=True, shows_id=False, charge=charge)
        for status in (520, 522, 524)
        for charge in BILLED_OR_NOT
    ),
    *(_http(status, shows_id=False, charge=charge) for status in (500, 502, 503, 504) for charge in BILLED_OR_NOT),
    *(
        _http(status, envelope=False, shows_id=False, charge=charge)
        for status in (429, 502)
        for charge in BILLED_OR_NOT
    ),
    make_fault("early_answer"),
    make_fault("close_on_request"),
    make_fault("close_keepalive"),
    make_fault("hide_generation_id"),
    LostAnswer(),
    _nameless("silent_close"),
    _nameless("silent_close", clean=True),
    _nameless("reset"),
    _nameless("reset", after=0),
    *(_nameless("error_first", charge=charge) for charge in BILLED_OR_NOT),
    *(_nameless("error_mid", charge=charge) for charge in BILLED_OR_NOT),
    *(_nameless(name) for name in ("missing_usage", "null_cost", "gzip")),
)
"""Faults of answers without an id, most of them without a cost."""


LAWFUL: tuple[Fault, ...] = (
    make_fault("error_first"),
    make_fault("error_first", {"done": True}),
    make_fault("error_mid"),
    make_fault("error_mid", {"choice_only": True, "done": True}),
    make_fault("error_mid", {"bare": True}),
    make_fault("silent_close"),
    make_fault("silent_close", {"clean": True}),
    make_fault("reset"),
    make_fault("missing_usage"),
    make_fault("null_cost"),
    make_fault("zero_cost_with_tokens"),
    make_fault("repr_float"),
    make_fault("http_error", {"status": 500}),
    make_fault("http_error", {"status": 504, "charge": True}),
    make_fault("http_error", {"status": 503, "message": "Bad gateway", "envelope": False, "shows_id": False}),
    make_fault("slow", {"first_s": 0.2}),
    make_fault("chop"),
    make_fault("whitespace"),
    make_fault("gzip"),
    make_fault("early_answer"),
    make_fault("close_on_request"),
    make_fault("close_keepalive"),
    make_fault("hide_generation_id"),
    make_fault("cache_hit"),
    make_fault("huge_event", {"size_bytes": 1 << 20}),
)
"""Faults of an upstream that keeps bounds and listed prices, and bills what it states."""

LAWLESS: tuple[Fault, ...] = (
    make_fault("wrong_bound"),
    make_fault("price_rise"),
    make_fault("extra_endpoint"),
    make_fault("late_charge", {"delay_s": 2.0}),
    make_fault("wrong_generation_cost", {"factor": Decimal(2)}),
    make_fault("wrong_generation_cost", {"factor": Decimal(2), "bills_usage": False}),
    make_fault("key_usage_lag", {"lag_s": 30.0}),
    make_fault("generation_never"),
)
"""Faults that no reservation can foresee."""


def lawful(rate: float) -> Scenario:
    """Return a scenario in which a share `rate` of all calls has a lawful fault."""
    return Scenario(faults=_even(LAWFUL, rate))


def lawless(rate: float) -> Scenario:
    """Return a scenario with all faults, and tools that are counted indented."""
    return Scenario(faults=_even(LAWFUL + LAWLESS, rate), tools_indent=True)


def with_id(rate: float) -> Scenario:
    """Return a scenario in which a share `rate` of all calls has a fault with an id."""
    return Scenario(faults=_even(WITH_ID, rate))


def without_id(rate: float, fails: Callable[[], bool] = lambda: True) -> Scenario:
    """Return a scenario in which a share `rate` of all calls has a fault without an id.

    While `fails()` is true, some reads of a key's usage fail.
    """
    return Scenario(
        faults=(FaultRule(KeepRequest()), FaultRule(FailingKeyReads(fails), api="key"), *_even(WITHOUT_ID, rate))
    )


def _even(faults: tuple[Fault, ...], rate: float) -> tuple[FaultRule, ...]:
    return tuple(FaultRule(fault, probability=rate / len(faults)) for fault in faults)
