"""When a trial may start."""

import asyncio
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.runner.api import request_of, run_multi
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import run_blocking
from agent_preflight.runner.progress import RunProgress
from agent_preflight.runner.trial_start import ASK_AGAIN_S, AccountCredit, TrialSlots
from agent_preflight.runs.request import Finished
from openrouter_sim import Simulator
from preflight_proxy.base.tasks import Tasks
from tests.support.trial_field import MODEL, Field


class Trial:
    """One that holds its place until it is let go."""

    def __init__(self, turns: TrialSlots, alias: str) -> None:
        self.has_begun = asyncio.Event()
        self.goes = asyncio.Event()
        self._turns, self._alias = turns, alias
        self.task = asyncio.ensure_future(self._live())

    async def _live(self) -> None:
        async with self._turns.slot(self._alias):
            self.has_begun.set()
            await self.goes.wait()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_only_so_many_trials_run_at_once() -> None:
    turns = TrialSlots(2)
    trials = [Trial(turns, alias) for alias in "abc"]
    await settle()
    assert [trial.has_begun.is_set() for trial in trials] == [True, True, False]
    trials[1].goes.set()
    await settle()
    assert trials[2].has_begun.is_set()
    assert turns.stopped("c") is None


async def test_a_stopped_trial_does_not_wait_and_takes_no_slot() -> None:
    turns = TrialSlots(0)
    first, second, third, fourth = (Trial(turns, alias) for alias in "abcd")
    await settle()
    turns.stop("b", "why")
    turns.stop("b", "again")
    await settle()
    assert (second.has_begun.is_set(), turns.stopped("b")) == (True, "why")
    second.goes.set()
    await settle()
    assert second.task.done()
    assert not third.has_begun.is_set()
    first.goes.set()
    await settle()
    assert (third.has_begun.is_set(), fourth.has_begun.is_set()) == (True, False)


async def test_a_stop_before_the_wait_counts_and_a_cancelled_wait_keeps_no_slot() -> None:
    turns = TrialSlots(1)
    turns.stop("b", "why")
    first, second, third, fourth = (Trial(turns, alias) for alias in "abcd")
    await settle()
    assert second.has_begun.is_set()
    third.task.cancel()
    first.goes.set()
    await settle()
    assert fourth.has_begun.is_set()
    assert not second.task.done()


ONE_CALL = "status, _ = call(); say('agent_end', status=status)"


class Account:
    """An account whose balance a test decides, and a clock."""

    def __init__(self, *balances: float | None) -> None:
        self._balances = list(balances)
        self.reads = 0
        self.alerts = 0
        self.now_s = 0.0

    def read(self) -> float | None:
        self.reads += 1
        return self._balances.pop(0)

    def credit(self) -> AccountCredit:
        return AccountCredit(self.read, self._gone, Tasks(), lambda: self.now_s)

    def _gone(self) -> None:
        self.alerts += 1


@pytest.mark.parametrize(("balance", "is_gone"), [(0.0, True), (-0.1, True), (None, True), (0.01, False)])
async def test_a_refusal_counts_unless_the_account_has_credit(balance: float | None, is_gone: bool) -> None:
    account = Account(balance)
    credit = account.credit()
    credit.refused()
    assert (await credit.settled(), credit.gone) == (not is_gone, is_gone)
    assert (account.reads, account.alerts) == (1, int(is_gone))


async def test_the_balance_is_read_once_for_many_refusals() -> None:
    account = Account(0.0)
    credit = account.credit()
    for _ in range(3):
        credit.refused()
    await credit.settled()
    credit.refused()
    await credit.settled()
    assert (account.reads, account.alerts) == (1, 1)


async def test_a_balance_with_credit_is_not_read_again_for_a_while() -> None:
    account = Account(1.0, 0.0)
    credit = account.credit()
    credit.refused()
    await credit.settled()
    account.now_s = ASK_AGAIN_S - 1
    credit.refused()
    assert await credit.settled()
    assert account.reads == 1
    account.now_s = ASK_AGAIN_S
    credit.refused()
    assert not await credit.settled()


async def test_a_refusal_counts_if_the_balance_cannot_be_read() -> None:
    def broken() -> float:
        raise RuntimeError

    credit = AccountCredit(broken, lambda: None, Tasks())
    credit.refused()
    assert not await credit.settled()


async def test_the_balance_is_not_read_without_a_refusal() -> None:
    assert await Account().credit().settled()
    await asyncio.sleep(0)


def without_credit(simulator: Simulator) -> None:
    simulator.account.credits_usd = simulator.account.used_usd


def finished(trials: Field, agents: dict[str, str], progress: RunProgress | None = None, **options: Any) -> Finished:
    arguments = {"models": [(MODEL, alias) for alias in agents], **trials.options(agents, **options)}
    return run_blocking(lambda stop: run_field(request_of(arguments), stop, progress))


@pytest.mark.wire
def test_without_credit_no_trial_starts_and_a_resume_runs_them(trials: Field) -> None:
    without_credit(trials.simulator)
    agents = {"a": ONE_CALL, "b": ONE_CALL, "c": ONE_CALL}
    alerts: list[str] = []
    over = finished(trials, agents, RunProgress(on_alert=alerts.append), max_workers=1, run_id="live")
    assert [result.alias for result in over.results] == ["a"]
    assert over.held_back == ("b", "c")
    assert over.results[0].preflight["never_served"] == "account_credit"
    assert over.results[0].error is not None
    (message,) = [line for line in trials.said if "This run's budget" in line]
    assert "no credit left. This run's budget still has $0.1500." in message
    assert "run_multi(..., run_id='live', resume=True)" in message
    assert alerts == [message]
    trials.simulator.account.credits_usd += Decimal(10)
    results = run_multi(
        [(MODEL, alias) for alias in agents], **trials.options(agents, run_id="live", resume=True, max_workers=1)
    )
    assert [(result.alias, result.error, result.preflight["served"]) for result in results] == [
        ("a", None, 1),
        ("b", None, 1),
        ("c", None, 1),
    ]


@pytest.mark.wire
def test_trials_start_if_the_balance_contradicts_a_refusal(trials: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    import agent_preflight

    without_credit(trials.simulator)
    monkeypatch.setattr(agent_preflight, "get_account_balance", lambda key: (5.0, 10.0, 5.0), raising=False)
    over = finished(trials, {"a": ONE_CALL, "b": ONE_CALL}, max_workers=1)
    assert ([result.alias for result in over.results], over.held_back) == (["a", "b"], ())


@pytest.mark.wire
def test_a_running_trial_continues_when_the_credit_ends(trials: Field, tmp_path: Path) -> None:
    gone, added = tmp_path / "gone", tmp_path / "added"
    source = f"""
        while not os.path.exists({str(gone)!r}): time.sleep(0.01)
        first, _ = call(text="one")
        say("refused")
        while not os.path.exists({str(added)!r}): time.sleep(0.01)
        second, _ = call(text="two")
        say("agent_end", statuses=[first, second])
    """

    def on_event(event: dict[str, Any]) -> None:
        if event["type"] == "refused":
            until_s = time.monotonic() + 30
            while not any("This run's budget" in line for line in trials.said) and time.monotonic() < until_s:
                time.sleep(0.01)
            told_at_once.extend(line for line in trials.said if "This run's budget" in line)
            trials.simulator.account.credits_usd += Decimal(10)
            added.touch()
        if event["type"] == "agent_end":
            statuses.append(event["statuses"])

    statuses: list[list[int]] = []
    told_at_once: list[str] = []
    without_credit(trials.simulator)
    gone.touch()
    (result,) = trials.run({"a": source}, on_event=on_event)
    assert (result.error, statuses) == (None, [[402, 200]])
    assert "This run's budget still has $0.0500" in told_at_once[0]
