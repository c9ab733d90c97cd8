"""A prompt that does not fit by its estimate is weighed: a real proxy, a simulated OpenRouter, real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from openrouter_sim import FaultRule, Scenario, Simulator, Tokenizer, make_fault
from openrouter_sim.calls.call import Frame
from openrouter_sim.calls.scenario import Fault
from preflight_proxy.app import running
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls.backoff import Backoff
from preflight_proxy.calls.call import CallServices
from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import CallContext, Caller, Quoter
from preflight_proxy.calls.reserving import Unweighed, reserve
from preflight_proxy.calls.weighing import Unheard, Weigher
from preflight_proxy.core.caching.trace import CacheTrace
from preflight_proxy.core.ledger.rows import Account
from preflight_proxy.core.pricing.weighing import PURPOSE, WEIGHINGS_MAX, WEIGHINGS_S
from preflight_proxy.core.shapes.body import BadRequest
from preflight_proxy.core.shapes.steps import Steps
from preflight_proxy.evidence.foreign_keys import ForeignKeys
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import DEAR_MODEL, World, quick_config
from tests.support.reserved_calls import CHAT
from tests.usable.agent import Agent, text
from tests.usable.sessions import LONG as LONG_SESSION

if TYPE_CHECKING:
    from openrouter_sim.calls.call import SimCall

pytestmark = pytest.mark.wire

LONG_BYTES = 230_000
LONG = text(LONG_BYTES, "Read this.")
"""At $3 for a million tokens it costs $0.17. That is at most $1.38 by its bytes, $0.34 by its estimate, and $0.20 once weighed."""
TOO_LITTLE, FITS_WEIGHED, FITS_ESTIMATED = "0.18", "0.25", "0.50"
"""With the first amount it could fit, but does not once it is weighed."""
ASKED: dict[str, Any] = {"model": DEAR_MODEL, "max_tokens": 64}


class HeldAnswer(Fault, frozen=True):
    """Send an answer once `over` is set."""

    over: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def frames(self, call: SimCall, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield empty frames until `over` is set, then those of the answer."""
        while not self.over.is_set():
            yield Frame(b"", wait_s=0.01)
        yield from frames


async def ask(world: World, name: str = "a", prompt: str = LONG, **fields: Any) -> int:
    """Make a call; return its status."""
    async with world.post(token=world.tokens[name], text=prompt, **{**ASKED, **fields}) as response:
        await response.read()
        return response.status


def asking(world: World, name: str = "a", prompt: str = LONG, **fields: Any) -> asyncio.Task[int]:
    """Begin a call."""
    return asyncio.ensure_future(ask(world, name, prompt, **fields))


def purposes(world: World) -> list[str]:
    """What the calls were for, in the order of their ends."""
    return [line["purpose"] for line in world.cost_lines()]


def sent(world: World, number: int = -1) -> dict[str, Any]:
    """The body of a request that the simulator received."""
    body: dict[str, Any] = json.loads(world.sim.requests[number].body)
    return body


def account(world: World, name: str = "a") -> Account:
    return world.proxy.ledger.account(name)


@pytest.fixture
async def poor(world: World) -> World:
    """Account `a` can pay for the long text if it is weighed, and not by its estimate."""
    world.proxy.accounts.set_limit("a", int(Decimal(FITS_WEIGHED) * 10**12))
    return world


@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_a_prompt_that_does_not_fit_by_its_estimate_is_weighed_and_sent(poor: World, path: str) -> None:
    field, bound = ("input", "max_output_tokens") if path == "/responses" else ("messages", "max_tokens")
    body = {"model": DEAR_MODEL, field: [{"role": "user", "content": LONG}], bound: 64, "temperature": 0.5}
    if path == "/messages":
        body["system"] = "Be brief."
    headers = {"Authorization": f"Bearer {poor.tokens['a']}", "X-Title": "test", "anthropic-version": "2023-06-01"}
    async with poor.client.post(f"{poor.base_url}{path}?beta=true", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
    weighing, call = poor.cost_lines()
    assert (weighing["purpose"], call["purpose"]) == (PURPOSE, "")
    assert Decimal(weighing["cost_usd"]) < Decimal("0.003") < Decimal(call["cost_usd"]) < Decimal("0.18")
    small, whole = sent(poor, 0), sent(poor, 1)
    assert small["provider"]["only"] == whole["provider"]["only"] == [weighing["tag"]]
    assert small[bound] == (16 if path == "/responses" else 1)
    assert {"tools", "system", "temperature"}.isdisjoint(small)
    assert len(poor.sim.requests[0].body) < 3_500
    assert poor.sim.requests[0].path == poor.sim.requests[1].path
    apart = {"Content-Length"}
    first, second = (
        {name: value for name, value in each.headers.items() if name not in apart} for each in poor.sim.requests
    )
    assert first == second


async def test_a_weighing_is_reserved_by_the_proven_bound(poor: World) -> None:
    """Two tokens for each byte of ASCII, with Claude's tokenizers."""
    assert await ask(poor) == 200
    weighing, call = poor.cost_lines()
    chars = len(sent(poor, 0)["messages"][0]["content"])
    assert chars < 2_500
    assert Decimal(weighing["reserved_usd"]) > 2 * chars * Decimal("0.000003")
    assert Decimal(call["cost_usd"]) <= Decimal(call["reserved_usd"]) < Decimal("0.21")


async def test_a_weighing_beside_another_call_is_reserved_by_the_proven_bound_too(poor: World) -> None:
    """There other calls are reserved by their estimates, which is a third less for this text."""
    held = HeldAnswer()
    poor.sim.scenario = Scenario(faults=(FaultRule(held, times=2),))
    system = [{"role": "system", "content": text(LONG_BYTES, f"You are agent {number}.")} for number in range(2)]
    tasks = []
    for number, message in enumerate(system):
        tasks.append(asking(poor, messages=[message, {"role": "user", "content": "Go."}]))
        await poor.sim.until(lambda count=number + 1: len(poor.sim.requests) == count)  # type: ignore[misc]
    reserved_usd = [Decimal(each.reserved_pusd) / 10**12 for each in poor.proxy.ledger.store.pending("a")]
    held.over.set()
    await asyncio.gather(*tasks)
    assert len(reserved_usd) == 2
    assert min(reserved_usd) > 2 * 2_400 * Decimal("0.000003")


async def test_a_weighing_is_nothing_that_the_agent_did(poor: World) -> None:
    """It is no action, no served or refused call, and changes nothing that decides when an account is spent."""
    events = poor.proxy.ledger.events.follow(0, 0.01)
    assert await anext(events) is None
    assert await ask(poor) == 200
    after = account(poor)
    assert (after.calls, after.actions_count, len(after.actions), after.refused) == (1, 1, 1, 0)
    assert after.posted_pusd == sum(int(Decimal(line["cost_usd"]) * 10**12) for line in poor.cost_lines())
    assert (poor.proxy.ledger.account_state("a").cheapest_pusd or 0) > 10**11
    kinds = []
    while (event := await anext(events)) is not None:
        kinds.append(event.type)
    assert kinds.count("settled") == 1
    await events.aclose()


@pytest.mark.parametrize("settings", [{"weigh": False}, {"bound": "proven"}])
async def test_nothing_is_weighed_where_it_is_turned_off(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with other_world(tmp_path, **settings) as world:
        await world.open("a", FITS_WEIGHED)
        assert await ask(world) == 402
        assert world.sim.requests == []


@asynccontextmanager
async def other_world(folder: Path, clock: FakeClock | None = None, **settings: Any) -> AsyncIterator[World]:
    """A proxy with other settings, or with a clock of the test's own."""
    async with (
        Simulator(Scenario()) as sim,
        aiohttp.ClientSession() as client,
        running(quick_config(folder, sim.base_url, **settings), clock) as proxy,
    ):
        yield World(sim, proxy, client, folder)


async def test_a_weighing_keeps_the_wishes_of_its_own_call_about_providers(world: World) -> None:
    """Two accounts send the same text. What the one has agreed to is not done with the other's text."""
    wishes: dict[str, Any] = {"b": {"data_collection": "deny", "only": ["google-vertex"]}, "c": {}, "d": {"zdr": True}}
    for number, (name, wish) in enumerate(wishes.items()):
        await world.open(name, FITS_WEIGHED)
        assert await ask(world, name, provider=wish, max_tokens=64) == 200
        provider = sent(world, 2 * number)["provider"]
        assert {**provider, "only": wish.get("only")} == {"only": None, **wish, "max_price": provider["max_price"]}


async def test_a_call_whose_exposure_is_above_the_limit_is_weighed_before_it_is_sent_alone(world: World) -> None:
    """Its bytes count for $1.38, the limit is $0.50, and it would fit by its estimate (M24)."""
    await world.open("b", FITS_ESTIMATED)
    assert await ask(world, "b") == 200
    assert purposes(world) == [PURPOSE, ""]


REFUSALS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("http_error", {"status": 400, "message": "max_tokens is too small"}),
    ("http_error", {"status": 404, "message": "no endpoint"}),
    ("http_error", {"status": 429, "message": "slow down", "retry_after": "1"}),
    ("http_error", {"status": 503, "message": "overloaded"}),
    ("no_money", {"cause": "affords", "tokens": 0, "for_ever": True}),
    ("no_money", {"cause": "guardrail"}),
)


@pytest.mark.parametrize(("fault", "settings"), REFUSALS)
async def test_a_weighing_that_upstream_refuses_leaves_the_call_as_if_there_were_none(
    poor: World, fault: str, settings: dict[str, Any]
) -> None:
    """The call does not fit by its estimate. That is its first refusal, and upstream's is none of the agent's."""
    poor.sim.scenario = Scenario(faults=(FaultRule(make_fault(fault, settings)),))
    assert await ask(poor) == 402
    after = account(poor)
    assert (after.refused, after.calls, after.posted_pusd, after.frozen) == (1, 0, 0, None)
    assert len(poor.sim.requests) == 1
    assert await ask(poor) == 401  # the second refusal of the same call is the harder one (M19)


@pytest.mark.parametrize(("fault", "settings"), REFUSALS[:2])
async def test_a_lone_call_that_cannot_be_weighed_is_sent_by_its_estimate(
    world: World, fault: str, settings: dict[str, Any]
) -> None:
    await world.open("b", FITS_ESTIMATED)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault(fault, settings), times=1),))
    assert await ask(world, "b") == 200
    assert [line["outcome"] for line in world.cost_lines()] == ["voided", "posted"]


async def test_a_weighing_of_unknown_outcome_does_not_make_the_call_wait(world: World) -> None:
    """What it may cost is reserved. It exposes nothing, so a call beside it is still alone (M24)."""
    await world.open("b", FITS_ESTIMATED)
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("close_on_request"), times=1),))
    assert await ask(world, "b") == 200
    assert [pending.purpose for pending in world.proxy.ledger.store.pending("b")] == [PURPOSE]
    (call,) = [line for line in world.cost_lines() if not line["purpose"]]
    assert Decimal(call["reserved_usd"]) < Decimal(FITS_ESTIMATED)
    await world.settled("b")


async def test_calls_with_the_same_beginning_wait_for_one_weighing(world: World) -> None:
    """Four agents with the same system text: the bill of the one that goes first is not awaited, its weighing is."""
    await world.open("b", FITS_WEIGHED)
    held = HeldAnswer()
    world.sim.scenario = Scenario(faults=(FaultRule(held, times=1),))
    system = {"role": "system", "content": LONG}
    tasks = [
        asking(world, "b", messages=[system, {"role": "user", "content": f"Task {number}"}]) for number in range(4)
    ]
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    async with asyncio.timeout(20):
        while len(world.proxy.ledger.account_state("b").running) != 1 or len(world.proxy.tasks) < 1:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(world.sim.requests) == 1
    held.over.set()
    statuses = await asyncio.gather(*tasks)
    assert statuses.count(200) >= 1
    assert purposes(world).count(PURPOSE) == 1


async def test_a_preamble_that_was_weighed_is_known_for_another_task(poor: World) -> None:
    """The call that was weighed is cut off before its bill, so that only the weighing can tell."""
    poor.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", {"status": 503}), after=1, times=1),))
    system = {"role": "system", "content": LONG}
    for task in ("one", "another"):
        await ask(poor, messages=[system, {"role": "user", "content": task}])
    assert purposes(poor) == [PURPOSE, "", ""]
    assert account(poor).calls == 1


async def test_a_prompt_is_not_weighed_again_if_its_weight_is_known(world: World) -> None:
    """It is too heavy: what it costs by its weight is above what is left, by its estimate divided by 1.8 it is not."""
    await world.open("b", TOO_LITTLE)
    assert [await ask(world, "b") for _ in range(3)] == [402, 401, 401]
    assert len(world.sim.requests) == 1
    assert purposes(world) == [PURPOSE]


async def test_an_account_is_weighed_at_most_three_times_in_ten_minutes(tmp_path: Path) -> None:
    clock = FakeClock()
    async with other_world(tmp_path, clock) as world:
        await world.open("b", TOO_LITTLE)
        for number in range(WEIGHINGS_MAX + 2):
            await ask(world, "b", prompt=text(LONG_BYTES, f"Text {number}."))
            clock.advance(1)
        assert len(world.sim.requests) == WEIGHINGS_MAX
        clock.advance(WEIGHINGS_S - WEIGHINGS_MAX - 2.5)
        await ask(world, "b", prompt=text(LONG_BYTES, "Too early."))
        assert len(world.sim.requests) == WEIGHINGS_MAX
        clock.advance(1)
        await ask(world, "b", prompt=text(LONG_BYTES, "In time."))
        assert len(world.sim.requests) == WEIGHINGS_MAX + 1


async def test_three_weighings_at_most_also_for_calls_that_come_at_once(world: World) -> None:
    await world.open("b", TOO_LITTLE)
    held = HeldAnswer()
    world.sim.scenario = Scenario(faults=(FaultRule(held),))
    tasks = [
        asking(world, "b", prompt=text(LONG_BYTES, f"Text {n}."), seed=n, metadata={}, stop=[str(n)]) for n in range(6)
    ]
    tasks += [
        asking(world, "b", messages=[{"role": "system", "content": text(LONG_BYTES, f"T {n}.")}]) for n in range(6)
    ]
    await world.sim.until(lambda: len(world.sim.requests) >= 1)
    await asyncio.sleep(0.5)
    held.over.set()
    await asyncio.gather(*tasks)
    assert 1 <= len(world.sim.requests) <= WEIGHINGS_MAX


async def test_weighings_that_upstream_refuses_count_too(poor: World) -> None:
    """Else each refused call of an agent could be two."""
    poor.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", {"status": 400, "message": "no"})),))
    for number in range(WEIGHINGS_MAX + 2):
        assert await ask(poor, prompt=text(LONG_BYTES, f"Text {number}.")) == 402
    assert len(poor.sim.requests) == WEIGHINGS_MAX


async def test_no_weighing_that_costs_more_than_two_percent_of_what_is_left(world: World) -> None:
    """A tenth of a cent is more than that of three cents."""
    short = text(25_000, "Read this.")
    await world.open("b", "0.03")
    assert await ask(world, "b", prompt=short) == 402
    assert world.sim.requests == []


async def test_the_client_that_leaves_leaves_a_weighing_that_is_paid(poor: World) -> None:
    held = HeldAnswer()
    poor.sim.scenario = Scenario(faults=(FaultRule(held, times=1),))
    task = asking(poor)
    await poor.sim.until(lambda: len(poor.sim.requests) == 1)
    task.cancel()
    held.over.set()
    await poor.settled()
    async with asyncio.timeout(20):
        while len(poor.proxy.tasks):
            await asyncio.sleep(0.01)
    assert purposes(poor) == [PURPOSE]
    assert await ask(poor) == 200
    assert purposes(poor) == [PURPOSE, ""]  # it was weighed before


async def test_a_freeze_refuses_a_call_that_is_being_weighed_at_once(poor: World) -> None:
    held = HeldAnswer()
    poor.sim.scenario = Scenario(faults=(FaultRule(held, times=1),))
    task = asking(poor)
    await poor.sim.until(lambda: len(poor.sim.requests) == 1)
    await poor.proxy.accounts.freeze("a", "test")
    assert await task in (401, 402)
    assert account(poor).pending_pusd > 0  # the weighing goes on
    held.over.set()
    await poor.settled()
    assert len(poor.sim.requests) == 1


async def test_a_proxy_that_ends_waits_for_a_weighing(tmp_path: Path) -> None:
    held = HeldAnswer()
    async with other_world(tmp_path) as world:
        await world.open("a", FITS_WEIGHED)
        world.sim.scenario = Scenario(faults=(FaultRule(held, times=1),))
        task = asking(world)
        await world.sim.until(lambda: world.sim.requests != [])
        task.cancel()
        asyncio.get_running_loop().call_later(0.2, held.over.set)
    lines = [json.loads(line) for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert [(line["purpose"], line["outcome"]) for line in lines] == [(PURPOSE, "posted")]


TOOL = {"type": "function", "function": {"name": "f", "description": LONG, "parameters": {"type": "object"}}}
PROMPTS: dict[str, dict[str, Any]] = {
    "tool results alone": {"messages": [{"role": "tool", "tool_call_id": "1", "content": LONG}]},
    "letters that are not ASCII": {"messages": [{"role": "user", "content": LONG.replace("found", "gefällt")}]},
    "a tool": {"messages": [{"role": "user", "content": "go"}], "tools": [TOOL]},
    "thousands of messages": {
        "messages": [
            {"role": ("user", "assistant")[n % 2], "content": LONG[n * 100 : n * 100 + 100]} for n in range(2300)
        ]
    },
}


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_text_of_every_part_of_a_prompt_is_weighed(world: World, prompt: str) -> None:
    """The limits differ: wrapping counts by its constants, and a template may write a tool in another way."""
    limits = {"thousands of messages": "0.38"}
    await world.open("b", limits.get(prompt, FITS_WEIGHED))
    status = await ask(world, "b", **PROMPTS[prompt])
    assert purposes(world)[0] == PURPOSE
    assert status in (200, 402)
    assert 500 < world.cost_lines()[0]["prompt_tokens"] < 1500


class Weighing:
    """Weighs a prompt of account `b`, which could fit.

    Args:
        world: Whose ledger and simulator it uses.
        reader: Reads the text of the weighed prompt.
    """

    def __init__(self, world: World, upstream: Upstream, reader: RequestReader) -> None:
        ledger, usual = world.proxy.ledger, RequestReader("drop")
        quoter = Quoter(ledger, Prices(upstream, ledger.clock), usual)
        services = CallServices(
            ledger, upstream, quoter, Backoff(ledger.clock), CacheTrace(), ForeignKeys(ledger, upstream)
        )
        self._ledger, self._services, self.quoter, self.tasks = ledger, services, quoter, Tasks()
        self._weigher = Weigher(services, reader, self.tasks)

    async def run(self, wait_s: float) -> tuple[CallContext, Unweighed]:
        """Weigh it for a call that may wait for so long; return the call."""
        body = {**ASKED, "messages": [{"role": "user", "content": LONG}]}
        request = CHAT.read(json.dumps(body).encode(), "drop")
        until_s = self._ledger.clock.monotonic_s() + wait_s
        context = CallContext(Caller("b", "token hash", CHAT, ""), request, (), False, until_s)
        unweighed = await reserve(self._ledger, self._services.quoter, context, may_weigh=True)
        assert isinstance(unweighed, Unweighed)
        await self._weigher.weigh(context, unweighed)
        return context, unweighed


async def test_a_call_waits_for_its_weighing_only_as_long_as_it_may_wait(world: World) -> None:
    await world.open("b", FITS_WEIGHED)
    held = HeldAnswer()
    world.sim.scenario = Scenario(faults=(FaultRule(held),))
    async with Upstream(world.sim.base_url) as upstream:
        weighing = Weighing(world, upstream, RequestReader("drop"))
        await weighing.run(wait_s=0.2)
        assert len(weighing.tasks) == 1
        held.over.set()
        assert await weighing.tasks.finish(20)
        await weighing.run(wait_s=0)  # no time is left: nothing is begun
        assert len(weighing.tasks) == 0
    assert purposes(world) == [PURPOSE]


async def test_the_text_of_a_weighing_begins_no_conversation(world: World) -> None:
    """Its bill is for slices. A prompt that has the same other fields does not begin with them."""
    await world.open("b", FITS_WEIGHED)
    async with Upstream(world.sim.base_url) as upstream:
        weighing = Weighing(world, upstream, RequestReader("drop"))
        context, unweighed = await weighing.run(wait_s=30)
        known = [weighing.quoter.known("b", context.request, each) for each in unweighed.quote.offer.quoted]
    assert purposes(world) == [PURPOSE]
    assert known == [(None, 0)] * len(known)


class FailingReader(RequestReader):
    """A reader whose every run fails."""

    async def run(self, account_id: str, steps: Steps[Any], cost: int) -> Any:
        """Fail."""
        raise BadRequest("It cannot be read.")


async def test_a_weighing_that_fails_lets_its_call_go_on_and_logs_why(world: World) -> None:
    await world.open("b", FITS_WEIGHED)
    async with Upstream(world.sim.base_url) as upstream:
        weighing = Weighing(world, upstream, FailingReader("drop"))
        with capture_logs() as logs:
            await weighing.run(wait_s=30)
    assert [(line["event"], line["task"], line["error"]) for line in logs] == [("task.failed", PURPOSE, "BadRequest")]


def test_the_answer_of_a_weighing_is_sent_to_nobody() -> None:
    """Who waits for it goes on when it is given up, not when it has come."""
    left: list[bool] = []
    answer = Unheard(lambda: left.append(True))
    answer.start(200, [])
    answer.write(b"x")
    assert (answer.started, answer.is_gone, left) == (True, False, [])
    answer.finish(b"y")
    assert (answer.is_gone, left) == (True, [])
    answer.leave()
    assert left == [True]


@pytest.mark.parametrize("tokenizer", [Tokenizer.USUAL, Tokenizer.REALISTIC])
async def test_claude_codes_first_call_is_admitted_with_a_quarter_of_a_dollar(
    world: World, tokenizer: Tokenizer
) -> None:
    """By its bytes it counts for $0.71. It is weighed for about 0.3 cents, and sent."""
    world.sim.scenario = Scenario(comments=0, tokenizer=tokenizer)
    await world.open("b", "0.25")
    first = replace(LONG_SESSION, turns=LONG_SESSION.turns[:1])
    agent = Agent(world.client, f"{world.base_url}/chat/completions", world.tokens["b"], DEAR_MODEL, first, "agent")
    await agent.run(conversations_max=1)
    assert agent.calls == 1
    weighing, call = world.cost_lines()
    assert (weighing["purpose"], call["purpose"]) == (PURPOSE, "")
    assert Decimal(weighing["cost_usd"]) < Decimal("0.0035")
    assert Decimal(call["cost_usd"]) <= Decimal(call["reserved_usd"]) <= Decimal("0.25")
