"""What becomes of a call that upstream answers badly, or not: the ledger equals the bill all the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from openrouter_sim import FaultRule, Scenario, make_fault
from preflight_proxy.calls.backoff import CallBackoff
from preflight_proxy.core.ledger.commands import Freeze
from preflight_proxy.core.refusals.outcomes import LEFT, NONE_YET, Outcomes
from preflight_proxy.core.refusals.refusals import Code, Source
from preflight_proxy.core.refusals.upstream_refusal import UpstreamRefusal
from preflight_proxy.upstream.connection import UpstreamConnection
from preflight_proxy.upstream.pool import Pool
from tests.support.proxy_world import DEAR_MODEL, MODEL, World

pytestmark = pytest.mark.wire

FREE_MODEL = "meta-llama/llama-3.3-70b-instruct:free"

MENDABLE = [
    ("error_first", {}),
    ("error_mid", {}),
    ("error_mid", {"done": True}),
    ("error_mid", {"choice_only": True}),
    ("error_mid", {"bare": True, "charge": True}),
    ("silent_close", {}),
    ("silent_close", {"clean": True}),
    ("reset", {}),
    ("missing_usage", {}),
    ("null_cost", {}),
    ("repr_float", {}),
    ("zero_cost_with_tokens", {}),
    ("cache_hit", {}),
    ("gzip", {}),
    ("whitespace", {}),
    ("chop", {}),
    ("http_error", {"status": 500}),
    ("http_error", {"status": 500, "charge": True}),
    ("http_error", {"status": 502, "envelope": False}),
    ("http_error", {"status": 504, "charge": True, "shows_id": False}),
    ("http_error", {"status": 400}),
    ("http_error", {"status": 404}),
    ("close_keepalive", {}),
    ("close_on_request", {}),
    ("early_answer", {}),
    ("redirect", {}),
    ("hide_generation_id", {}),
]
"""Faults after which evidence is left: the ledger must come to equal the bill."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "parameters"), MENDABLE, ids=lambda value: str(value))
async def test_after_a_fault_the_ledger_comes_to_equal_the_bill(
    world: World, fault: str, parameters: dict[str, Any], stream: bool
) -> None:
    """The fixture compares; here: nobody hangs, and nothing stays pending."""
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault(fault, parameters), times=1),))
    try:
        async with asyncio.timeout(20), world.post(stream=stream, text="[[sim tokens=60]]", max_tokens=100) as response:
            raw = await response.read()
    except ConnectionError:
        raw = b""
    assert b"sk-or-" not in raw
    await world.settled()
    async with world.post(stream=stream) as after:
        await after.read()
        assert after.status == 200


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [("silent_close", {}), ("silent_close", {"clean": True}), ("reset", {})],
    ids=lambda value: str(value),
)
async def test_a_stream_that_breaks_ends_in_an_error_event_not_in_silence(
    world: World, fault: str, parameters: dict[str, Any]
) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault(fault, parameters), times=1),))
    async with world.post(stream=True, text="[[sim tokens=60]]") as response:
        raw = await response.read()
    assert b'"error":{' in raw
    assert raw.endswith(b"data: [DONE]\n\n")
    await world.settled()


async def test_a_refusal_that_asks_to_wait_is_waited_out(world: World) -> None:
    fault = make_fault("http_error", {"status": 429, "retry_after": "1"})
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
    async with world.post() as response:
        assert response.status == 200
    assert len(world.sim.requests) == 2


async def test_a_provider_that_asks_to_wait_is_left_out_and_another_serves_at_once(world: World) -> None:
    """No call waits its 3,000 s, and none is sent to it meanwhile (M20)."""
    async with world.post() as response:
        provider = (await response.json())["provider"]
    refusal = {"status": 429, "retry_after": "3000", "provider_name": provider}
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", refusal), times=1),))
    for _ in range(3):
        async with world.post() as response:
            assert response.status == 200
            assert (await response.json())["provider"] != provider
    first, refused, *later = [set(json.loads(request.body)["provider"]["only"]) for request in world.sim.requests]
    assert len(later) == 3
    assert all(only < refused == first for only in later)
    assert [line["outcome"] for line in world.cost_lines()] == ["posted"] * 4


async def test_a_limit_of_a_provider_that_was_not_asked_delays_the_model(world: World) -> None:
    refusal = {"status": 429, "retry_after": "3000", "provider_name": "Nobody"}
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", refusal), times=1),))
    for _ in range(2):
        async with world.post() as response:
            assert response.status == 429
    assert len(world.sim.requests) == 1


async def test_an_in_flight_budget_refusal_delays_every_call_of_the_process(world: World) -> None:
    fault = make_fault("http_error", {"status": 402, "retry_after": "1", "limit_source": "openrouter_in_flight_budget"})
    await world.open("b")
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
    async with world.post() as first, world.post(token=world.tokens["b"]) as second:
        assert (first.status, second.status) == (200, 200)
    assert len(world.sim.requests) == 3


CAUSES = {
    "credit": Code.ACCOUNT_CREDIT,
    "credit_bare": Code.ACCOUNT_CREDIT,
    "affords": Code.ACCOUNT_AFFORDS,
    "prompt": Code.ACCOUNT_AFFORDS,
    "weight": Code.ACCOUNT_AFFORDS,
    "key_affords_bare": Code.DOES_NOT_FIT,
    "guardrail": Code.KEY_LIMIT,
    "workspace": Code.KEY_LIMIT,
}


NAMED_BY_METADATA = {"weight", "guardrail", "workspace"}
"""Errors in the dialect of messages have no metadata, so there nothing tells these."""


@pytest.mark.parametrize(
    ("path", "cause"),
    [(path, cause) for path in ("/chat/completions", "/responses") for cause in CAUSES]
    + [("/messages", cause) for cause in CAUSES if cause not in NAMED_BY_METADATA],
)
async def test_a_money_refusal_of_upstreams_is_said_in_our_words_for_its_cause(
    world: World, path: str, cause: str
) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("no_money", {"cause": cause, "tokens": 5})),))
    async with world.post(path, max_tokens=100, input="Say OK") as response:
        told = await response.json()
        assert (response.status, response.headers["x-should-retry"]) == (402, "false")
        assert told["error"]["message"] == CAUSES[cause].sentence
    assert len(world.sim.requests) == 1
    account = world.proxy.ledger.account("a")
    assert (account.frozen, account.available_pusd, account.refused) == (None, account.limit_pusd, 1)


@pytest.mark.parametrize(
    ("path", "fields", "bounds"),
    [
        ("/chat/completions", {"max_tokens": 4000}, ["max_tokens", "max_completion_tokens"]),
        ("/chat/completions", {}, ["max_tokens", "max_completion_tokens"]),
        ("/responses", {"max_output_tokens": 4000, "input": "Say OK"}, ["max_output_tokens"]),
        ("/messages", {"max_tokens": 4000}, ["max_tokens"]),
    ],
)
async def test_a_call_too_large_for_the_accounts_credit_is_sent_once_more_with_the_bound_that_is_affordable(
    world: World, path: str, fields: dict[str, Any], bounds: list[str]
) -> None:
    """With the same reservation (M11)."""
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("no_money", {"cause": "affords", "tokens": 1200})),))
    async with world.post(path, **fields) as response:
        assert response.status == 200
        await response.read()
    _, again = [json.loads(request.body) for request in world.sim.requests]
    assert {again[name] for name in bounds if name in again} == {1200}
    assert [line["outcome"] for line in world.cost_lines()] == ["posted"]


async def test_thinking_is_lowered_with_the_bound_that_is_affordable(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("no_money", {"cause": "affords", "tokens": 3000})),))
    thinking = {"type": "enabled", "budget_tokens": 6000}
    async with world.post("/messages", model=DEAR_MODEL, max_tokens=8000, thinking=thinking) as response:
        assert response.status == 200
        await response.read()
    _, again = [json.loads(request.body) for request in world.sim.requests]
    assert (again["max_tokens"], again["thinking"]["budget_tokens"]) == (3000, 3000 - 1024)


@pytest.mark.parametrize(("asked", "affords"), [(4000, 1023), (500, 499), (100, 100), (100, 200)])
async def test_no_bound_below_the_floor_and_none_that_is_not_lower_is_sent(
    world: World, asked: int, affords: int
) -> None:
    fault = make_fault("no_money", {"cause": "affords", "tokens": affords, "for_ever": True})
    world.sim.scenario = Scenario(faults=(FaultRule(fault),))
    async with asyncio.timeout(30), world.post(max_tokens=asked) as response:
        assert (await response.json())["error"]["message"] == Code.ACCOUNT_AFFORDS.sentence
    assert len(world.sim.requests) == 1


async def test_an_affordable_bound_that_is_refused_as_well_ends_the_call(world: World) -> None:
    first = FaultRule(make_fault("no_money", {"cause": "affords", "tokens": 3000, "for_ever": True}), times=1)
    second = FaultRule(make_fault("no_money", {"cause": "affords", "tokens": 2000, "for_ever": True}))
    world.sim.scenario = Scenario(faults=(first, second))
    async with asyncio.timeout(30), world.post(max_tokens=4000) as response:
        assert response.status == 402
    assert len(world.sim.requests) == 2
    assert [line["outcome"] for line in world.cost_lines()] == ["voided"]


async def test_an_account_that_was_frozen_meanwhile_is_not_sent_a_second_time(world: World) -> None:
    """The second sending is asked for like the first, in the instant before its first byte (M10)."""
    fault = make_fault("no_money", {"cause": "affords", "tokens": 3000})
    world.sim.scenario = Scenario(faults=(FaultRule(fault),))
    lowers = CallBackoff.lowers

    def freezes(backoff: CallBackoff, refusal: UpstreamRefusal) -> bool:
        world.proxy.ledger.commit(Freeze("a", "test"))
        return lowers(backoff, refusal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CallBackoff, "lowers", freezes)
        async with world.post(max_tokens=4000) as response:
            assert (await response.json())["error"]["message"] == Code.FROZEN.sentence
    assert len(world.sim.requests) == 1


async def test_a_call_whose_client_has_left_is_not_sent(world: World) -> None:
    """The client is looked for in the instant before the first byte, after all that may have taken time (M10, order of a call)."""
    connect = Pool.connect
    about_to_send, client_left = asyncio.Event(), asyncio.Event()

    async def connect_later(pool: Pool) -> UpstreamConnection:
        connection = await connect(pool)
        if world.proxy.ledger.store.pending("a"):  # else it is for the price list
            about_to_send.set()
            await client_left.wait()
        return connection

    async def call() -> None:
        async with world.post():
            raise AssertionError("a call that is not sent was answered")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "idle", lambda _pool: None)
        patch.setattr(Pool, "connect", connect_later)
        calling = asyncio.ensure_future(call())
        async with asyncio.timeout(30):
            await about_to_send.wait()
            calling.cancel()
            while world.proxy.ledger.account("a").outcomes != NONE_YET.with_unserved(LEFT):
                await asyncio.sleep(0.01)
        client_left.set()
        await world.proxy.tasks.finish(30.0)
    assert world.sim.requests == []
    assert world.proxy.ledger.account("a").pending_pusd == 0
    assert [line["outcome"] for line in world.cost_lines()] == ["voided"]


OUTCOMES = [
    ("error_first", {}, True, "error_in_answer"),
    ("error_mid", {}, True, "error_in_answer"),
    ("silent_close", {}, True, "upstream_failed"),
    ("reset", {}, True, "upstream_failed"),
    ("reset", {}, False, "upstream_failed"),
    ("http_error", {"status": 500}, False, "upstream_500"),
    ("http_error", {"status": 502, "envelope": False}, False, "upstream_failed"),
    ("http_error", {"status": 404}, True, "upstream_404"),
    ("http_error", {"status": 429, "retry_after": "3000"}, False, "held"),
    ("http_error", {"status": 402}, False, "account_credit"),
    ("close_on_request", {}, False, "upstream_failed"),
]
"""Faults after which a client has no answer, and what its call is counted as."""


@pytest.mark.parametrize(("fault", "parameters", "stream", "code"), OUTCOMES, ids=lambda value: str(value))
async def test_a_call_that_upstream_does_not_serve_is_counted_by_what_became_of_it(
    world: World, fault: str, parameters: dict[str, Any], stream: bool, code: str
) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault(fault, parameters)),))
    with contextlib.suppress(aiohttp.ClientError):
        async with asyncio.timeout(30), world.post(stream=stream, text="[[sim tokens=60]]", max_tokens=100) as response:
            await response.read()
    await world.proxy.tasks.finish(30.0)
    outcomes = world.proxy.ledger.account("a").outcomes
    assert [(cause.code, cause.source, cause.count, cause.model) for cause in outcomes.causes] == [
        (code, Source.UPSTREAM, 1, MODEL)
    ]
    assert (outcomes.served, outcomes.since_served_upstream) == (0, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_answered_is_counted_once_as_served(world: World, stream: bool) -> None:
    async with world.post(stream=stream) as response:
        await response.read()
    await world.proxy.tasks.finish(30.0)
    assert world.proxy.ledger.account("a").outcomes == NONE_YET.with_served()


@pytest.mark.parametrize(
    ("reads_first", "expected"), [(True, NONE_YET.with_served()), (False, NONE_YET.with_unserved(LEFT))]
)
async def test_a_client_that_hangs_up_was_served_if_it_had_read_of_its_answer(
    world: World, reads_first: bool, expected: Outcomes
) -> None:
    world.sim.scenario = Scenario(tokens_per_s=100, first_token_s=0.0 if reads_first else 3.0)
    async with world.post(stream=True, text="[[sim tokens=60]]", max_tokens=100) as response:
        while reads_first and b"data: " not in await response.content.readany():
            pass
        response.close()
    await world.proxy.tasks.finish(30.0)
    assert world.proxy.ledger.account("a").outcomes == expected


async def test_a_call_that_ends_after_the_budget_refused_another_is_not_the_last_word(world: World) -> None:
    """An agent with several calls at once gives up at the first refusal, whatever the others still bring."""
    token = await world.open("poor", "0.05")
    world.sim.scenario = Scenario(first_token_s=0.5)

    async def ask() -> None:
        async with world.post(token=token, max_tokens=100) as response:
            await response.read()

    under_way = asyncio.ensure_future(ask())
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    async with world.post(token=token, model=DEAR_MODEL, text="x" * 100_000) as response:
        assert response.status == 402
    await under_way
    await world.proxy.tasks.finish(30.0)
    outcomes = world.proxy.ledger.account("poor").outcomes
    assert (outcomes.served, outcomes.last and outcomes.last.source) == (1, Source.BUDGET)


async def test_a_call_that_a_freeze_cuts_is_not_counted_as_served_when_upstream_goes_on(world: World) -> None:
    world.sim.scenario = Scenario(tokens_per_s=100)
    async with world.post(stream=True, text="[[sim tokens=40]]", max_tokens=100) as response:
        await response.content.readany()
        await world.proxy.accounts.freeze("a", "test")
        await response.read()
    await world.proxy.tasks.finish(30.0)
    outcomes = world.proxy.ledger.account("a").outcomes
    assert [(cause.code, cause.count) for cause in outcomes.causes] == [("frozen", 1)]
    assert (outcomes.served, outcomes.last) == (0, None)


async def test_the_sub_keys_own_limit_firing_first_freezes_the_account(world: World) -> None:
    fault = make_fault(
        "http_error",
        {"status": 403, "message": "Key limit exceeded (total limit)", "limit_source": "openrouter_key_limit"},
    )
    world.sim.scenario = Scenario(faults=(FaultRule(fault),))
    async with world.post() as response:
        assert (response.status, (await response.json())["error"]["message"]) == (402, Code.TRIAL_KEY_LIMIT.sentence)
    account = world.proxy.ledger.account("a")
    assert account.frozen is not None
    assert [(cause.code, cause.source) for cause in account.outcomes.causes] == [("trial_key_limit", Source.UPSTREAM)]


async def test_an_endpoint_that_bills_above_its_reservation_is_used_no_more(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("wrong_bound", {"tokens": 2000}), times=1),))
    async with world.post(max_tokens=16) as response:
        body = await response.json()
    account = world.proxy.ledger.account("a")
    assert account.overrun_pusd > 0
    (line,) = world.cost_lines()
    assert (line["model"], line["tag"]) in world.proxy.ledger.store.state.quarantined
    for _ in range(5):
        async with world.post() as later:
            assert (await later.json())["provider"] != body["provider"]


async def test_an_endpoint_that_runs_on_a_provider_key_of_the_users_own_is_used_no_more(world: World) -> None:
    """The first call shows it, and is posted with the provider's bill (M16)."""
    world.may_differ = True  # the provider's bill is no part of OpenRouter's
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("byok", {"fee": "0.05"}), times=1),))
    async with world.post() as response:
        body = await response.json()
    (line,) = world.cost_lines()
    assert Decimal(line["cost_usd"]) > Decimal(str(body["usage"]["cost"]))
    assert list(world.proxy.ledger.store.state.quarantined) == [(MODEL, line["tag"])]
    for _ in range(3):
        async with world.post() as later:
            assert (await later.json())["provider"] != body["provider"]


async def test_a_model_of_which_every_endpoint_runs_on_the_users_own_keys_is_refused_in_the_end(world: World) -> None:
    world.may_differ = True
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("byok")),))
    for _ in world.sim.catalog[MODEL].endpoints:
        async with world.post() as response:
            assert response.status == 200
    async with world.post() as response:
        assert response.status == 403
        assert Code.QUARANTINED.sentence in (await response.json())["error"]["message"]


async def test_where_provider_keys_of_the_users_own_are_wanted_their_calls_go_on(world: World) -> None:
    world.may_differ = True
    world.proxy.ledger.byok = True
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("byok", {"fee": "0.05"})),))
    for _ in range(3):
        async with world.post() as response:
            assert response.status == 200
    assert not world.proxy.ledger.store.state.quarantined
    assert all(Decimal(line["cost_usd"]) <= Decimal(line["reserved_usd"]) for line in world.cost_lines())


async def test_a_provider_key_of_the_users_own_counts_in_the_evidence(world: World) -> None:
    """Two calls on it: one is told and posted whole, the other broke off; the key's usage shows the second, not nothing."""
    world.may_differ = True
    world.proxy.ledger.byok = True
    byok, hidden = FaultRule(make_fault("byok")), FaultRule(make_fault("hide_generation_id"), times=1)
    world.sim.scenario = Scenario(faults=(byok, hidden, FaultRule(make_fault("missing_usage"), times=1)))
    for text in ("[[sim tokens=20]]", "[[sim tokens=90]]"):
        async with world.post(text=text, stream=True) as response:
            await response.read()
    await world.settled()
    hidden_line, told_line = sorted(world.cost_lines(), key=lambda line: line["outcome"])
    assert (hidden_line["outcome"], told_line["outcome"]) == ("assumed", "posted")
    assert Decimal(hidden_line["cost_usd"]) > 0


async def test_a_price_that_rose_is_read_again_and_the_call_quoted_once_more(world: World) -> None:
    async with world.post() as response:
        await response.read()
    model = world.sim.catalog[MODEL]
    dearer = tuple(replace(each, pricing={**each.pricing, "prompt": "0.0000009"}) for each in model.endpoints)
    world.sim.catalog[MODEL] = replace(model, endpoints=dearer)
    async with world.post() as response:
        assert response.status == 200
    assert [line["outcome"] for line in world.cost_lines()] == ["posted", "voided", "posted"]


async def test_a_client_that_reads_nothing_is_dropped_and_its_call_is_still_posted(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("huge_event", {"size_bytes": 40 * 2**20})),))
    world.may_differ = True
    response = await world.post(stream=True, text="[[sim tokens=60]]").__aenter__()
    await world.settled(within_s=30)
    response.close()


async def test_a_wait_longer_than_a_client_waits_is_refused_at_once_and_not_sent_again(world: World) -> None:
    fault = make_fault(
        "http_error", {"status": 402, "retry_after": "3000", "limit_source": "openrouter_in_flight_budget"}
    )
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
    for _ in range(3):
        async with world.post() as response:
            assert (response.status, response.headers["x-should-retry"]) == (429, "false")
            assert (await response.json())["error"]["message"] == Code.HELD.sentence
            assert "Retry-After" not in response.headers
    assert len(world.sim.requests) == 1
    assert world.proxy.ledger.account("a").available_pusd == world.proxy.ledger.account("a").limit_pusd


DAY = {"status": 429, "message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 a day"}
HOURS_AWAY = str(4_000_000_000_000)


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
@pytest.mark.parametrize("times", [{}, {"resets_at": HOURS_AWAY}, {"retry_after": "1"}], ids=str)
async def test_a_daily_limit_is_refused_at_once_and_upstream_is_asked_once(
    world: World, path: str, times: dict[str, str]
) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", {**DAY, **times})),))
    for _ in range(3):
        async with asyncio.timeout(30), world.post(path, model=FREE_MODEL, max_tokens=100, input="Say OK") as response:
            assert (response.status, response.headers["x-should-retry"]) == (429, "false")
            assert (await response.json())["error"]["message"] == Code.DAILY_LIMIT.sentence
            assert "Retry-After" not in response.headers
    assert len(world.sim.requests) == 1
    account = world.proxy.ledger.account("a")
    assert (account.refused, account.available_pusd) == (3, account.limit_pusd)


async def test_a_daily_limit_of_one_key_does_not_bind_another_key(world: World) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", DAY), times=1),))
    await world.open("b")
    async with world.post(model=FREE_MODEL) as refused, world.post(model=MODEL) as paid:
        assert (refused.status, paid.status) == (429, 200)
    async with world.post(model=FREE_MODEL, token=world.tokens["b"]) as served:
        assert served.status == 200


@pytest.mark.parametrize("times", [{"retry_after": "46"}, {"resets_at": HOURS_AWAY}], ids=str)
async def test_a_rate_limit_longer_than_our_wait_is_refused_at_once(world: World, times: dict[str, str]) -> None:
    fault = make_fault("http_error", {"status": 429, "message": "Rate limit exceeded", **times})
    world.sim.scenario = Scenario(faults=(FaultRule(fault),))
    for _ in range(2):
        async with asyncio.timeout(30), world.post() as response:
            assert (response.status, response.headers["x-should-retry"]) == (429, "false")
            assert (await response.json())["error"]["message"] == Code.HELD.sentence
    assert len(world.sim.requests) == 1
    assert world.proxy.ledger.account("a").refused == 2


async def test_a_reset_that_is_near_is_waited_out(world: World) -> None:
    soon_ms = str(round((world.proxy.ledger.clock.epoch_s() + 1) * 1000))
    fault = make_fault("http_error", {"status": 429, "message": "Rate limit exceeded", "resets_at": soon_ms})
    world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
    async with world.post() as response:
        assert response.status == 200
    assert len(world.sim.requests) == 2


@pytest.mark.parametrize(("name", "proven"), [("f", True), ("f", False), ("a", True), ("a", False)])
async def test_a_key_whose_limit_affords_less_is_asked_for_less_unless_that_is_drift(
    world: World, name: str, proven: bool
) -> None:
    """On a sub-key of the account's own, if no call has exposure, it shows that our ledger is too low (M20)."""
    world.may_differ = True
    world.proxy.ledger.reserves_proven = proven
    is_drift = name == "a" and proven
    await world.open_foreign("f")
    fault = make_fault("no_money", {"cause": "key_affords", "tokens": 1200})
    world.sim.scenario = Scenario(faults=(FaultRule(fault),))
    async with world.post(token=world.tokens[name], max_tokens=4000) as response:
        assert response.status == (402 if is_drift else 200)
        await response.read()
    asked = [json.loads(request.body) for request in world.sim.requests if request.method == "POST"]
    assert [body.get("max_tokens") for body in asked] == ([4000] if is_drift else [4000, 1200])
    assert (world.proxy.ledger.account(name).frozen is None) is not is_drift


async def tightened(world: World, limit_usd: str) -> str:
    """Open an account of $1 whose sub-key has less at OpenRouter; returns its token."""
    await world.reopen("k", await world.sub_key("k", Decimal(limit_usd)))
    return world.tokens["k"]


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
async def test_openrouters_check_of_a_sub_key_lowers_a_call_once_then_refuses_and_freezes_nothing(
    world: World, path: str
) -> None:
    """The simulator compares 4,000 tokens of $15 a million with what the key has left, then a prompt of 20,000 at $3."""
    token = await tightened(world, "0.03")
    fields: dict[str, Any] = {"model": DEAR_MODEL, "token": token, "max_tokens": 4000}
    async with world.post(path, **fields) as response:
        assert response.status == 200
        await response.read()
    asked = [json.loads(request.body)["max_tokens"] for request in world.sim.requests if request.method == "POST"]
    assert [asked[0], len(asked)] == [4000, 2]
    assert 1024 <= asked[1] <= 2000
    async with world.post(path, **{**fields, "max_tokens": 100}, text="four words of text " * 4000) as response:
        assert (response.status, response.headers["x-should-retry"]) == (402, "false")
        assert (await response.json())["error"]["message"] == Code.DOES_NOT_FIT.sentence
    account = world.proxy.ledger.account("k")
    assert (account.frozen, account.pending_pusd, account.refused) == (None, 0, 1)
    assert account.outcomes.served == 1


async def test_a_sub_key_whose_limit_is_reached_freezes_the_account_also_if_calls_have_exposure(world: World) -> None:
    """The simulator checks prompt and bound one by one; together they cost more than the key has."""
    token = await tightened(world, "0.000007")
    async with world.post(token=token, max_tokens=16) as response:
        assert response.status == 200
        await response.read()
    async with world.post(token=token, max_tokens=16) as response:
        assert (await response.json())["error"]["message"] == Code.TRIAL_KEY_LIMIT.sentence
    assert world.proxy.ledger.account("k").frozen is not None
