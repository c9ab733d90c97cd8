"""What a call can cost, and what is decided from its bill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from openrouter_sim import Scenario, Simulator
from openrouter_sim.base.tokens import Tokenizer
from preflight_proxy.app import running
from preflight_proxy.base.config import Bound
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallContext, Caller, CallQuote, Quoter, ReservedCall
from preflight_proxy.core.ledger.commands import OpenAccount, Reserve, Void
from preflight_proxy.core.ledger.rows import Reservation
from preflight_proxy.core.pricing.quote import Offer, Quotes
from preflight_proxy.core.secret import Secret
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.ledger.events import Events
from preflight_proxy.ledger.files import Files
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.store import Store
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import DEAR_MODEL, World, quick_config
from tests.support.quote_cases import CHAT, chat, endpoint

ENDPOINT = endpoint()
PROMPT, WRITE_1H, OUT = 3 * 10**6, 6 * 10**6, 15 * 10**6
"""Pico-USD a token at `ENDPOINT`."""
MEASURED, BOUND = 1000, 100
"""The prompt tokens and the output bound that are reserved."""
RESERVED_PUSD = MEASURED * PROMPT + BOUND * OUT


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    clock = FakeClock()
    store = Store(tmp_path / "ledger.sqlite3", clock=clock)
    ledger = Ledger(store, Files(store.cost_log), Events(), clock)
    ledger.commit(OpenAccount(account="a", run="r", limit_pusd=10**12, token_hash="hash"))
    yield ledger
    ledger.close()
    store.close()


def quoter_of(ledger: Ledger, bound: Bound = "measured") -> Quoter:
    return Quoter(ledger, Prices(Upstream("http://127.0.0.1:1"), ledger.clock), RequestReader("drop"), bound)


@pytest.fixture
def quoter(ledger: Ledger) -> Quoter:
    return quoter_of(ledger)


def measured_call(*, exposure_pusd: int = 10**9) -> ReservedCall:
    """Return a call that was reserved by `MEASURED`."""
    request = chat("hi", max_tokens=BOUND)
    offer = Offer([ENDPOINT], None, (), True)
    quotes = Quotes.of(offer.quote(request, [MEASURED]))
    tags = (ENDPOINT.tag,)
    reservation = Reservation(
        *("r1", "a", RESERVED_PUSD, "chat", ENDPOINT.model, tags, BOUND, False, 0.0), exposure_pusd=exposure_pusd
    )
    context = CallContext(Caller("a", "token hash", CHAT, ""), request, (), False, 45.0)
    return ReservedCall(context, CallQuote(quotes, offer), reservation, Secret("key"))


def billed(cost_pusd: int | None, prompt_tokens: int, completion_tokens: int = BOUND, **more: Any) -> Reading:
    usage = CallUsage(cost_pusd, prompt_tokens, completion_tokens=completion_tokens, **more)
    return Reading(provider="Anthropic", usage=usage, finish="stop")


COUNTED = 2 * MEASURED
FAIR_PUSD = COUNTED * PROMPT + BOUND * OUT
"""What a call costs whose prompt was counted twice as long as measured."""


@pytest.mark.parametrize(
    ("reading", "is_miscount"),
    [
        (billed(FAIR_PUSD, COUNTED), True),
        (billed(FAIR_PUSD * 101 // 100, COUNTED), True),
        (billed(FAIR_PUSD * 102 // 100, COUNTED), False),  # agrees with no price
        (billed(FAIR_PUSD + OUT, COUNTED, BOUND + 1), False),  # the output bound was passed
        (billed(FAIR_PUSD * 2, MEASURED), False),  # a price was
        (
            billed(MEASURED * WRITE_1H, MEASURED, 0, cache_write_tokens=MEASURED),
            False,
        ),  # a listed one that was not asked for
        (billed(None, COUNTED), False),
        (billed(FAIR_PUSD, COUNTED, is_byok=True), False),
        (replace(billed(FAIR_PUSD, COUNTED), provider="Other"), False),
        (replace(billed(FAIR_PUSD, COUNTED), usage=None), False),
    ],
)
def test_a_miscount_is_an_excess_of_prompt_tokens_alone(quoter: Quoter, reading: Reading, is_miscount: bool) -> None:
    assert quoter.is_miscount(measured_call(), reading) is is_miscount


def test_where_nothing_was_exposed_an_excess_is_no_miscount(quoter: Quoter) -> None:
    """The reservation was proven."""
    reading = billed(FAIR_PUSD, COUNTED)
    assert quoter.is_miscount(measured_call(), reading)
    assert not quoter.is_miscount(measured_call(exposure_pusd=0), reading)


@pytest.mark.parametrize(("cost_pusd", "is_miscount"), [(FAIR_PUSD, True), (FAIR_PUSD * 102 // 100, False)])
def test_one_endpoint_of_the_provider_that_served_may_explain_a_miscount(
    quoter: Quoter, cost_pusd: int, *, is_miscount: bool
) -> None:
    """An answer names no tag. Else crafted text would put all endpoints of the provider out of use."""
    call = measured_call()
    twin = endpoint(tag="anthropic/fast", pricing={"prompt": "0.0003"})
    offer = Offer([twin, ENDPOINT], None, (), True)
    quotes = Quotes.of(offer.quote(call.context.request, [MEASURED] * 2))
    call = replace(call, quote=CallQuote(quotes, offer))
    assert offer.by_provider == {}
    assert quoter.is_miscount(call, billed(cost_pusd, COUNTED)) is is_miscount


def test_under_proven_bounds_only_a_lost_cache_explains_an_excess(ledger: Ledger) -> None:
    """More tokens than proven are an overrun, whatever the cache had."""
    call = measured_call()
    call = replace(call, reservation=replace(call.reservation, cache_read_tokens=COUNTED))
    within, above = billed(FAIR_PUSD, COUNTED), billed(FAIR_PUSD + PROMPT, COUNTED + 1)
    proven, measured = quoter_of(ledger, "proven"), quoter_of(ledger)
    assert [proven.is_miscount(call, reading) for reading in (within, above)] == [True, False]
    assert [measured.is_miscount(call, reading) for reading in (within, above)] == [True, True]


TEXT = "read the plan of the house, then say what is missing. " * 200
"""10.8 kB. A byte of it may be two tokens, and is counted as 1.7 by `Tokenizer.DENSE`. It is estimated at 0.25."""
ASKED: dict[str, Any] = {"model": DEAR_MODEL, "text": TEXT, "max_tokens": 16, "provider": {"only": ["anthropic"]}}


@pytest.fixture
async def asking(world: World) -> AsyncIterator[Quoter]:
    """A quoter of the world's ledger."""
    ledger = world.proxy.ledger
    async with Upstream(world.sim.base_url) as upstream:
        yield Quoter(ledger, Prices(upstream, ledger.clock), RequestReader("drop"))


async def ways(quoter: Quoter, account: str, text: str = TEXT) -> list[int]:
    """Return the prompt tokens of each way to admit a call."""
    request = chat(text, max_tokens=16, provider={"only": ["anthropic"]})
    quote = await quoter.quote(CallContext(Caller(account, "hash", CHAT, ""), request, (), False, 45.0))
    assert isinstance(quote, CallQuote)
    return [way.prompt_tokens for way in quote.quotes.ways]


@pytest.mark.wire
async def test_a_call_is_estimated_only_where_its_bytes_take_much_of_what_is_left(world: World, asking: Quoter) -> None:
    await world.open("rich", "10")
    await world.open("poor", "0.25")
    (by_bytes,) = await ways(asking, "rich")
    measured, proven = await ways(asking, "poor")
    assert proven == by_bytes > 2 * len(TEXT)
    assert measured < proven / 4
    assert len(await ways(asking, "poor", "hi")) == 1


@pytest.mark.wire
async def test_beside_other_calls_a_call_is_estimated_earlier(world: World, asking: Quoter) -> None:
    """They share what is left."""
    await world.open("rich", "1")
    assert len(await ways(asking, "rich")) == 1
    reserve = Reserve("r", "rich", 10**10, "chat", DEAR_MODEL, ("anthropic",), 16)
    world.proxy.ledger.commit(reserve)
    assert len(await ways(asking, "rich")) == 2
    world.proxy.ledger.commit(Void("r", "the test is over"))


@pytest.mark.wire
@pytest.mark.parametrize("bound", ["measured", "proven"])
async def test_crafted_text_is_billed_above_its_reservation_once(tmp_path: Path, bound: Bound) -> None:
    """Measured: no endpoint is disabled, and from then on the account counts bytes there, after a restart too. Proven: never."""
    async with Simulator(Scenario(tokenizer=Tokenizer.DENSE)) as sim, aiohttp.ClientSession() as client:
        async with running(quick_config(tmp_path, sim.base_url, bound=bound)) as proxy:
            world = World(sim, proxy, client, tmp_path)
            key = await world.sub_key("a")
            await world.reopen("a", key, "0.25")
            await answered(world, "first")
            account = proxy.ledger.account("a")
            assert (account.overrun_pusd > 0) is (bound == "measured")
            assert account.byte_counted == ((f"{DEAR_MODEL} anthropic",) if bound == "measured" else ())
            await answered(world, "second")
            assert proxy.ledger.account("a").overrun_pusd == account.overrun_pusd
            assert proxy.ledger.store.state.quarantined == {}
        async with running(quick_config(tmp_path, sim.base_url, bound=bound)) as proxy:
            world = World(sim, proxy, client, tmp_path, tokens=world.tokens)
            await world.reopen("a", key, "0.25")
            await answered(world, "third")
            assert proxy.ledger.account("a").overrun_pusd == account.overrun_pusd
            assert proxy.ledger.store.state.quarantined == {}
            lines = world.cost_lines()
            is_over = [float(line["cost_usd"]) > float(line["reserved_usd"]) for line in lines]
            assert is_over == [bound == "measured", False, False]
            world.check_bill()


async def answered(world: World, name: str) -> None:
    """Send a call that begins with a name, and read its answer."""
    async with world.post(**{**ASKED, "text": f"{name} {TEXT}"}) as response:
        assert response.status == 200, await response.text()
        await response.read()
