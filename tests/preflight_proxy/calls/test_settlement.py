"""A reservation ends once, and its line says how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from preflight_proxy.calls.parsing import RequestReader
from preflight_proxy.calls.quoting import Quoter
from preflight_proxy.calls.settlement import Settlement
from preflight_proxy.core.caching.trace import CacheNote, CacheTrace
from preflight_proxy.core.ledger.commands import OpenAccount, Reserve
from preflight_proxy.core.ledger.rows import Reservation
from preflight_proxy.core.refusals.refusals import Refusal
from preflight_proxy.core.shapes.shape import CallUsage, Reading
from preflight_proxy.ledger.events import Events
from preflight_proxy.ledger.files import Files
from preflight_proxy.ledger.service import Ledger
from preflight_proxy.ledger.store import Store
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.prices import Prices
from tests.support.fake_clock import FakeClock
from tests.support.proxy_world import MODEL, World
from tests.support.reserved_calls import reserved_call

RULES = "Keep to the rules of the house, every single one of them. " * 200


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    clock = FakeClock()
    store = Store(tmp_path / "ledger.sqlite3", clock=clock)
    made = Ledger(store, Files(store.cost_log), Events(), clock)
    made.commit(OpenAccount(account="a", run="r", limit_pusd=10**12, token_hash="hash"))
    yield made
    made.close()
    store.close()


@pytest.fixture
def settlement(ledger: Ledger) -> Settlement:
    reserved = ledger.commit(Reserve("r1", "a", 10**9, "chat", "m/x", ("tag-x",), 100))
    assert not isinstance(reserved, Refusal)
    assert reserved.reservation is not None
    return settlement_of(ledger, reserved.reservation)


def settlement_of(ledger: Ledger, reservation: Reservation) -> Settlement:
    quoter = Quoter(ledger, Prices(Upstream("http://127.0.0.1:1"), ledger.clock), RequestReader("drop"))
    call = replace(reserved_call({"tag-x": "Provider X"}, reservation=reservation), waited_ms=70)
    return Settlement(ledger, quoter, CacheTrace(), call)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "costs.jsonl").read_text().splitlines()]


def test_a_posted_call_names_who_served_it_and_how_fast(ledger: Ledger, settlement: Settlement, tmp_path: Path) -> None:
    clock = ledger.clock
    assert isinstance(clock, FakeClock)
    clock.advance(0.25)
    settlement.answered(200, "gen-1")
    clock.advance(1)
    reading = Reading(provider="Provider X", usage=CallUsage(cost_pusd=5, prompt_tokens=7), tool_names=("grep",))
    settlement.post(reading, 5)
    ledger.close()
    (line,) = lines(tmp_path)
    assert (line["tag"], line["generation_id"], line["status"]) == ("tag-x", "gen-1", 200)
    assert (line["ttft_ms"], line["duration_ms"], line["prompt_tokens"]) == (250, 1250, 7)
    assert ledger.account("a").actions[0].label == "grep"
    assert line["prices"] == {"prompt": "0.000000000001", "completion": "0.000000000001"}
    assert line["waited_ms"] == 70


def test_the_prices_of_an_endpoint_that_an_answer_does_not_name_are_not_known(
    ledger: Ledger, settlement: Settlement, tmp_path: Path
) -> None:
    settlement.post(Reading(provider="Provider Y", usage=CallUsage(cost_pusd=5, prompt_tokens=7)), 5)
    ledger.close()
    (line,) = lines(tmp_path)
    assert (line["tag"], line["prices"]) == (None, None)


def test_after_its_end_nothing_is_unknown(ledger: Ledger, settlement: Settlement) -> None:
    settlement.void("not sent")
    settlement.unknown(Reading(), "late", ended=True)
    assert ledger.store.pending("a") == []


def test_an_id_that_comes_after_the_end_is_not_stored(ledger: Ledger, settlement: Settlement) -> None:
    settlement.post(Reading(), 5)
    settlement.named("gen-1")
    assert ledger.account("a").posted_pusd == 5
    assert ledger.store.generation("a", "gen-1") is None


def test_an_unknown_call_stays_pending_with_its_generation(ledger: Ledger, settlement: Settlement) -> None:
    settlement.answered(500, "gen-9")
    settlement.unknown(Reading(), "status 500", ended=True)
    (pending,) = ledger.store.pending("a")
    assert pending.generation_id == "gen-9"
    assert pending.unknown_since_s is not None
    assert ledger.account("a").pending_pusd == 10**9


@pytest.mark.parametrize("cost_pusd", [7, None])
def test_an_id_that_another_call_has_is_not_stored_and_what_comes_under_it_posts_nothing(
    ledger: Ledger, settlement: Settlement, cost_pusd: int | None
) -> None:
    """Nor does its end tell when this call ends (M13): the longest call may still run."""
    settlement.answered(200, "gen-1")
    settlement.post(Reading(), 5)
    again = another(ledger)
    again.answered(200, "gen-1")
    again.named("gen-2")
    if cost_pusd is None:
        again.unknown(Reading(), "the answer told no cost", ended=True)
    else:
        again.post(Reading(), cost_pusd)
    (pending,) = ledger.store.pending("a")
    assert (pending.generation_id, ledger.account("a").posted_pusd) == (None, 5)
    assert pending.unknown_since_s == pending.created_at_s + ledger.call_s_max


def test_the_same_id_twice_in_one_answer_is_one_call(ledger: Ledger, settlement: Settlement) -> None:
    settlement.answered(200, "gen-1")
    settlement.named("gen-1")
    settlement.named("gen-2")
    settlement.post(Reading(), 5)
    assert ledger.account("a").posted_pusd == 5
    assert ledger.store.generation("a", "gen-2") is None


def another(ledger: Ledger) -> Settlement:
    reserved = ledger.commit(Reserve("r2", "a", 10**9, "chat", "m/x", ("tag-x",), 100))
    assert not isinstance(reserved, Refusal)
    assert reserved.reservation is not None
    return settlement_of(ledger, reserved.reservation)


def test_a_call_without_usage_is_in_no_conversation(ledger: Ledger, settlement: Settlement, tmp_path: Path) -> None:
    settlement.post(Reading(provider="Provider X"), 0, cache_hit=True)
    ledger.close()
    (line,) = lines(tmp_path)
    assert (line["conversation"], line["cache_miss"], line["cache_saved_usd"]) == (None, None, None)


class BrokenTrace(CacheTrace):
    def note(self, *_args: object, **_more: object) -> CacheNote:
        raise RuntimeError


def test_a_trace_that_fails_costs_no_settlement(ledger: Ledger, settlement: Settlement, tmp_path: Path) -> None:
    settlement._cache_trace = BrokenTrace()
    settlement.post(Reading(provider="Provider X", usage=CallUsage(cost_pusd=5, prompt_tokens=7)), 5)
    ledger.close()
    (line,) = lines(tmp_path)
    assert (line["cost_usd"], line["prompt_tokens"], line["conversation"]) == ("0.000000000005", 7, None)


def talk(*texts: str, system: str = RULES) -> list[dict[str, Any]]:
    """A conversation: system text, then user and assistant in turn."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns]


async def say(world: World, messages: list[dict[str, Any]], model: str = MODEL) -> dict[str, Any]:
    async with world.post(messages=messages, model=model, max_tokens=16) as response:
        assert response.status == 200
        await response.read()
    await world.settled()
    return world.cost_lines()[-1]


@pytest.mark.wire
async def test_a_changed_system_text_is_named_in_the_line_of_the_call_that_paid_for_it(world: World) -> None:
    await world.open()
    first = await say(world, talk("Go."))
    second = await say(world, talk("Go.", "Going.", "On."))
    third = await say(world, talk("Go.", "Going.", "On.", system=f"It is 12:01. {RULES}"))
    assert [line["cache_miss"] for line in (first, second, third)] == ["first_call", None, "system"]
    assert len({line["conversation"] for line in (first, second, third)}) == 1
    assert second["cached_tokens"] >= 1024
    assert Decimal(second["cache_saved_usd"]) == Decimal(second["cached_tokens"]) * Decimal("0.000000075")
    assert (first["cache_saved_usd"], third["cache_saved_usd"]) == ("0", "0")


@pytest.mark.wire
async def test_nothing_of_a_prompt_stands_in_its_line(world: World) -> None:
    await world.open()
    line = await say(world, talk("Zanzibar."))
    assert "Zanzibar" not in str(line)
    assert "house" not in str(line)
