"""The progress of a run, for views."""

from pathlib import Path

from agent_preflight.runner.progress import RunProgress, TrialProgress
from preflight_proxy.base.control_messages import Balance
from preflight_proxy.core.refusals.outcomes import NONE_YET, bad_request


def test_rows_keep_the_order_of_the_trials_and_each_change_is_reported() -> None:
    calls: list[tuple[str | None, str]] = []
    progress = RunProgress(lambda before, row: calls.append((before.state if before else None, row.state)))
    progress.put(TrialProgress("b", "m", 1))
    progress.put(TrialProgress("a", "m", 1))
    progress.update("b", state="running", started_s=2.0)
    assert [(row.alias, row.state) for row in progress.rows()] == [("b", "running"), ("a", "planned")]
    assert calls == [(None, "planned"), (None, "planned"), ("planned", "running")]


def test_time_runs_from_the_agents_start_to_the_trials_end() -> None:
    row = TrialProgress("a", "m", 1)
    assert row.seconds(5.0) == 0.0
    assert TrialProgress("a", "m", 1, started_s=2.0).seconds(5.0) == 3.0
    assert TrialProgress("a", "m", 1, started_s=2.0, ended_s=4.0).seconds(5.0) == 2.0


def with_balances(*balances: Balance) -> Balance:
    """Return the balance that a trial has after it got these, one after another."""
    row = TrialProgress("a", "m", 1)
    for balance in balances:
        row = row.with_balance(balance)
    return row.balance


def test_an_older_balance_does_not_replace_a_newer_one() -> None:
    first, second, third = Balance(as_of=1, gate="waiting"), Balance(as_of=2, gate="ready"), Balance(as_of=3, calls=1)
    assert with_balances(second) is second
    assert with_balances(second, first) is second
    assert with_balances(second, first, third) is third
    assert with_balances(third, second) is third


def test_outcomes_of_calls_that_a_killed_proxy_has_lost_stay_known() -> None:
    cause = bad_request("no")
    known = NONE_YET.with_served().with_unserved(cause)
    first, second = Balance(as_of=1, outcomes=known), Balance(as_of=2, calls=1, outcomes=NONE_YET.with_served())
    balance = with_balances(first, second)
    assert (balance.calls, balance.outcomes) == (1, known)
    later = known.with_unserved(cause)
    assert with_balances(first, second, Balance(as_of=3, outcomes=later)).outcomes == later


def test_an_alert_goes_to_the_view() -> None:
    calls: list[str] = []
    RunProgress(on_alert=calls.append).alert("no credit")
    RunProgress().alert("nobody shows this")
    assert calls == ["no credit"]


def test_a_view_is_called_when_trials_begin() -> None:
    calls: list[tuple[Path, str]] = []
    RunProgress(on_begin=lambda *begun: calls.append(begun)).begin(Path("runs/run-1"), "run-1: press Ctrl-C")
    RunProgress().begin(Path("runs/run-1"), "nobody shows this")
    assert calls == [(Path("runs/run-1"), "run-1: press Ctrl-C")]
