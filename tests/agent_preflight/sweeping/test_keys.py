"""A sweep settles the calls of a dead proxy, or says when it can. It deletes sub-keys by name and records what they used."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.openrouter.subkeys import create_sub_key
from agent_preflight.runner import arun_multi
from agent_preflight.runs.folder import read_control
from agent_preflight.sidecar.control_client import ControlClient
from agent_preflight.sweeping import SweepScope, sweep
from agent_preflight.sweeping.keys import (
    NOT_DELETED,
    SWEEP_LOCK_LOOK_S,
    KeyDeletions,
    SubKeys,
    record_deletions,
    settle_ledger,
)
from agent_preflight.sweeping.lost_trials import SETTLED_LATE
from openrouter_sim import Simulator
from openrouter_sim.calls.scenario import Rule, Scenario
from preflight_proxy.core.errors import UpstreamError
from preflight_proxy.core.evidence.aftermath import EvidenceTimes
from preflight_proxy.ledger.file import boot_id
from preflight_proxy.ledger.reader import read_snapshot
from preflight_proxy.ledger.store import Store
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
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
    async with ControlClient(control.socket) as client:
        os.kill((await client.health()).pid, signal.SIGKILL)
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
async def test_a_key_stays_until_its_usage_includes_every_call_then_the_ledger_equals_the_bill(trials: Field) -> None:
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
async def test_a_resumed_run_counts_what_its_last_calls_cost(trials: Field) -> None:
    await crash_both(trials)
    await billed(trials, 2)
    await sweep(scope(trials, SOON, settle_s=60.0))
    (result,) = await arun_multi([(MODEL, "a")], **trials.options({"a": CALLING}, run_id="crashed", resume=True))
    extra = result.preflight
    assert (result.error, extra["drift_usd"], set(extra["cleanup"].values())) == (None, "0", {"ok"})
    assert Decimal(extra["posted_usd"]) > Decimal(extra["spent_before_usd"]) > Decimal(extra["assumed_usd"]) > 0


async def test_usage_is_read_only_once_it_is_evidence(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id())
    open_account(store, key_hash="k", key_is_own=True, key_usage_pusd=0)
    store.commit(reserve("r"))
    store.close()
    asked: list[float] = []

    def usages() -> dict[str, Decimal | None]:
        asked.append(time.monotonic())
        return {"k": None}

    assert list(await settle_ledger(tmp_path, usages, EvidenceTimes(call_s_max=1e9), 0.0)) == ["k"]
    assert asked == []
    # By the store's clock, which is behind, the call ended long ago. Without a figure it stays open.
    assert list(await settle_ledger(tmp_path, usages, EvidenceTimes(), 0.0)) == ["k"]
    assert len(asked) == 1


async def test_a_reservation_is_charged_whole_if_its_key_is_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id())
    open_account(store, key_hash="k", key_is_own=True, key_usage_pusd=0)
    store.commit(reserve("r", 70))
    store.close()
    assert await settle_ledger(tmp_path, dict, EvidenceTimes(), 0.0) == {}
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

    assert list(await settle_ledger(tmp_path, usages, EvidenceTimes(), 0.0)) == ["young"]
    assert [row.account for row in read_snapshot(tmp_path / "ledger.sqlite3").pending] == ["young"]


async def test_a_sweep_waits_for_a_proxy_that_is_closing_the_ledger(tmp_path: Path) -> None:
    store = open_store(tmp_path, boot_id())
    asyncio.get_running_loop().call_later(3 * SWEEP_LOCK_LOOK_S, store.close)
    assert await settle_ledger(tmp_path, dict, EvidenceTimes(), 0.0) == {}


async def test_a_run_without_a_ledger_has_nothing_to_settle(tmp_path: Path) -> None:
    assert await settle_ledger(tmp_path, dict, EvidenceTimes(), 0.0) == {}


EXPIRES = "2999-01-31T23:59:59Z"


def sub_keys(simulator: Simulator, *, dry_run: bool = False) -> SubKeys:
    return SubKeys(simulator.admin_key, simulator.base_url, dry_run=dry_run)


def names(simulator: Simulator) -> set[str]:
    return {key.name for key in simulator.account.keys.values() if not key.deleted}


@pytest.mark.wire
def test_all_keys_of_a_name_are_deleted_and_no_others(simulator: Simulator) -> None:
    for name in ("a", "a", "b"):
        create_sub_key(simulator.admin_key, name, Decimal(1), EXPIRES, simulator.base_url)
    done = sub_keys(simulator).delete(["a", "never made"], {})
    assert done == KeyDeletions({"a": Decimal(0), "never made": None})
    assert done.deleted == ["a"]
    assert names(simulator) & {"a", "b"} == {"b"}


@pytest.mark.wire
def test_a_dry_run_deletes_no_key(simulator: Simulator) -> None:
    create_sub_key(simulator.admin_key, "a", Decimal(1), EXPIRES, simulator.base_url)
    assert sub_keys(simulator, dry_run=True).delete(["a"], {}).deleted == ["a"]
    assert "a" in names(simulator)


@pytest.mark.wire
def test_a_key_whose_usage_is_needed_stays_and_the_other_is_deleted(simulator: Simulator) -> None:
    key = create_sub_key(simulator.admin_key, "a", Decimal(1), EXPIRES, simulator.base_url)
    create_sub_key(simulator.admin_key, "b", Decimal(1), EXPIRES, simulator.base_url)
    found = sub_keys(simulator)
    assert found.usages()[key.hash] == 0
    assert found.delete(["a", "b"], {key.hash: "why"}) == KeyDeletions({"b": Decimal(0)}, {"a": "why"})
    assert names(simulator) & {"a", "b"} == {"a"}


@pytest.mark.wire
def test_a_key_whose_deletion_fails_is_left(serve: Callable[[Script], ScriptedServer]) -> None:
    key = {"hash": "h", "name": "a", "usage": 1}

    def answer(seen: Seen) -> tuple[int, Any]:
        if seen.method == "DELETE":
            return 500, {"error": {"code": 500, "message": "no"}}
        if "offset=" in seen.path:
            return 200, {"data": [key] if "offset=0" in seen.path else []}
        return 200, {"data": key}

    deletions = SubKeys("adm", serve(answer).base_url, dry_run=False).delete(["a"], {})
    assert deletions == KeyDeletions({}, {"a": NOT_DELETED})


@pytest.mark.wire
def test_an_unreadable_list_of_keys_is_an_error_and_not_empty(simulator: Simulator) -> None:
    with pytest.raises(UpstreamError):
        SubKeys("sk-or-wrong", simulator.base_url, dry_run=False)


def test_the_usage_of_deleted_keys_is_added_to_what_earlier_sweeps_recorded(tmp_path: Path) -> None:
    record_deletions(tmp_path, KeyDeletions({}, {"left": "why"}))
    assert list(tmp_path.iterdir()) == []
    record_deletions(tmp_path, KeyDeletions({"a": Decimal("0.5")}))
    record_deletions(tmp_path, KeyDeletions({"b": None}))
    kept = json.loads((tmp_path / "swept.json").read_text())["keys"]
    assert {name: row["usage_usd"] for name, row in kept.items()} == {"a": "0.5", "b": None}
