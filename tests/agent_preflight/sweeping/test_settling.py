"""A sweep settles the call of a dead proxy, or says when it can."""

import asyncio
import json
import os
import signal
import time
from decimal import Decimal
from pathlib import Path

import pytest

from agent_preflight.runner import arun_multi
from agent_preflight.runs.control_file import read_control
from agent_preflight.sidecar.control_client import ControlClient
from agent_preflight.sweeping import SweepScope, sweep
from agent_preflight.sweeping.settling import LOOK_EVERY_S, settle_ledger
from agent_preflight.sweeping.summaries import SETTLED_LATE
from openrouter_sim.calls.scenario import Rule, Scenario
from preflight_proxy.core.evidence.aftermath import EvidenceTimes
from preflight_proxy.ledger.file import boot_id
from preflight_proxy.ledger.reader import read_snapshot
from preflight_proxy.ledger.store import Store
from tests.support.crashed_run import crash
from tests.support.fake_clock import FakeClock
from tests.support.ledger_on_disk import open_account, open_store, reserve
from tests.support.trial_field import MODEL, Field

CALLING = """
with open("attempts", "a") as file: file.write("x")
call()
if open("attempts").read() == "x":
    body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "write"}], "max_tokens": 100, "stream": True}
    request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"})
    stream = urllib.request.urlopen(request)
    say("ready")
    while True: say("tick"); time.sleep(0.05)
say("agent_end")
"""
"""In its first attempt it is ready after a short call, while one of eight seconds is on its way."""

SLOW = Scenario(tokens_per_s=12.0, replies=(Rule(contains="write", tokens=90), Rule(tokens=2)))
SOON = EvidenceTimes(call_s_max=10.0, lag_s=1.0)
"""Of an upstream that is done with every call in ten seconds."""


async def crash_both(trials: Field) -> Path:
    """Leave a run whose runner and proxy were killed with a call in flight."""
    trials.simulator.scenario = SLOW
    run_dir = crash(trials, {"a": CALLING})
    control = read_control(run_dir)
    assert control is not None
    client = ControlClient(control.socket)
    os.kill((await client.health()).pid, signal.SIGKILL)
    await client.close()
    assert read_snapshot(run_dir / "ledger.sqlite3").pending
    return run_dir


def scope(trials: Field, clocks: EvidenceTimes, settle_s: float = 0.0) -> SweepScope:
    return SweepScope(
        trials.runs_dir,
        trials.simulator.admin_key,
        trials.simulator.base_url,
        containers=False,
        settle_s=settle_s,
        clocks=clocks,
    )


async def billed(trials: Field, calls: int) -> None:
    """Return once upstream is done with so many calls: from then on a key's usage tells of them."""
    async with asyncio.timeout(60):
        while sum(len(key.generations) for key in trials.simulator.bill().keys.values()) < calls:
            await asyncio.sleep(0.05)


@pytest.mark.wire
async def test_the_key_is_kept_until_its_usage_tells_and_then_the_ledger_agrees_with_the_bill(trials: Field) -> None:
    run_dir = await crash_both(trials)
    early = await sweep(scope(trials, EvidenceTimes()))
    (left,) = early.left
    assert (left.kind, left.name.split(":")[2]) == ("sub-key", "a")
    assert "is known from" in left.note
    summary = json.loads((run_dir / "a" / "summary.json").read_text())
    assert Decimal(summary["preflight"]["pending_usd"]) > 0
    assert summary["preflight"]["cleanup"]["settle"] == summary["preflight"]["cleanup"]["sub_key"] == "unverified"

    await billed(trials, 2)
    late = await sweep(scope(trials, SOON, settle_s=60.0))
    assert late.verified, late
    assert [item.kind for item in late.removed] == ["sub-key"]
    extra = json.loads((run_dir / "a" / "summary.json").read_text())["preflight"]
    (account,) = read_snapshot(run_dir / "ledger.sqlite3").accounts
    assert account.pending_pusd == 0 < account.assumed_pusd < account.posted_pusd
    assert Decimal(extra["posted_usd"]) == Decimal(extra["key_usage_usd"])
    assert (extra["pending_usd"], extra["drift_usd"], extra["ended_by"]) == ("0", "0", "lost")
    assert set(extra["cleanup"].values()) == {"ok"}
    assert SETTLED_LATE in extra["warnings"]
    trials.check()  # ledger = bill, to the pico-dollar


@pytest.mark.wire
async def test_a_run_that_goes_on_has_spent_what_its_last_calls_cost(trials: Field) -> None:
    await crash_both(trials)
    await billed(trials, 2)
    await sweep(scope(trials, SOON, settle_s=60.0))
    (result,) = await arun_multi([(MODEL, "a")], **trials.options({"a": CALLING}, run_id="crashed", resume=True))
    extra = result.preflight
    assert (result.error, extra["drift_usd"], set(extra["cleanup"].values())) == (None, "0", {"ok"})
    assert Decimal(extra["posted_usd"]) > Decimal(extra["spent_before_usd"]) > Decimal(extra["assumed_usd"]) > 0


async def test_figures_are_asked_for_only_once_they_can_tell(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id())
    open_account(store, key_hash="k", key_is_own=True, key_usage_pusd=0)
    store.commit(reserve("r"))
    store.close()
    asked: list[float] = []

    def usages() -> dict[str, Decimal | None]:
        asked.append(time.monotonic())
        return {"k": None}

    (found,) = await settle_ledger(tmp_path, usages, EvidenceTimes(call_s_max=1e9), 0.0)
    assert (found.account, found.key_hash, asked) == ("a", "k", [])
    (found,) = await settle_ledger(
        tmp_path, usages, EvidenceTimes(), 0.0
    )  # the call of a clock that stands in the past
    assert len(asked) == 1  # told no figure: it stays open


async def test_the_reservation_is_charged_where_the_key_is_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id())
    open_account(store, key_hash="k", key_is_own=True, key_usage_pusd=0)
    store.commit(reserve("r", 70))
    store.close()
    assert await settle_ledger(tmp_path, dict, EvidenceTimes(), 0.0) == []
    (account,) = read_snapshot(tmp_path / "ledger.sqlite3").accounts
    assert (account.posted_pusd, account.assumed_pusd, account.pending_pusd) == (70, 70, 0)


async def test_an_account_is_settled_only_when_its_own_evidence_is_due(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Store(tmp_path / "ledger.sqlite3", clock=clock, boot_id=boot_id())
    for name in ("old", "young"):
        open_account(store, name, key_hash=name, key_is_own=True, key_usage_pusd=0)
        store.commit(reserve(name, 70, name))
        clock.advance(time.time() - clock.epoch_s())
    store.close()

    def usages() -> dict[str, Decimal | None]:
        return {"old": Decimal(0), "young": Decimal(0)}

    (retained,) = await settle_ledger(tmp_path, usages, EvidenceTimes(), 0.0)
    assert retained.account == "young"
    assert [row.account for row in read_snapshot(tmp_path / "ledger.sqlite3").pending] == ["young"]


async def test_a_ledger_that_a_proxy_is_about_to_close_is_waited_for(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id())
    asyncio.get_running_loop().call_later(3 * LOOK_EVERY_S, store.close)
    assert await settle_ledger(tmp_path, dict, EvidenceTimes(), 0.0) == []


async def test_a_run_without_a_ledger_has_nothing_open(tmp_path: Path) -> None:
    assert await settle_ledger(tmp_path, dict, EvidenceTimes(), 0.0) == []
