"""From a worst case to a reservation: nothing is left pending for a client that is gone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import ClientResponse
from msgspec.structs import replace

from openrouter_sim import FaultRule, Rule, Scenario, make_fault
from openrouter_sim.base.tokens import Tokenizer
from preflight_proxy.base.config import Bound
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallQuote, Quoter, ReservedCall
from preflight_proxy.calls.reserving import Unweighed, reserve
from preflight_proxy.core.admission import queue
from preflight_proxy.core.ledger.commands import Quarantine, SetLimit, Void
from preflight_proxy.core.ledger.rows import CallFacts, Reservation
from preflight_proxy.core.refusals.refusals import Code, Refusal
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices
from tests.support.answer_header import Headed
from tests.support.proxy_world import DEAR_MODEL, MODEL, World
from tests.support.reserved_calls import call_context

pytestmark = pytest.mark.wire

ROOT = Path(__file__).parents[3]

HOLDS_IT_ALL: dict[str, Any] = {"model": DEAR_MODEL, "max_tokens": 1500}


async def test_a_client_that_leaves_while_it_waits_sends_nothing_and_reserves_nothing(world: World) -> None:
    await world.open("one", "0.03")
    world.sim.scenario = Scenario(first_token_s=1.5, replies=(Rule(tokens=20),))
    token = world.tokens["one"]
    first = asyncio.ensure_future(world.post(token=token, **HOLDS_IT_ALL).__aenter__())
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    second = asyncio.ensure_future(world.post(token=token, **HOLDS_IT_ALL).__aenter__())
    async with asyncio.timeout(30):
        while not world.proxy.ledger.waiting_calls.has("one"):
            await asyncio.sleep(0.005)
    second.cancel()
    assert (await first).status == 200
    await world.settled("one")
    assert len(world.sim.requests) == 1


async def test_a_top_up_lets_a_refused_call_pass(world: World) -> None:
    await world.open("poor", "0.000001")
    token = world.tokens["poor"]
    for expected in (402, 401):
        async with world.post(token=token, max_tokens=100) as response:
            assert response.status == expected
    world.proxy.accounts.set_limit("poor", 10**12)
    async with world.post(token=token, max_tokens=100) as response:
        assert response.status == 200


async def test_a_freeze_refuses_the_calls_that_wait(world: World) -> None:
    await world.open("one", "0.03")
    world.sim.scenario = Scenario(first_token_s=1.5, replies=(Rule(tokens=20),))
    token = world.tokens["one"]
    calls = [asyncio.ensure_future(world.post(token=token, **HOLDS_IT_ALL).__aenter__()) for _ in range(3)]
    async with asyncio.timeout(30):
        while not world.proxy.ledger.waiting_calls.has("one"):
            await asyncio.sleep(0.005)
    await world.proxy.accounts.freeze("one", "test")
    assert {response.status for response in await asyncio.gather(*calls)} <= {401, 402}
    await world.settled("one")
    assert len(world.sim.requests) <= 1


@pytest.mark.parametrize("bound", ["proven"])
async def test_a_call_that_waited_is_quoted_anew_with_what_others_were_billed_at(world: World) -> None:
    """Two sub-agents with the same system text: by its bytes the second would not fit once the first is paid."""
    await world.open("one", "0.053")
    world.sim.scenario = Scenario(first_token_s=1.5, replies=(Rule(tokens=4),))
    system = {"role": "system", "content": "word " * 1600}

    def ask(task: str) -> asyncio.Future[ClientResponse]:
        messages = [system, {"role": "user", "content": task}]
        body: dict[str, Any] = {"model": DEAR_MODEL, "messages": messages, "max_tokens": 16}
        return asyncio.ensure_future(world.post(token=world.tokens["one"], **body).__aenter__())

    first = ask("one")
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    second = ask("two")
    assert [(await each).status for each in (first, second)] == [200, 200]
    await world.settled("one")
    (before, after) = (Decimal(line["reserved_usd"]) for line in world.cost_lines())
    assert before + Decimal(world.cost_lines()[0]["cost_usd"]) > Decimal("0.053") > 3 * after


ONE = {"only": ["openai"]}


async def reserved_of_two_turns(world: World) -> tuple[Decimal, Decimal]:
    """The reservations of two calls of one conversation, in dollars. The second call repeats the first one's long text."""
    text = "word " * 2000
    async with world.post(text=text, max_tokens=64, provider=ONE) as response:
        first = await response.json()
    messages = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": first["choices"][0]["message"]["content"]},
        {"role": "user", "content": "and now?"},
    ]
    async with world.post(messages=messages, max_tokens=64, provider=ONE) as response:
        await response.read()
    first_usd, second_usd = (Decimal(line["reserved_usd"]) for line in world.cost_lines())
    return first_usd, second_usd


async def test_the_second_turn_of_a_conversation_reserves_less_than_its_bytes(world: World) -> None:
    """A billed prefix is known in tokens; unknown text counts as bytes (M4 (calibration))."""
    first_usd, second_usd = await reserved_of_two_turns(world)
    assert second_usd < first_usd / 2


async def test_an_answer_from_openrouters_cache_tells_nothing_about_the_tokens_of_a_prompt(world: World) -> None:
    cached = Headed("X-OpenRouter-Cache-Status", "HIT")
    world.sim.scenario = Scenario(faults=(FaultRule(cached),))
    first_usd, second_usd = await reserved_of_two_turns(world)
    assert second_usd > first_usd


async def test_a_routing_suffix_may_stand_in_the_list_of_allowed_models(world: World) -> None:
    """Such an account may call the model with this suffix, and not without it."""
    await world.open("floor", models=[f"{MODEL}:floor"])
    async with world.post(token=world.tokens["floor"], model=f"{MODEL}:floor") as response:
        assert response.status == 200
    async with world.post(token=world.tokens["floor"], model=MODEL) as response:
        assert (await response.json())["error"]["message"].startswith(Code.MODEL_NOT_ALLOWED.sentence)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("whole", [False, True])
async def test_cached_tokens_of_messages_count_once_in_both_readings_and_their_bills_teach(
    world: World, whole: bool, stream: bool
) -> None:
    world.sim.scenario = Scenario(messages_input_whole=whole)
    mark = {"type": "ephemeral"}
    opening: dict[str, Any] = {"type": "text", "text": "word " * 2000, "cache_control": mark}
    asked: dict[str, Any] = {
        "model": DEAR_MODEL,
        "max_tokens": 16,
        "stream": stream,
        "provider": {"only": ["anthropic"]},
    }
    for count in range(1, 4):
        turns = [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "more"}]
        messages = [{"role": "user", "content": [opening]}, *turns * count]
        async with world.post("/messages", **asked, messages=messages) as response:
            assert response.status == 200
            await response.read()
    lines = world.cost_lines()
    (key,) = [key for key in world.sim.bill().keys.values() if key.generations]
    assert [line["prompt_tokens"] for line in lines] == [each.tokens.prompt for each in key.generations]
    assert sum(line["cached_tokens"] + line["cache_write_tokens"] for line in lines) > 2000
    assert float(lines[-1]["reserved_usd"]) < float(lines[0]["reserved_usd"]) / 2


async def test_a_model_whose_every_endpoint_is_quarantined_is_refused(world: World) -> None:
    for tag in ("openai", "azure"):
        world.proxy.ledger.commit(Quarantine(MODEL, tag, "test"))
    async with world.post() as response:
        assert response.status == 403
        assert (await response.json())["error"]["message"] == Code.QUARANTINED.sentence


async def test_another_case_of_a_models_name_is_the_same_model(world: World) -> None:
    """Out of use in one is out of use in all, allowed in one is allowed in all."""
    await world.open("b", models=["OpenAI/GPT-4.1-Nano"])
    for account in ("a", "b"):
        async with world.post(token=world.tokens[account], model=MODEL.upper()) as response:
            assert response.status == 404  # the simulator knows one spelling alone; it was asked
    assert json.loads(world.sim.requests[-1].body)["model"] == MODEL.upper()
    for tag in ("openai", "azure"):
        world.proxy.ledger.commit(Quarantine(MODEL, tag, "test"))
    async with world.post(model=MODEL.upper()) as response:
        assert (await response.json())["error"]["message"] == Code.QUARANTINED.sentence


async def test_the_tokens_of_a_line_at_its_prices_are_its_cost(world: World) -> None:
    async with world.post(max_tokens=16) as response:
        assert response.status == 200
        await response.read()
    await world.settled()
    world.proxy.ledger.files.flush()
    (line,) = world.cost_lines()
    prices = {name: Decimal(text) for name, text in line["prices"].items()}
    assert line["cached_tokens"] == line["cache_write_tokens"] == line["waited_ms"] == 0
    cost_usd = line["prompt_tokens"] * prices["prompt"] + line["completion_tokens"] * prices["completion"]
    assert cost_usd == Decimal(line["cost_usd"])
    assert "tags" not in line


async def test_only_the_quoted_endpoints_may_serve(world: World) -> None:
    world.proxy.ledger.commit(Quarantine(MODEL, "azure", "test"))
    for _ in range(5):
        async with world.post() as response:
            assert (await response.json())["provider"] == "OpenAI"
    assert b'"only":["openai"]' in world.sim.requests[-1].body


@pytest.mark.parametrize("bound", ["proven"])
async def test_where_not_all_fit_a_call_leaves_for_the_endpoint_that_is_known_alone(world: World) -> None:
    """By its bytes the second turn fits on no endpoint any more; by the bill of the first it fits where that came from."""
    await world.open("poor", "0.0545")
    messages = [{"role": "user", "content": "word " * 1600}]
    provider = ""
    for _ in range(2):
        asked: dict[str, Any] = {"model": DEAR_MODEL, "messages": messages, "max_tokens": 16}
        async with world.post(token=world.tokens["poor"], **asked) as response:
            assert response.status == 200
            served = await response.json()
        assert provider in ("", served["provider"])
        provider = served["provider"]
        messages += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "and now?"}]
    sent = [json.loads(received.body)["provider"]["only"] for received in world.sim.requests]
    tags = {each.provider: each.tag for each in world.sim.catalog[DEAR_MODEL].endpoints}
    assert sent == [list(tags.values()), [tags[provider]]]


async def test_of_two_endpoints_of_one_provider_an_answer_does_not_say_which_served(world: World) -> None:
    """What it billed calibrates neither, and what it overran would put both out of use."""
    model = world.sim.catalog[MODEL]
    twin = replace(model.endpoints[0], tag="openai/priority")
    world.sim.catalog[MODEL] = replace(model, endpoints=(model.endpoints[0], twin))
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("wrong_bound", {"tokens": 2000}), times=1),))
    async with world.post(max_tokens=16) as response:
        await response.read()
    assert set(world.proxy.ledger.store.state.quarantined) == {(MODEL, "openai"), (MODEL, "openai/priority")}


class Reserving:
    """Reserves calls of account `one`, without sending them.

    Attributes:
        tags: The endpoints of the model.
        quoter: Quotes them.
    """

    def __init__(self, ledger: Ledger, quoter: Quoter, tags: tuple[str, ...]) -> None:
        self.quoter = quoter
        self.ledger = ledger
        self.tags = tags

    def begin(self, tokens: int, wait_s: float = 30.0) -> asyncio.Task[ReservedCall | Refusal | Unweighed]:
        context = call_context("one", DEAR_MODEL, tokens=tokens, until_s=self.ledger.clock.monotonic_s() + wait_s)
        return asyncio.create_task(reserve(self.ledger, self.quoter, context))

    async def reserved(self, tokens: int) -> Reservation:
        call = await self.begin(tokens)
        assert isinstance(call, ReservedCall)
        return call.reservation

    async def proven_pusd(self, tokens: int) -> int:
        """What a call needs by its bytes."""
        quote = await self.quoter.quote(call_context("one", DEAR_MODEL, tokens=tokens, until_s=0.0))
        assert isinstance(quote, CallQuote)
        assert quote.sizes is None
        return quote.quotes.proven.cheapest_pusd

    async def waiting(self, tokens: int) -> asyncio.Task[ReservedCall | Refusal | Unweighed]:
        """A call that waits for others to settle."""
        call = self.begin(tokens)
        async with asyncio.timeout(20):
            while not self.ledger.waiting_calls.has("one"):
                await asyncio.sleep(0.005)
        return call


@pytest.fixture
async def reserving(world: World) -> AsyncIterator[Reserving]:
    await world.open("one", "0.03")
    ledger = world.proxy.ledger
    async with Upstream(world.sim.base_url) as upstream:
        tags = tuple(endpoint.tag for endpoint in world.sim.catalog[DEAR_MODEL].endpoints)
        yield Reserving(ledger, Quoter(ledger, Prices(upstream, ledger.clock), RequestReader("drop")), tags)
    for pending in ledger.store.pending("one"):
        ledger.commit(Void(pending.id, "the test is over"))


async def test_a_call_that_is_cancelled_just_after_its_turn_came_leaves_nothing_pending(reserving: Reserving) -> None:
    first = await reserving.reserved(1500)
    second = await reserving.waiting(1500)
    reserving.ledger.commit(Void(first.id, "settled"))
    (pending,) = reserving.ledger.store.pending("one")
    assert pending.id != first.id
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert reserving.ledger.store.pending("one") == []


async def test_a_call_that_fits_waits_behind_one_that_does_not(reserving: Reserving) -> None:
    first = await reserving.reserved(1500)
    second = await reserving.waiting(1500)
    third = reserving.begin(16)
    await asyncio.sleep(0.1)
    assert [pending.id for pending in reserving.ledger.store.pending("one")] == [first.id]
    reserving.ledger.commit(Void(first.id, "settled"))
    async with asyncio.timeout(20):
        calls = await asyncio.gather(second, third)
    assert [call.reservation.bound for call in calls if isinstance(call, ReservedCall)] == [1500, 16]


async def test_a_call_knows_how_long_it_waited_and_one_that_did_not_waited_no_time(reserving: Reserving) -> None:
    first = await reserving.begin(1500)
    second = await reserving.waiting(1500)
    await asyncio.sleep(0.1)
    assert isinstance(first, ReservedCall)
    reserving.ledger.commit(Void(first.reservation.id, "settled"))
    call = await second
    assert isinstance(call, ReservedCall)
    assert first.waited_ms == 0
    assert call.waited_ms >= 100


async def test_a_call_that_was_weighed_knows_how_long_it_waited_before(reserving: Reserving) -> None:
    context = call_context("one", DEAR_MODEL, tokens=16)
    call = await reserve(reserving.ledger, reserving.quoter, context, waited_ms=70)
    assert isinstance(call, ReservedCall)
    assert call.waited_ms == 70


async def test_a_call_that_waited_is_refused_with_what_it_needs_by_its_estimate(reserving: Reserving) -> None:
    """Though when it came there was so much that its bytes were enough to quote it by."""
    reserving.ledger.commit(SetLimit("one", 19 * 10**11))
    proven_pusd = await reserving.proven_pusd(16)
    await reserving.reserved(64_000)
    second = await reserving.waiting(64_000)
    third = reserving.begin(16, wait_s=1.0)
    await asyncio.sleep(0.1)
    reserving.ledger.commit(SetLimit("one", 10**11))
    refusal = await third
    second.cancel()
    assert isinstance(refusal, Refusal)
    assert 0 < refusal.needed_pusd < proven_pusd


async def test_a_call_whose_endpoints_are_quarantined_while_it_waits_is_refused(reserving: Reserving) -> None:
    first = await reserving.reserved(1500)
    second = await reserving.waiting(1500)
    for tag in reserving.tags:
        reserving.ledger.commit(Quarantine(DEAR_MODEL, tag, "test"))
    reserving.ledger.commit(Void(first.id, "settled"))
    refusal = await second
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.QUARANTINED


async def test_a_call_does_not_use_an_endpoint_that_was_quarantined_while_it_waited(reserving: Reserving) -> None:
    first = await reserving.reserved(1500)
    second = await reserving.waiting(1500)
    reserving.ledger.commit(Quarantine(DEAR_MODEL, first.tags[0], "test"))
    reserving.ledger.commit(Void(first.id, "settled"))
    call = await second
    assert isinstance(call, ReservedCall)
    assert first.tags[0] not in call.reservation.tags != ()


async def test_a_call_that_joined_the_queue_untried_is_quoted_anew_too(reserving: Reserving) -> None:
    """Else it would be refused for an endpoint that is out of use by now, or reserved by an estimate that a bill has disproved."""
    first = await reserving.reserved(1500)
    second = await reserving.waiting(1500)
    third = reserving.begin(16)
    await asyncio.sleep(0.1)
    reserving.ledger.commit(Quarantine(DEAR_MODEL, first.tags[0], "test"))
    reserving.ledger.commit(Void(first.id, "settled"))
    async with asyncio.timeout(20):
        calls = await asyncio.gather(second, third)
    reserved = [call.reservation for call in calls if isinstance(call, ReservedCall)]
    assert [first.tags[0] in each.tags for each in reserved] == [False, False]


async def test_the_cheapest_call_that_was_admitted_is_remembered(reserving: Reserving) -> None:
    """With less than that left, the account counts as spent once a call was refused (M19)."""
    reservation = await reserving.reserved(1500)
    state = reserving.ledger.account_state("one")
    assert 0 < (state.cheapest_pusd or 0) < reservation.reserved_pusd


@pytest.mark.parametrize(("is_unknown", "code"), [(False, Code.SPENT), (True, Code.DOES_NOT_FIT)])
async def test_an_account_with_less_left_than_its_cheapest_call_is_spent_unless_a_cost_is_unknown(
    reserving: Reserving, is_unknown: bool, code: Code
) -> None:
    """An unknown cost may turn out lower, so the agent is not told that everything is spent."""
    ledger = reserving.ledger
    call = await reserving.reserved(16)
    if is_unknown:
        ledger.mark_unknown(call, CallFacts(model=DEAR_MODEL), ended=True)
    else:
        ledger.commit(Void(call.id, "settled"))
    ledger.commit(SetLimit("one", (ledger.account_state("one").cheapest_pusd or 0) - 1))
    refusal = await reserving.begin(1500)
    assert isinstance(refusal, Refusal)
    assert refusal.code is code


async def test_where_provider_keys_may_be_billed_the_fee_is_reserved_too(reserving: Reserving) -> None:
    plain = await reserving.reserved(100)
    reserving.ledger.commit(Void(plain.id, "settled"))
    reserving.ledger.byok = True
    with_fee = await reserving.reserved(100)
    assert with_fee.reserved_pusd == pytest.approx(plain.reserved_pusd * 105 / 100, abs=10)


async def test_a_call_that_finds_the_queue_full_is_decided_at_once(
    reserving: Reserving, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reserving.reserved(1500)
    monkeypatch.setattr(queue, "WAITERS_MAX", 0)
    async with asyncio.timeout(20):
        refusal = await reserving.begin(1500)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.DOES_NOT_FIT


async def test_where_the_ledger_cannot_be_written_a_call_is_refused_and_nothing_is_sent(world: World) -> None:
    world.proxy.ledger.store.poison("the disk is gone")
    async with world.post() as response:
        assert (response.status, (await response.json())["error"]["message"]) == (402, Code.STORE.sentence)
    assert world.sim.requests == []


def test_what_is_known_of_a_call_shows_neither_its_body_nor_its_headers() -> None:
    context = replace(call_context("a", "m/x"), headers=(("Authorization", "Bearer secret"),))
    assert ("secret" in repr(context), "request" in repr(context)) == (False, False)


LIMITS = {"a0": "0.25", "a1": "0.06", "a2": "1"}


async def many_callers(world: World, text: Callable[[Random], str]) -> dict[str, int]:
    """Make 96 calls, 24 at a time, on accounts with these limits. Return the largest exposure of a call of each."""
    for name, limit_usd in LIMITS.items():
        await world.reopen(name, await world.sub_key(name), limit_usd)

    async def call_on(number: int) -> set[int]:
        random, statuses = Random(number), set()
        token = world.tokens[f"a{number % 3}"]
        for _ in range(4):
            async with world.post(token=token, model=DEAR_MODEL, text=text(random), max_tokens=16) as response:
                statuses.add(response.status)
                await response.read()
        return statuses

    statuses = await asyncio.gather(*(call_on(number) for number in range(24)))
    await world.all_settled()
    assert set().union(*statuses) <= {200, 401, 402}
    with closing(sqlite3.connect(world.data / "ledger.sqlite3")) as ledger:
        return dict(ledger.execute("SELECT account, max(exposure_pusd) FROM reservations GROUP BY account").fetchall())


@pytest.mark.parametrize("bound", ["measured", "proven"])
@pytest.mark.parametrize("scenario", [Scenario(tokenizer=Tokenizer.DENSE, replies=(Rule(tokens=16),))])
async def test_crafted_text_of_many_callers_passes_a_limit_by_no_more_than_is_promised(
    world: World, bound: Bound
) -> None:
    """M24: by a quarter of it, or by the exposure of one call; by nothing if that is proven. And no endpoint is disabled."""
    largest = await many_callers(
        world, lambda random: "".join(random.choices("bcdfghjklmnpqrstvwxz ", k=random.choice([300, 3000, 9000])))
    )
    for name in LIMITS:
        account = world.proxy.ledger.account(name)
        over_pusd = account.posted_pusd - account.limit_pusd
        assert over_pusd <= (max(account.limit_pusd // 4, largest[name]) if bound == "measured" else 0)
        assert account.calls > 0
        assert (largest[name] > 0, account.overrun_pusd > 0) == (bound == "measured",) * 2
    assert world.proxy.ledger.store.state.quarantined == {}


@pytest.mark.parametrize("bound", ["measured", "proven"])
@pytest.mark.parametrize("scenario", [Scenario(tokenizer=Tokenizer.REALISTIC, replies=(Rule(tokens=16),))])
async def test_natural_text_of_many_callers_is_never_billed_above_its_reservation(world: World, bound: Bound) -> None:
    """Prose and code of this repository."""
    folders = (ROOT / "docs", ROOT / "proxy" / "preflight_proxy")
    texts = [
        path.read_text() for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".md", ".py")
    ]

    def part(random: Random) -> str:
        text, size = random.choice(texts), random.choice([300, 3000, 9000])
        start = random.randrange(max(1, len(text) - size))
        return text[start : start + size]

    largest = await many_callers(world, part)
    for name in LIMITS:
        account = world.proxy.ledger.account(name)
        assert (account.overrun_pusd, account.byte_counted) == (0, ())
        assert (account.calls > 0, largest[name] > 0) == (True, bound == "measured")
