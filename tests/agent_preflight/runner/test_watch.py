"""The user's code in a trial."""

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent_preflight.eject import (
    CompositeEject,
    EjectDecision,
    EjectPolicy,
    IdleTimeoutEject,
    StallEject,
    default_eject_policies,
    reads_events,
)
from agent_preflight.models import BudgetStatus
from agent_preflight.runner import watch as watch_module
from agent_preflight.runner.progress import TrialProgress, now_s
from agent_preflight.runner.watch import Watch
from agent_preflight.runs.trial_state import Ender, EndReason
from preflight_proxy.base.control_messages import Balance
from tests.support.cases import each

Events = list[dict[str, Any]]


class Recording(EjectPolicy):
    """Says what it was asked, and ejects when told to."""

    def __init__(self, eject_at: Callable[[Events, dict[str, Any], BudgetStatus], bool] | None = None) -> None:
        self.judgements: list[tuple[int, dict[str, Any], BudgetStatus]] = []
        self._eject_at = eject_at or (lambda *_: False)

    def check(
        self, *, elapsed_s: float, budget_status: BudgetStatus, events: Events, context: dict[str, Any]
    ) -> EjectDecision:
        self.judgements.append((len(events), dict(context), budget_status))
        return EjectDecision(self._eject_at(events, context, budget_status), "told to")


class Raising(EjectPolicy):
    """A policy with a bug."""

    def check(self, **_: Any) -> EjectDecision:
        raise KeyError("bug")


def trial(balance: Balance | None = None) -> TrialProgress:
    """Return the figures of a trial with this balance."""
    return TrialProgress("a", "m/m", 10**12, balance=balance or Balance())


LAST = {"type": "last"}
"""An event after which the watch is closed. The policy does not judge it."""


async def judged(
    policy: EjectPolicy,
    events: Events,
    on_event: Callable[[dict[str, Any]], object] = lambda event: None,
    balance: Balance | None = None,
) -> tuple[EndReason | None, Watch]:
    """Pass on the events one after another and close. An event may have a `weight` in bytes."""

    def close_after_last(event: dict[str, Any]) -> None:
        if event is LAST:
            watch.close()
        else:
            on_event(event)

    watch = Watch(policy, close_after_last, lambda: trial(balance), lambda line: None)
    for event in (*events, LAST):
        watch.take([(event, event.get("weight", 100))])
    return await watch.run("watch"), watch


async def test_the_policy_judges_at_every_event() -> None:
    policy = Recording()
    await judged(policy, [{"type": "tool_execution_start"}, {"type": "x"}])
    assert [(count, context["tool_calls"]) for count, context, _ in policy.judgements] == [(1, 1), (2, 1)]


async def test_the_policy_judges_without_an_event() -> None:
    policy = Recording(lambda events, context, status: status.spent)
    balance = Balance(limit_pusd=10**12, posted_pusd=5 * 10**11, calls=3, calls_in_flight=1, spent=True)
    watch = Watch(policy, None, lambda: trial(balance), lambda line: None)
    watch.look()
    assert await watch.run("watch") == EndReason(Ender.EJECTED, "told to")
    count, context, status = policy.judgements[0]
    assert (count, context["calls"], context["calls_in_flight"]) == (0, 3, 1)
    assert (status.used, status.limit) == (0.5, 1.0)


async def test_the_context_has_the_accounts_dollars_and_keeps_the_policys_entries() -> None:
    def look(events: Events, context: dict[str, Any], status: BudgetStatus) -> bool:
        context["seen"] = context.get("seen", 0) + 1
        return bool(context["seen"] == 2)

    balance = Balance(limit_pusd=10**12, posted_pusd=5 * 10**11, pending_pusd=125 * 10**9, available_pusd=375 * 10**9)
    policy = Recording(look)
    await judged(policy, [{"type": "x"}] * 2, balance=balance)
    amounts = [
        {name: value for name, value in context.items() if name.endswith("_usd")} for _, context, _ in policy.judgements
    ]
    assert amounts == [{"spent_usd": 0.5, "reserved_usd": 0.125, "available_usd": 0.375, "limit_usd": 1.0}] * 2
    assert all(type(value) is float for value in amounts[0].values())
    assert policy.judgements[1][1]["seen"] == 1
    assert set(policy.judgements[1][1]) >= {"tool_calls", "calls", "calls_in_flight", "repeats"}


PAGE = (Path(__file__).parents[3] / "docs" / "python.md").read_text()


async def test_docs_name_everything_that_a_policy_gets() -> None:
    policy = Recording()
    await judged(policy, [{"type": "x"}])
    _, context, status = policy.judgements[0]
    shown = [name for name, value in vars(BudgetStatus).items() if isinstance(value, property)]
    assert [name for name in (*context, *vars(status), *shown) if f"`{name}`" not in PAGE] == []


async def test_the_policy_in_the_docs_works() -> None:
    code = next(each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "(EjectPolicy)" in each)
    module: dict[str, Any] = {}
    exec(code, module)
    half = Balance(limit_pusd=10**12, posted_pusd=6 * 10**11, available_pusd=4 * 10**11)
    low = Balance(limit_pusd=10**12, posted_pusd=4 * 10**11, pending_pusd=6 * 10**11)
    for events, balance, reason in (
        ([{"type": "x"}], half, "no tool was called"),
        ([{"type": "tool_execution_start"}], low, "$0.0000 left"),
    ):
        ending, watch = await judged(module["NothingWritten"](), events, balance=balance)
        assert ending is not None
        assert reason in ending.text
        assert watch.policy_errors == 0
    ending, _ = await judged(module["NothingWritten"](), [{"type": "tool_execution_start"}], balance=half)
    assert ending is None


async def test_on_event_gets_events_in_order_and_its_exception_ends_the_trial() -> None:
    numbers: list[int] = []

    def on_event(event: dict[str, Any]) -> None:
        numbers.append(event["n"])
        if event["n"] == 2:
            raise ValueError("enough")

    ending, _ = await judged(Recording(), [{"type": "x", "n": n} for n in range(5)], on_event)
    assert ending == EndReason(Ender.CALLBACK, "enough")
    assert numbers == [0, 1, 2]


async def test_a_policy_that_raises_ejects_nothing_and_is_counted() -> None:
    ending, watch = await judged(Raising(), [{"type": "x"}, {"type": "y"}])
    assert ending is None
    assert watch.policy_errors == 2


async def test_an_ejection_stops_at_the_event_that_caused_it() -> None:
    policy = Recording(lambda events, context, status: len(events) == 2)
    ending, _ = await judged(policy, [{"type": "x"}] * 4)
    assert ending == EndReason(Ender.EJECTED, "told to")
    assert len(policy.judgements) == 2


async def test_events_that_wait_at_the_end_are_still_passed_on_but_not_judged() -> None:
    events: list[object] = []
    policy = Recording()
    watch = Watch(policy, events.append, trial, lambda line: None)
    watch.take([({"type": "x"}, 100)])
    watch.close()
    watch.take([({"type": "y"}, 100)])
    assert await watch.run("watch") is None
    assert (events, policy.judgements, watch.dropped) == ([{"type": "x"}], [], 1)


async def test_user_code_runs_in_one_thread_that_is_not_the_loops() -> None:
    names: list[str] = []
    await judged(Recording(), [{"type": "x"}] * 3, lambda event: names.append(threading.current_thread().name))
    assert names == ["watch"] * 3


async def test_large_events_are_dropped_before_they_fill_memory_and_that_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_module, "AGENT_EVENTS_BYTES_MAX", 1000)
    policy = Recording()
    events = [{"type": "x", "weight": weight_bytes} for weight_bytes in (400, 400, 400, 2000, 400)]
    _, watch = await judged(policy, events)
    assert [count for count, _, _ in policy.judgements] == [1, 2, 2, 0, 1]
    assert watch.forgotten == 4


def test_large_events_that_wait_for_slow_user_code_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "BACKLOG_BYTES_MAX", 1000)
    watch = Watch(Recording(), None, trial, lambda line: None)
    for _ in range(5):
        watch.take([({"type": "x"}, 400)])
    assert watch.dropped == 3


async def test_events_that_were_passed_on_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "BACKLOG_BYTES_MAX", 1000)
    policy = Recording()
    watch = Watch(policy, None, trial, lambda line: None)
    running = asyncio.ensure_future(watch.run("watch"))
    for count in (1, 2, 3):
        watch.take([({"type": "x"}, 900)])
        while len(policy.judgements) < count:
            await asyncio.sleep(0.001)
    watch.close()
    await running
    assert watch.dropped == 0


async def test_no_event_is_kept_where_nobody_looks_at_events() -> None:
    """The policies of a trial that names none look at none: a flood of output takes no memory, and wakes the thread rarely."""
    policies = CompositeEject([*default_eject_policies().policies, StallEject()])
    balance = Balance(limit_pusd=10**12, available_pusd=10**12)
    watch = Watch(policies, None, lambda: replace(trial(balance), started_s=now_s()), lambda line: None)
    events = [({"type": "tool_execution_start"}, 100) for _ in range(1000)]
    for at in range(0, 1000, 10):
        watch.take(events[at : at + 10])
    assert watch._waiting.qsize() == 1
    running = asyncio.ensure_future(watch.run("watch"))
    while not watch._context:
        await asyncio.sleep(0.001)
    watch.close()
    assert await running is None
    assert watch._events == []
    assert (watch.dropped, watch._context["events"], watch._context["tool_calls"]) == (0, 1000, 1000)


@each(
    "policy",
    [
        EjectPolicy(),
        CompositeEject([IdleTimeoutEject(), Recording()]),
        CompositeEject([CompositeEject([Recording()])]),
        type("Own", (StallEject,), {})(),
        object(),
    ],
)
def test_a_policy_of_the_users_own_may_look_at_events(policy: object) -> None:
    assert reads_events(policy)


async def test_on_event_alone_gets_every_event_and_keeps_none() -> None:
    events: list[object] = []
    watch = Watch(StallEject(), events.append, trial, lambda line: None)
    for _ in range(3):
        watch.take([({"type": "x"}, 100)] * 2)
    watch.close()
    await watch.run("watch")
    assert (len(events), watch._events) == (6, [])


async def test_passed_on_events_make_room_and_each_judgement_has_the_newest_balance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_module, "BACKLOG_MAX", 1)
    rows = [trial(Balance(limit_pusd=10**12, calls=calls)) for calls in range(3)]
    policy = Recording()
    watch = Watch(policy, None, lambda: rows[len(policy.judgements)], lambda line: None)
    running = asyncio.ensure_future(watch.run("watch"))
    for count in (1, 2):
        watch.take([({"type": "x"}, 100)])
        while len(policy.judgements) < count:
            await asyncio.sleep(0.001)
    watch.close()
    await running
    assert watch.dropped == 0
    assert [context["calls"] for _, context, _ in policy.judgements] == [0, 1]


def test_events_that_are_only_counted_are_activity_too() -> None:
    now_of_clock = [0.0]
    policy = IdleTimeoutEject(10.0, clock=lambda: now_of_clock[0])
    for count, at_s, ejects in ((1, 0.0, False), (2, 9.0, False), (2, 18.0, False), (2, 19.0, True)):
        now_of_clock[0] = at_s
        assert policy.check(events=[], context={"events": count}).should_eject is ejects
