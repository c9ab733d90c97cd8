"""The figures of one trial."""

from typing import Any

import pytest

from agent_preflight.figures.run_figures import table_figures
from agent_preflight.figures.trial_figures import TrialFigures
from agent_preflight.runs.call import Call
from tests.support.records import BEGUN_S, CENT, a_call, a_run, a_trial


def figures(calls: list[Call], at_s: float = BEGUN_S + 60, **more: Any) -> TrialFigures:
    """Return the figures of a trial that runs."""
    record = a_run(a_trial("a", calls, **{"status": "running", **more}), calls=calls, live=True)
    (trial,) = table_figures(record, at_s).trials
    return trial


def test_the_rate_is_that_of_the_last_five_minutes() -> None:
    calls = [a_call("a", 7 * CENT, BEGUN_S + 10), a_call("a", 5 * CENT, BEGUN_S + 600)]
    assert figures(calls, BEGUN_S + 700).rate_pusd_per_min == CENT
    assert figures(calls, BEGUN_S + 310.5).rate_pusd_per_min == CENT, "the first call is older than five minutes"


def test_a_young_trial_has_the_rate_since_its_start_but_of_ten_seconds_at_least() -> None:
    calls = [a_call("a", CENT, BEGUN_S + 1)]
    assert figures(calls, BEGUN_S + 60).rate_pusd_per_min == CENT
    assert figures(calls, BEGUN_S + 1).rate_pusd_per_min == 6 * CENT


def test_the_time_until_the_budget_is_empty_counts_what_is_reserved() -> None:
    calls = [a_call("a", 5 * CENT, BEGUN_S + 1)]
    trial = figures(calls, BEGUN_S + 60, limit_pusd=25 * CENT, pending_pusd=10 * CENT)
    assert (trial.rate_pusd_per_min, trial.empty_in_s) == (5 * CENT, 120.0)
    over = figures(calls, BEGUN_S + 60, limit_pusd=4 * CENT)
    assert over.empty_in_s == 0.0


def test_without_spending_the_budget_lasts() -> None:
    trial = figures([], BEGUN_S + 60)
    assert (trial.rate_pusd_per_min, trial.empty_in_s, trial.posted_pusd) == (0, None, 0)


def test_a_trial_that_has_ended_has_no_rate_and_is_not_idle() -> None:
    trial = figures([a_call("a", CENT)], status="done", state="summarised")
    assert (trial.rate_pusd_per_min, trial.empty_in_s, trial.idle_s, trial.state, trial.ended) == (
        None,
        None,
        None,
        "",
        True,
    )
    assert trial.duration_s == 60.0


def test_a_trial_that_has_not_begun_has_spent_nothing() -> None:
    trial = figures([], status="pending", has_ledger=False)
    assert (trial.posted_pusd, trial.pending_pusd, trial.calls, trial.rate_pusd_per_min) == (0, 0, None, None)


def test_what_a_trial_of_an_older_version_cost_is_unknown_and_not_zero() -> None:
    assert figures([], status="done", has_ledger=False).posted_pusd is None


def test_idle_is_the_time_since_the_last_event_or_call() -> None:
    assert figures([], BEGUN_S + 100, duration_s=90.0).idle_s == 10.0
    assert figures([a_call("a", CENT, BEGUN_S + 95)], BEGUN_S + 100, duration_s=90.0).idle_s == 5.0
    assert figures([], BEGUN_S + 10, duration_s=90.0).idle_s == 0.0, "a clock that went back is no negative time"


def test_the_last_tool_is_named() -> None:
    assert figures([], tools=[(BEGUN_S, "bash"), (BEGUN_S + 1, "edit")]).last_tool == "edit"
    assert figures([]).last_tool is None


def test_tokens_are_summed_over_all_entries() -> None:
    calls = [
        a_call("a", CENT, reasoning_tokens=7),
        a_call("a", CENT, outcome="recovered", prompt_tokens=0, cached_tokens=0),
    ]
    trial = figures(calls)
    assert (trial.tokens.prompt, trial.tokens.cached, trial.tokens.completion, trial.tokens.reasoning) == (
        1000,
        400,
        200,
        7,
    )
    assert trial.tokens.cache_share == 0.4


def test_without_prompts_the_cache_share_is_unknown() -> None:
    assert figures([]).tokens.cache_share is None


@pytest.mark.parametrize("nonsense", [5, "x", {"total_prompt_tokens": "many"}])
def test_tokens_of_an_older_version_are_those_of_the_summary(nonsense: Any) -> None:
    summary = {"cache": {"total_prompt_tokens": 50, "cached_tokens": 20}, "preflight": {"completion_tokens": 3}}
    trial = figures([], status="done", has_ledger=False, summary=summary)
    assert (trial.tokens.prompt, trial.tokens.cache_share, trial.tokens.completion) == (50, 0.4, 3)
    assert figures([], status="done", has_ledger=False, summary={"cache": nonsense}).tokens.prompt == 0


def test_a_number_of_tokens_that_no_call_has_breaks_no_figure() -> None:
    cache = {"total_prompt_tokens": 1, "cached_tokens": 10**400, "cache_creation_tokens": -5}
    trial = figures([], status="done", has_ledger=False, summary={"cache": cache})
    assert (trial.tokens.cached, trial.tokens.cache_write, trial.tokens.cache_share) == (0, 0, 0.0)


def test_who_ended_it_and_why_are_those_of_the_summary() -> None:
    trial = figures([], status="ejected", error="ejected: idle", summary={"preflight": {"ended_by": "ejected"}})
    assert (trial.status, trial.ended_by, trial.note) == ("ejected", "ejected", "idle")
    assert figures([]).ended_by == ""
