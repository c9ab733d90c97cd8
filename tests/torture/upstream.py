"""The simulated OpenRouter of a torture run, a process of its own, with a witness who notes each call and what struck it.

Usage: python -m tests.torture.upstream PROFILE RATE SEED LAG_S FACTOR. First line on stdout: JSON with `base_url`, `admin_key` and
`inference_key`. At SIGUSR1 its clock begins to hurry by FACTOR; LAG_S is how far the usage of keys lags. At the end of stdin it
prints what it billed and what it saw, as one line of JSON, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar

from aiohttp import web

from openrouter_sim import Fault, FaultRule, Rule, Scenario, Simulator, Tokenizer
from openrouter_sim.billing.account import hash_of
from openrouter_sim.calls.call import SimCall
from openrouter_sim.faults.refusals import HttpError
from tests.support.fake_clock import FakeClock
from tests.torture.faults import LAWLESS, Held, Nameless, Unheard, lawful, lawless, with_id, without_id
from tests.torture.hurry import hurrying_clock

GENERATION_DELAY_S = 0.3
REPLY_TOKENS = (1, 200)
CREDIT_USD = Decimal(10**6)

HIDING = frozenset({"hide_generation_id", "generation_never", "late_charge", "early_answer", "close_on_request"})
"""Faults after which no generation tells what the call cost; so may those of `HIDING_KINDS`."""
HIDING_KINDS = (HttpError, Nameless, Unheard)
LIES = frozenset(fault.name for fault in LAWLESS)
OTHER = "somebody else"
"""The `user` of a call that is not the ledger's."""

Seen = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Witness(Fault):
    """Notes each call that is about to be served, and steps aside."""

    name: ClassVar[str] = "witness"
    seen: list[Seen] = field(default_factory=list, compare=False)

    def arrange(self, call: SimCall) -> None:
        """Note it; the call goes on as if this fault were not there."""
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


@dataclass(frozen=True, slots=True)
class NotedEarly(Fault):
    """A fault that strikes before the body is read, noted with the key of the call that it struck."""

    name: ClassVar[str] = "before_body"
    is_early: ClassVar[bool] = True
    inner: Fault = field(default_factory=Fault)
    seen: list[Seen] = field(default_factory=list, compare=False)

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        """Note it, then let it strike."""
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


def scenario_of(profile: str, rate: float, seen: list[Seen], lag_s: float, clock: FakeClock) -> Scenario:
    """The profile, with replies of all lengths, the densest honest tokenizer where none is given, and the witness."""
    profiles = {"lawful": lawful, "lawless": lawless, "id": with_id}
    # Once the clock hurries, minutes lie between two reads of a key's usage: a failed one would be minutes of silence.
    base = without_id(rate, lambda: not clock.hurries) if profile == "no-id" else profiles[profile](rate)
    rules = tuple(_noted(rule, seen) for rule in base.faults)
    tokenizer = base.tokenizer if profile == "lawless" else Tokenizer.BYTES
    return replace(
        base,
        faults=(*rules, FaultRule(Witness(seen))),
        tokenizer=tokenizer,
        generation_delay_s=GENERATION_DELAY_S,
        key_usage_lag_s=lag_s,
        replies=(Rule(tokens=REPLY_TOKENS),),
        tokens_per_chunk=32,
        directives=False,
    )


def _noted(rule: FaultRule, seen: list[Seen]) -> FaultRule:
    strikes_calls = rule.fault.is_early and rule.api is None and not isinstance(rule.fault, Held)
    return replace(rule, fault=NotedEarly(rule.fault, seen)) if strikes_calls else rule


async def serve(profile: str, rate: float, seed: int, lag_s: float, factor: float) -> None:
    """Serve until stdin ends; then tell everything."""
    seen: list[Seen] = []
    clock = hurrying_clock(factor)
    scenario = scenario_of(profile, rate, seen, lag_s, clock)
    async with Simulator(scenario, seed=seed, credits_usd=CREDIT_USD, clock=clock.epoch_s) as simulator:
        keys = {"admin_key": simulator.admin_key, "inference_key": simulator.inference_key}
        _say({"base_url": simulator.base_url, **keys})
        await asyncio.to_thread(sys.stdin.read)
        _say({"bill": simulator.bill().to_json(), "seen": seen, "strikes": dict(simulator.strikes)})


def _say(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:6])))
