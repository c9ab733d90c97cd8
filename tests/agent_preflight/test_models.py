"""The data that people hold keeps its fields, orders and roundings."""

import dataclasses

from agent_preflight.models import BudgetStatus, CacheStats, EjectDecision, InfraResult, RunResult
from tests.support.cases import each


@each(
    "kind, fields",
    [
        (BudgetStatus, ["used", "limit", "spent"]),
        (EjectDecision, ["should_eject", "reason"]),
        (InfraResult, ["ok", "detail", "hint"]),
        (
            CacheStats,
            ["total_prompt_tokens", "cached_tokens", "cache_creation_tokens", "request_count", "cache_hit_requests"],
        ),
    ],
)
def test_the_fields_have_their_known_order(kind: type, fields: list[str]) -> None:
    assert [f.name for f in dataclasses.fields(kind)] == fields


def test_the_remaining_amount_is_never_negative() -> None:
    assert BudgetStatus(1.5, 1.0).remaining == 0.0
    assert BudgetStatus(0.25, 1.0).remaining == 0.75


def test_the_remaining_amount_is_a_float() -> None:
    assert [repr(BudgetStatus(used, limit).remaining) for used, limit in ((1, 1), (2, 1), (0, 0))] == ["0.0"] * 3


def test_a_limit_of_zero_is_spent() -> None:
    assert BudgetStatus(0.0, 0.0).pct_spent == 1.0
    assert BudgetStatus(0.25, 0.5).pct_spent == 0.5


def test_a_budget_is_exceeded_if_it_is_used_up_or_spent() -> None:
    assert BudgetStatus(1.0, 1.0).exceeded
    assert not BudgetStatus(0.99, 1.0).exceeded
    assert BudgetStatus(0.99, 1.0, spent=True).exceeded


def test_a_status_is_printed_as_the_line_of_the_budget_file() -> None:
    assert str(BudgetStatus(0.088, 0.5)) == "Budget: $0.412 remaining of $0.50 (82% left)"


def test_an_overspent_status_shows_no_negative_percentage() -> None:
    assert str(BudgetStatus(1.19, 1.0)) == "Budget: $0.000 remaining of $1.00 (0% left)"


def test_a_result_has_the_known_keys_in_order() -> None:
    result = RunResult("a", "m/x", 0.25, "t0", "t1", 12, 0.123456, None, 3, 9)
    assert list(result.to_dict()) == [
        "alias", "model_id", "budget_usd", "started_at", "finished_at", "duration_s", "cost_usd", "error",
        "tool_calls", "events_count", "output", "cache",
    ]  # fmt: skip
    assert result.to_dict()["cost_usd"] == 0.1235
    assert result.to_dict()["output"] == {}


def test_an_unknown_cost_stays_unknown() -> None:
    assert RunResult("a", "m", 1.0).to_dict()["cost_usd"] is None


@each("duration_s, rounded_s", [(12.9, 12.9), (0.12345, 0.123), (3, 3.0)])
def test_a_duration_is_in_seconds_to_the_millisecond(duration_s: float, rounded_s: float) -> None:
    result = RunResult("a", "m", 1.0, duration_s=duration_s).to_dict()["duration_s"]
    assert (result, type(result)) == (rounded_s, float)


def test_ok_means_no_error() -> None:
    assert RunResult("a", "m", 1.0).ok
    assert not RunResult("a", "m", 1.0, error="ejected: idle").ok


def test_results_share_no_mutable_field() -> None:
    one, two = RunResult("a", "m", 1.0), RunResult("b", "m", 1.0)
    one.output["x"] = 1
    one.cache.request_count = 5
    assert two.output == {}
    assert two.cache.request_count == 0


def test_cache_figures_come_with_their_rate() -> None:
    assert CacheStats(3, 1, 2, 1, 1).to_dict() == {
        "total_prompt_tokens": 3,
        "cached_tokens": 1,
        "cache_creation_tokens": 2,
        "request_count": 1,
        "cache_hit_requests": 1,
        "hit_rate": 0.3333,
    }
    assert CacheStats().hit_rate == 0.0


def test_the_score_of_a_result_is_that_of_its_summary() -> None:
    scored = RunResult("a", "m", 1.0, preflight={"score": {"score": 0.5, "success": False}})
    assert (scored.score, scored.success) == (0.5, False)
    for extra in ({}, {"score": None}, {"score": {"score": None, "success": None, "reason": "x"}}):
        assert (RunResult("a", "m", 1.0, preflight=extra).score, RunResult("a", "m", 1.0, preflight=extra).success) == (
            None,
            None,
        )
