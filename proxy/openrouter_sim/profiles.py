"""Two sets of faults for long runs: what a truthful upstream may suffer, and what one does that breaks its word."""

from __future__ import annotations

from decimal import Decimal

from openrouter_sim.base.tokens import Tokenizer
from openrouter_sim.calls.scenario import FaultRule, Scenario
from openrouter_sim.faults import Fault, make_fault

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
"""Bills are true, bounds and listed prices are kept; the wire is not."""

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
"""What no reservation can foresee."""


def lawful(rate: float, *, generation_delay_s: float = 0.5) -> Scenario:
    """Return a scenario in which about a share `rate` of all calls suffers a lawful fault."""
    return Scenario(faults=_even(LAWFUL, rate), generation_delay_s=generation_delay_s)


def lawless(rate: float, *, generation_delay_s: float = 0.5) -> Scenario:
    """Return one with all faults, prompts that grow under NFC, and tools that are counted indented."""
    return Scenario(
        faults=_even(LAWFUL + LAWLESS, rate),
        generation_delay_s=generation_delay_s,
        tokenizer=Tokenizer.NFC,
        tools_indent=True,
    )


def _even(faults: tuple[Fault, ...], rate: float) -> tuple[FaultRule, ...]:
    return tuple(FaultRule(fault, probability=rate / len(faults)) for fault in faults)
