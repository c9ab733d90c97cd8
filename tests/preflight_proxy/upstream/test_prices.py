"""Price lists are read when asked for, once for all who wait, again after an hour, and serve no longer than a day (M7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import (
    ANYONE_S,
    MODELS_MAX,
    REFRESH_S,
    RETRY_S,
    STALE_S,
    BusyError,
    PriceList,
    Prices,
    StalePricesError,
    UnreachableError,
)
from tests.support.fake_clock import FakeClock
from tests.support.raw_upstream import RawUpstream

pytestmark = pytest.mark.wire

MODEL = "maker/model"


def document(*prices: str) -> bytes:
    """A list of endpoints with these prompt prices, in USD per token."""
    endpoints = [
        {
            "tag": f"tag-{number}",
            "provider_name": "P",
            "context_length": 1000,
            "pricing": {"prompt": price, "completion": "0.000001"},
        }
        for number, price in enumerate(prices)
    ]
    return json.dumps({"data": {"id": MODEL, "architecture": {"tokenizer": "GPT"}, "endpoints": endpoints}}).encode()


@dataclass
class Market:
    """An upstream whose answer a test may change, or hold back; and a reader of its prices."""

    status: int = 200
    body: bytes = field(default_factory=lambda: document("0.000001"))
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    clock: FakeClock = field(default_factory=FakeClock)
    server: RawUpstream = field(init=False)
    prices: Prices = field(init=False)

    async def behave(self, writer: asyncio.StreamWriter, _number: int) -> bool:
        self.arrived.set()
        await self.may_answer.wait()
        if self.status == 0:
            return False
        head = f"HTTP/1.1 {self.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        writer.write(head.encode() + self.body)
        return True

    @property
    def reads(self) -> list[str]:
        """The paths asked for, below the base."""
        return [line.split()[1].removeprefix("/api/v1") for line in self.server.heads()]

    async def prompt_prices(self, model: str = MODEL) -> list[int]:
        """Pico-USD per million prompt tokens of each endpoint."""
        return [endpoint.prices.prompt for endpoint in (await self.prices.of(model)).endpoints]


@pytest.fixture
async def market() -> AsyncIterator[Market]:
    made = Market()
    made.may_answer.set()
    async with RawUpstream(made.behave) as made.server, Upstream(made.server.base_url) as upstream:
        made.prices = Prices(upstream, made.clock)
        yield made


ONE, TWO = [10**12], [2 * 10**12]


async def test_a_list_is_read_when_first_asked_for_and_kept(market: Market) -> None:
    assert market.reads == []
    for _ in range(3):
        assert await market.prompt_prices() == ONE
    assert market.reads == [f"/models/{MODEL}/endpoints"]
    (endpoint,) = (await market.prices.of(MODEL)).endpoints
    assert (endpoint.model, endpoint.tag, endpoint.tokenizer) == (MODEL, "tag-0", "GPT")


async def test_nobody_is_shown_a_key(market: Market) -> None:
    await market.prices.of(MODEL)
    await market.prices.models()
    assert all("authorization" not in dict(market.server.headers(index)) for index in range(2))


async def test_a_list_is_read_again_after_an_hour_and_not_before(market: Market) -> None:
    await market.prices.of(MODEL)
    market.body = document("0.000002")
    market.clock.advance(REFRESH_S - 1)
    assert await market.prompt_prices() == ONE
    market.clock.advance(1)
    assert await market.prompt_prices() == TWO
    assert len(market.reads) == 2


@pytest.mark.parametrize(("status", "body"), [(0, b""), (500, b"{}"), (429, b"{}"), (200, b"<html>"), (200, b"\xff")])
async def test_while_it_cannot_be_read_the_old_list_serves_for_a_day(market: Market, status: int, body: bytes) -> None:
    await market.prices.of(MODEL)
    market.status, market.body = status, body
    market.clock.advance(REFRESH_S)
    assert await market.prompt_prices() == ONE
    market.clock.advance(STALE_S - REFRESH_S - 1)
    assert await market.prompt_prices() == ONE
    market.clock.advance(1)
    with pytest.raises(StalePricesError):
        await market.prices.of(MODEL)


async def test_after_a_failed_read_the_next_try_waits_a_moment(market: Market) -> None:
    await market.prices.of(MODEL)
    market.status = 502
    market.clock.advance(REFRESH_S)
    await market.prices.of(MODEL)
    failed = len(market.reads)
    for _ in range(5):
        await market.prices.of(MODEL)
    assert len(market.reads) == failed
    market.clock.advance(RETRY_S)
    market.status, market.body = 200, document("0.000002")
    assert await market.prompt_prices() == TWO
    assert len(market.reads) == failed + 1


async def test_a_list_for_which_upstream_does_not_answer_says_so() -> None:
    async with Upstream("http://127.0.0.1:9/api/v1") as upstream:
        with pytest.raises(UnreachableError):
            await Prices(upstream, FakeClock()).of(MODEL)


async def test_a_model_whose_list_was_never_read_has_no_price(market: Market) -> None:
    market.status = 503
    with pytest.raises(StalePricesError) as caught:
        await market.prices.of(MODEL)
    assert not isinstance(caught.value, UnreachableError), "it has answered"
    market.status = 200
    assert await market.prompt_prices() == ONE


async def test_an_expired_list_is_read_again_at_the_next_call(market: Market) -> None:
    await market.prices.of(MODEL)
    market.prices.expire(MODEL)
    market.body = document("0.000002")
    assert await market.prompt_prices() == TWO
    assert await market.prompt_prices() == TWO
    assert len(market.reads) == 2


# One read for all who wait


async def waiting(market: Market, count: int) -> list[asyncio.Task[PriceList]]:
    """So many calls at once, and one read under way."""
    market.may_answer.clear()
    calls = [asyncio.ensure_future(market.prices.of(MODEL)) for _ in range(count)]
    await market.arrived.wait()
    return calls


async def test_all_who_wait_get_the_one_read(market: Market) -> None:
    calls = await waiting(market, 50)
    market.may_answer.set()
    found = await asyncio.gather(*calls)
    assert all(each is found[0] for each in found)
    assert len(market.reads) == 1


async def test_all_who_wait_share_its_failure(market: Market) -> None:
    """Fifty calls that each waited out a read of their own would wait for minutes."""
    calls = await waiting(market, 50)
    market.status = 500
    market.may_answer.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in found} == {StalePricesError}
    assert len(market.reads) == 1


async def test_the_first_who_leaves_does_not_end_the_read_for_the_others(market: Market) -> None:
    calls = await waiting(market, 3)
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    market.may_answer.set()
    assert len((await calls[1]).endpoints) == len((await calls[2]).endpoints) == 1
    assert len(market.reads) == 1


async def test_what_is_read_is_kept_although_all_who_waited_have_left(market: Market) -> None:
    (call,) = await waiting(market, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    market.may_answer.set()
    assert await market.prompt_prices() == ONE
    assert len(market.reads) == 1


async def test_models_are_read_side_by_side(market: Market) -> None:
    market.may_answer.clear()
    calls = [asyncio.ensure_future(market.prices.of(f"maker/m{number}")) for number in range(5)]
    async with asyncio.timeout(30):
        while len(market.reads) < 5:
            await asyncio.sleep(0)
    market.may_answer.set()
    await asyncio.gather(*calls)


# What is no model


NO_MODEL = b'{"error":{"code":404,"message":"no"}}'


@pytest.mark.parametrize("body", [b"{}", b"<html>Log in</html>", b""])
async def test_a_404_that_is_not_openrouters_is_a_failed_read(market: Market, body: bytes) -> None:
    market.status, market.body = 404, body
    with pytest.raises(StalePricesError):
        await market.prices.of("nobody/nothing")


@pytest.mark.parametrize("status", [404, 400])
async def test_a_model_that_upstream_does_not_know_has_no_endpoints_for_an_hour(market: Market, status: int) -> None:
    market.status, market.body = status, NO_MODEL
    for _ in range(3):
        assert (await market.prices.of("nobody/nothing")).endpoints == ()
    assert len(market.reads) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "m",
        "a/b/c",
        "../keys",
        "a/../../credits",
        "a/..",
        "/a/b",
        "a/b?x=1",
        "a/b#",
        "a b/c",
        "a/b\n",
        "a/" + "b" * 999,
    ],
)
async def test_a_name_that_can_be_no_models_is_not_asked_for(market: Market, name: str) -> None:
    assert (await market.prices.of(name)).endpoints == ()
    assert market.reads == []


@pytest.mark.parametrize("name", ["openai/gpt-4.1-nano", "a/b:free", "~anthropic/claude-latest", "x-ai/grok-4.1"])
async def test_real_names_are_asked_for_as_they_are(market: Market, name: str) -> None:
    assert await market.prompt_prices(name) == ONE
    assert market.reads == [f"/models/{name}/endpoints"]


async def test_endpoints_without_a_price_are_left_out(market: Market) -> None:
    market.body = document("0.000001", "-1", "", "cheap")
    assert await market.prompt_prices() == ONE


@pytest.mark.parametrize(
    "body",
    [b'{"data":{}}', b'{"data":{"endpoints":[]}}', b'{"data":{"endpoints":[{}]}}', b'{"data":{"architecture":null}}'],
)
async def test_a_list_of_nothing_is_a_list(market: Market, body: bytes) -> None:
    market.body = body
    assert (await market.prices.of(MODEL)).endpoints == ()


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"data":null}', b'{"data":[]}', b'{"data":{"endpoints":[1]}}', b"[" * 9999]
)
async def test_what_is_no_list_is_a_failed_read(market: Market, body: bytes) -> None:
    market.body = body
    with pytest.raises(StalePricesError):
        await market.prices.of(MODEL)


async def test_made_up_names_do_not_push_out_real_models(market: Market) -> None:
    await market.prices.of(MODEL)
    market.status, market.body = 404, NO_MODEL
    for start in range(0, MODELS_MAX + 50, 50):
        await asyncio.gather(*(market.prices.of(f"nobody/{number}") for number in range(start, start + 50)))
    reads = len(market.reads)
    assert await market.prompt_prices() == ONE
    assert len(market.reads) == reads
    await market.prices.of("nobody/0")
    assert len(market.reads) == reads + 1  # forgotten


# The list of models


async def test_the_list_of_models_is_kept_for_an_hour_as_it_came(market: Market) -> None:
    market.body = b'{"data": [ ]}'
    for _ in range(3):
        assert await market.prices.models() == b'{"data": [ ]}'
    assert market.reads == ["/models"]
    market.clock.advance(REFRESH_S)
    market.body = b"{}"
    assert await market.prices.models() == b"{}"


async def test_the_list_of_models_is_read_once_for_all_who_wait(market: Market) -> None:
    market.may_answer.clear()
    calls: Sequence[asyncio.Task[bytes]] = [asyncio.ensure_future(market.prices.models()) for _ in range(20)]
    await market.arrived.wait()
    market.may_answer.set()
    await asyncio.gather(*calls)
    assert market.reads == ["/models"]


async def test_an_old_list_of_models_serves_for_a_day(market: Market) -> None:
    market.body = b"[1]"
    await market.prices.models()
    market.status = 500
    market.clock.advance(STALE_S - 1)
    assert await market.prices.models() == b"[1]"
    market.clock.advance(1)
    with pytest.raises(UpstreamError):
        await market.prices.models()


# For those who show no token

LISTED = b'{"data":[{"id":"maker/model"},{"id":"acme/one"}]}'


async def test_without_a_token_a_model_list_that_is_kept_is_read_by_nobody(market: Market) -> None:
    market.body = LISTED
    assert await market.prices.models(for_anyone=True) == LISTED
    for _ in range(3):
        assert await market.prices.models(for_anyone=True) == LISTED
    assert market.reads == ["/models"]


async def test_without_a_token_upstream_is_read_once_a_second_whatever_is_asked_for(market: Market) -> None:
    market.body = LISTED
    await market.prices.models(for_anyone=True)
    market.body = document("0.000001")
    with pytest.raises(BusyError):
        await market.prices.of_anyone(MODEL)
    market.clock.advance(ANYONE_S - 0.001)
    with pytest.raises(BusyError):
        await market.prices.of_anyone(MODEL)
    market.clock.advance(0.001)
    found = await market.prices.of_anyone(MODEL)
    assert found is not None
    assert found.raw == market.body
    with pytest.raises(BusyError):
        await market.prices.of_anyone("acme/one")
    assert len(market.reads) == 2


async def test_without_a_token_a_failed_read_counts_too(market: Market) -> None:
    market.status = 500
    with pytest.raises(StalePricesError):
        await market.prices.models(for_anyone=True)
    with pytest.raises(BusyError):
        await market.prices.models(for_anyone=True)
    assert len(market.reads) == 1


async def test_without_a_token_only_a_listed_model_is_asked_for(market: Market) -> None:
    market.body = LISTED
    assert await market.prices.of_anyone("nobody/nothing") is None
    market.clock.advance(ANYONE_S)
    assert await market.prices.of_anyone("nobody/nothing") is None
    assert market.reads == ["/models"]


async def test_without_a_token_a_price_list_that_is_kept_serves_for_a_day_and_is_not_read_again(market: Market) -> None:
    await market.prices.of(MODEL)
    market.clock.advance(STALE_S - 1)
    assert await market.prices.of_anyone(MODEL) is not None
    assert len(market.reads) == 1


async def test_without_a_token_nothing_that_is_kept_is_dropped(market: Market) -> None:
    market.body = LISTED
    await market.prices.models(for_anyone=True)
    market.body = document("0.000001")
    names = [f"real/{number}" for number in range(MODELS_MAX)]
    for start in range(0, MODELS_MAX, 50):
        await asyncio.gather(*(market.prices.of(name) for name in names[start : start + 50]))
    reads = len(market.reads)
    market.clock.advance(ANYONE_S)
    assert await market.prices.of_anyone("acme/one") is not None
    assert len(market.reads) == reads + 1
    await market.prices.of(names[0])
    assert len(market.reads) == reads + 1


@pytest.mark.parametrize("body", [b"[]", b'{"data":[1]}', b"<html>", b'{"data":{}}'])
async def test_without_a_token_a_list_that_is_none_names_no_model(market: Market, body: bytes) -> None:
    market.body = body
    assert await market.prices.of_anyone(MODEL) is None
