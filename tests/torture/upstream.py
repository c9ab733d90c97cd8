"""The simulated OpenRouter of a torture run, a process of its own, with a witness who notes each call and what struck it.

Usage: python -m tests.torture.upstream PROFILE RATE SEED. First line on stdout: JSON with `base_url` and `admin_key`. At the end of
stdin it prints what it billed and what it saw, as one line of JSON, and ends.
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
from openrouter_sim.books import hash_of
from openrouter_sim.call import Call
from openrouter_sim.faults.http_error import HttpError
from openrouter_sim.profiles import LAWLESS, lawful, lawless

GENERATION_DELAY_S = 0.3
REPLY_TOKENS = (1, 200)
CREDIT_USD = Decimal(10**6)

HIDING = frozenset({"hide_generation_id", "generation_never", "late_charge", "early_answer", "close_on_request"})
"""Faults after which no generation tells what the call cost."""
LIES = frozenset(fault.name for fault in LAWLESS)

Seen = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Witness(Fault):
    """Notes each call that is about to be served, and steps aside."""

    name: ClassVar[str] = "witness"
    seen: list[Seen] = field(default_factory=list, compare=False)

    def arrange(self, call: Call) -> None:
        """Note it; the call goes on as if this fault were not there."""
        call.faults = struck = tuple(fault for fault in call.faults if fault is not self)
        self.seen.append(
            {
                "id": call.id,
                "key": call.key.hash,
                "at_s": call.created_s,
                "faults": [fault.name for fault in struck],
                "hides": any(fault.name in HIDING or isinstance(fault, HttpError) for fault in struck),
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
            {"id": "", "key": key, "at_s": time.time(), "faults": [self.inner.name], "hides": True, "lies": False}
        )
        return await self.inner.answer_early(request)


def scenario_of(profile: str, rate: float, seen: list[Seen]) -> Scenario:
    """The profile, with replies of all lengths, the densest honest tokenizer where none is given, and the witness."""
    base = lawful(rate) if profile == "lawful" else lawless(rate)
    rules = tuple(_noted(rule, seen) for rule in base.faults)
    tokenizer = Tokenizer.BYTES if profile == "lawful" else base.tokenizer
    return replace(
        base,
        faults=(*rules, FaultRule(Witness(seen))),
        tokenizer=tokenizer,
        generation_delay_s=GENERATION_DELAY_S,
        replies=(Rule(tokens=REPLY_TOKENS),),
        tokens_per_chunk=32,
        directives=False,
    )


def _noted(rule: FaultRule, seen: list[Seen]) -> FaultRule:
    return replace(rule, fault=NotedEarly(rule.fault, seen)) if rule.fault.is_early else rule


async def serve(profile: str, rate: float, seed: int) -> None:
    """Serve until stdin ends; then tell everything."""
    seen: list[Seen] = []
    async with Simulator(scenario_of(profile, rate, seen), seed=seed, credits_usd=CREDIT_USD) as simulator:
        _say({"base_url": simulator.base_url, "admin_key": simulator.admin_key})
        await asyncio.to_thread(sys.stdin.read)
        _say({"bill": simulator.bill().to_json(), "seen": seen, "strikes": dict(simulator.strikes)})


def _say(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
