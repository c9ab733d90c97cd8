"""A key that others may use as well: its usage frees what was not charged, and never less is posted than was billed (M13)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
import structlog
from aiohttp import web

from openrouter_sim import FaultRule, Scenario, make_fault
from openrouter_sim.billing.account import SimKey
from openrouter_sim.calls.scenario import Fault
from preflight_proxy.core.evidence.evidence import CALL_S_MAX, GENERATION_S_MAX, KEY_USAGE_LAG_S
from preflight_proxy.core.ledger.commands import Freeze, LoseKeyBase, Post
from preflight_proxy.core.ledger.rows import USAGE_UNREAD, CallFacts, Reservation
from preflight_proxy.core.ledger.transition import may_send
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.evidence.foreign_keys import FIGURE_S, next_reset
from preflight_proxy.evidence.unknowns import KEY_POLLS_PER_LAG
from tests.support.cases import each
from tests.support.foreign_key_world import RESERVED_PUSD, USD, ForeignKeyWorld
from tests.support.proxy_world import World

pytestmark = pytest.mark.wire

CENT = USD // 100
MILLI = USD // 1000
OTHER_KEY = f"sk-or-v1-{'0' * 64}"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[ForeignKeyWorld]:
    """Accounts `a` and `b` on one foreign key, of which 3 cents were used before."""
    async with ForeignKeyWorld(tmp_path) as made:
        made.bill(3 * CENT, ours=False)
        yield made


def unread(times: int | None = None) -> Scenario:
    return Scenario(faults=(FaultRule(make_fault("early_answer"), api="key", times=times),))


# What is decided, and when


async def test_a_call_that_was_not_charged_is_void_once_usage_can_have_caught_up(desk: ForeignKeyWorld) -> None:
    desk.lose(await desk.call())
    await desk.pass_s(KEY_USAGE_LAG_S - 1)
    assert len(desk.pending) == 1
    await desk.until(lambda: not desk.pending, within_s=10)
    assert desk.ends == [("voided", 0)]


async def test_a_call_that_was_charged_is_assumed_at_what_it_cost(desk: ForeignKeyWorld) -> None:
    call = await desk.call()
    desk.bill(MILLI, lag_s=KEY_USAGE_LAG_S - 1)
    desk.lose(call)
    assert await desk.until(lambda: not desk.pending, within_s=70) >= KEY_USAGE_LAG_S
    assert desk.ends == [("assumed", MILLI)]


async def test_a_call_that_nobody_saw_end_waits_for_the_longest_call_and_the_lag(desk: ForeignKeyWorld) -> None:
    """It may be billed half an hour after it began."""
    call = await desk.call()
    desk.lose(call, ended=False)
    await desk.pass_s(CALL_S_MAX - 1)
    desk.bill(MILLI, lag_s=KEY_USAGE_LAG_S)
    await desk.pass_s(KEY_USAGE_LAG_S)
    assert len(desk.pending) == 1
    await desk.until(lambda: not desk.pending, within_s=10)
    assert desk.ends == [("assumed", MILLI)]


async def test_a_key_is_read_only_a_few_times_in_its_lag_while_a_call_waits(desk: ForeignKeyWorld) -> None:
    """And once more to keep its usage."""
    desk.lose(await desk.call())
    desk.sim.scenario = Scenario(faults=(FaultRule(make_fault("early_answer"), api="GET key"),))
    await desk.pass_s(KEY_USAGE_LAG_S + KEY_USAGE_LAG_S / 2, step_s=0.5)
    assert 0 < desk.sim.strikes["early_answer"] <= KEY_POLLS_PER_LAG / 2 + 2


class ActsFirst(Fault, frozen=True):
    """Does something when the request comes, and lets it pass."""

    is_early: ClassVar[bool] = True
    act: Callable[[], object] = lambda: None

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        self.act()
        return None


async def test_a_call_that_is_settled_while_the_key_is_read_keeps_its_cost_and_stops_no_other(
    desk: ForeignKeyWorld,
) -> None:
    first, second = await desk.call("a"), await desk.call("b")
    desk.lose(first)
    desk.lose(second)
    post = ActsFirst(lambda: desk.ledger.commit(Post(first.id, 0)))
    desk.sim.scenario = Scenario(faults=(FaultRule(post, api="GET key", after=1, times=1),))
    with structlog.testing.capture_logs() as logs:
        await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("posted", 0), ("voided", 0)]
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_nothing_more_is_assumed_than_was_reserved(desk: ForeignKeyWorld) -> None:
    """Others used the key as well."""
    call = await desk.call()
    desk.bill(50 * CENT)
    desk.lose(call)
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("assumed", RESERVED_PUSD)]


async def test_usage_is_given_to_the_calls_in_order_of_their_start_whatever_their_account(
    desk: ForeignKeyWorld,
) -> None:
    """Each takes at most its reservation, and the rest is the next one's."""
    calls = []
    for name in "aba":
        calls.append(await desk.call(name))
        desk.clock.advance(1)
    desk.bill(RESERVED_PUSD + MILLI)
    for call in reversed(calls):
        desk.lose(call)
    await desk.until(lambda: not desk.pending, within_s=70)
    costs = {entry.reservation_id: entry.cost_pusd for entry in desk.store.entries()}
    assert [costs[call.id] for call in calls] == [RESERVED_PUSD, MILLI, 0]
    assert sorted(kind for kind, _cost in desk.ends) == ["assumed", "assumed", "voided"]


async def test_what_all_accounts_of_the_ledger_posted_is_taken_off(desk: ForeignKeyWorld) -> None:
    desk.post(await desk.call("b"), 2 * MILLI)
    desk.lose(await desk.call("a"))
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("posted", 2 * MILLI), ("voided", 0)]


async def test_what_was_posted_within_the_lag_is_not_taken_off_yet(desk: ForeignKeyWorld) -> None:
    """Its cost may not be in the usage, which another call's may be: so much more is waited for, not given away."""
    unknown, late = await desk.call("a"), await desk.call("b")
    desk.bill(MILLI)
    desk.lose(unknown)
    await desk.pass_s(KEY_USAGE_LAG_S - 10)
    desk.post(late, MILLI, lag_s=KEY_USAGE_LAG_S)
    await desk.pass_s(40)
    assert [pending.id for pending in desk.pending] == [unknown.id]
    await desk.until(lambda: not desk.pending, within_s=40)
    assert desk.ends == [("posted", MILLI), ("assumed", MILLI)]


async def test_a_stream_under_way_is_waited_for_because_usage_may_hold_it_before_it_is_told(
    desk: ForeignKeyWorld,
) -> None:
    unknown, stream = await desk.call("a"), await desk.call("b")
    desk.lose(unknown)
    desk.bill(MILLI)
    await desk.pass_s(300)
    assert len(desk.pending) == 2
    desk.ledger.commit(Post(stream.id, MILLI))
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("posted", MILLI), ("voided", 0)]


async def test_where_the_other_calls_never_pause_it_is_capped_after_the_longest_call(desk: ForeignKeyWorld) -> None:
    unknown = await desk.call("a")
    desk.lose(unknown)
    began_s = desk.clock.monotonic_s()
    while desk.pending and desk.clock.monotonic_s() - began_s < 3000:
        await desk.pass_s(30)
        desk.post(await desk.call("b"), MILLI)
    assert CALL_S_MAX < desk.clock.monotonic_s() - began_s < 35 * 60
    assert desk.ends[-2] in [("assumed", 2 * MILLI), ("assumed", 3 * MILLI)]


async def test_the_least_that_the_usage_shows_is_posted(desk: ForeignKeyWorld) -> None:
    """No bill is above the ledger, not even by a pico-dollar."""
    call = await desk.call()
    desk.bill(1)
    desk.lose(call)
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("assumed", 1)]


async def test_a_call_with_an_id_is_asked_for_first_and_others_wait_for_that(desk: ForeignKeyWorld) -> None:
    """Its cost is in the usage, and is not theirs."""
    nameless, named = await desk.call("a"), await desk.call("b")
    visible_s = desk.clock.epoch_s() + 50
    desk.lose(nameless)
    desk.lose(named, generation_id=desk.bill(MILLI, visible_s=visible_s))
    await desk.until(lambda: not desk.pending, within_s=300)
    assert desk.ends == [("posted", MILLI), ("voided", 0)]


async def test_a_record_that_comes_after_the_call_was_settled_changes_nothing(desk: ForeignKeyWorld) -> None:
    """Both accounts together have posted what the key was billed; which call cost it stays as it was decided (M15, ends once)."""
    calls = [await desk.call("a"), await desk.call("b")]
    desk.clock.advance(1)
    late_s = desk.clock.epoch_s() + GENERATION_S_MAX + 100
    desk.lose(calls[0], generation_id=desk.bill(0, visible_s=late_s))
    desk.lose(calls[1], generation_id=desk.bill(MILLI, visible_s=late_s))
    await desk.until(lambda: not desk.pending, within_s=GENERATION_S_MAX + 70)
    settled = [account.posted_pusd for account in desk.ledger.accounts().values()]
    assert sum(settled) == desk.billed_pusd == MILLI
    await desk.pass_s(200)
    assert [account.posted_pusd for account in desk.ledger.accounts().values()] == settled


async def test_a_call_that_has_an_id_is_waited_for_though_nobody_saw_it_end(desk: ForeignKeyWorld) -> None:
    nameless, named = await desk.call("a"), await desk.call("b")
    desk.lose(nameless)
    desk.lose(named, ended=False, generation_id=desk.bill(MILLI, visible_s=desk.clock.epoch_s() + 100))
    await desk.until(lambda: not desk.pending, within_s=300)
    assert desk.ends == [("posted", MILLI), ("voided", 0)]


async def test_a_call_that_began_earlier_and_ended_later_comes_first(desk: ForeignKeyWorld) -> None:
    earlier = await desk.call("a")
    desk.clock.advance(1)
    later = await desk.call("b")
    desk.lose(later)
    desk.bill(MILLI)
    await desk.pass_s(KEY_USAGE_LAG_S - 30)
    desk.lose(earlier)
    await desk.until(lambda: not desk.pending, within_s=100)
    assert [account.posted_pusd for account in desk.ledger.accounts().values()] == [MILLI, 0]


async def test_a_call_that_nobody_saw_end_keeps_none_of_the_others_waiting(desk: ForeignKeyWorld) -> None:
    """What it cost is given to them, as far as they can have cost it, and is its own no more."""
    unseen = await desk.call("a")
    desk.clock.advance(1)
    seen = await desk.call("b")
    desk.lose(unseen, ended=False)
    desk.lose(seen)
    desk.bill(MILLI)
    await desk.until(lambda: len(desk.pending) == 1, within_s=70)
    assert desk.ends == [("assumed", MILLI)]
    await desk.until(lambda: not desk.pending, within_s=2000)
    assert desk.ends == [("assumed", MILLI), ("voided", 0)]


# The base


class Counted(Fault, frozen=True):
    """Counts reads, and lets them pass."""

    is_early = True
    reads = 0

    async def answer_early(self, request: web.Request) -> web.StreamResponse | None:
        Counted.reads += 1
        return None


async def test_the_base_is_read_once_and_before_the_first_call_leaves(desk: ForeignKeyWorld) -> None:
    Counted.reads = 0
    desk.sim.scenario = Scenario(faults=(FaultRule(Counted(), api="key"),))
    await asyncio.gather(*(desk.call(name) for name in "abab"))
    assert Counted.reads == 1
    (base,) = desk.store.state.key_bases.values()
    assert (base.usage_pusd, base.upstream, base.lost) == (3 * CENT, desk.upstream.base_url, None)
    assert {call.key_base for call in desk.pending} == {1}
    desk.restart()
    await desk.call()
    assert len(desk.store.state.key_bases) == 1
    assert base.key_hash == hashlib.sha256(desk.sim.inference_key.encode()).hexdigest()


async def test_where_the_key_could_not_be_read_before_the_first_call_that_call_is_assumed_in_full(
    desk: ForeignKeyWorld,
) -> None:
    desk.sim.scenario = unread(times=1)
    call = await desk.call()
    assert call.key_base is None
    desk.lose(call)
    await desk.pass_s(GENERATION_S_MAX)
    assert desk.pending
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("assumed", RESERVED_PUSD)]


async def test_a_key_that_could_not_be_read_is_not_asked_at_every_call(desk: ForeignKeyWorld) -> None:
    desk.sim.scenario = unread()
    for _ in range(3):
        await desk.foreign.ready("a")
    assert desk.sim.strikes["early_answer"] == 1
    desk.clock.advance(KEY_USAGE_LAG_S)
    await desk.foreign.ready("a")
    assert desk.sim.strikes["early_answer"] == 2


async def test_a_later_call_brings_a_base_once_nothing_is_undecided_and_the_lag_is_over(desk: ForeignKeyWorld) -> None:
    desk.sim.scenario = unread(times=1)
    first = await desk.call("a")
    assert (await desk.call("b", 1)).key_base is None  # the first is under way
    await desk.pass_s(KEY_USAGE_LAG_S + 1)
    second = await desk.call("b", 1)
    for call in desk.pending:
        assert call.key_base is None
        desk.post(call, 1, lag_s=KEY_USAGE_LAG_S)
    assert (await desk.call("a", 0)).key_base is None  # and has just ended
    desk.post(desk.pending[0], 0)
    await desk.pass_s(KEY_USAGE_LAG_S)
    third = await desk.call("b")
    assert (first.key_base, second.key_base, third.key_base) == (None, None, 1)
    (base,) = desk.store.state.key_bases.values()
    assert base.usage_pusd == 3 * CENT + 3


async def test_a_call_brings_what_is_lacking_of_base_and_figure(desk: ForeignKeyWorld) -> None:
    desk.post(await desk.call("a"), 0)
    desk.open("new")
    await desk.foreign.ready("new")
    assert "new" in desk.store.state.key_figures
    desk.ledger.commit(LoseKeyBase(1, "the key's usage fell"))
    desk.clock.advance(KEY_USAGE_LAG_S)
    assert (await desk.call("a")).key_base == 2


async def test_another_upstream_or_key_has_a_base_of_its_own(desk: ForeignKeyWorld) -> None:
    call = await desk.call("a")
    other = desk.sim.account.new_secret()
    desk.sim.account.add_key(other, "other")
    desk.open("b", other)
    await desk.call("b")
    assert {each.key_base for each in desk.pending} == {1, 2}
    desk.ledger.upstream = "https://elsewhere.example/api/v1"
    assert (await desk.call("a")).key_base is None  # one is under way with this key
    assert desk.ledger.key_base("a") is None
    desk.lose(call)
    await desk.pass_s(GENERATION_S_MAX + KEY_USAGE_LAG_S)
    assert call.id in {each.id for each in desk.pending}
    await desk.pass_s(KEY_USAGE_LAG_S + 5)
    assert desk.ends == [("assumed", RESERVED_PUSD)]  # the upstream that counts it is not asked any more


async def test_calls_of_a_key_that_no_account_has_any_more_are_assumed_in_full(desk: ForeignKeyWorld) -> None:
    desk.lose(await desk.call("a"))
    for name in "ab":
        desk.open(name, OTHER_KEY)
    await desk.until(lambda: not desk.pending, within_s=GENERATION_S_MAX + 2 * KEY_USAGE_LAG_S + 10)
    assert desk.ends == [("assumed", RESERVED_PUSD)]


async def test_the_calls_of_a_closed_account_are_decided_by_whoever_has_the_key(desk: ForeignKeyWorld) -> None:
    desk.lose(await desk.call("a"))
    desk.ledger.commit(Freeze("a", "closed"))
    desk.ledger.account_state("a").key = None
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("voided", 0)]


async def test_a_call_does_not_leave_with_another_key_than_that_of_its_base(desk: ForeignKeyWorld) -> None:
    call = await desk.call("a")
    assert may_send(desk.store.state, call.id, desk.ledger.account("a"))
    desk.open("a", OTHER_KEY)
    assert not may_send(desk.store.state, call.id, desk.ledger.account("a"))


# No evidence


@pytest.mark.parametrize("told", [True, False])
async def test_usage_that_fell_is_no_evidence_for_good(desk: ForeignKeyWorld, told: bool) -> None:
    """Below the base, or below what upstream told: then a new base is read once all is decided."""
    desk.post(await desk.call("b"), 2 * MILLI)
    await desk.pass_s(KEY_USAGE_LAG_S + 1)
    call = await desk.call("a")
    desk.lose(call)
    desk.bill(-MILLI if told else -CENT)
    await desk.pass_s(GENERATION_S_MAX + KEY_USAGE_LAG_S + 1)
    assert desk.ends[1:] == [("assumed", RESERVED_PUSD)]
    assert desk.store.state.key_bases[1].lost == "the key's usage fell"
    await desk.pass_s(KEY_USAGE_LAG_S)
    assert (await desk.call("a")).key_base == 2
    desk.restart()
    assert desk.store.state.key_bases[1].lost == "the key's usage fell"


async def test_usage_that_is_rounded_has_not_fallen(desk: ForeignKeyWorld) -> None:
    desk.post(await desk.call("b"), 2 * MILLI)
    await desk.pass_s(KEY_USAGE_LAG_S + 1)
    desk.lose(await desk.call("a"))
    desk.bill(-900_000)
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends[1:] == [("voided", 0)]


async def test_an_older_figure_than_one_that_was_read_is_not_used(desk: ForeignKeyWorld) -> None:
    calls = [await desk.call("a"), await desk.call("b")]
    desk.bill(MILLI)
    desk.lose(calls[0])
    await desk.pass_s(KEY_USAGE_LAG_S + 30)  # the second is under way: nothing is decided
    desk.bill(-MILLI)
    desk.ledger.commit(Post(calls[1].id, 0))
    await desk.pass_s(KEY_USAGE_LAG_S + 20)
    assert desk.pending
    desk.bill(MILLI)
    await desk.until(lambda: not desk.pending, within_s=10)
    assert desk.ends == [("posted", 0), ("assumed", MILLI)]


@pytest.mark.parametrize("ours", [True, False])
async def test_a_key_on_which_provider_keys_of_the_users_own_run_is_no_evidence(
    desk: ForeignKeyWorld, ours: bool
) -> None:
    """Whether our own call shows it, or the key's counter."""
    call, other = await desk.call("a"), await desk.call("b")
    desk.lose(call)
    if ours:
        desk.ledger.note_byok(other, CallFacts(is_byok=True))
    else:
        desk.bill(1, byok=True)
    desk.ledger.commit(Post(other.id, 0))
    await desk.pass_s(GENERATION_S_MAX)
    assert desk.pending
    await desk.pass_s(KEY_USAGE_LAG_S + 10)
    assert desk.ends == [("posted", 0), ("assumed", RESERVED_PUSD)]
    assert "BYOK" in str(desk.store.state.key_bases[1].lost)


async def test_where_such_provider_keys_are_wanted_usage_is_no_evidence(desk: ForeignKeyWorld) -> None:
    desk.ledger.byok = True
    desk.lose(await desk.call("a"))
    await desk.pass_s(GENERATION_S_MAX + KEY_USAGE_LAG_S + 1)
    assert desk.ends == [("assumed", RESERVED_PUSD)]


async def test_a_key_that_cannot_be_read_for_minutes_is_given_up(desk: ForeignKeyWorld) -> None:
    """What was assumed so counts as posted for the others, though the usage does not hold it; it has not fallen."""
    desk.lose(await desk.call("a"))
    desk.sim.scenario = unread()
    await desk.pass_s(GENERATION_S_MAX + KEY_USAGE_LAG_S)
    assert desk.pending
    await desk.pass_s(KEY_USAGE_LAG_S + 5)
    assert desk.ends == [("assumed", RESERVED_PUSD)]
    desk.sim.scenario = Scenario()
    await desk.pass_s(KEY_USAGE_LAG_S)
    desk.lose(await desk.call("a"))
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("assumed", RESERVED_PUSD), ("voided", 0)]


async def test_a_key_that_could_be_read_before_is_given_up_as_late(desk: ForeignKeyWorld) -> None:
    unknown, stream = await desk.call("a"), await desk.call("b")
    desk.lose(unknown)
    desk.bill(MILLI)
    await desk.pass_s(500)
    desk.sim.scenario = unread()
    await desk.pass_s(GENERATION_S_MAX + 2 * KEY_USAGE_LAG_S - 5)
    assert [pending.id for pending in desk.pending] == [unknown.id, stream.id]
    await desk.pass_s(10)
    assert desk.ends == [("assumed", RESERVED_PUSD)]


async def test_a_failed_read_gives_up_nothing_that_has_waited_for_long(desk: ForeignKeyWorld) -> None:
    """Another call's stream kept it waiting, and the key could be read all the time but for some minutes."""
    desk.lose(await desk.call("a"))
    await desk.until(lambda: not desk.pending, within_s=70)
    await desk.pass_s(1000)
    unknown, stream = await desk.call("a"), await desk.call("b")
    desk.lose(unknown)
    desk.bill(MILLI)
    for _ in range(3):
        desk.sim.scenario = unread()
        await desk.pass_s(GENERATION_S_MAX + KEY_USAGE_LAG_S)
        desk.sim.scenario = Scenario()
        await desk.pass_s(GENERATION_S_MAX + 2 * KEY_USAGE_LAG_S)
    assert len(desk.pending) == 2
    desk.ledger.commit(Post(stream.id, MILLI))
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("voided", 0), ("posted", MILLI), ("voided", 0)]


# After a restart


async def test_after_a_restart_the_same_is_decided(desk: ForeignKeyWorld) -> None:
    """What was posted, by whom and with which key, is in the ledger; the new process waits one lag to know when."""
    desk.post(await desk.call("b"), 2 * MILLI)
    lost = [await desk.call("a"), await desk.call("a")]
    desk.bill(MILLI)
    for call in lost:
        desk.lose(call)
    await desk.pass_s(30)
    desk.restart()
    took_s = await desk.until(lambda: not desk.pending, within_s=2 * KEY_USAGE_LAG_S)
    assert took_s >= KEY_USAGE_LAG_S
    assert desk.ends == [("posted", 2 * MILLI), ("assumed", MILLI), ("voided", 0)]


async def test_a_restart_after_a_long_time_does_not_give_up_before_it_has_asked(desk: ForeignKeyWorld) -> None:
    desk.lose(await desk.call("a"))
    desk.clock.advance(10_000)
    desk.restart()
    for name in "ab":
        desk.ledger.account_state(name).key = None
    await desk.pass_s(20)
    for name in "ab":
        desk.open(name)
    await desk.until(lambda: not desk.pending, within_s=70)
    assert desk.ends == [("voided", 0)]


# On the wire


async def test_errors_without_a_bill_leave_a_small_budget_whole(world: World) -> None:
    """Nothing was served, and nothing is gone."""
    await world.open_foreign("f", "0.03")
    faults = [
        make_fault("http_error", {"status": status, "envelope": envelope, "edge": not envelope, "shows_id": False})
        for status, envelope in ((429, False), (403, False), (524, False), (500, True), (502, True), (503, True))
    ]
    for fault in faults:
        world.sim.scenario = Scenario(faults=(FaultRule(fault, times=1),))
        async with world.post(token=world.tokens["f"], max_tokens=5000) as response:
            assert response.status >= 400
    await world.settled("f")
    account = world.proxy.ledger.account("f")
    assert account.available_pusd == account.limit_pusd
    assert {line["outcome"] for line in world.cost_lines()} == {"voided"}


async def test_errors_that_were_billed_are_posted_as_billed(world: World) -> None:
    """Among calls that were served, of two accounts on the key."""
    await world.open_foreign("f")
    await world.open_foreign("g")
    fault = make_fault("http_error", {"status": 502, "charge": True, "shows_id": False})
    world.sim.scenario = Scenario(faults=(FaultRule(fault, probability=0.5),))

    async def call(number: int) -> None:
        async with world.post(token=world.tokens["fg"[number % 2]], text=f"[[sim tokens={number}]]") as response:
            await response.read()

    await asyncio.gather(*(call(number) for number in range(1, 20)))
    await world.settled("f")
    await world.settled("g")
    assert world.posted_usd() == world.billed_usd()
    assert {"posted", "assumed"} <= {line["outcome"] for line in world.cost_lines()}


# The key's own limit


def limited(world: World, limit_usd: str, reset: str | None) -> SimKey:
    """The foreign key has a limit of its own."""
    key = world.sim.account.find(world.sim.inference_key)
    assert key is not None
    key.limit, key.limit_reset = Decimal(limit_usd), reset
    return key


@pytest.mark.parametrize("reset", [None, "daily", "weekly", "monthly"])
async def test_a_foreign_keys_spent_limit_freezes_nothing_and_says_when_it_is_over(
    world: World, reset: str | None
) -> None:
    """`403 Key limit exceeded`."""
    await world.open_foreign("f")
    told: list[str | None] = []
    world.proxy.foreign_keys.on_limit = told.append
    key = limited(world, "0", reset)
    for number in range(3):
        async with world.post(text=f"call {number}", token=world.tokens["f"]) as response:
            body = await response.json()
            assert (response.status, body["error"]["message"]) == (402, Code.KEY_LIMIT.sentence)
            assert response.headers.get("X-Budget-Resets-At") == next_reset(reset, time.time())
            assert response.headers["x-should-retry"] == "false"
    account = world.proxy.ledger.account("f")
    assert (account.frozen, account.pending_pusd, account.posted_pusd) == (None, 0, 0)
    assert told == [next_reset(reset, time.time())]
    key.limit = None
    async with world.post(token=world.tokens["f"]) as response:
        assert response.status == 200


async def test_a_smaller_call_is_sent_where_a_foreign_keys_limit_was_too_small_for_the_one_before(world: World) -> None:
    """`402` with the key's limit as its source."""
    await world.open_foreign("f")
    limited(world, "0.5", "daily")
    refusal = {"status": 402, "message": "Prompt tokens limit exceeded: 9 > 8", "limit_source": "openrouter_key_limit"}
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("http_error", refusal), times=1),))
    async with world.post(token=world.tokens["f"], max_tokens=5000) as response:
        assert (response.status, (await response.json())["error"]["message"]) == (402, Code.KEY_LIMIT.sentence)
        assert response.headers["X-Budget-Resets-At"] == next_reset("daily", time.time())
    async with world.post(token=world.tokens["f"], max_tokens=16) as response:
        assert response.status == 200
    assert world.proxy.ledger.account("f").frozen is None


async def test_a_key_that_cannot_be_read_has_no_known_reset(world: World) -> None:
    await world.open_foreign("f")
    limited(world, "0", "daily")
    world.sim.scenario = unread()
    async with world.post(token=world.tokens["f"]) as response:
        assert (await response.json())["error"]["message"] == Code.KEY_LIMIT.sentence
        assert "X-Budget-Resets-At" not in response.headers


@each(
    "window, now, reset",
    [
        ("daily", "2026-12-31T23:59:59+00:00", "2027-01-01T00:00:00Z"),
        ("daily", "2026-12-31T00:00:00+00:00", "2027-01-01T00:00:00Z"),
        ("weekly", "2026-10-04T23:59:59+00:00", "2026-10-05T00:00:00Z"),  # a Sunday
        ("weekly", "2026-10-05T00:00:00+00:00", "2026-10-12T00:00:00Z"),  # a Monday
        ("monthly", "2026-01-31T12:00:00+00:00", "2026-02-01T00:00:00Z"),
        ("monthly", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00Z"),
        (None, "2026-12-31T23:59:59+00:00", None),
        ("hourly", "2026-12-31T23:59:59+00:00", None),
    ],
)
def test_a_limit_begins_anew_at_midnight_utc(window: str | None, now: str, reset: str | None) -> None:
    assert next_reset(window, datetime.fromisoformat(now).timestamp()) == reset


# Whatever happens


class Field:
    """A random course of calls, ends, restarts, and other traffic if there is any."""

    def __init__(self, desk: ForeignKeyWorld, seed: int, *, shared: bool) -> None:
        self._desk, self._random, self._shared = desk, Random(seed), shared
        self._flying: list[Reservation] = []
        self._due: list[tuple[float, int]] = []
        self.unknown = 0

    async def play(self, steps: int) -> None:
        for _ in range(steps):
            await self._random.choice([self._leave, self._leave, self._end, self._end, self._wait, self._upset])()
            self._charge()
            self.check()
        await self._leave_nothing()

    def check(self) -> None:
        """At every moment what is posted or held covers what was billed for our calls."""
        self._desk.sim.bill()  # takes up what has become due
        held_pusd = sum(each.reserved_pusd for each in self._desk.pending)
        assert self._desk.posted_pusd + held_pusd >= self._desk.billed_pusd

    async def _leave(self) -> None:
        name = self._random.choice(self._desk.names)
        if self._desk.ledger.account_state(name).key is not None:
            self._flying.append(await self._desk.call(name))

    async def _wait(self) -> None:
        await self._desk.pass_s(self._random.choice([1, 10, 40]))

    async def _end(self) -> None:
        if not self._flying:
            return
        call = self._flying.pop(self._random.randrange(len(self._flying)))
        cost_pusd = self._random.choice([0, 0, 7, MILLI, RESERVED_PUSD])
        lag_s = self._random.choice([0.0, 5.0, KEY_USAGE_LAG_S])
        match self._random.choice(["told", "told", "named", "nameless", "unseen"]):
            case "told":
                self._desk.post(call, cost_pusd, lag_s=lag_s)
            case "named":
                visible_s = self._desk.clock.epoch_s() + self._random.choice([0, 30, 60])
                if self._shared:
                    visible_s += self._random.choice([0, 200, 10_000])
                self._desk.lose(
                    call,
                    ended=self._random.random() < 0.5,
                    generation_id=self._desk.bill(cost_pusd, lag_s=lag_s, visible_s=visible_s),
                )
            case "nameless":
                self.unknown += 1
                if cost_pusd:
                    self._desk.bill(cost_pusd, lag_s=lag_s)
                self._desk.lose(call)
            case "unseen":
                self.unknown += 1
                self._desk.lose(call, ended=False)
                left_s = call.created_at_s + CALL_S_MAX - self._desk.clock.epoch_s()
                self._due.append((self._desk.clock.epoch_s() + self._random.random() * left_s, cost_pusd))

    def _charge(self) -> None:
        now_s = self._desk.clock.epoch_s()
        for due in [charge for charge in self._due if charge[0] <= now_s]:
            self._due.remove(due)
            self._desk.bill(due[1], lag_s=self._random.choice([0.0, 50.0]))

    async def _upset(self) -> None:
        match self._random.choice(["restart", "close", "open", "other", "deaf"]):
            case "restart":
                self._desk.restart()
                for _call in self._flying:
                    self.unknown += 1
                    self._due.append((self._desk.clock.epoch_s() + 1, self._random.choice([0, MILLI])))
                self._flying.clear()
            case "close":
                self._desk.ledger.account_state("a").key = None
            case "open":
                self._desk.open("a")
            case "other" if self._shared:
                self._desk.bill(self._random.choice([1, MILLI, 5 * CENT]), ours=False)
            case "deaf" if self._shared:
                self._desk.sim.scenario = unread(times=3)

    async def _leave_nothing(self) -> None:
        for call in self._flying:
            self.unknown += 1
            self._desk.lose(call)
        self._desk.open("a")
        for _ in range(140):
            await self._desk.pass_s(15, step_s=15)
            self._charge()
            self.check()


@pytest.mark.parametrize("seed", range(12))
async def test_without_other_traffic_the_ledger_comes_to_equal_the_bill(desk: ForeignKeyWorld, seed: int) -> None:
    field = Field(desk, seed, shared=False)
    await field.play(60)
    assert not desk.pending
    assert desk.billed_pusd <= desk.posted_pusd <= desk.billed_pusd + desk.assumed_pusd
    assert desk.posted_pusd - desk.billed_pusd <= 1_000_000 * field.unknown


@pytest.mark.parametrize("seed", range(12))
async def test_with_other_traffic_no_less_is_posted_than_our_calls_were_billed(
    desk: ForeignKeyWorld, seed: int
) -> None:
    field = Field(desk, 1000 + seed, shared=True)
    await field.play(60)
    assert not desk.pending
    assert desk.billed_pusd <= desk.posted_pusd


# After a restart of the machine, which may have lost the last commits (M21, the ledger file)


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[ForeignKeyWorld]:
    """One account on a foreign key, whose first call cost a cent; the key's usage with it was kept."""
    async with ForeignKeyWorld(tmp_path, "a") as made:
        made.post(await made.call(), CENT)
        await made.pass_s(2 * KEY_USAGE_LAG_S + 5)
        yield made


async def recovered(world: ForeignKeyWorld) -> dict[str, int]:
    """Restart the machine; what each account is charged when it opens again."""
    world.restart("two")
    assert all(account.frozen == USAGE_UNREAD for account in world.ledger.accounts().values())
    await world.pass_s(KEY_USAGE_LAG_S - 5)
    assert all(account.usage_unread for account in world.ledger.accounts().values())
    await world.until(lambda: not any(a.usage_unread for a in world.ledger.accounts().values()), within_s=400)
    return {account.id: account.recovered_pusd for account in world.ledger.accounts().values()}


async def test_a_lost_call_is_charged_and_what_was_posted_is_not_charged_twice(alone: ForeignKeyWorld) -> None:
    alone.post(await alone.call(), 3 * MILLI)
    alone.bill(2 * MILLI)
    said: list[tuple[str, int]] = []
    alone.restart("one")
    assert [kind for kind, _cost in alone.ends] == ["posted", "posted"]
    alone.restart("two")
    alone.foreign.on_recovered = lambda account, cost_pusd: said.append((account, cost_pusd))
    await alone.until(lambda: not alone.ledger.account("a").usage_unread, within_s=70)
    assert alone.ends[-1] == ("recovered", 2 * MILLI)
    assert said == [("a", 2 * MILLI)]
    assert alone.posted_pusd == alone.billed_pusd


async def test_what_others_spent_before_the_last_figure_is_not_charged_and_what_they_spent_later_is(
    alone: ForeignKeyWorld,
) -> None:
    alone.bill(5 * CENT, ours=False)
    alone.post(await alone.call(), MILLI)
    await alone.pass_s(2 * FIGURE_S)
    alone.bill(2 * CENT, ours=False)
    assert await recovered(alone) == {"a": 2 * CENT}


async def test_no_more_is_charged_than_the_account_has_left(alone: ForeignKeyWorld) -> None:
    alone.bill(5 * USD)
    assert await recovered(alone) == {"a": USD - CENT}
    assert alone.ledger.account("a").available_pusd == 0


async def test_a_key_that_shows_nothing_more_costs_nothing_and_says_nothing(alone: ForeignKeyWorld) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await recovered(alone) == {"a": 0}
    assert [line["event"] for line in logs if line["event"] == "key.recovered"] == []


async def test_each_account_on_the_key_is_charged_for_the_lost_calls_and_for_no_posted_one(
    desk: ForeignKeyWorld,
) -> None:
    """Whose the lost calls were is not known, and no account may be over its limit."""
    for name in "ab":
        desk.post(await desk.call(name), CENT)
    await desk.pass_s(2 * KEY_USAGE_LAG_S)
    desk.post(await desk.call("a"), 3 * MILLI)
    desk.post(await desk.call("b"), 5 * MILLI)
    desk.bill(2 * MILLI)
    assert await recovered(desk) == {"a": 2 * MILLI, "b": 2 * MILLI}
    assert await recovered_again(desk) == {"a": 2 * MILLI, "b": 2 * MILLI}


async def recovered_again(world: ForeignKeyWorld) -> dict[str, int]:
    """A second restart, after calls that were kept: nothing more is charged."""
    for name in "ab":
        world.post(await world.call(name), MILLI)
    await world.pass_s(2 * KEY_USAGE_LAG_S)
    world.restart("three")
    await world.until(lambda: not any(a.usage_unread for a in world.ledger.accounts().values()), within_s=70)
    return {account.id: account.recovered_pusd for account in world.ledger.accounts().values()}


async def test_where_the_usage_cannot_be_read_all_that_is_left_is_charged_in_the_end(alone: ForeignKeyWorld) -> None:
    alone.sim.scenario = unread()
    assert await recovered(alone) == {"a": USD - CENT}


async def test_a_read_that_fails_once_charges_nothing(alone: ForeignKeyWorld) -> None:
    alone.bill(MILLI)
    alone.sim.scenario = unread(times=3)
    assert await recovered(alone) == {"a": MILLI}


async def test_unknown_calls_are_settled_first_and_their_cost_is_not_charged_again(alone: ForeignKeyWorld) -> None:
    alone.lose(await alone.call())
    alone.bill(MILLI)
    alone.restart("two")
    await alone.until(lambda: not alone.ledger.account("a").usage_unread, within_s=3000)
    assert alone.ends[1:] == [("assumed", MILLI)]


async def test_a_restart_of_the_proxy_alone_closes_and_charges_nothing(alone: ForeignKeyWorld) -> None:
    alone.bill(MILLI)
    alone.restart("one")
    assert alone.ledger.account("a").frozen is None
    await alone.pass_s(2 * KEY_USAGE_LAG_S)
    assert alone.ends == [("posted", CENT)]


async def test_the_usage_is_kept_each_minute_while_calls_run_and_not_after_them(desk: ForeignKeyWorld) -> None:
    call = await desk.call("a")
    await desk.call("b")
    first_s = desk.clock.epoch_s()
    await desk.pass_s(5 * FIGURE_S)
    figures = desk.store.state.key_figures
    assert {name: figure.at_s - first_s for name, figure in figures.items()} == {"a": 5 * FIGURE_S, "b": 5 * FIGURE_S}
    desk.post(call, CENT)
    desk.ledger.commit(Post(desk.pending[0].id, MILLI))
    await desk.pass_s(20 * FIGURE_S)
    assert 0 < figures["a"].at_s - first_s - 5 * FIGURE_S <= 3 * FIGURE_S
    assert [figures[name].posted_pusd for name in "ab"] == [CENT, MILLI]
    desk.restart()
    assert desk.store.state.key_figures == figures


async def test_a_figure_belongs_to_the_key_and_to_the_upstream_that_counted_it(desk: ForeignKeyWorld) -> None:
    """An account that had another key meanwhile may have posted there what the first key does not show."""
    await desk.call("a")
    await desk.call("b")
    desk.open("a", OTHER_KEY)
    assert desk.store.state.key_figures.keys() == {"b"}
    desk.open("a")
    desk.restart()
    assert desk.store.state.key_figures.keys() == {"b"}
    before = desk.ledger.upstream
    desk.ledger.upstream = "https://elsewhere.example/api/v1"
    desk.sim.scenario = unread()
    await desk.foreign.ready("b")
    assert desk.store.state.key_figures["b"].usage_pusd is None
    desk.ledger.upstream = before


async def test_an_account_whose_key_was_never_read_is_charged_all_that_it_has_left(tmp_path: Path) -> None:
    async with ForeignKeyWorld(tmp_path, "a") as world:
        world.sim.scenario = unread()
        world.ledger.commit(Post((await world.call()).id, CENT))
        world.sim.scenario = Scenario()
        assert await recovered(world) == {"a": USD - CENT}


async def test_what_was_recovered_is_not_charged_again_to_a_later_unknown_call(alone: ForeignKeyWorld) -> None:
    alone.bill(2 * MILLI)
    assert await recovered(alone) == {"a": 2 * MILLI}
    await alone.pass_s(KEY_USAGE_LAG_S + 5)
    alone.lose(await alone.call())
    await alone.until(lambda: not alone.pending, within_s=70)
    assert alone.ends[-1] == ("voided", 0)
