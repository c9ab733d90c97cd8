"""The simulated OpenRouter of a torture run, as a process that records each call and its faults.

Usage: python -m tests.torture.upstream PROFILE RATE SEED LAG_S FACTOR BOUND. First line on stdout: JSON with `base_url`,
`admin_key` and `inference_key`. After SIGUSR1 its clock runs FACTOR times as fast. LAG_S is how late the usage of keys is. BOUND is
that of the proxy. At the end of stdin it prints its bill and the calls it saw as one line of JSON, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from aiohttp import web
from msgspec.structs import replace

from openrouter_sim import Fault, FaultRule, Rule, Scenario, Simulator, Tokenizer
from openrouter_sim.billing.account import hash_of
from openrouter_sim.calls.call import SimCall
from openrouter_sim.faults.refusals import HttpError
from preflight_proxy.base.config import Bound
from tests.support.fake_clock import FakeClock
from tests.torture.faults import LAWLESS, KeepRequest, LostAnswer, Nameless, lawful, lawless, with_id, without_id
from tests.torture.hurry import hurrying_clock

GENERATION_DELAY_S = 0.3
REPLY_TOKENS = (1, 200)
CREDIT_USD = Decimal(10**6)

HIDING = frozenset({"hide_generation_id", "generation_never", "late_charge", "early_answer", "close_on_request"})
"""Faults after which no generation record has the cost; so can those of `HIDING_KINDS`."""
HIDING_KINDS = (HttpError, Nameless, LostAnswer)
LIES = frozenset(fault.name for fault in LAWLESS)
OTHER = "somebody else"
"""The `user` of a call that is made beside the proxy."""

Seen = dict[str, Any]


class CallRecorder(Fault, frozen=True):
    """Records each call before it is served. Changes nothing else."""

    seen: list[Seen] = msgspec.field(default_factory=list)

    def arrange(self, call: SimCall) -> None:
        """Record the call, and remove this fault from it."""
        call.faults = struck = tuple(fault for fault in call.faults if fault is not self)
        self.seen.append(
            {
                "id": call.id,
                "key": call.key.hash,
                "at_s": call.created_s,
                "faults": [fault.name for fault in struck],
                "hides": any(fault.name in HIDING or isinstance(fault, HIDING_KINDS) for fault in struck),
                "is_other": call.request.body.get("user") == OTHER,
                "lies": any(fault.name in LIES for fault in struck),
            }
        )


class RecordedEarly(Fault, frozen=True):
    """Applies a fault before the body is read, and records it with the key of the call."""

    is_early: ClassVar[bool] = True
    inner: Fault = msgspec.field(default_factory=Fault)
    seen: list[Seen] = msgspec.field(default_factory=list)

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Record the call, and apply the fault."""
        key = hash_of((request.headers.get("Authorization") or "").removeprefix("Bearer "))
        self.seen.append(
            {
                "id": "",
                "key": key,
                "at_s": time.time(),
                "faults": [self.inner.name],
                "hides": True,
                "lies": False,
                "is_other": False,
            }
        )
        return await self.inner.answer_early(request)


def scenario_of(
    profile: str, rate: float, seen: list[Seen], lag_s: float, clock: FakeClock, bound: Bound = "proven"
) -> Scenario:
    """Return a profile's scenario with replies of all lengths and a recorder.

    Args:
        bound: The proxy's. The proven one holds whatever is counted, so the densest tokenizer counts.
    """
    profiles = {"lawful": lawful, "lawless": lawless, "id": with_id}
    # With a fast clock, two reads of a key's usage are minutes apart, so a failed one would cost minutes.
    base = without_id(rate, lambda: not clock.hurries) if profile == "no-id" else profiles[profile](rate)
    rules = tuple(_recorded(rule, seen) for rule in base.faults)
    densest = Tokenizer.NFC if profile == "lawless" else Tokenizer.DENSE
    return replace(
        base,
        faults=(*rules, FaultRule(CallRecorder(seen))),
        tokenizer=densest if bound == "proven" else Tokenizer.REALISTIC,
        generation_delay_s=GENERATION_DELAY_S,
        key_usage_lag_s=lag_s,
        replies=(Rule(tokens=REPLY_TOKENS),),
        tokens_per_chunk=32,
        directives=False,
    )


def _recorded(rule: FaultRule, seen: list[Seen]) -> FaultRule:
    strikes_calls = rule.fault.is_early and rule.api is None and not isinstance(rule.fault, KeepRequest)
    return replace(rule, fault=RecordedEarly(rule.fault, seen)) if strikes_calls else rule


async def serve(profile: str, rate: float, seed: int, lag_s: float, factor: float, bound: Bound) -> None:
    """Serve until stdin ends; then print the report."""
    seen: list[Seen] = []
    clock = hurrying_clock(factor)
    scenario = scenario_of(profile, rate, seen, lag_s, clock, bound)
    async with Simulator(scenario, seed=seed, credits_usd=CREDIT_USD, clock=clock.epoch_s) as simulator:
        keys = {"admin_key": simulator.admin_key, "inference_key": simulator.inference_key}
        _print({"base_url": simulator.base_url, **keys})
        await asyncio.to_thread(sys.stdin.read)
        _print({"bill": simulator.bill().to_json(), "seen": seen, "strikes": dict(simulator.strikes)})


def _print(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    _, name, share, number, lag, speed, promise = sys.argv
    uvloop.run(serve(name, float(share), int(number), float(lag), float(speed), msgspec.convert(promise, Bound)))
