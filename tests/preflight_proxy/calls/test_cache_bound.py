"""With `cache_bound = "billed"` a known prefix is reserved at the price of a cache read while the cache surely has it (M6)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from openrouter_sim import FaultRule, Rule, Scenario, Simulator, make_fault
from openrouter_sim.calls.prompt_cache import PromptCache
from preflight_proxy.app import running
from preflight_proxy.core.pricing.cached_prefixes import CACHED_S
from preflight_proxy.core.refusals.refusals import Code
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import DEAR_MODEL, World, quick_config

pytestmark = pytest.mark.wire

TEXT_BYTES = 60_000
WRITE_USD = TEXT_BYTES // 4 * Decimal("0.00000375")
"""What the simulator bills for the text as it is written to the cache: 15,000 tokens."""
READ_USD = TEXT_BYTES // 4 * Decimal("0.0000003")
BOUND = 1500
BOUND_USD, FLOOR_USD = (tokens * Decimal("0.000015") for tokens in (BOUND, 1024))
CONSTANTS_USD = Decimal("0.0025")
"""More than the templates and the few words of a turn are reserved at."""
READ_FITS_USD = READ_USD + BOUND_USD + CONSTANTS_USD
"""With so much available the second turn fits at the price of a read alone."""
CLAMPED_FITS_USD = WRITE_USD + FLOOR_USD + CONSTANTS_USD
"""With so much it fits at the price of a write too, but not as it is asked."""


class TwoTurns:
    """A conversation, whose second call comes at any time after the first, and finds so much available."""

    def __init__(self, world: World, clock: FakeClock, left_usd: Decimal) -> None:
        self.world = world
        self.clock = clock
        self._left_usd = left_usd
        self._messages: list[dict[str, Any]] = []

    async def first(self) -> None:
        """Write the long text to the cache."""
        assert await self._ask("word " * (TEXT_BYTES // 5)) == (200, None)
        self.leave(self._left_usd)

    def leave(self, left_usd: Decimal) -> None:
        """Set the limit so that so much is available."""
        posted_pusd = self.world.proxy.ledger.account("a").posted_pusd
        self.world.proxy.accounts.set_limit("a", posted_pusd + int(left_usd * 10**12))

    async def second(self, after_s: float = 0.0) -> tuple[int, str | None]:
        """Go on with the conversation; return the status, and what the account would need if it is refused."""
        self.clock.advance(after_s)
        return await self._ask("and now?")

    async def again(self) -> tuple[int, str | None]:
        """Repeat the last call."""
        self._messages = self._messages[:-2]
        return await self._ask("and now?")

    async def _ask(self, text: str) -> tuple[int, str | None]:
        mark = {"cache_control": {"type": "ephemeral"}}
        asking = {"role": "user", "content": [{"type": "text", "text": text, **mark}]}
        body: dict[str, Any] = {"model": DEAR_MODEL, "max_tokens": BOUND, "messages": [*self._messages, asking]}
        async with self.world.post(**body) as response:
            self.answer = await response.json()
        self._messages += [asking, {"role": "assistant", "content": "ok"}]
        return response.status, response.headers.get("X-Budget-Needed")

    @property
    def only(self) -> list[str]:
        """The endpoints that the last call was restricted to."""
        listed: list[str] = json.loads(self.world.sim.requests[-1].body)["provider"]["only"]
        return listed


@asynccontextmanager
async def turns(
    folder: Path, left_usd: Decimal, source: Callable[[], float] = time.monotonic, **settings: Any
) -> AsyncIterator[TwoTurns]:
    """Serve an account; OpenRouter's own check of its key has room."""
    scenario = Scenario(replies=(Rule(text="ok"),))
    clock = FakeClock(monotonic_s=1000.0, source=source)
    async with Simulator(scenario) as sim, aiohttp.ClientSession() as client:
        config = quick_config(folder, sim.base_url, **{"cache_bound": "billed", "weigh": False, **settings})
        async with running(config, clock) as proxy:
            world = World(sim, proxy, client, folder)
            await world.reopen("a", await world.sub_key("a", Decimal(2)))
            yield TwoTurns(world, clock, left_usd)
            await world.all_settled()
            world.check_bill()


async def test_a_known_prefix_is_reserved_at_the_price_of_a_read_on_the_endpoint_that_has_it(tmp_path: Path) -> None:
    async with turns(tmp_path, READ_FITS_USD) as conversation:
        await conversation.first()
        provider = conversation.answer["provider"]
        assert await conversation.second() == (200, None)
        first, second = conversation.world.cost_lines()
        assert Decimal(second["reserved_usd"]) < READ_USD + BOUND_USD + CONSTANTS_USD < WRITE_USD + BOUND_USD
        assert second["cached_tokens"] >= first["cache_write_tokens"] > TEXT_BYTES // 5
        endpoints = conversation.world.sim.catalog[DEAR_MODEL].endpoints
        assert conversation.only == [each.tag for each in endpoints if each.provider == provider]


async def test_by_default_it_is_reserved_at_the_price_of_a_write(tmp_path: Path) -> None:
    async with turns(tmp_path, READ_FITS_USD, cache_bound="write") as conversation:
        await conversation.first()
        status, _needed = await conversation.second()
        assert status == 402


@pytest.mark.parametrize(("after_s", "status"), [(CACHED_S - 5, 200), (CACHED_S + 1, 402)])
async def test_a_prefix_counts_as_cached_for_four_minutes_after_its_last_use(
    tmp_path: Path, after_s: float, status: int
) -> None:
    async with turns(tmp_path, READ_FITS_USD) as conversation:
        await conversation.first()
        assert (await conversation.second(after_s))[0] == status


async def test_the_four_minutes_begin_with_the_call(tmp_path: Path) -> None:
    """The provider may have read its cache at once, however long the answer takes."""
    async with turns(tmp_path, READ_FITS_USD) as conversation:
        sim = conversation.world.sim
        sim.scenario = Scenario(first_token_s=0.2, replies=(Rule(text="ok"),))
        first = asyncio.ensure_future(conversation.first())
        await sim.until(lambda: len(sim.requests) == 1)
        conversation.clock.advance(100)
        await first
        assert (await conversation.second(CACHED_S - 99))[0] == 402


async def test_each_call_that_reads_the_prefix_keeps_it(tmp_path: Path) -> None:
    async with turns(tmp_path, READ_FITS_USD + 3 * READ_USD) as conversation:
        await conversation.first()
        assert [(await conversation.second(CACHED_S - 5))[0] for _ in range(3)] == [200, 200, 200]


async def test_a_bill_that_agrees_with_no_price_says_nothing_of_the_cache(tmp_path: Path) -> None:
    """As it says nothing of the tokens (M4)."""
    async with turns(tmp_path, WRITE_USD) as conversation:
        rise = FaultRule(make_fault("price_rise", {"factor": "1.05"}), times=1)
        conversation.world.sim.scenario = Scenario(replies=(Rule(text="ok"),), faults=(rise,))
        await conversation.first()
        assert (await conversation.second())[0] == 402


async def test_where_more_fits_all_endpoints_may_serve(tmp_path: Path) -> None:
    """The prefix is reserved at the lower price only where that is needed."""
    async with turns(tmp_path, Decimal(1)) as conversation:
        await conversation.first()
        await conversation.second()
        assert Decimal(conversation.world.cost_lines()[-1]["reserved_usd"]) > WRITE_USD


async def test_what_a_refusal_says_is_needed_is_enough(tmp_path: Path) -> None:
    """The least available amount is that of a cache read."""
    async with turns(tmp_path, READ_USD) as conversation:
        await conversation.first()
        status, needed = await conversation.second()
        assert (status, needed is not None) == (402, True)
        needed_usd = Decimal(needed or 0)
        assert needed_usd < WRITE_USD
        for left_usd, status in ((needed_usd - Decimal(10) ** -12, 402), (needed_usd, 200)):
            conversation.leave(left_usd)
            assert (await conversation.again())[0] == status


@pytest.mark.parametrize(("left_usd", "status"), [(READ_FITS_USD, 402), (CLAMPED_FITS_USD, 200)])
async def test_a_call_that_is_sent_too_late_for_the_cache_is_quoted_anew(
    tmp_path: Path, left_usd: Decimal, status: int
) -> None:
    """Four minutes pass between the reservation and the first byte. The call is clamped or refused, and nothing freezes."""
    jumps: list[Mapping[str, object]] = []

    def source() -> float:
        return time.monotonic() + (1000.0 if any(jumps) else 0.0)

    async with turns(tmp_path, left_usd, source) as conversation:
        await conversation.first()
        ledger = conversation.world.proxy.ledger
        jumps.append(ledger.store.state.reservations)  # the clock is late while a call is pending
        answered = await conversation.second()
        assert answered[0] == status
        _first, withdrawn, *rest = conversation.world.cost_lines()
        assert (withdrawn["outcome"], withdrawn["reason"], withdrawn["cost_usd"]) == ("voided", "withdrawn", "0")
        assert Decimal(withdrawn["reserved_usd"]) < WRITE_USD
        assert [Decimal(line["reserved_usd"]) > WRITE_USD for line in rest] == [True] * (status == 200)
        assert ledger.account("a").frozen is None
        if status == 402:
            assert Code.DOES_NOT_FIT.sentence in conversation.answer["error"]["message"]


async def test_a_prefix_that_the_cache_has_lost_costs_its_exposure_more_and_nothing_else_happens(
    tmp_path: Path,
) -> None:
    """The tokens were as quoted and the prices as listed: no endpoint is quarantined, and the account does not count bytes."""
    async with turns(tmp_path, READ_FITS_USD) as conversation:
        await conversation.first()
        world = conversation.world
        world.sim.cache = PromptCache()
        assert (await conversation.second())[0] == 200
        await world.settled()
        line = world.cost_lines()[-1]
        excess_usd = Decimal(line["cost_usd"]) - Decimal(line["reserved_usd"])
        assert line["cached_tokens"] == 0
        assert 0 < excess_usd < WRITE_USD
        account = world.proxy.ledger.account("a")
        assert account.overrun_pusd == int(excess_usd * 10**12)
        assert (account.byte_counted, dict(world.proxy.ledger.store.state.quarantined)) == ((), {})


async def test_a_higher_price_for_what_the_cache_has_lost_is_an_overrun_as_before(tmp_path: Path) -> None:
    async with turns(tmp_path, READ_FITS_USD) as conversation:
        await conversation.first()
        world = conversation.world
        world.sim.cache = PromptCache()
        world.sim.scenario = Scenario(
            replies=(Rule(text="ok"),), faults=(FaultRule(make_fault("price_rise", {"factor": "1.1"})),)
        )
        assert (await conversation.second())[0] == 200
        await world.settled()
        assert [model for model, _tag in world.proxy.ledger.store.state.quarantined] == [DEAR_MODEL]


async def test_in_proven_mode_too_a_lost_prefix_puts_no_endpoint_out_of_use(tmp_path: Path) -> None:
    async with turns(tmp_path, READ_FITS_USD, bound="proven") as conversation:
        await conversation.first()
        world = conversation.world
        world.sim.cache = PromptCache()
        assert (await conversation.second())[0] == 200
        await world.settled()
        assert world.proxy.ledger.account("a").overrun_pusd > 0
        assert not world.proxy.ledger.store.state.quarantined
