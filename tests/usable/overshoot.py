"""How far accounts pass their limits: many parallel callers on one account after another, each until it is spent.

``python -m tests.usable.overshoot [--calls 10000] [--callers 64] [--bound measured|proven] [--text natural|crafted]``

Natural text is of 20 kinds and counted as the models count (`realistic`), crafted text as densely as text can be (`dense`).
Under the measured bound crafted text may pass a limit by a quarter of it, or by the exposure of one call (M24, exposure). Its
next call on that endpoint must be counted by bytes. Exit code 0 if that holds, and nothing else is over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, Literal

import structlog

from openrouter_sim import Tokenizer
from tests.support.proxy_world import World
from tests.usable.measure import PICO, Rules, proxied
from tests.usable.texts import CRAFTED, NATURAL, crafted, natural

LIMITS_USD = {
    "openai/gpt-4.1-mini": ("0.01", "0.1"),
    "anthropic/claude-sonnet-4.5": ("0.05", "0.5"),
    "deepseek/deepseek-chat-v3.1": ("0.01", "0.1"),
    "anthropic/claude-opus-4.7": ("0.1", "1"),
}
"""Limits of accounts by the model that they call: some hold two of the longest first calls, some hold twenty."""
BYTES = (200, 24_000)
"""How long a text is."""
REFUSED = frozenset({400, 401, 402})
BROKEN_OFF = 502
SETTLED_S_MAX = 300.0
"""The cost of a call that broke off is asked for, which takes a while."""
KEY_USD = Decimal(1_000)
"""The limit of each sub-key. It must not end an account before the proxy does."""
MORE_USD = Decimal(20)
"""By how much the limit of an account is raised for its next call."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to run."""

    calls: int = 10_000
    callers: int = 64
    text: Literal["natural", "crafted"] = "natural"
    rules: Rules = field(default_factory=lambda: Rules(counter=Tokenizer.REALISTIC))
    seed: int = 1


@dataclass(slots=True)
class Spent:
    """What came of one account, in pico-USD.

    Attributes:
        overshoot_pusd: What was billed above its limit.
        exposure_pusd: The largest exposure of one of its calls.
        overruns: Calls that cost more than was reserved.
        next_overruns: Endpoints of such calls on which its next call was refused, not reserved by bytes, or cost more than was
            reserved.
    """

    name: str
    limit_pusd: int
    overshoot_pusd: int
    exposure_pusd: int
    overruns: int
    next_overruns: int = 0

    @property
    def is_within(self) -> bool:
        """Whether M24's sentence holds."""
        return self.overshoot_pusd <= max(self.limit_pusd // 4, self.exposure_pusd) and not self.next_overruns


@dataclass(slots=True)
class Result:
    """What came of all accounts."""

    calls: int
    broken_off: int
    accounts: list[Spent]

    @property
    def over(self) -> list[Spent]:
        """Accounts that were billed above their limit."""
        return [account for account in self.accounts if account.overshoot_pusd]

    @property
    def outside(self) -> list[Spent]:
        """Accounts for which M24's sentence does not hold."""
        return [account for account in self.accounts if not account.is_within]


async def overshoot(asked: Asked) -> Result:
    """Spend one account after another until so many calls were answered.

    Raises:
        AssertionError: The ledger and the simulator's bill differ.
    """
    async with proxied(asked.rules) as world:
        run = _Run(asked, world)
        accounts: list[Spent] = []
        for number, (model, limit_usd) in enumerate(itertools.cycle(_pairs())):
            accounts.append(await run.account(f"a{number}", model, limit_usd))
            if run.calls >= asked.calls:
                break
        assert world.posted_usd() == world.billed_usd()
        return Result(run.calls, run.broken_off, accounts)


def _pairs() -> Iterator[tuple[str, str]]:
    for limits in zip(*LIMITS_USD.values(), strict=True):
        yield from zip(LIMITS_USD, limits, strict=True)


class _Run:
    """The accounts and callers of a run."""

    def __init__(self, asked: Asked, world: World) -> None:
        self._asked = asked
        self._world = world
        self._random = Random(f"{asked.seed}:texts")
        self.calls = 0
        self.broken_off = 0

    async def account(self, name: str, model: str, limit_usd: str) -> Spent:
        """Spend an account; return what came of it."""
        world = self._world
        await world.reopen(name, await world.sub_key(name, KEY_USD), limit_usd)
        await asyncio.gather(*(self._call_on(name, model) for _ in range(self._asked.callers)))
        await world.settled(name, SETTLED_S_MAX)
        account = world.proxy.ledger.account(name)
        lines = self._lines(name)
        overruns = [line for line in lines if Decimal(line["cost_usd"]) > Decimal(line["reserved_usd"])]
        over_pusd = max(0, account.posted_pusd - account.limit_pusd)
        exposure_pusd = max((line["exposure_pusd"] for line in lines), default=0)
        spent = Spent(name, account.limit_pusd, over_pusd, exposure_pusd, len(overruns))
        if overruns:
            world.proxy.accounts.set_limit(name, account.posted_pusd + int(MORE_USD * PICO))
            spent.next_overruns = sum(
                [
                    await self._next_is_over(name, tag, line["model"])
                    for tag, line in {line["tag"]: line for line in overruns}.items()
                ]
            )
        return spent

    async def _call_on(self, name: str, model: str) -> None:
        """Call until even a short text is refused. Half of the calls continue a conversation."""
        size_max, messages = BYTES[1], list[Json]()
        while size_max >= BYTES[0] and self.calls < self._asked.calls:
            if self._random.random() < 0.5:
                messages = []
            messages = [*messages, {"role": "user", "content": self._text(size_max)}]
            reply = await self._call(name, {"model": model, "messages": messages})
            if reply is None:
                size_max, messages = size_max // 4, []
            else:
                self.calls += 1
                messages.append(reply)

    async def _next_is_over(self, name: str, tag: str, model: str) -> bool:
        """Make the next call of an account on an endpoint; return whether it was not reserved by bytes, or cost more."""
        body = {
            "model": model,
            "provider": {"only": [tag]},
            "messages": [{"role": "user", "content": self._text(BYTES[1])}],
        }
        reply = await self._call(name, body)
        await self._world.settled(name)
        line = self._lines(name)[-1]
        return reply is None or line["exposure_pusd"] > 0 or Decimal(line["cost_usd"]) > Decimal(line["reserved_usd"])

    def _text(self, size_max: int) -> str:
        random, size = self._random, min(size_max, int(BYTES[0] * (BYTES[1] / BYTES[0]) ** self._random.random()))
        if self._asked.text == "crafted":
            text = crafted(random.choice(list(CRAFTED)), random, size)
        else:
            text = natural(random.choice(list(NATURAL)), random, size)
        return f"{text}\n[[sim tokens={random.randrange(1, 300)}]]"

    async def _call(self, name: str, body: Json) -> Json | None:
        """Make a call; return the reply, or None if it was refused."""
        bound = self._random.choice(({}, {}, {"max_tokens": 400}, {"max_tokens": 4_000}))
        url, headers = (
            f"{self._world.base_url}/chat/completions",
            {"Authorization": f"Bearer {self._world.tokens[name]}"},
        )
        async with self._world.client.post(url, json={**body, **bound}, headers=headers) as response:
            answer = await response.json()
            if response.status in REFUSED:
                return None
            if response.status == BROKEN_OFF:
                self.broken_off += 1
                return {"role": "assistant", "content": ""}
            assert response.status == 200, answer
        return {"role": "assistant", "content": answer["choices"][0]["message"]["content"] or ""}

    def _lines(self, name: str) -> list[Json]:
        """Return the lines of an account's costs, in order, each with the exposure of its reservation."""
        database = sqlite3.connect(f"file:{self._world.data / 'ledger.sqlite3'}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT line, exposure_pusd FROM entries JOIN reservations ON reservations.id = reservation_id "
                "WHERE entries.account = ? ORDER BY entry_id",
                (name,),
            )
            return [{**json.loads(line), "exposure_pusd": exposure_pusd} for line, exposure_pusd in rows]
        finally:
            database.close()


def main() -> int:
    """Run as asked, print what came out, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.usable.overshoot", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--bound", choices=("measured", "proven"), default="measured")
    parser.add_argument("--text", choices=("natural", "crafted"), default="natural")
    parser.add_argument(
        "--counter", type=Tokenizer, help="how OpenRouter counts tokens: realistic, or dense for crafted text"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    counter = given.counter or (Tokenizer.DENSE if given.text == "crafted" else Tokenizer.REALISTIC)
    asked = Asked(given.calls, given.callers, given.text, Rules(given.bound, counter=counter), given.seed)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began_s = time.monotonic()
    result = asyncio.run(overshoot(asked))
    show(asked, result, time.monotonic() - began_s)
    return 1 if (result.outside if asked.text == "crafted" and given.bound == "measured" else result.over) else 0


def show(asked: Asked, result: Result, took_s: float) -> None:
    """Print what came out."""
    rules = asked.rules
    print(f"{rules.bound}, {asked.text} text, counter {rules.counter.value}, seed {asked.seed}: {took_s:.0f} s")
    print(
        f"  {result.calls} calls of {asked.callers} callers on {len(result.accounts)} accounts, {result.broken_off} broken off"
    )
    worst = max(result.accounts, key=lambda account: account.overshoot_pusd)
    share = max(account.overshoot_pusd / account.limit_pusd for account in result.accounts)
    print(f"  {len(result.over)} accounts over; at most ${worst.overshoot_pusd / PICO:.6f}, {share:.1%} of a limit")
    print(f"  {sum(account.overruns for account in result.accounts)} calls cost more than was reserved")
    print(
        f"  {len(result.outside)} accounts outside of max(limit / 4, exposure of one call), or not right in their next call"
    )
    for account in result.outside[:10]:
        print(f"  ! {account}")


if __name__ == "__main__":
    sys.exit(main())
