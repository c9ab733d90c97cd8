"""A soak: callers without a pause for a given time, an upstream whose faults carry an id or do not, a proxy that nobody kills.

Its limits of time are those of M13. After the last call the clock of its ledger begins to hurry, and upstream's with it, so that
35 minutes are over in one.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from decimal import Decimal
from itertools import cycle, repeat
from pathlib import Path
from random import Random
from typing import Literal

import aiohttp

from preflight_proxy.core.evidence.evidence import CALL_S_MAX, GENERATION_S_MAX, KEY_USAGE_LAG_S
from tests.torture import plan
from tests.torture.books import Billed, Ledger, Seen, Verdict
from tests.torture.driver import IN_FLIGHT, Options, Report, Run
from tests.torture.openrouter import OpenRouter, open_router
from tests.torture.shared_key import judge_shared
from tests.torture.upstream import OTHER

Faults = Literal["id", "no-id"]
KeyKind = Literal["own", "foreign"]

DECIDED_S_MAX = 35 * 60.0
"""So long after the last call nothing may be pending."""
LAG_S = 40.0
"""How far the usage of keys lags; the proxy allows for a minute."""
HURRY = 30.0
"""So fast go the clocks after the last call unless told otherwise: the proxy's looks are then a quarter of a minute apart."""
LIMITS_USD = (Decimal("0.5"), Decimal(2))
"""Limits of accounts with keys of their own: spent after some minutes, though what nobody decides for two minutes holds a part."""
AMPLE_USD = Decimal(1000)
"""A limit above all that calls hold which nobody decides before the end."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What to run.

    Attributes:
        seconds: How long calls are made.
        faults: Whether the id of a call that is struck is known.
        key: Each account has a sub-key of its own; or all have one key, which others may use as well.
        others: Callers who use that key besides, without the proxy, until everything is decided.
        rate: The share of calls that suffer a fault.
        hurry: How much faster the clocks go after the last call.
        within_s: How long after the last call everything must be decided, by the proxy's clock.
    """

    seconds: float
    seed: int = 1
    faults: Faults = "id"
    key: KeyKind = "own"
    callers: int = IN_FLIGHT
    others: int = 0
    rate: float = 0.1
    hurry: float = HURRY
    within_s: float = DECIDED_S_MAX

    @property
    def options(self) -> Options:
        """The same for a run without kills."""
        return Options(0, self.seed, 0, self.faults, self.rate, self.callers)


async def soak(asked: Soak, data: Path) -> Report:
    """Run it all, and judge.

    Args:
        asked: What to run.
        data: An empty directory with a short path.
    """
    async with open_router(asked.faults, asked.rate, asked.seed, data, lag_s=LAG_S, factor=asked.hurry) as upstream:
        return await _Run(asked, data, upstream).whole()


class _Run(Run):
    """One soak under way."""

    def __init__(self, asked: Soak, data: Path, upstream: OpenRouter) -> None:
        super().__init__(
            asked.options,
            data,
            upstream,
            key_usage_lag_s=KEY_USAGE_LAG_S,
            generation_s_max=GENERATION_S_MAX,
            call_s_max=CALL_S_MAX,
        )
        self._asked = asked
        self._entry = ("tests.torture.hurry", str(asked.hurry))
        self._until_s = self._settled_s = 0.0
        self._keys_are_own = asked.key == "own"
        self._limits = cycle(LIMITS_USD) if self._keys_are_own and asked.faults == "id" else repeat(AMPLE_USD)

    async def _load(self) -> float:
        self._until_s = time.monotonic() + self._asked.seconds
        for number in range(self._asked.others):
            self._background.spawn(self._other(number), "another's calls")
        return await super()._load()

    def _goes_on(self) -> bool:
        return time.monotonic() < self._until_s

    async def _key(self, name: str, limit_usd: Decimal) -> str:
        return await super()._key(name, limit_usd) if self._keys_are_own else self._upstream.inference_key

    async def _other(self, number: int) -> None:
        """Use the key as a program does that knows nothing of the proxy."""
        headers = {"Authorization": f"Bearer {self._upstream.inference_key}"}
        for ask in plan.asks(Random(f"{self._asked.seed}:other:{number}")):
            with contextlib.suppress(aiohttp.ClientError, OSError):
                body = {**ask.body, "user": OTHER}
                async with self._client.post(self._upstream.base_url + ask.path, json=body, headers=headers) as answer:
                    await answer.read()

    async def _settled(self) -> float:
        """Let time fly, upstream's first: its lag is over before it is for the proxy."""
        await self._upstream.hurry(self._client)
        self._proxy.hurry()
        hurry = self._asked.hurry
        self._settled_s = hurry * await self._nothing_pending(self._asked.within_s / hurry)
        return self._settled_s

    def _verdict(self, ledger: Ledger, bill: list[Billed], seen: list[Seen]) -> Verdict:
        verdict = super()._verdict(ledger, bill, seen) if self._keys_are_own else judge_shared(ledger, bill, seen)
        if self._settled_s >= self._asked.within_s:
            verdict.problems.append(f"something was pending {self._settled_s / 60:.0f} minutes after the last call")
        return verdict
